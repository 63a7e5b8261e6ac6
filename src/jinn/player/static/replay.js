// Playing recorded actions again, each when the frame before it has arrived; looking back at earlier frames, and
// playing on from one of them.

import { paintScreen, sampling, send, sendSettings } from "./connection.js";
import { $ } from "./dom.js";
import { state, update } from "./state.js";
import { fingerprint } from "./tape.js";

/** Play actions: `script` is a list of actions with their sampling settings, `expected` the last frame's fingerprint. */
export function replay(script, expected = null) {
  update({ script, expected, replaying: true });
  sendSettings();
}

/** The frame before has arrived: play the next action, if there is one. */
export function playNext() {
  if (!state.replaying) return;
  if (state.script.length === 0) return finish();
  const { action, ...wanted } = state.script.shift();
  const now = sampling();
  const changed = Object.keys(now).filter((id) => wanted[id] !== now[id]);
  for (const id of changed) $(id).value = wanted[id];
  if (changed.length > 0) sendSettings();
  state.keyId += 1;
  send({ type: "action", action, id: state.keyId });
}

function finish() {
  const { expected, tape } = state;
  stopReplay();
  if (expected === null) return;
  const same = expected === fingerprint(tape.frames.at(-1));
  update({
    note: same ? "Played again, with exactly the same frames."
      : "Played again, but the frames differ: the session is of another world, or its frames were computed differently.",
  });
}

export function stopReplay() {
  if (!state.replaying) return;
  update({ script: [], expected: null, replaying: false });
  sendSettings();
}

/** Show an earlier frame; the world waits meanwhile. */
function view(step) {
  stopReplay();
  const live = state.viewing === null;
  const viewing = step < state.tape.step ? step : null;
  const shown = state.tape.frames[step];
  paintScreen(shown);
  update({ viewing, shown });
  if (live !== (viewing === null)) sendSettings();
}

/** Play on from the frame that is shown. */
export function branchOff() {
  if (state.viewing === null) return;
  send({ type: "back", step: state.viewing });
  update({ viewing: null });
  sendSettings();
}

$("scrub").oninput = () => view(Math.max(state.tape.first, Number($("scrub").value)));
$("newest").onclick = () => view(state.tape.step);
