// The connection to what computes the frames. docs/protocol.md describes the messages. A thread has the canvas and paints
// the frames: screen.js, which has the socket of a server, or local.js, which has the model itself.

import { $ } from "./dom.js";
import { state, update, world } from "./state.js";

const thread = new Worker(new URL(world.model ? "local.js" : "screen.js", import.meta.url), { type: "module" });
thread.onerror = ({ message }) => update({ error: `The page's thread failed: ${message ?? "it could not be loaded"}` });

/** Connect. `on` has message(message), frame(frame) for each frame, which is on the screen already, and closed(). */
export function connect(on) {
  const screen = Object.assign($("screen"), { width: world.width, height: world.height });
  const canvas = screen.transferControlToOffscreen();
  thread.onmessage = ({ data }) => on[data.event](data.detail);
  thread.postMessage({ canvas, world, page: document.baseURI }, [canvas]);
}

/** Send a message (an object) or a picture (a Blob). */
export const send = (message) => thread.postMessage({ send: message });

/** Put pixels on the screen. */
export const paintScreen = (pixels) => thread.postMessage({ paint: pixels });

/** The sampling settings that are chosen on the page: those that the world has. */
export const sampling = () => Object.fromEntries(Object.keys(world.sampling).map((id) => [id, Number($(id).value)]));

export function sendSettings() {
  send({
    type: "settings",
    fps: state.replaying ? world.fps_range[1] : Number($("speed").value),
    paused: state.paused || document.hidden || state.viewing !== null || state.replaying,
    idle: $("auto").checked ? (world.idle ?? world.buttons[state.lastButton].action) : null,
    look_ahead: $("look-ahead").checked,
    ...sampling(),
  });
}
