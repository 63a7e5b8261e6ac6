// Saving what was played: a screenshot, a film, or the session.

import { $ } from "./dom.js";
import { save, screenshot } from "./files.js";
import { state, update } from "./state.js";
import { world } from "./world.js";

const fileName = (what, kind) => `${world.name}-${what}-${state.tape.step}.${kind}`.replaceAll(/[^\w.-]+/g, "-");

async function saveFilm(kind) {
  const frames = state.tape.frames.slice(state.tape.first);
  update({ note: `Making a film of ${frames.length} frames…` });
  const answer = await fetch(`api/film.${kind}?fps=${$("speed").value}`, { method: "POST", body: new Blob(frames) });
  if (!answer.ok) return update({ note: (await answer.json()).error });
  save(await answer.blob(), fileName("film", kind));
  update({ note: `A film of ${frames.length} frames.` });
}

$("picture").onclick = async () => save(await screenshot(state.shown, world), fileName("frame", "png"));
$("save").onclick = () => {
  const text = JSON.stringify(state.tape.toSession(world));
  save(new Blob([text], { type: "application/json" }), fileName("session", "json"));
};
for (const kind of ["mp4", "gif"]) $(kind).onclick = () => saveFilm(kind);
