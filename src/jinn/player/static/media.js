// Starting from the player's own: files that they choose, drop or paste (pictures, a video, a session), or their camera.

import { $, make } from "./dom.js";
import { releaseAll } from "./input.js";
import { openSession } from "./saving.js";
import { startFrom } from "./starts.js";
import { update, world } from "./state.js";

const LONGEST = 1024; // pixels of the longer side of a picture that is sent: enough for any world

const CAMERA_ERRORS = {
  NotFoundError: "There is no camera.",
  TypeError: "Browsers allow the camera only on pages of this machine or of https.", // elsewhere there is no mediaDevices
};

/** Start from files: pictures, several for a clip; a video; or a saved session. */
async function receive(files) {
  const [first, ...more] = files;
  if (!first) return;
  try {
    if (first.type === "application/json" || first.name.endsWith(".json")) return openSession(await first.text());
    if (first.type.startsWith("video/")) return startFrom({ pictures: await endOfVideo(first) });
    const clip = [first, ...more].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    startFrom({ pictures: await Promise.all(clip.slice(-world.max_clip_frames).map(shrink)) });
  } catch (error) {
    update({ error: error.message });
  }
}

/** A picture; one that is too large to send, such as a phone's photo, at a size that is enough for any world. */
async function shrink(file) {
  if (file.size <= world.max_upload_bytes) return file; // whoever reads it will say if something is wrong with it
  try {
    const image = await createImageBitmap(file);
    return await toPng(image, image.width, image.height, LONGEST);
  } catch {
    const most = Math.floor(world.max_upload_bytes / 1e6);
    throw new Error(`“${file.name}” has more than ${most} MB and is no picture that your browser can read: choose a PNG, JPEG or WebP.`);
  }
}

/** A picture, a frame of a video or of a camera, as a PNG whose sides are at most `longest`. */
function toPng(source, width, height, longest = Infinity) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const paper = new OffscreenCanvas(Math.ceil(width * scale), Math.ceil(height * scale));
  paper.getContext("2d").drawImage(source, 0, 0, paper.width, paper.height);
  return paper.convertToBlob();
}

/** The newest frames of a video that the world can look back at, at its pace, as pictures. */
async function endOfVideo(file) {
  const video = make("video", { muted: true, preload: "auto" });
  const happens = (name) => new Promise((done, failed) => {
    video.addEventListener(name, done, { once: true });
    video.addEventListener("error", () => failed(new Error("This video cannot be read by your browser.")), { once: true });
  });
  try {
    video.src = URL.createObjectURL(file);
    await happens("loadeddata");
    const frames = [];
    for (let left = world.window; left > 0; left -= 1) {
      const time = video.duration - left / world.fps;
      if (time < 0 && left > 1) continue; // the video is shorter
      const there = happens("seeked");
      video.currentTime = Math.max(0, time);
      await there;
      frames.push(await toPng(video, video.videoWidth, video.videoHeight, 512));
    }
    return frames;
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

function chooseFile(accept) {
  $("file").accept = accept;
  $("file").click();
}

const accepted = $("file").accept;
$("upload").onclick = () => chooseFile(accepted);
$("open").onclick = () => chooseFile(".json,application/json");
$("file").onchange = () => {
  receive($("file").files);
  $("file").value = ""; // so that the same file may be chosen again
};

const dropping = (on) => document.body.classList.toggle("dropping", on);
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

$("camera").onclick = async () => {
  update({ error: "" });
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await $("video").play();
  } catch (error) {
    return update({ error: CAMERA_ERRORS[error.name] ?? "The browser did not allow the camera." });
  }
  releaseAll();
  $("photo").showModal();
};
$("start-photo").onclick = async () => {
  const picture = await toPng($("video"), $("video").videoWidth, $("video").videoHeight, LONGEST);
  $("photo").close();
  startFrom({ pictures: [picture] });
};
$("photo").onclose = () => {
  for (const track of $("video").srcObject.getTracks()) track.stop();
  $("video").srcObject = null;
};
