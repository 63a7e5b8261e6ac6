// Saving what was played: a screenshot, a film, or the session; and opening a session.

import { $, make } from "./dom.js";
import { makeGif, makeVideo, videoKind } from "./film.js";
import { painted } from "./paint.js";
import { sentenceOf } from "./sentences.js";
import { startFrom, toBlob } from "./starts.js";
import { onChange, state, update, world } from "./state.js";
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

async function saveFilm(kind, makeFilm) {
  const frames = state.tape.frames.slice(state.tape.first);
  update({ note: `Making a film of ${frames.length} frames…` });
  try {
    save(await makeFilm(frames, Number($("speed").value), world), "film", kind);
    update({ note: `A film of ${frames.length} frames.` });
  } catch (error) {
    update({ note: error.message });
  }
}

// The films that the server makes: a connection that went silent would let the page wait for them for ever.
let asking = new AbortController();
onChange(() => {
  if (state.connected) return;
  asking.abort();
  asking = new AbortController();
});

/** The server's film of frames. */
const ask = (kind) => async (frames, fps) => {
  const { signal } = asking;
  let answer;
  try {
    answer = await fetch(`api/film.${kind}?fps=${fps}`, { method: "POST", body: new Blob(frames), signal });
    if (answer.ok) return await answer.blob();
  } catch {
    throw new Error("The film was not made, for the server does not answer: try again when the page is connected.");
  }
  throw new Error(await sentenceOf(answer));
};

$("gif").onclick = () => saveFilm("gif", world.model ? makeGif : ask("gif"));
$("mp4").onclick = () => saveFilm(world.model ? videoKind : "mp4", world.model ? makeVideo : ask("mp4"));
if (world.model) {
  $("mp4").textContent = `Film, ${videoKind}`;
  $("mp4").title = "The browser records it, which takes as long as the film";
  $("mp4").hidden = !videoKind;
}

$("save").onclick = () => {
  const text = JSON.stringify(state.tape.toSession(world, state.script, state.expected));
  save(new Blob([text], { type: "application/json" }), "session", "json");
};

/** Start as a saved session did; its actions follow the first frame. */
export function openSession(text) {
  const opened = readSession(text, world);
  const { index, pictures } = opened.prompt;
  startFrom(pictures ? { pictures: pictures.map(toBlob) } : state.starts[index], opened.seed, opened);
  const note = opened.same ? ""
    : opened.elsewhere ? "This session was played elsewhere, where numbers are rounded differently: the frames may differ."
      : "This session is of another world: the frames will differ.";
  update({ note });
}
