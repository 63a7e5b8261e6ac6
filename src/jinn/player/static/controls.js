// The controls beside the screen: pause, speed, and how frames are sampled; and the buttons that close a dialog.

import { $ } from "./dom.js";
import { state, update, world } from "./state.js";

[$("speed").min, $("speed").max] = world.fps_range;
$("speed").value = Math.round(world.fps);
$("auto").checked = world.idle !== null;
$("auto").parentElement.title = world.idle !== null
  ? "While nothing is held, the world plays the action that does nothing"
  : "While nothing is held, the last action goes on";
for (const id of ["speed", "auto", "look-ahead"]) {
  $(id).oninput = () => update({});
}
$("doubt").parentElement.hidden = !("doubt" in world.sampling);
for (const id of Object.keys(world.sampling)) {
  const field = $(id);
  [field.min, field.max] = world[`${id}_range`];
  field.disabled = field.min === field.max; // a page without a server samples in one way
  field.value = world.sampling[id];
  field.onchange = () => {
    if (!field.checkValidity()) field.value = world.sampling[id];
    update({});
  };
}
$("seed").onchange = () => ($("keep-seed").checked = true);
$("pause").onclick = () => update({ paused: !state.paused });
for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();
// After a mouse click the space bar should play again; players who use the keyboard keep the focus.
addEventListener("click", (event) => {
  if (event.detail > 0 && event.target.closest("button, [type=range], [type=checkbox]")) document.activeElement?.blur();
});
