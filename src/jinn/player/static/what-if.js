// The what-if: short films of where each button would lead from here, side by side; one of them can be played.

import { sampling, send } from "./connection.js";
import { $, make } from "./dom.js";
import { releaseAll } from "./input.js";
import { paint } from "./paint.js";
import { branchOff, playNext, replay } from "./replay.js";
import { names, state, world } from "./state.js";

const DEPTH = Math.min(6, world.max_what_if_frames); // frames of each film
const BEAT_MS = 150; // of each frame; the films repeat

let films = []; // of each button: its frames so far
let beat = null;

const show = (k, pixels) => paint($("branches").children[k].firstElementChild, pixels);

function close() {
  clearInterval(beat);
  $("branches").replaceChildren();
  films = [];
}

function open() {
  close();
  films = names.map(() => []);
  $("branches").append(...names.map((name, k) => make(
    "button", { title: `Play this action: ${name}`, onclick: () => play(world.buttons[k].action) },
    make("canvas", { width: world.width, height: world.height }), make("span", { textContent: name }),
  )));
  let tick = 0;
  beat = setInterval(() => {
    tick += 1;
    films.forEach((film, k) => film.length && show(k, film[tick % film.length]));
  }, BEAT_MS);
  send({ type: "what_if", depth: DEPTH });
}

function play(action) {
  releaseAll();
  replay(Array(DEPTH).fill({ action, ...sampling() }));
  playNext();
}

/** A frame of a film has arrived. */
export function takeBranch({ action, pixels }) {
  films.forEach((film, k) => {
    if (world.buttons[k].action !== action) return;
    film.push(pixels);
    if (film.length === 1) show(k, pixels);
  });
}

/** A frame was played: start again from there, while the world waits. */
export function refreshBranches() {
  if (films.length === 0) return;
  if (state.paused && !state.replaying) open();
  else close();
}

$("what-if").onclick = () => {
  branchOff();
  if (!state.paused) $("pause").click();
  open();
};
