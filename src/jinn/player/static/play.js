// The page. Input goes to the server as messages (input.js); frames come back and are shown (hud.js).

import "./actions.js";
import { gameSees } from "./beside.js";
import { connect, paintScreen, sampling } from "./connection.js";
import "./controls.js";
import "./gallery.js";
import "./gamepad.js";
import "./hud.js";
import "./media.js";
import "./offline.js";
import { pilotSees } from "./pilot.js";
import { catchUp, replayTape } from "./recovery.js";
import { hasGoneBack, playNext, stopReplay } from "./replay.js";
import "./sketch.js";
import { hasStarted } from "./starts.js";
import { state, update } from "./state.js";
import { refreshBranches, takeBranch } from "./what-if.js";

const FIGURES_MS = 200; // nobody reads figures that change with every frame, and laying them out takes time
let lastUpdate = 0;

const MESSAGES = {
  error({ message }) {
    if (!state.connected) return update({ error: message }); // no answer to what we asked, which is asked again
    stopReplay();
    update({ error: message, generating: "", opened: null, jump: null });
  },
  queue: ({ place }) => update({ queuePosition: place, refusal: "" }),
  session: ({ session }) => catchUp(session),
  gone: replayTape,
  note: ({ message }) => update({ note: message }),
  loading: ({ fraction }) => update({ loading: fraction }),
  failed: ({ message }) => update({ failed: true, error: message }),
};

function onClosed({ idle }) {
  state.held.clear();
  update({ connected: false, ended: idle, queuePosition: 0, unanswered: [], error: idle ? "" : state.error });
}

function onFrame(frame) {
  const { kind, pixels, shownAt, step } = frame;
  if (kind === "what if") return takeBranch(frame);
  if (kind === "prompt") return state.preprocessed.push(pixels);
  if (kind === "next") record(frame);
  if (kind === "back" && !hasGoneBack(step, pixels)) return;
  if (kind === "start") hasStarted(pixels);
  refreshBranches();
  Object.assign(state, {
    ...whatToShow(kind, pixels),
    action: frame.action,
    frames: state.frames + 1,
    shownTimes: [...state.shownTimes.filter((time) => shownAt - time < 2000), shownAt],
    modelMs: frame.modelMs,
  });
  if (kind !== "next" || shownAt - lastUpdate > FIGURES_MS) {
    lastUpdate = shownAt;
    update({});
  }
  playNext();
  pilotSees(kind);
  gameSees(kind, frame.action);
}

/** What is on the screen once a frame has arrived: somebody may look back at an earlier one, and goes on doing so. */
function whatToShow(kind, pixels) {
  const { tape, viewing } = state;
  if (viewing === null) return { shown: pixels };
  const there = kind !== "start" && viewing < tape.step;
  const shown = there ? tape.frames[viewing] : pixels;
  if (kind !== "next") paintScreen(shown, there); // the thread has painted the frame
  return { viewing: there ? viewing : null, shown };
}

/** A frame was played: it goes on the tape, and answers the presses before it. */
function record({ action, key, pixels, ready, shownAt }) {
  state.tape.add(pixels, { action, ...sampling() });
  state.script.shift(); // if it is played again
  for (const press of state.unanswered) if (press.id <= key) state.latencies.push(shownAt - press.time);
  state.unanswered = state.unanswered.filter((press) => press.id > key);
  state.ready.push(ready);
}

connect({
  message: (message) => MESSAGES[message.type]?.(message),
  frame: onFrame,
  closed: onClosed,
  refused: (refusal) => update({ refusal }),
});
