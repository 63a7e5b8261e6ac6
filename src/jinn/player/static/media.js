// Pictures of one's own: files, pasted or dropped ones, a camera's, the end of a video.

/**
 * Call use(files) for what the player brings: chosen, dropped or pasted anywhere on the page.
 */
export function receiveFiles(input, use) {
  const receive = (files) => files.length && use([...files]);
  const dropping = (on) => document.body.classList.toggle("dropping", on);

  input.onchange = () => {
    receive(input.files);
    input.value = ""; // so that the same file may be chosen again
  };
  addEventListener("paste", (event) => receive(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    dropping(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? dropping(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    receive(event.dataTransfer.files);
  });
}

/** A picture; one that is too large to send, such as a phone's photo, at a size that is enough for any world. */
export async function shrink(file, maxBytes) {
  if (file.size <= maxBytes) return file;
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, 1024 / Math.max(image.width, image.height));
    return await toPngBlob(image, image.width * scale, image.height * scale);
  } catch {
    return file; // the server will say what is wrong with it
  }
}

/** A picture, a frame of a video or of a camera, as a PNG of this size. */
function toPngBlob(source, width, height) {
  const paper = new OffscreenCanvas(Math.ceil(width), Math.ceil(height));
  paper.getContext("2d").drawImage(source, 0, 0, paper.width, paper.height);
  return paper.convertToBlob({ type: "image/png" });
}

/** The last `count` frames of a video at a pace of `fps`, as pictures. */
export async function endOfVideo(file, count, fps) {
  const video = Object.assign(document.createElement("video"), { muted: true, preload: "auto" });
  const url = URL.createObjectURL(file);
  const happens = (name) => new Promise((done, failed) => {
    video.addEventListener(name, done, { once: true });
    video.addEventListener("error", () => failed(new Error("This video cannot be read by your browser.")), { once: true });
  });
  try {
    video.src = url;
    await happens("loadeddata");
    const frames = [];
    const times = Array.from({ length: count }, (_, i) => video.duration - (count - i) / fps);
    for (const time of times.filter((time, i) => time >= 0 || i === count - 1)) {
      const there = happens("seeked");
      video.currentTime = Math.max(0, time);
      await there;
      const scale = Math.min(1, 512 / Math.max(video.videoWidth, video.videoHeight));
      frames.push(await toPngBlob(video, video.videoWidth * scale, video.videoHeight * scale));
    }
    return frames;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Show a camera in a video element; returns {blob(), stop()}. */
export async function openCamera(video) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers allow the camera only on pages of this machine or of https.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(error.name === "NotFoundError" ? "There is no camera." : "The browser did not allow the camera.");
  }
  video.srcObject = stream;
  await video.play();
  return {
    blob: () => toPngBlob(video, video.videoWidth, video.videoHeight),
    stop: () => {
      stream.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
    },
  };
}
