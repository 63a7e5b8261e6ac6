// A sketch pad: what is drawn becomes the first frame.

import { make } from "./dom.js";

const MAX_UNDOS = 30;
const GROUND = "#ffffff";
const TOLERANCE = 60; // of the fill, as edges of strokes are soft: summed difference of red, green and blue

/** A canvas to draw on, with undo. `onUndo(possible)` is called when the number of undos changes. */
class Paper {
  constructor(canvas, { width, height }, onUndo) {
    this.canvas = canvas;
    this.scale = Math.max(1, Math.round(384 / Math.max(width, height)));
    Object.assign(canvas, { width: width * this.scale, height: height * this.scale });
    this.pen = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.before = [];
    this.onUndo = onUndo;
    this.clear();
  }

  image() {
    return this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Remember the picture for an undo. */
  remember() {
    this.before.push(this.image());
    if (this.before.length > MAX_UNDOS) this.before.shift();
    this.onUndo(true);
  }

  undo() {
    const image = this.before.pop();
    if (image) this.pen.putImageData(image, 0, 0);
    this.onUndo(this.before.length > 0);
  }

  clear() {
    this.pen.fillStyle = GROUND;
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Copy a picture of the world's size. */
  copy(source) {
    this.pen.imageSmoothingEnabled = false;
    this.pen.drawImage(source, 0, 0, this.canvas.width, this.canvas.height);
  }

  /** The point of a pointer event. */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height];
  }

  /** Draw a line; `size` is its width in pixels of the world. */
  line([x0, y0], [x1, y1], colour, size) {
    this.pen.strokeStyle = colour;
    this.pen.lineWidth = size * this.scale;
    this.pen.lineCap = this.pen.lineJoin = "round";
    this.pen.beginPath();
    this.pen.moveTo(x0, y0);
    this.pen.lineTo(x1, y1);
    this.pen.stroke();
  }

  /** Colour the area of nearly one colour around a point. */
  fill([x, y], colour) {
    const image = this.image();
    const { data, width, height } = image;
    const inside = (value, size) => Math.min(Math.floor(value), size - 1);
    const first = inside(y, height) * width + inside(x, width);
    const from = data.slice(4 * first, 4 * first + 3);
    const to = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const alike = (i) => Math.abs(data[i] - from[0]) + Math.abs(data[i + 1] - from[1]) + Math.abs(data[i + 2] - from[2]) < TOLERANCE;
    const area = new Uint8Array(width * height);
    const open = [first];
    while (open.length) {
      const p = open.pop();
      if (area[p] || !alike(4 * p)) continue;
      area[p] = 1;
      const column = p % width;
      if (column > 0) open.push(p - 1);
      if (column < width - 1) open.push(p + 1);
      if (p >= width) open.push(p - width);
      if (p < width * (height - 1)) open.push(p + width);
    }
    for (let p = 0; p < area.length; p += 1) if (area[p]) data.set(to, 4 * p);
    this.pen.putImageData(image, 0, 0);
  }
}

/**
 * Make a pad of a canvas.
 *
 * `parts` has paper (a canvas), colours and sizes (elements that get a button each), own (a colour input), tools
 * (radio buttons: brush, fill, eraser), undo, clear and copy (buttons). `world` has the size and the palette; `screen`
 * gives the canvas that "copy" copies. Returns {blob()}.
 */
export function sketchPad(parts, world, screen) {
  const paper = new Paper(parts.paper, world, (possible) => (parts.undo.disabled = !possible));
  const brush = { colour: world.palette[0], size: 2 };
  const tool = () => parts.tools.querySelector("input:checked").value;
  offerColours(parts, world.palette, brush, tool);
  offerSizes(parts.sizes, brush);
  parts.undo.onclick = () => paper.undo();
  parts.clear.onclick = () => {
    paper.remember();
    paper.clear();
  };
  parts.copy.onclick = () => {
    paper.remember();
    paper.copy(screen());
  };
  parts.undo.disabled = true;
  followPointer(paper, brush, tool);
  return { blob: () => new Promise((done) => parts.paper.toBlob(done, "image/png")) };
}

function followPointer(paper, brush, tool) {
  const { canvas } = paper;
  let last = null;
  const lineTo = (point) => {
    paper.line(last, point, tool() === "eraser" ? GROUND : brush.colour, brush.size);
    last = point;
  };
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    paper.remember();
    const point = paper.point(event);
    if (tool() === "fill") return paper.fill(point, brush.colour);
    last = point;
    lineTo(point);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) lineTo(paper.point(part));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
}

function choose(button, row) {
  for (const other of row.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
}

function offerColours({ colours, own, tools }, palette, brush, tool) {
  const button = (colour) => {
    const made = make("button", { type: "button", className: "colour", title: colour });
    made.setAttribute("aria-label", `Colour ${colour}`);
    made.style.backgroundColor = colour;
    made.onclick = () => {
      brush.colour = colour;
      choose(made, colours);
      if (tool() === "eraser") tools.querySelector("[value=brush]").checked = true;
    };
    return made;
  };
  colours.prepend(...palette.map(button));
  own.oninput = () => {
    brush.colour = own.value;
    choose(null, colours);
  };
  choose(colours.firstElementChild, colours);
}

function offerSizes(sizes, brush) {
  for (const size of [1, 2, 4, 8]) {
    const button = make("button", { type: "button", className: "size" }, make("i", { style: `--size: ${size * 2 + 2}px` }));
    button.setAttribute("aria-label", `Brush of ${size} pixels`);
    button.onclick = () => {
      brush.size = size;
      choose(button, sizes);
    };
    sizes.append(button);
  }
  choose(sizes.children[1], sizes);
}
