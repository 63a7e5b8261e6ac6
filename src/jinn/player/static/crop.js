// A picture becomes a frame of the world: the same as `fit_picture` and `crop_resize` in Python, the middle of the
// picture with an area average, in whole numbers.

/** RGB pixels of the world's size of a picture, a Blob; throws a sentence. */
export async function cropped(blob, width, height) {
  let image;
  try {
    image = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("The picture cannot be read: use a PNG, JPEG, WebP, GIF or BMP that is not damaged.");
  }
  const paper = new OffscreenCanvas(image.width, image.height);
  const pen = paper.getContext("2d", { alpha: false });
  pen.fillStyle = "white"; // behind transparency
  pen.fillRect(0, 0, image.width, image.height);
  pen.drawImage(image, 0, 0);
  return cropResize(pen.getImageData(0, 0, image.width, image.height), width, height);
}

/** The middle of an ImageData as RGB pixels of another size. */
export function cropResize({ data, width, height }, outWidth, outHeight) {
  const scale = Math.min(height / outHeight, width / outWidth);
  const cropWidth = Math.max(1, roundEven(outWidth * scale));
  const cropHeight = Math.max(1, roundEven(outHeight * scale));
  const left = Math.floor((width - cropWidth) / 2);
  const top = Math.floor((height - cropHeight) / 2);
  // First over rows, then over columns; the sums are whole numbers, and exact.
  const rows = new Float64Array(outHeight * cropWidth * 3);
  overlaps(cropHeight, outHeight, (row, y, weight) => {
    for (let x = 0; x < cropWidth; x += 1) {
      const from = 4 * ((top + y) * width + left + x);
      const to = 3 * (row * cropWidth + x);
      for (let c = 0; c < 3; c += 1) rows[to + c] += weight * data[from + c];
    }
  });
  const sums = new Float64Array(outHeight * outWidth * 3);
  overlaps(cropWidth, outWidth, (column, x, weight) => {
    for (let row = 0; row < outHeight; row += 1) {
      const from = 3 * (row * cropWidth + x);
      const to = 3 * (row * outWidth + column);
      for (let c = 0; c < 3; c += 1) sums[to + c] += weight * rows[from + c];
    }
  });
  return Uint8Array.from(sums, (sum) => Math.floor(sum / (cropHeight * cropWidth) + 0.5));
}

/** Call `each(i, j, weight)` for how much of part j, of `have` equal parts of a line, part i of `want` parts covers. */
function overlaps(have, want, each) {
  for (let i = 0; i < want; i += 1) {
    for (let j = Math.floor((i * have) / want); j * want < (i + 1) * have; j += 1) {
      each(i, j, Math.min((i + 1) * have, (j + 1) * want) - Math.max(i * have, j * want));
    }
  }
}

/** As Python rounds: halves to the even number. */
function roundEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
