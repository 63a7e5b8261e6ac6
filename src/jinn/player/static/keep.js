// Pixels on a canvas, and from there to a file.

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

/** RGB pixels as a data URL of a PNG: lossless. */
export function toPng(pixels, { width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  paint(canvas, pixels);
  return canvas.toDataURL("image/png");
}

/** What is on a canvas, its pixels enlarged to squares, as a PNG. */
export function screenshot(canvas) {
  const scale = Math.max(1, Math.floor(512 / Math.max(canvas.width, canvas.height)));
  const paper = new OffscreenCanvas(scale * canvas.width, scale * canvas.height);
  const pen = paper.getContext("2d", { alpha: false });
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, 0, 0, paper.width, paper.height);
  return paper.convertToBlob({ type: "image/png" });
}

/** Hand a Blob to the player as a file. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
