// Starting a roll-out: from a prompt of the world, from pictures, from a text, or from a saved session.

import { send } from "./connection.js";
import { $, make } from "./dom.js";
import { toPng } from "./files.js";
import { releaseAll } from "./input.js";
import { endOfVideo, shrink } from "./media.js";
import { paint } from "./paint.js";
import { replay, stopReplay } from "./replay.js";
import { state, update } from "./state.js";
import { readSession } from "./tape.js";
import { world } from "./world.js";

const MAX_SEED = 2 ** 32 - 1;

/** Request a start; without a seed, with the one in the page's field if it is kept, or else a random one. */
export function startFrom(start, givenSeed = null) {
  stopReplay();
  if (givenSeed === null && !$("keep-seed").checked) $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
  const seed = givenSeed ?? Math.min(Math.max(0, Math.floor(Number($("seed").value)) || 0), MAX_SEED);
  $("seed").value = seed;
  update({ error: "", opened: null, requested: start, generating: start.text ?? "", preprocessed: [], seed });
  if (start.text) send({ type: "text", text: start.text, seed });
  else if (start.pictures) {
    send({ type: "clip", frames: start.pictures.length, seed });
    start.pictures.forEach(send);
  } else send({ type: "start", prompt: start.index, seed });
}

/** Start again from where the current roll-out started. */
export const restart = () => startFrom(state.started ?? state.starts[0]);

/** The requested start as the tape records it. */
const promptOf = ({ requested, preprocessed }) =>
  (preprocessed.length ? { pictures: preprocessed } : { index: requested.index ?? 0 });

/** The first frame of a requested start has arrived. */
export function hasStarted(pixels) {
  const { requested: started, opened, preprocessed, seed, starts, tape } = state;
  tape.start(promptOf(state), seed, pixels);
  if (preprocessed.length) {
    // The next start from here uses what the server made of it, and so gives the same frames.
    Object.assign(started, { text: null, pictures: preprocessed.map(toBlob) });
    paint($("reconstruction"), pixels);
    const last = Object.assign(new Image(), { src: preprocessed.at(-1) });
    last.decode().then(() => $("preprocessed").getContext("2d").drawImage(last, 0, 0));
  }
  $("pair").hidden = preprocessed.length === 0;
  if (!starts.includes(started)) {
    starts.push(started);
    $("prompts").append(startButton(started, toPng(pixels, world), "your picture"));
  }
  starts.forEach((start, i) => $("prompts").children[i].setAttribute("aria-pressed", start === started));
  update({ started, opened: null, generating: "" });
  if (opened) {
    releaseAll();
    replay(opened.script, opened.last);
  }
}

/** A data URL as a Blob. (Fetching it would need a looser policy.) */
function toBlob(url) {
  return new Blob([Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

function startButton(start, src, words) {
  const image = Object.assign(new Image(), { src, alt: `Start from ${words}`, draggable: false });
  return make("button", { type: "button", onclick: () => startFrom(start) }, image);
}

/** Start from files: pictures, several for a clip; a video; or a saved session. */
export async function receive(files) {
  try {
    const [first] = files;
    if (first.type === "application/json" || first.name?.endsWith(".json")) return openSession(await first.text());
    if (first.type.startsWith("video/")) return startFrom({ pictures: await endOfVideo(first, world.window, world.fps) });
    const clip = files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })).slice(-world.max_clip_frames);
    startFrom({ pictures: await Promise.all(clip.map((file) => shrink(file, world.max_upload_bytes))) });
  } catch (error) {
    update({ error: error.message });
  }
}

function openSession(text) {
  const opened = readSession(text, world);
  const { index, pictures } = opened.prompt;
  startFrom(pictures ? { pictures: pictures.map(toBlob) } : state.starts[index], opened.seed);
  const note = opened.same ? "" : "This session is of another world: the frames will differ.";
  update({ opened, note }); // its actions follow the first frame
}

/** Show the world's prompts, and listen to the buttons that bring others. */
export function buildStarts() {
  for (const id of ["preprocessed", "reconstruction"]) Object.assign($(id), { width: world.width, height: world.height });
  $("prompts").append(...state.starts.map((start, i) => startButton(start, `api/prompts/${i}.png`, `picture ${i + 1}`)));
  const all = $("file").accept;
  const choose = (accept) => {
    $("file").accept = accept;
    $("file").click();
  };
  $("upload").onclick = () => choose(all);
  $("open").onclick = () => choose(".json,application/json");
  $("text").maxLength = world.max_text;
  $("text").disabled = $("generate").disabled = !world.text;
  $("text-why-not").hidden = world.text;
  $("text-why-not").textContent = world.text ? "" : `Text: ${world.text_why_not}.`;
  $("words").onsubmit = (event) => {
    event.preventDefault();
    const text = $("text").value.trim();
    if (text) startFrom({ text });
  };
}
