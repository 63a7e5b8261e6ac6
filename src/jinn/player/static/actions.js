// The buttons of the actions.

import { $, make } from "./dom.js";
import { press, release } from "./input.js";
import { nameOf, world } from "./world.js";

export function buildActions() {
  $("actions").append(...Array.from({ length: world.actions }, (_, k) => actionButton(k)));
}

function actionButton(k) {
  const label = make("span", { textContent: nameOf(k) });
  const button = make("button", { type: "button", className: "action" }, label, make("span", { className: "caps" }));
  button.setAttribute("aria-pressed", "false");
  const meaning = world.legend?.[k];
  if (meaning?.fraction) {
    label.prepend(arrow(meaning));
    const steps = [[meaning.down, "down", "up"], [meaning.right, "right", "left"]]
      .map(([pixels, plus, minus]) => `${Math.abs(pixels).toFixed(1)} ${pixels < 0 ? minus : plus}`);
    button.title = `In the training videos: ${steps.join(", ")} pixels a frame`;
  }
  button.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    press(`pointer ${event.pointerId}`, { action: k }, event.timeStamp);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    button.addEventListener(end, (event) => release(`pointer ${event.pointerId}`));
  }
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch should open no menu
  button.addEventListener("keydown", (event) => {
    if ([" ", "Enter"].includes(event.key)) press(event.code, { action: k }, event.timeStamp);
  });
  button.addEventListener("blur", () => ["Space", "Enter", "NumpadEnter"].forEach(release));
  return button;
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
