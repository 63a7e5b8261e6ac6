// The world that is played and the page's state, in one place. Whoever changes the state calls `update`; whoever shows
// it is called by `onChange`.

import { $ } from "./dom.js";
import { sentenceOf } from "./sentences.js";
import { Tape } from "./tape.js";

/** Nothing fails in silence, though much may go on. */
function tellOfFailure({ message, reason }) {
  const error = `Something in the page failed (${reason?.message ?? reason ?? message}): reload it if it does not go on.`;
  $("error").textContent = error;
  if (window.jinn) window.jinn.error = error;
}
addEventListener("error", tellOfFailure);
addEventListener("unhandledrejection", tellOfFailure);

if (window.jinnCannotPlay) await new Promise(() => {}); // check.js has said why
const answer = await fetch("api/world").catch(() => null);
if (!answer?.ok) {
  $("status").textContent = "not loaded";
  $("status").dataset.state = "lost";
  $("veil").textContent = "";
  $("error").textContent = answer ? await sentenceOf(answer) : "The server does not answer: reload the page when it does.";
  await new Promise(() => {}); // the rest of the page needs a world
}
history.replaceState(null, "", location.pathname); // a token should not be part of what one shows around

/** The world as the server describes it: its properties and the server's limits. */
export const world = await answer.json();

/** The names of the buttons. Button k plays the action `world.buttons[k].action`: two may play the same one. */
export const names = world.buttons.map(({ name }) => name);

const listeners = [];

// Tests and measurements read it as `window.jinn`. Times are in milliseconds.
export const state = (window.jinn = {
  world,
  tape: new Tape(world.max_film_frames), // what was played

  // The connection
  connected: false,
  queuePosition: 0, // 0: not in the queue
  loading: world.model ? 0 : null, // the fraction of a page's own model that has arrived, until it plays
  failed: false, // whether the thread that shows the frames has stopped, or the page's own model cannot be loaded
  session: null, // the server's name for this session
  ended: false, // whether the server gave our place to others, for nobody played
  refusal: "", // why there is no connection, if that is known
  error: "", // a sentence for the player
  note: "", // what became of a file that was saved or opened

  // The start of the roll-out: {index} of a prompt of the world, {pictures} as Blobs, or {text}
  starts: Array.from({ length: world.prompts }, (_, index) => ({ index })),
  requested: null, // the start that was requested last
  started: null, // the start that the server accepted last
  generating: "", // the text whose picture is being generated
  seed: 0, // of the requested start
  preprocessed: [], // the pixels of the prompt's pictures as the server cropped and resized them
  opened: null, // a session whose first frame has not arrived yet: {script, last}
  jump: null, // what was asked for and has not arrived: "start", or the step that we go back to

  // Input
  keys: null, // which key presses which button: see keys.js
  held: new Map(), // what is down (a key, a finger, a button) -> press, the latest last
  keyId: 0,
  lastButton: Math.max(0, world.buttons.findIndex(({ action }) => action === world.idle)),
  unanswered: [], // {id, time} of presses whose frame has not arrived yet
  paused: false,
  pilot: false, // whether the world is played by nobody: see pilot.js

  // Looking back, and playing recorded actions
  viewing: null, // the step on the screen; null: the newest
  script: [], // recorded actions to play, the next one first
  replaying: false,
  recovering: false, // whether that is to come to where the player was before the connection was lost
  expected: null, // the fingerprint of the frame that the script should lead to

  // The newest frame, and measurements
  shown: null, // pixels on the screen
  action: -1, // that led to the newest frame
  frames: 0, // number of frames shown
  shownTimes: [], // of the last frames
  fps: 0,
  latencies: [], // from a key going down to its frame being on the screen
  ready: [], // of each frame: whether it had been computed before it was requested
  modelMs: 0,
});

/** Change some of the state and show it. */
export function update(change) {
  Object.assign(state, change);
  for (const listener of listeners) listener();
}

/** Call a function after every change. It must not change the state itself. */
export function onChange(listener) {
  listeners.push(listener);
}
