// Starting a roll-out: from a prompt of the world, from pictures, or from a text.

import { reconnect, send } from "./connection.js";
import { $, make } from "./dom.js";
import { releaseAll } from "./input.js";
import { paint, painted } from "./paint.js";
import { replay, stopReplay } from "./replay.js";
import { state, update, world } from "./state.js";

/**
 * Request a start; without a seed, with the one in the page's field if it is kept, or else a random one. `opened` is a
 * session whose actions follow the first frame.
 */
export function startFrom(start, givenSeed = null, opened = null) {
  stopReplay();
  const seed = givenSeed ?? ($("keep-seed").checked ? typedSeed() : crypto.getRandomValues(new Uint32Array(1))[0]);
  update({ error: "", opened, requested: start, generating: start.text ?? "", seed, jump: "start" });
  if (state.ended) playOn();
  requestStart();
}

const typedSeed = () => Math.min(Math.max(0, Math.floor(Number($("seed").value)) || 0), Number($("seed").max));

/** Ask for the start that was requested last, for the first time or of a new connection. */
export function requestStart() {
  const { requested: start, seed } = state;
  state.preprocessed = [];
  if (start.text) send({ type: "text", text: start.text, seed });
  else if (start.pictures) {
    send({ type: "clip", frames: start.pictures.length, seed });
    start.pictures.forEach(send);
  } else send({ type: "start", prompt: start.index, seed });
}

function playOn() {
  update({ ended: false });
  reconnect();
}

/** Start again from where the current roll-out started. */
export const restart = () => startFrom(state.started ?? state.starts[0]);

/** The first frame of a requested start has arrived. */
export function hasStarted(pixels) {
  const { requested: started, opened, preprocessed, seed, starts, tape } = state;
  const pictures = preprocessed.map((picture) => painted(picture, world).toDataURL());
  tape.start(pictures.length ? { pictures } : { index: started.index }, seed, pixels);
  $("pair").hidden = pictures.length === 0;
  if (pictures.length) {
    // The next start from here uses what the server made of it, and so gives the same frames.
    Object.assign(started, { text: null, pictures: pictures.map(toBlob) });
    paint($("preprocessed"), preprocessed.at(-1));
    paint($("reconstruction"), pixels);
  }
  if (!starts.includes(started)) {
    starts.push(started);
    offer(started, painted(pixels, world).toDataURL(), "your picture");
  }
  starts.forEach((start, i) => ($("prompts").children[i].ariaPressed = start === started));
  $("seed").value = seed;
  if (opened) {
    releaseAll();
    replay(opened.script, opened.last);
  }
  update({ started, opened: null, generating: "", error: "", jump: null });
}

/** A data URL as a Blob. (Fetching it would need a looser policy.) */
export function toBlob(url) {
  return new Blob([Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

/** A button that starts from a picture. */
function offer(start, src, words) {
  const image = Object.assign(new Image(), { src, alt: `Start from ${words}`, draggable: false });
  $("prompts").append(make("button", { onclick: () => startFrom(start) }, image));
}

state.starts.forEach((start, i) => offer(start, `api/prompts/${i}.png`, `picture ${i + 1}`));
for (const id of ["preprocessed", "reconstruction"]) Object.assign($(id), { width: world.width, height: world.height });
$("reset").onclick = restart;
$("play-on").onclick = playOn;
$("text").maxLength = world.max_text;
$("text").disabled = $("generate").disabled = !world.text;
$("words").hidden = !world.text;
$("text-why-not").textContent = world.text ? "" : `Text: ${world.text_why_not}.`;
$("words").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) startFrom({ text });
};
