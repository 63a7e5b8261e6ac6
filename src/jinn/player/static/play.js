// The page. Input goes to the server as messages (input.js); frames come back and are shown (hud.js).

import "./actions.js";
import { connect, sampling, send, sendSettings } from "./connection.js";
import "./controls.js";
import "./gallery.js";
import "./gamepad.js";
import "./hud.js";
import "./media.js";
import "./offline.js";
import { playNext } from "./replay.js";
import "./sketch.js";
import { hasStarted, restart } from "./starts.js";
import { state, update } from "./state.js";
import { refreshBranches, takeBranch } from "./what-if.js";

const FIGURES_MS = 200; // nobody reads figures that change with every frame, and laying them out takes time
let lastUpdate = 0;

function onMessage(message) {
  if (message.type === "error") update({ error: message.message, script: [], generating: "" });
  if (message.type === "queue") update({ queuePosition: message.place });
  if (message.type === "gone") restart();
  if (message.type === "session") joined(message.session);
  if (message.type === "note") update({ note: message.message });
  if (message.type === "loading") update({ loading: message.fraction });
  if (message.type === "failed") update({ failed: true, error: message.message });
}

/** The server has a session for us: resume the one that was interrupted, or start. */
function joined(session) {
  const { interrupted, session: earlier } = state;
  update({ connected: true, queuePosition: 0, loading: null, error: "", session, interrupted: false });
  sendSettings();
  if (interrupted && earlier) send({ type: "resume", session: earlier });
  else restart();
}

function onClosed() {
  state.held.clear();
  update({
    interrupted: state.interrupted || (state.connected && state.tape.frames[0] !== null),
    connected: false, queuePosition: 0, generating: "", script: [], unanswered: [],
  });
}

function onFrame(frame) {
  const { kind, pixels, shownAt } = frame;
  if (kind === "what if") return takeBranch(frame);
  if (kind === "prompt") return state.preprocessed.push(pixels);
  if (kind === "back") state.tape.back(frame.step, pixels);
  if (kind === "next") record(frame);
  refreshBranches();
  Object.assign(state, {
    viewing: null,
    shown: pixels,
    action: frame.action,
    frames: state.frames + 1,
    shownTimes: [...state.shownTimes.filter((time) => shownAt - time < 2000), shownAt],
    modelMs: frame.modelMs,
  });
  if (kind === "start") hasStarted(pixels);
  if (kind !== "next" || shownAt - lastUpdate > FIGURES_MS) {
    lastUpdate = shownAt;
    update({});
  }
  playNext();
}

/** A frame was played: it goes on the tape, and answers the presses before it. */
function record({ action, key, pixels, ready, shownAt }) {
  state.tape.add(pixels, { action, ...sampling() });
  for (const press of state.unanswered) if (press.id <= key) state.latencies.push(shownAt - press.time);
  state.unanswered = state.unanswered.filter((press) => press.id > key);
  state.ready.push(ready);
}

connect({ message: onMessage, frame: onFrame, closed: onClosed });
