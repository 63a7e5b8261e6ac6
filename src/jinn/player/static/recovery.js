// After a lost connection: going on where the player was. If the server still has the session it is resumed; otherwise
// the page plays its own tape again, and so comes to the same frame.

import { send } from "./connection.js";
import { requestStart, restart, startFrom } from "./starts.js";
import { state, update } from "./state.js";
import { fingerprint } from "./tape.js";

/** The server has a session for us. */
export function catchUp(session) {
  const { tape, jump, started, session: earlier } = state;
  update({ connected: true, ended: false, queuePosition: 0, loading: null, error: "", refusal: "", session });
  if (jump === "start") return requestStart(); // it was asked for, and has never begun
  if (!started) return restart();
  if (jump === null) return send({ type: "resume", session: earlier });
  tape.back(jump, tape.frames[jump]); // nobody knows whether the server went back, and what it played then
  replayTape();
}

/** Play the tape again, and what is left of a session that was being played. */
export function replayTape() {
  const { tape, script, expected, started } = state;
  const last = script.length > 0 ? expected : fingerprint(tape.frames.at(-1));
  startFrom(started, tape.seed, { script: [...tape.inputs.slice(1), ...script], last });
  update({ recovering: true });
}
