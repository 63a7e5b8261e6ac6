// Playing recorded actions again, each when the frame before it has arrived; looking back at earlier frames, and
// playing on from one of them.

import { paintScreen, sampling, send } from "./connection.js";
import { $ } from "./dom.js";
import { state, update } from "./state.js";
import { fingerprint } from "./tape.js";

/** Play actions: `script` is a list of actions with their sampling settings, `expected` the last frame's fingerprint. */
export function replay(script, expected = null) {
  update({ script, expected, replaying: true });
}

/** The frame before has arrived: play the next action, if there is one. */
export function playNext() {
  if (!state.replaying) return;
  if (state.script.length === 0) return finish();
  const { action, ...wanted } = state.script[0]; // it leaves the script when its frame arrives
  for (const id of Object.keys(sampling())) $(id).value = wanted[id];
  update({ keyId: state.keyId + 1 });
  send({ type: "action", action, id: state.keyId });
}

function finish() {
  const { expected, tape, recovering } = state;
  stopReplay();
  if (expected === null) return;
  const same = expected === fingerprint(tape.frames.at(-1));
  if (same && recovering) return; // the player goes on where they were
  update({
    note: same ? "Played again, with exactly the same frames."
      : "Played again, but the frames differ: the session is of another world, or its frames were computed differently.",
  });
}

export function stopReplay() {
  if (state.replaying || state.recovering) update({ script: [], expected: null, replaying: false, recovering: false });
}

/** Show an earlier frame; the world waits meanwhile. */
function view(step) {
  stopReplay();
  const viewing = step < state.tape.step ? step : null;
  const shown = state.tape.frames[step];
  paintScreen(shown, viewing !== null);
  update({ viewing, shown });
}

/** Play on from the frame that is shown. */
export function branchOff() {
  if (state.viewing !== null) goBack(state.viewing);
}

function goBack(step) {
  send({ type: "back", step });
  update({ viewing: null, jump: step });
}

/** The frame that we went back to, or that of a resumed session, has arrived; returns whether it is one of the tape. */
export function hasGoneBack(step, pixels) {
  const { jump, tape } = state;
  if (step > tape.step) {
    goBack(tape.step); // the frames after it were lost with the connection: nobody has seen them
    return false;
  }
  tape.back(step, pixels);
  state.jump = jump === "start" ? jump : null;
  return true;
}

$("scrub").oninput = () => view(Math.max(state.tape.first, Number($("scrub").value)));
$("newest").onclick = () => view(state.tape.step);
