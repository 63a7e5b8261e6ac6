// A gamepad plays as the keyboard does: its cross and left stick are arrow keys, its buttons are actions.

const CROSS = { 12: "ArrowUp", 13: "ArrowDown", 14: "ArrowLeft", 15: "ArrowRight" };
const TILT = 0.5;

/**
 * Watch the gamepads for as long as there is one.
 *
 * `press(source, key)` and `release(source)` are called as they go down and up; `key` is the name of the key of a
 * keyboard that means the same: an arrow, or "1" for the first button.
 */
export function watchGamepads(press, release) {
  let watching = false;
  const down = new Map(); // source -> key

  const look = () => {
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
    for (const [source, key] of now) if (down.get(source) !== key) press(source, key);
    down.clear();
    for (const [source, key] of now) down.set(source, key);
    watching = pads.length > 0;
    if (watching) requestAnimationFrame(look);
  };
  const watch = () => {
    if (!watching) look();
  };
  addEventListener("gamepadconnected", watch);
  watch();
}
