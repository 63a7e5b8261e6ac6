// The dialogs in which a player makes a first frame: a sketch, or a photo.

import { $ } from "./dom.js";
import { releaseAll } from "./input.js";
import { openCamera } from "./media.js";
import { paint } from "./paint.js";
import { sketchPad } from "./sketch.js";
import { startFrom } from "./starts.js";
import { state, update } from "./state.js";
import { world } from "./world.js";

let pad;
let camera;

function openDialog(dialog) {
  releaseAll();
  dialog.showModal();
}

/** A canvas with the pixels on the screen. */
function screenCopy() {
  const canvas = new OffscreenCanvas(world.width, world.height);
  paint(canvas, state.shown);
  return canvas;
}

$("draw").onclick = () => {
  pad ??= sketchPad({
    paper: $("paper"), colours: $("colours"), own: $("own-colour"), tools: $("tools"), sizes: $("sizes"),
    undo: $("undo"), clear: $("clear"), copy: $("copy"),
  }, world, screenCopy);
  openDialog($("sketch"));
};
$("start-sketch").onclick = async () => {
  $("sketch").close();
  startFrom({ pictures: [await pad.blob()] });
};

$("camera").onclick = async () => {
  update({ error: "" });
  try {
    camera = await openCamera($("video"));
    openDialog($("photo"));
  } catch (error) {
    update({ error: error.message });
  }
};
$("start-photo").onclick = async () => {
  const picture = await camera.blob();
  $("photo").close();
  startFrom({ pictures: [picture] });
};
$("photo").onclose = () => camera?.stop();

for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();
