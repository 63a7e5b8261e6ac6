// The connection to what computes the frames. docs/protocol.md describes the messages. A thread has the canvas and paints
// the frames: screen.js, which has the socket of a server, or local.js, which has the model itself.

import { $ } from "./dom.js";
import { onChange, state, update, world } from "./state.js";

const thread = new Worker(new URL(world.model ? "local.js" : "screen.js", import.meta.url), { type: "module" });
thread.onerror = ({ message }) => update({
  failed: true, error: `The page's thread failed: ${message ?? "it could not be loaded"}. Reload the page.`,
});

/**
 * Connect. `on` has message(message), frame(frame) for each frame, which is on the screen already, closed({idle}), and
 * refused(sentence) if it is known why there is no connection.
 */
export function connect(on) {
  const screen = Object.assign($("screen"), { width: world.width, height: world.height });
  const canvas = screen.transferControlToOffscreen();
  thread.onmessage = ({ data }) => on[data.event](data.detail);
  thread.postMessage({ canvas, world, page: document.baseURI }, [canvas]);
}

/** Connect again, without waiting. */
export const reconnect = () => thread.postMessage({ connect: true });

/** Send a message (an object) or a picture (a Blob). */
export const send = (message) => thread.postMessage({ send: message });

/** Put pixels on the screen; with `hold`, frames that are still on their way do not cover them. */
export const paintScreen = (pixels, hold) => thread.postMessage({ paint: pixels, hold });

/** The sampling settings of the page, of those that the world has; the world's own while one is half typed. */
export const sampling = () => Object.fromEntries(Object.entries(world.sampling).map(([id, own]) => {
  const value = $(id).valueAsNumber; // NaN if it is no number
  const [low, high] = world[`${id}_range`];
  const good = value >= low && value <= high && (id !== "steps" || Number.isInteger(value));
  return [id, good ? value : own];
}));

const settings = () => ({
  type: "settings",
  fps: state.replaying ? world.fps_range[1] : Number($("speed").value),
  paused: state.paused || document.hidden || state.viewing !== null || state.replaying || state.pilot || state.opened !== null,
  idle: $("auto").checked ? (world.idle ?? world.buttons[state.lastButton].action) : null,
  look_ahead: $("look-ahead").checked,
  ...sampling(),
});

// The settings are a function of the page's state: whatever changes it, they are sent if they are others than before.
let sent = "";
onChange(() => {
  const now = state.connected ? JSON.stringify(settings()) : "";
  if (now && now !== sent) send(JSON.parse(now));
  sent = now;
});
