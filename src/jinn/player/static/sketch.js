// The sketch pad: what is drawn becomes the first frame.

import { nameOf } from "./colours.js";
import { $, make } from "./dom.js";
import { releaseAll } from "./input.js";
import { painted } from "./paint.js";
import { startFrom } from "./starts.js";
import { state, world } from "./state.js";

const MAX_UNDOS = 30;
const GROUND = "#ffffff";
const TOLERANCE = 60; // of the fill, as edges of strokes are soft: summed difference of red, green and blue
const SCALE = Math.max(1, Math.round(384 / Math.max(world.width, world.height))); // of the paper: larger than the world

const paper = Object.assign($("paper"), { width: world.width * SCALE, height: world.height * SCALE });
const pen = paper.getContext("2d", { alpha: false, willReadFrequently: true });
const before = []; // pictures for the undo
let colour;
let size; // of the brush, in pixels of the world
let last = null; // the point up to which a line is drawn; null: no pointer is down

const tool = () => $("tools").querySelector("input:checked").value;
const image = () => pen.getImageData(0, 0, paper.width, paper.height);

/** Remember the picture for an undo. */
function remember() {
  before.push(image());
  if (before.length > MAX_UNDOS) before.shift();
  $("undo").disabled = false;
}

function clear() {
  pen.fillStyle = GROUND;
  pen.fillRect(0, 0, paper.width, paper.height);
}

/** The point of a pointer event. */
function pointOf({ clientX, clientY }) {
  const box = paper.getBoundingClientRect();
  return [((clientX - box.left) / box.width) * paper.width, ((clientY - box.top) / box.height) * paper.height];
}

function lineTo(point) {
  pen.strokeStyle = tool() === "eraser" ? GROUND : colour;
  pen.lineWidth = size * SCALE;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...point);
  pen.stroke();
  last = point;
}

/** Colour the area of nearly one colour around a point. */
function fill([x, y]) {
  const picture = image();
  const { data, width, height } = picture;
  const inside = (value, length) => Math.min(Math.floor(value), length - 1);
  const first = inside(y, height) * width + inside(x, width);
  const from = data.slice(4 * first, 4 * first + 3);
  const to = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const difference = (i) => from.reduce((sum, value, channel) => sum + Math.abs(data[i + channel] - value), 0);
  const area = new Uint8Array(width * height);
  const open = [first];
  while (open.length) {
    const p = open.pop();
    if (area[p] || difference(4 * p) >= TOLERANCE) continue;
    area[p] = 1;
    const column = p % width;
    if (column > 0) open.push(p - 1);
    if (column < width - 1) open.push(p + 1);
    if (p >= width) open.push(p - width);
    if (p < width * (height - 1)) open.push(p + width);
  }
  for (let p = 0; p < area.length; p += 1) if (area[p]) data.set(to, 4 * p);
  pen.putImageData(picture, 0, 0);
}

paper.onpointerdown = (event) => {
  event.preventDefault();
  paper.setPointerCapture(event.pointerId);
  remember();
  const point = pointOf(event);
  if (tool() === "fill") return fill(point);
  last = point;
  lineTo(point);
};
paper.onpointermove = (event) => {
  if (!last) return;
  for (const part of event.getCoalescedEvents?.() ?? [event]) lineTo(pointOf(part));
};
paper.onlostpointercapture = () => (last = null);

/** Mark a button of a row as the chosen one. */
function mark(button, row) {
  for (const other of row.querySelectorAll("button")) other.ariaPressed = other === button;
}

/** Give a row a button for each value; `choose` is called with the value of the one that is clicked. */
function offer(row, values, choose, propertiesOf) {
  const buttons = values.map((value) => make("button", {
    ...propertiesOf(value),
    onclick({ currentTarget }) {
      choose(value);
      mark(currentTarget, row);
    },
  }));
  row.prepend(...buttons);
}

offer($("colours"), world.palette, (chosen) => {
  colour = chosen;
  if (tool() === "eraser") $("tools").querySelector("[value=brush]").checked = true;
}, (shade) => ({ className: "colour", title: shade, ariaLabel: nameOf(shade), style: `background-color: ${shade}` }));
$("own-colour").oninput = () => {
  colour = $("own-colour").value;
  mark(null, $("colours"));
};
offer($("sizes"), [1, 2, 4, 8], (chosen) => (size = chosen), (pixels) => (
  { className: "size", ariaLabel: `Brush of ${pixels} pixels`, style: `--size: ${pixels * 2 + 2}px` }));
$("colours").children[0].click();
$("sizes").children[1].click();
clear();

$("undo").onclick = () => {
  pen.putImageData(before.pop(), 0, 0);
  $("undo").disabled = before.length === 0;
};
$("clear").onclick = () => {
  remember();
  clear();
};
$("copy").onclick = () => {
  remember();
  pen.imageSmoothingEnabled = false;
  pen.drawImage(painted(state.shown, world), 0, 0, paper.width, paper.height);
};
$("draw").onclick = () => {
  releaseAll();
  $("sketch").showModal();
};
$("start-sketch").onclick = () => {
  $("sketch").close();
  paper.toBlob((picture) => startFrom({ pictures: [picture] }));
};
