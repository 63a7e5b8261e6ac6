// A sketch pad: what is drawn becomes the first frame.

const UNDOS = 30;

/**
 * Make a pad of a canvas.
 *
 * `parts` has paper (a canvas), colours and sizes (elements that get a button each), own (a colour input), tools
 * (radio buttons: brush, fill, eraser), undo, clear and copy (buttons). `palette` is the world's; `screen` gives
 * the canvas that "copy" begins from. Returns {blob()}.
 */
export function sketchPad(parts, { width, height, palette }, screen) {
  const { paper } = parts;
  const scale = Math.max(1, Math.round(384 / Math.max(width, height)));
  paper.width = width * scale;
  paper.height = height * scale;
  const pen = paper.getContext("2d", { alpha: false, willReadFrequently: true });
  const before = [];
  const ground = "#ffffff";
  let colour = palette[0];
  let size = 2; // in pixels of the world
  let last = null;

  const remember = () => {
    before.push(pen.getImageData(0, 0, paper.width, paper.height));
    if (before.length > UNDOS) before.shift();
    parts.undo.disabled = false;
  };
  const blank = () => {
    pen.fillStyle = ground;
    pen.fillRect(0, 0, paper.width, paper.height);
  };
  const tool = () => parts.tools.querySelector("input:checked").value;
  const place = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * paper.width,
      ((event.clientY - box.top) / box.height) * paper.height];
  };
  const line = ([x0, y0], [x1, y1]) => {
    pen.strokeStyle = tool() === "eraser" ? ground : colour;
    pen.lineWidth = size * scale;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
  };

  /** Colour the area of one colour around a point; nearly the same is the same, for edges of strokes are soft. */
  const fill = (x, y) => {
    const image = pen.getImageData(0, 0, paper.width, paper.height);
    const { data, width: w, height: h } = image;
    const at = (Math.floor(y) * w + Math.floor(x)) * 4;
    const from = [data[at], data[at + 1], data[at + 2]];
    const to = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const alike = (i) => Math.abs(data[i] - from[0]) + Math.abs(data[i + 1] - from[1]) + Math.abs(data[i + 2] - from[2]) < 60;
    const seen = new Uint8Array(w * h);
    const open = [at / 4];
    while (open.length) {
      const p = open.pop();
      if (seen[p] || !alike(4 * p)) continue;
      seen[p] = 1;
      const column = p % w;
      if (column > 0) open.push(p - 1);
      if (column < w - 1) open.push(p + 1);
      if (p >= w) open.push(p - w);
      if (p < w * (h - 1)) open.push(p + w);
    }
    for (let p = 0; p < seen.length; p += 1) if (seen[p]) data.set(to, 4 * p);
    pen.putImageData(image, 0, 0);
  };

  paper.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    paper.setPointerCapture(event.pointerId);
    remember();
    const [x, y] = place(event);
    if (tool() === "fill") return fill(Math.min(x, paper.width - 1), Math.min(y, paper.height - 1));
    last = [x, y];
    line(last, last);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const next = place(part);
      line(last, next);
      last = next;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, () => (last = null));

  const choose = (button, row) => {
    for (const other of row.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  };
  const colourButton = (value) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "colour", title: value });
    button.setAttribute("aria-label", `Colour ${value}`);
    button.style.backgroundColor = value;
    button.onclick = () => {
      colour = value;
      choose(button, parts.colours);
      if (tool() === "eraser") parts.tools.querySelector("[value=brush]").checked = true;
    };
    return button;
  };
  parts.colours.prepend(...palette.map(colourButton));
  parts.own.oninput = () => {
    colour = parts.own.value;
    choose(null, parts.colours);
  };
  for (const pixels of [1, 2, 4, 8]) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "size" });
    button.setAttribute("aria-label", `Brush of ${pixels} pixels`);
    button.append(Object.assign(document.createElement("i"), { style: `--size: ${pixels * 2 + 2}px` }));
    button.onclick = () => {
      size = pixels;
      choose(button, parts.sizes);
    };
    parts.sizes.append(button);
  }
  parts.undo.onclick = () => {
    const image = before.pop();
    if (image) pen.putImageData(image, 0, 0);
    parts.undo.disabled = before.length === 0;
  };
  parts.clear.onclick = () => {
    remember();
    blank();
  };
  parts.copy.onclick = () => {
    remember();
    pen.imageSmoothingEnabled = false;
    pen.drawImage(screen(), 0, 0, paper.width, paper.height);
  };
  blank();
  parts.undo.disabled = true;
  choose(parts.colours.firstElementChild, parts.colours);
  choose(parts.sizes.children[1], parts.sizes);

  return { blob: () => new Promise((done) => paper.toBlob(done, "image/png")) };
}
