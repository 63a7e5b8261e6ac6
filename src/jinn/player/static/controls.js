// The controls beside the screen: reset, pause, speed, sampling and seed.

import { sendSettings } from "./connection.js";
import { $ } from "./dom.js";
import { repeatLastAction } from "./input.js";
import { restart } from "./starts.js";
import { state, update } from "./state.js";
import { nameOf, world } from "./world.js";

function setPaused(paused) {
  update({ paused });
  sendSettings();
}

function changeSampling() {
  for (const id of ["steps", "temperature"]) {
    const field = $(id);
    if (!field.checkValidity() || field.value === "") field.value = world.sampling[id];
  }
  sendSettings();
}

function changeSpeed() {
  $("speed-value").value = `${$("speed").value} fps`;
  sendSettings();
}

export function buildControls() {
  [$("speed").min, $("speed").max] = world.fps_range;
  $("speed").value = Math.round(world.fps);
  $("speed-value").value = `${$("speed").value} fps`;
  for (const id of ["steps", "temperature"]) {
    [$(id).min, $(id).max] = world[`${id}_range`];
    $(id).value = world.sampling[id];
  }
  $("auto").checked = world.idle !== null;
  $("auto").parentElement.title = world.idle !== null
    ? `While nothing is held, the world plays “${nameOf(world.idle)}”`
    : "While nothing is held, the last action goes on";
  $("reset").onclick = restart;
  $("pause").onclick = () => setPaused(!state.paused);
  $("again").onclick = repeatLastAction;
  $("auto").onchange = $("look-ahead").onchange = () => {
    sendSettings();
    update({});
  };
  $("steps").onchange = $("temperature").onchange = changeSampling;
  $("seed").onchange = () => ($("keep-seed").checked = true);
  $("speed").oninput = changeSpeed;
  // After a mouse click the space bar should play again; players who use the keyboard keep the focus.
  addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("button, [type=range], [type=checkbox]")) document.activeElement?.blur();
  });
}
