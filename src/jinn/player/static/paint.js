// Pixels on a canvas.

const sheets = new WeakMap(); // canvas -> its ImageData: what it holds of opacity it has held from the start

/** Put RGB pixels, row by row, on a canvas of their size. */
export function paint(canvas, pixels) {
  let sheet = sheets.get(canvas);
  if (sheet?.width !== canvas.width || sheet?.height !== canvas.height) {
    sheet = new ImageData(new Uint8ClampedArray(4 * canvas.width * canvas.height).fill(255), canvas.width);
    sheets.set(canvas, sheet);
  }
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    sheet.data[to] = pixels[from];
    sheet.data[to + 1] = pixels[from + 1];
    sheet.data[to + 2] = pixels[from + 2];
  }
  canvas.getContext("2d", { alpha: false }).putImageData(sheet, 0, 0);
}
