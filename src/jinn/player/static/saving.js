// Saving what was played: a screenshot, a film, or the session; and opening a session.

import { $, make } from "./dom.js";
import { painted } from "./paint.js";
import { startFrom, toBlob } from "./starts.js";
import { state, update, world } from "./state.js";
import { readSession } from "./tape.js";

/** Hand a Blob to the player as a file. */
function save(blob, what, kind) {
  const download = `${world.name}-${what}-${state.tape.step}.${kind}`.replaceAll(/[^\w.-]+/g, "-");
  const link = make("a", { href: URL.createObjectURL(blob), download });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Save the frame on the screen, each pixel enlarged to a square. */
$("picture").onclick = async () => {
  const scale = Math.max(1, Math.floor(512 / Math.max(world.width, world.height)));
  const paper = new OffscreenCanvas(scale * world.width, scale * world.height);
  const pen = paper.getContext("2d", { alpha: false });
  pen.imageSmoothingEnabled = false;
  pen.drawImage(painted(state.shown, world), 0, 0, paper.width, paper.height);
  save(await paper.convertToBlob(), "frame", "png");
};

async function saveFilm(kind) {
  const frames = state.tape.frames.slice(state.tape.first);
  update({ note: `Making a film of ${frames.length} frames…` });
  const answer = await fetch(`api/film.${kind}?fps=${$("speed").value}`, { method: "POST", body: new Blob(frames) });
  if (!answer.ok) return update({ note: (await answer.json()).error });
  save(await answer.blob(), "film", kind);
  update({ note: `A film of ${frames.length} frames.` });
}

for (const kind of ["mp4", "gif"]) $(kind).onclick = () => saveFilm(kind);

$("save").onclick = () => {
  const text = JSON.stringify(state.tape.toSession(world));
  save(new Blob([text], { type: "application/json" }), "session", "json");
};

/** Start as a saved session did; its actions follow the first frame. */
export function openSession(text) {
  const opened = readSession(text, world);
  const { index, pictures } = opened.prompt;
  startFrom(pictures ? { pictures: pictures.map(toBlob) } : state.starts[index], opened.seed);
  const note = opened.same ? "" : "This session is of another world: the frames will differ.";
  update({ opened, note });
}
