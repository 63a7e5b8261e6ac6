// What is held: keys, fingers and buttons of a gamepad. They mean a button of the page, and the server is told of its
// action.

import { send } from "./connection.js";
import { $ } from "./dom.js";
import { keyOf } from "./keys.js";
import { stopPilot } from "./pilot.js";
import { branchOff, stopReplay } from "./replay.js";
import { state, update, world } from "./state.js";

const SHORTCUTS = { r: "reset", p: "pause", " ": "pause", ".": "again", "/": "what-if", f: "full", m: "pilot" };

/** The button that everything held means together; null: nothing is held. */
export const heldButton = () => state.keys.resolve([...state.held.values()]);

/** The action of a button. */
const actionOf = (button) => world.buttons[button]?.action ?? null;

/** Something went down: `source` is what, `pressed` a press of keys.js, `time` of `performance.now`. */
export function press(source, pressed, time) {
  if (!state.connected || state.recovering || !pressed || state.held.has(source)) return; // the keyboard repeats itself
  stopPilot();
  stopReplay();
  branchOff();
  state.held.set(source, pressed);
  const button = heldButton();
  const action = actionOf(button);
  const id = state.keyId + 1;
  send({ type: "action", action, id }); // so that even the shortest press is played
  send({ type: "keys", action, id });
  const unanswered = [...state.unanswered, { id, time: performance.timeOrigin + time }];
  update({ keyId: id, lastButton: button, unanswered, error: "" });
}

export function release(source) {
  const before = heldButton();
  if (!state.held.delete(source)) return;
  const button = heldButton();
  if (button !== before) {
    state.keyId += 1;
    send({ type: "keys", action: actionOf(button), id: state.keyId });
  }
  update({});
}

export function releaseAll() {
  [...state.held.keys()].forEach(release);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const control = event.target.closest?.("a, button, input, summary");
  if (control && [" ", "Enter"].includes(event.key)) return; // it presses the control
  if (control?.type === "range" && event.key.startsWith("Arrow")) return;
  if (["text", "number"].includes(control?.type)) return; // somebody writes
  const pressed = state.keys.press(keyOf(event));
  const shortcut = SHORTCUTS[event.key.toLowerCase()];
  if (pressed) press(event.code, pressed, event.timeStamp);
  else if (shortcut === "again") press(event.code, { button: state.lastButton }, event.timeStamp);
  else if (shortcut && !event.repeat) $(shortcut).click();
  if (pressed || shortcut) event.preventDefault(); // arrows and space would scroll
});
addEventListener("keyup", (event) => release(event.code));
addEventListener("blur", releaseAll);
document.addEventListener("visibilitychange", () => {
  releaseAll();
  update({}); // a page that nobody sees does not keep the model busy
});
$("again").onclick = () => {
  press("again", { button: state.lastButton }, performance.now());
  release("again");
};
