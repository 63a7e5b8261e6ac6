// Films that the page makes itself, where there is no server: an animated GIF, or a video that the browser records.

import { painted } from "./paint.js";

const SIDE = { video: 512, gif: 320 }; // pixels of the longer side, as in player/film.py

// What browsers can record, the best first.
const VIDEOS = { mp4: "video/mp4;codecs=avc1.42E01F", webm: "video/webm" };

/** The container of the videos of this browser: "mp4" or "webm"; undefined: it records none. */
export const videoKind = Object.keys(VIDEOS).find((kind) => globalThis.MediaRecorder?.isTypeSupported(VIDEOS[kind]));

const scaleFor = (side, { width, height }) => Math.max(1, Math.floor(side / Math.max(width, height)));

/** A GIF of frames, RGB pixels of the world's size, as a Blob; a thread makes it, for it takes seconds. */
export async function makeGif(frames, fps, world) {
  const thread = new Worker(new URL("gif-thread.js", import.meta.url), { type: "module" });
  const made = new Promise((resolve, failed) => Object.assign(thread, {
    onmessage: ({ data }) => resolve(data),
    onerror: () => failed(new Error("The film could not be made: keep a shorter one.")),
  }));
  thread.postMessage([frames, world.width, world.height, fps, scaleFor(SIDE.gif, world)]);
  try {
    return await made;
  } finally {
    thread.terminate();
  }
}

/** A video of frames as a Blob. Browsers record only what is shown, so it takes as long as it plays. */
export async function makeVideo(frames, fps, world) {
  const scale = scaleFor(SIDE.video, world);
  const paper = Object.assign(document.createElement("canvas"), { width: scale * world.width, height: scale * world.height });
  const pen = paper.getContext("2d", { alpha: false });
  pen.imageSmoothingEnabled = false;
  const recorder = new MediaRecorder(paper.captureStream(), { mimeType: VIDEOS[videoKind], videoBitsPerSecond: 8e6 });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  for (const [i, frame] of frames.entries()) {
    const shown = performance.now();
    pen.drawImage(painted(frame, world), 0, 0, paper.width, paper.height);
    const end = i === frames.length - 1 ? 2 : 1; // the last frame is cut off when it has just been shown
    await new Promise((resolve) => setTimeout(resolve, (1000 * end) / fps - (performance.now() - shown)));
  }
  recorder.stop();
  await stopped;
  return new Blob(parts, { type: VIDEOS[videoKind].split(";")[0] });
}
