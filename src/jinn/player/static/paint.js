// Pixels on a canvas.

// canvas -> {pen, sheet}: its context and its ImageData. Both are made once: Firefox refuses to give the context of a
// canvas that was handed to a thread a second time, and a sheet's opacity needs to be set only once.
const papers = new WeakMap();

/** Put RGB pixels, row by row, on a canvas of their size. */
export function paint(canvas, pixels) {
  if (!papers.has(canvas)) {
    const sheet = new ImageData(new Uint8ClampedArray(4 * canvas.width * canvas.height).fill(255), canvas.width);
    papers.set(canvas, { pen: canvas.getContext("2d", { alpha: false }), sheet });
  }
  const { pen, sheet } = papers.get(canvas);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    sheet.data[to] = pixels[from];
    sheet.data[to + 1] = pixels[from + 1];
    sheet.data[to + 2] = pixels[from + 2];
  }
  pen.putImageData(sheet, 0, 0);
}

/** Pixels on a new canvas. */
export function painted(pixels, { width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  paint(canvas, pixels);
  return canvas;
}
