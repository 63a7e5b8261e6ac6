// The page. Input goes to the server as messages (input.js); frames come back and are shown (hud.js).

import { buildActions } from "./actions.js";
import { bindStoredKeys } from "./bindings.js";
import { open, send, sendSettings } from "./connection.js";
import { buildControls } from "./controls.js";
import "./dialogs.js";
import { $ } from "./dom.js";
import { toPng } from "./files.js";
import { buildHud } from "./hud.js";
import { listen } from "./input.js";
import { receiveFiles } from "./media.js";
import { playNext } from "./replay.js";
import "./saving.js";
import { buildStarts, hasStarted, receive, restart } from "./starts.js";
import { state, update } from "./state.js";
import { whatIf } from "./what-if.js";
import { world } from "./world.js";

const FIGURES_MS = 200; // nobody reads figures that change with every frame, and laying them out takes time
let lastUpdate = 0;

function onMessage(message) {
  if (message.type === "error") update({ error: message.message, script: [], generating: "" });
  if (message.type === "queue") update({ queuePosition: message.place });
  if (message.type === "gone") restart();
  if (message.type === "session") joined(message.session);
}

/** The server has a session for us: resume the one that was interrupted, or start. */
function joined(session) {
  const { interrupted, session: earlier } = state;
  update({ connected: true, queuePosition: 0, error: "", session, interrupted: false });
  sendSettings();
  if (interrupted && earlier) send({ type: "resume", session: earlier });
  else restart();
}

function onClosed() {
  state.held.clear();
  update({
    interrupted: state.interrupted || (state.connected && state.tape.frames[0] !== null),
    connected: false, queuePosition: 0, generating: "", script: [], lastSent: null, unanswered: [],
  });
}

function onFrame(frame) {
  const { kind, pixels, shownAt } = frame;
  if (kind === "what if") return whatIf.take(frame);
  if (kind === "prompt") return state.preprocessed.push(toPng(pixels, world));
  if (kind === "back") state.tape.back(frame.step, pixels);
  if (kind === "next") record(frame);
  if (state.paused && !state.replaying) whatIf.refresh();
  else whatIf.close();
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
  state.tape.add(pixels, { action, steps: Number($("steps").value), temperature: Number($("temperature").value) });
  for (const press of state.unanswered) if (press.id <= key) state.latencies.push(shownAt - press.time);
  state.unanswered = state.unanswered.filter((press) => press.id > key);
  state.ready.push(ready);
}

buildActions();
bindStoredKeys();
buildStarts();
buildControls();
buildHud();
receiveFiles($("file"), receive);
listen();
open({ message: onMessage, frame: onFrame, closed: onClosed });
