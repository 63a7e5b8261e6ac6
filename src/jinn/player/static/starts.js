// Starting a roll-out: from a prompt of the world, from pictures, or from a text.

import { send } from "./connection.js";
import { $, make } from "./dom.js";
import { releaseAll } from "./input.js";
import { paint, painted } from "./paint.js";
import { replay, stopReplay } from "./replay.js";
import { state, update, world } from "./state.js";

/** Request a start; without a seed, with the one in the page's field if it is kept, or else a random one. */
export function startFrom(start, givenSeed = null) {
  stopReplay();
  if (givenSeed === null && !$("keep-seed").checked) $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
  const seed = givenSeed ?? Math.min(Math.max(0, Math.floor(Number($("seed").value)) || 0), Number($("seed").max));
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
  update({ started, opened: null, generating: "" });
  if (opened) {
    releaseAll();
    replay(opened.script, opened.last);
  }
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
$("text").maxLength = world.max_text;
$("text").disabled = $("generate").disabled = !world.text;
$("words").hidden = Boolean(world.model);
$("text-why-not").textContent = world.text ? "" : `Text: ${world.text_why_not}.`;
$("words").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) startFrom({ text });
};
