// A picture becomes a frame of the world: the same as `fit_picture` and `resize` in Python, with an area average, in
// whole numbers.

/** Whether the end of a picture's file is missing: Firefox draws what there is of it. */
function isCut(buffer) {
  const text = new TextDecoder("latin1").decode(buffer);
  if (text.startsWith("PNG", 1)) return !text.includes("IEND");
  if (text.startsWith("\xff\xd8")) return !text.includes("\xff\xd9"); // JPEG
  return text.startsWith("RIFF") && buffer.byteLength < 8 + new DataView(buffer).getUint32(4, true); // WebP
}

/** RGB pixels of a world's size of a picture, a Blob; throws a sentence. */
export async function frameOf(blob, { width, height, fit }) {
  const image = await createImageBitmap(blob, { colorSpaceConversion: "none" }).catch(() => null);
  if (!image || isCut(await blob.arrayBuffer())) {
    throw new Error("The picture cannot be read: use a PNG, JPEG, WebP, GIF or BMP that is not damaged.");
  }
  const paper = new OffscreenCanvas(image.width, image.height);
  const pen = paper.getContext("2d", { alpha: false });
  pen.fillStyle = "white"; // behind transparency
  pen.fillRect(0, 0, image.width, image.height);
  pen.drawImage(image, 0, 0);
  return resize(pen.getImageData(0, 0, image.width, image.height), width, height, fit);
}

/** An ImageData as RGB pixels of another size: its middle, all of it between black bars, or all of it distorted. */
export function resize({ data, width, height }, outWidth, outHeight, fit) {
  const part = (size) => Math.max(1, roundEven(size));
  const middle = (all, inner) => Math.floor((all - inner) / 2);
  if (fit === "stretch") return average(data, width, 0, 0, width, height, outWidth, outHeight);
  if (fit === "pad") {
    const scale = Math.max(height / outHeight, width / outWidth);
    const innerWidth = part(width / scale);
    const innerHeight = part(height / scale);
    const inner = average(data, width, 0, 0, width, height, innerWidth, innerHeight);
    const padded = new Uint8Array(outHeight * outWidth * 3);
    const corner = middle(outHeight, innerHeight) * outWidth + middle(outWidth, innerWidth);
    for (let y = 0; y < innerHeight; y += 1) {
      const row = inner.subarray(3 * y * innerWidth, 3 * (y + 1) * innerWidth);
      padded.set(row, 3 * (corner + y * outWidth));
    }
    return padded;
  }
  const scale = Math.min(height / outHeight, width / outWidth);
  const cropWidth = part(outWidth * scale);
  const cropHeight = part(outHeight * scale);
  const left = middle(width, cropWidth);
  const top = middle(height, cropHeight);
  return average(data, width, left, top, cropWidth, cropHeight, outWidth, outHeight);
}

/** A part of RGBA pixels, of which a row has `width`, as RGB pixels of another size. */
function average(data, width, left, top, cropWidth, cropHeight, outWidth, outHeight) {
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
