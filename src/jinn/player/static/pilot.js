// The world played by nobody: random buttons, each held for a while, as `jinn data --policy sticky` does. Each action is
// asked for when the frame before it has arrived, so the same seed leads to the same frames at any speed.

import { send } from "./connection.js";
import { $ } from "./dom.js";
import { branchOff, stopReplay } from "./replay.js";
import { onChange, state, update, world } from "./state.js";

const MEAN_HOLD = 6; // frames
const LONGEST = 10_000; // frames: a page that somebody left is not to take the place of others for ever

let random; // of this roll-out
let button;
let left; // frames until it stops
let asked = false; // whether a frame is on its way
let timer = null;
let last = 0; // when a frame was asked for

/** Numbers from 0 to 1 that a seed determines: mulberry32. */
export function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function begin() {
  random = numbers(state.tape.seed);
  button = null;
}

/** Stop: somebody plays. */
export function stopPilot() {
  if (state.pilot) update({ pilot: false });
}

/** A frame has arrived. */
export function pilotSees(kind) {
  asked = false;
  if (kind === "start") begin();
  plan();
}

const ready = () => state.pilot && state.connected && !asked && !state.paused && !document.hidden &&
  state.viewing === null && state.jump === null && !state.replaying && !state.recovering && state.opened === null;

function plan() {
  if (!ready() || timer !== null) return;
  timer = setTimeout(ask, Math.max(0, last + 1000 / Number($("speed").value) - performance.now()));
}

function ask() {
  timer = null;
  if (!ready()) return;
  if (left === 0) return stopPilot();
  left -= 1;
  if (button === null || random() < 1 / MEAN_HOLD) button = Math.floor(random() * world.buttons.length);
  last = performance.now();
  asked = true;
  state.keyId += 1;
  send({ type: "action", action: world.buttons[button].action, id: state.keyId });
}

$("pilot").onclick = () => {
  if (state.pilot) return stopPilot();
  stopReplay();
  branchOff();
  begin();
  left = LONGEST;
  asked = false;
  update({ pilot: true });
};
onChange(plan);
