// The buttons, and the choice of their keys, which the browser remembers.

import { $, make, touch } from "./dom.js";
import { press, release } from "./input.js";
import { bindKeys, capOf, keyOf, usualKeys } from "./keys.js";
import { names, state, world } from "./state.js";

const STORAGE_KEY = `jinn keys ${world.id} ${names}`; // teaching a world changes its buttons, but not its id
const RESERVED = ["Escape", "Tab", "r", "p"];

function actionButton({ name, action }, k) {
  const label = make("span", { textContent: name });
  const button = make("button", { className: "action" }, label, make("span", { className: "caps" }));
  const meaning = world.legend?.[action];
  if (meaning?.fraction) {
    label.prepend(arrow(meaning));
    const steps = [[meaning.down, "down", "up"], [meaning.right, "right", "left"]]
      .map(([pixels, plus, minus]) => `${Math.abs(pixels).toFixed(1)} ${pixels < 0 ? minus : plus}`);
    button.title = `In the training videos: ${steps.join(", ")} pixels a frame`;
  }
  button.onpointerdown = (event) => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    point(event, button);
  };
  // A finger may slide from one button to the next.
  button.onpointermove = (event) => {
    if (button.hasPointerCapture(event.pointerId)) point(event, document.elementFromPoint(event.clientX, event.clientY));
  };
  button.onlostpointercapture = (event) => point(event, null);
  button.oncontextmenu = (event) => event.preventDefault(); // a long touch should open no menu
  button.onkeydown = (event) => {
    if ([" ", "Enter"].includes(event.key)) press(event.code, { button: k }, event.timeStamp);
  };
  button.onblur = () => ["Space", "Enter", "NumpadEnter"].forEach(release);
  return button;
}

const pointed = new Map(); // what a finger or a mouse holds -> the number of its button

/** A finger or a mouse is down, over an element; null: it is up again. */
function point({ pointerId, timeStamp }, element) {
  const source = `pointer ${pointerId}`;
  const k = [...$("actions").children].indexOf(element?.closest(".action"));
  if (pointed.get(source) === k) return;
  release(source);
  pointed.set(source, k);
  if (k >= 0) press(source, { button: k }, timeStamp);
}

/** Where the player's figure went while the action was taken, as an arrow; its length is its speed among all actions. */
function arrow({ down, right }) {
  const fastest = Math.max(...world.legend.map((action) => Math.hypot(action.down, action.right)), 1e-6);
  const speed = Math.hypot(down, right);
  const picture = $("arrow").content.firstElementChild.cloneNode(true);
  const [line, dot] = picture.children;
  if (speed < Math.min(0.2 * fastest, 0.4)) line.remove();
  else {
    dot.remove();
    const half = 4 + 5 * (speed / fastest);
    line.setAttribute("d", `M${-half} 0H${half}m-4-4l4 4l-4 4`);
    line.setAttribute("transform", `rotate(${((Math.atan2(down, right) * 180) / Math.PI).toFixed(1)})`);
  }
  return picture;
}

function storedKeys() {
  try {
    return JSON.parse(localStorage.getItem(STORAGE_KEY));
  } catch {
    return null; // a private window
  }
}

function chooseKeys(own) {
  setKeys(own);
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(own));
  } catch {
    // a private window: the keys last as long as the page
  }
}

/** Bind the buttons to keys, and show them. */
function setKeys(own) {
  state.keys = bindKeys(own, names);
  [...$("actions").children].forEach((button, k) => {
    const caps = state.keys.caps(k).map((cap) => make("kbd", { textContent: cap }));
    button.querySelector(".caps").replaceChildren(...caps);
  });
  $("bindings").replaceChildren(...own.map((key, k) => {
    const cap = make("kbd", { textContent: capOf(key) ?? "–" });
    const ariaLabel = `Key of ${names[k]}: ${capOf(key) ?? "none"}. Press to choose another`;
    return make("button", { ariaLabel, onclick: () => rebind(k, cap) }, make("span", { textContent: names[k] }), cap);
  }));
}

/** Wait for a key; the button that had it before gets the other's. */
function rebind(k, cap) {
  cap.textContent = "press a key";
  addEventListener("keydown", (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    const key = keyOf(event);
    const { own } = state.keys;
    if (RESERVED.includes(key)) return setKeys(own);
    chooseKeys(own.map((old, i) => (i === k ? key : old === key ? own[k] : old)));
  }, { once: true, capture: true });
}

$("actions").append(...world.buttons.map(actionButton));
setKeys(storedKeys() ?? usualKeys(names.length));
$("usual-keys").onclick = () => chooseKeys(usualKeys(names.length));
const which = touch ? "a button" : state.keys.usesArrows ? "an arrow or number key" : "a number key";
$("how").textContent = `Hold ${which}: the model generates each next frame in response.`;
