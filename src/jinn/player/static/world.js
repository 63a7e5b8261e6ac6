// The world that is played, as the server describes it: its properties and the server's limits.

const answer = await fetch("api/world");
if (!answer.ok) document.body.textContent = await answer.text();
export const world = await answer.json();
history.replaceState(null, "", location.pathname); // a token should not be part of what one shows around

/** The names of the actions; null if nobody has named them. */
export const names = world.legend?.map((action) => action.name) ?? null;

export const nameOf = (action) => names?.[action] ?? `action ${action + 1}`;
