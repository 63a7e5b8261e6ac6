// From pixels to files.

import { paint } from "./paint.js";

/** RGB pixels as a data URL of a PNG: lossless. */
export function toPng(pixels, { width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  paint(canvas, pixels);
  return canvas.toDataURL("image/png");
}

/** Pixels, each enlarged to a square, as a PNG. */
export function screenshot(pixels, { width, height }) {
  const scale = Math.max(1, Math.floor(512 / Math.max(width, height)));
  const small = new OffscreenCanvas(width, height);
  paint(small, pixels);
  const paper = new OffscreenCanvas(scale * width, scale * height);
  const pen = paper.getContext("2d", { alpha: false });
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, paper.width, paper.height);
  return paper.convertToBlob({ type: "image/png" });
}

/** Hand a Blob to the player as a file. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
