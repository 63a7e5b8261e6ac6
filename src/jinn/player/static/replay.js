// Recorded actions are played one frame after the other, each when the frame before it has arrived.

import { send, sendSettings } from "./connection.js";
import { $ } from "./dom.js";
import { state, update } from "./state.js";
import { fingerprint } from "./tape.js";

/** Play actions: `script` is a list of {action, steps, temperature}, `expected` the last frame's fingerprint. */
export function replay(script, expected = null) {
  update({ script: [...script], expected, replaying: true });
  sendSettings();
}

/** The frame before has arrived: play the next action, if there is one. */
export function playNext() {
  if (!state.replaying) return;
  const input = state.script.shift();
  if (!input) return finish();
  const { action, steps, temperature } = input;
  if (steps && (steps !== Number($("steps").value) || temperature !== Number($("temperature").value))) {
    $("steps").value = steps;
    $("temperature").value = temperature;
    sendSettings();
  }
  state.keyId += 1;
  send({ type: "action", action, id: state.keyId });
}

function finish() {
  const { expected, tape } = state;
  const same = expected === null || expected === fingerprint(tape.frames.at(-1));
  stopReplay();
  if (expected !== null) {
    update({
      note: same ? "Played again, with exactly the same frames."
        : "Played again, but the frames differ: the session is of another world, or its frames were computed differently.",
    });
  }
}

export function stopReplay() {
  if (!state.replaying) return;
  update({ script: [], expected: null, replaying: false });
  sendSettings();
}
