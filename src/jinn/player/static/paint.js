// Pixels on a canvas.

// canvas -> {pen, sheet}: its context and its ImageData. Both are made once: Firefox refuses to give the context of a
// canvas that was handed to a thread a second time, and a sheet's opacity needs to be set only once.
const papers = new WeakMap();

function paperOf(canvas) {
  const { width, height } = canvas;
  const paper = papers.get(canvas);
  if (paper?.sheet.width === width && paper.sheet.height === height) return paper;
  const pen = paper?.pen ?? canvas.getContext("2d", { alpha: false });
  const made = { pen, sheet: new ImageData(new Uint8ClampedArray(4 * width * height).fill(255), width) };
  papers.set(canvas, made);
  return made;
}

/** Put RGB pixels, row by row, on a canvas of their size. */
export function paint(canvas, pixels) {
  const { pen, sheet } = paperOf(canvas);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    sheet.data[to] = pixels[from];
    sheet.data[to + 1] = pixels[from + 1];
    sheet.data[to + 2] = pixels[from + 2];
  }
  pen.putImageData(sheet, 0, 0);
}
