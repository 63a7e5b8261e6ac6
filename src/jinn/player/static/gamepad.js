// A gamepad plays as the keyboard does: its cross and left stick are arrow keys, its buttons are actions.

import { press, release } from "./input.js";
import { state } from "./state.js";

const CROSS = { 12: "ArrowUp", 13: "ArrowDown", 14: "ArrowLeft", 15: "ArrowRight" };
const TILT = 0.5;

let next; // request of the next look
let down = new Map(); // what is down -> the key of a keyboard that means the same: an arrow, or "1" for the first button

/** See what went down and up, again and again for as long as there is a gamepad. */
function look() {
  const pads = [...navigator.getGamepads()].filter(Boolean);
  const now = new Map();
  for (const pad of pads) {
    pad.buttons.forEach((button, i) => {
      const key = CROSS[i] ?? (i < 10 ? String((i + 1) % 10) : null);
      if (button.pressed && key) now.set(`pad ${pad.index} ${i}`, key);
    });
    const [x = 0, y = 0] = pad.axes;
    if (Math.abs(x) > TILT) now.set(`pad ${pad.index} x`, x < 0 ? "ArrowLeft" : "ArrowRight");
    if (Math.abs(y) > TILT) now.set(`pad ${pad.index} y`, y < 0 ? "ArrowUp" : "ArrowDown");
  }
  for (const [source, key] of down) if (now.get(source) !== key) release(source);
  for (const [source, key] of now) if (down.get(source) !== key) press(source, state.keys.press(key), performance.now());
  down = now;
  cancelAnimationFrame(next);
  if (pads.length > 0) next = requestAnimationFrame(look);
}

addEventListener("gamepadconnected", look);
look();
