// Looking back at earlier frames, and playing on from one of them.

import { paintScreen, send, sendSettings } from "./connection.js";
import { $ } from "./dom.js";
import { stopReplay } from "./replay.js";
import { state, update } from "./state.js";

/** Show an earlier frame; the world waits meanwhile. */
export function view(step) {
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
