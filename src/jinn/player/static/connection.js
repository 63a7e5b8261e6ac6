// The connection to the server. docs/protocol.md describes the messages.

import { $ } from "./dom.js";
import { connect } from "./screen-link.js";
import { state, update } from "./state.js";
import { world } from "./world.js";

Object.assign($("screen"), { width: world.width, height: world.height });
let link;

/** Connect. `on` has message(message), frame(frame) and closed(); errors of the thread are shown. */
export function open(on) {
  link = connect($("screen"), { ...on, failed: (sentence) => update({ error: sentence }) });
}

/** Send a message (an object) or a picture (a Blob). */
export const send = (message) => link.send(message);

/** Put pixels on the screen. */
export const paintScreen = (pixels) => link.paint(pixels);

export function sendSettings() {
  send({
    type: "settings",
    fps: state.replaying ? world.fps_range[1] : Number($("speed").value),
    paused: state.paused || document.hidden || state.viewing !== null || state.replaying,
    idle: $("auto").checked ? (world.idle ?? state.lastAction) : null,
    steps: Number($("steps").value),
    temperature: Number($("temperature").value),
    look_ahead: $("look-ahead").checked,
  });
}
