// Frames as an animated GIF. One palette serves all frames: a palette for each would flicker.

const COLOURS = 256;
const SAMPLED = 32; // frames that the palette is made of
const MAX_CODE = 4096;

/**
 * The parts of the file of a film; `frames` are RGB pixels, row by row, and each pixel becomes a square of `scale` pixels.
 */
export function gif(frames, width, height, fps, scale) {
  const palette = paletteOf(frames.filter((_, i) => i % Math.ceil(frames.length / SAMPLED) === 0));
  const nearest = nearestIn(palette);
  const word = (value) => [value & 255, value >> 8];
  const size = [...word(scale * width), ...word(scale * height)];
  const bytes = [..."GIF89a"].map((letter) => letter.charCodeAt(0));
  bytes.push(...size, 0xf7, 0, 0, ...palette.flat(), ...Array(3 * (COLOURS - palette.length)).fill(0));
  bytes.push(0x21, 0xff, 11, ...[..."NETSCAPE2.0"].map((letter) => letter.charCodeAt(0)), 3, 1, 0, 0, 0); // for ever
  const parts = [Uint8Array.from(bytes)];
  // The format counts hundredths of a second: each frame ends as near to its time as it can.
  const endOf = (i) => Math.round((100 * i) / fps);
  frames.forEach((frame, i) => {
    parts.push(Uint8Array.from([0x21, 0xf9, 4, 4, ...word(endOf(i + 1) - endOf(i)), 0, 0, 0x2c, 0, 0, 0, 0, ...size, 0, 8]));
    parts.push(compressed(enlarged(frame, width, height, scale, nearest)));
  });
  return [...parts, Uint8Array.of(0x3b)];
}

/** Median cut (Heckbert 1982): boxes of colours are halved where they are widest, until there are enough. */
function paletteOf(frames) {
  const counts = new Map();
  for (const frame of frames) {
    for (let i = 0; i < frame.length; i += 3) {
      const colour = (frame[i] << 16) | (frame[i + 1] << 8) | frame[i + 2];
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
    }
  }
  const boxes = [box([...counts].map(([colour, count]) => [colour >> 16, (colour >> 8) & 255, colour & 255, count]))];
  while (boxes.length < COLOURS) {
    const widest = boxes.reduce((best, { width }, i) => (width > boxes[best].width ? i : best), 0);
    if (boxes[widest].width === 0) break; // there are no more colours
    boxes.push(...halves(boxes.splice(widest, 1)[0]));
  }
  return boxes.map(({ colours }) => {
    const count = colours.reduce((sum, colour) => sum + colour[3], 0);
    return [0, 1, 2].map((c) => Math.round(colours.reduce((sum, colour) => sum + colour[c] * colour[3], 0) / count));
  });
}

/** Colours [red, green, blue, count], the channel in which they differ most, and by how much. */
function box(colours) {
  const widths = [0, 1, 2].map((c) => {
    const values = colours.map((colour) => colour[c]);
    return values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
  });
  const width = Math.max(...widths);
  return { colours, width, channel: widths.indexOf(width) };
}

function halves({ colours, channel }) {
  colours.sort((a, b) => a[channel] - b[channel]);
  const half = colours.reduce((sum, colour) => sum + colour[3], 0) / 2;
  let sum = 0;
  let cut = 0;
  while (cut < colours.length - 1 && (cut === 0 || sum + colours[cut][3] <= half)) sum += colours[cut++][3];
  return [box(colours.slice(0, cut)), box(colours.slice(cut))];
}

/** A function that gives the number of the nearest colour of a palette, and remembers it. */
function nearestIn(palette) {
  const known = new Map();
  return (red, green, blue) => {
    const key = (red << 16) | (green << 8) | blue;
    if (!known.has(key)) {
      const apart = palette.map((colour) => (colour[0] - red) ** 2 + (colour[1] - green) ** 2 + (colour[2] - blue) ** 2);
      known.set(key, apart.indexOf(Math.min(...apart)));
    }
    return known.get(key);
  };
}

function enlarged(frame, width, height, scale, nearest) {
  const numbers = new Uint8Array(scale * width * scale * height);
  for (let y = 0, to = 0; y < scale * height; y += 1) {
    for (let x = 0; x < scale * width; x += 1, to += 1) {
      const from = 3 * (Math.floor(y / scale) * width + Math.floor(x / scale));
      numbers[to] = nearest(frame[from], frame[from + 1], frame[from + 2]);
    }
  }
  return numbers;
}

/** Numbers of colours by Lempel, Ziv and Welch, in blocks of at most 255 bytes. */
function compressed(numbers) {
  const clear = COLOURS;
  const packed = [];
  let bits = 0;
  let held = 0;
  let codes;
  let next;
  let length;
  const write = (code) => {
    held |= code << bits;
    for (bits += length; bits >= 8; bits -= 8, held >>>= 8) packed.push(held & 255);
  };
  const restart = () => {
    codes = new Map();
    next = clear + 2;
    length = 9;
  };
  restart();
  write(clear);
  let prefix = numbers[0];
  for (let i = 1; i < numbers.length; i += 1) {
    const key = (prefix << 8) | numbers[i];
    const code = codes.get(key);
    if (code !== undefined) {
      prefix = code;
      continue;
    }
    write(prefix);
    prefix = numbers[i];
    if (next === MAX_CODE) {
      write(clear);
      restart();
    } else {
      if (next === 1 << length) length += 1;
      codes.set(key, next++);
    }
  }
  write(prefix);
  write(clear + 1);
  if (bits > 0) packed.push(held & 255);
  const blocks = [];
  for (let i = 0; i < packed.length; i += 255) blocks.push(Math.min(255, packed.length - i), ...packed.slice(i, i + 255));
  return Uint8Array.from([...blocks, 0]);
}
