// The page: what is held goes to the server, what comes back is drawn.

import { bindKeys } from "./keys.js";
import { connect } from "./link.js";
import { receivePictures } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const screen = $("screen");
const pen = screen.getContext("2d", { alpha: false });
let picture; // what is on the screen, RGBA
const glow = $("glow").getContext("2d", { alpha: false });
const touch = matchMedia("(pointer: coarse)").matches;
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

const world = await (await fetch("api/world")).json();
const names = world.legend?.map((action) => action.name) ?? null;
const keys = bindKeys(world.actions, names);
const nameOf = (k) => names?.[k] ?? `action ${k + 1}`;

// Measured figures, for the curious and for the tests. Latencies are milliseconds from a key going down
// to the frame that answers it being drawn.
const jinn = (window.jinn = { world, frames: 0, fps: 0, latencies: [], modelMs: 0, action: -1, connected: false });

// What play begins from: the message that starts a prompt, or the Blob of a picture.
const starts = Array.from({ length: world.prompts }, (_, prompt) => ({ type: "start", prompt }));
let asked = starts[0];
let begun = starts[0]; // the last one that the server accepted
let paused = false;
let lastAction = world.idle ?? 0;
let lastSent = null;
let keyId = 0;
let step = 0;
let shownAt = 0; // when the figures beside the screen were last brought up to date
let drawnAt = []; // times of the last frames
let unanswered = []; // {id, time} of presses whose frame has not come yet
const held = new Map(); // what is down (a key, a finger, a button) -> press, the latest last

// ---- The connection ---------------------------------------------------------------------------------

const send = connect({
  open() {
    jinn.connected = true;
    complain("");
    sendSettings();
    beginFrom(begun);
    show();
  },
  closed() {
    jinn.connected = false;
    held.clear();
    lastSent = null;
    unanswered = [];
    show();
  },
  error: complain,
  frame(frame) {
    draw(frame.pixels);
    const now = performance.now();
    if (frame.action >= 0) answer(frame.key, now);
    step = frame.action < 0 ? 0 : step + 1;
    drawnAt = [...drawnAt.filter((time) => now - time < 2000), now];
    jinn.frames += 1;
    jinn.modelMs = frame.modelMs;
    jinn.action = frame.action;
    if (frame.action < 0) hasBegun();
    if (frame.action < 0 || now - shownAt > 200) {
      shownAt = now; // nobody reads figures that change with every frame, and laying them out takes time
      glow.drawImage(screen, 0, 0, 8, 8);
      show();
    }
  },
});

/** Put RGB pixels on the screen; what it holds of opacity it has held from the start. */
function draw(pixels) {
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    picture.data[to] = pixels[from];
    picture.data[to + 1] = pixels[from + 1];
    picture.data[to + 2] = pixels[from + 2];
  }
  pen.putImageData(picture, 0, 0);
}

function answer(key, now) {
  for (const press of unanswered) if (press.id <= key) jinn.latencies.push(now - press.time);
  unanswered = unanswered.filter((press) => press.id > key);
}

function sendSettings() {
  const idle = $("auto").checked ? (world.idle ?? lastAction) : null;
  send({ type: "settings", fps: Number($("speed").value), paused: paused || document.hidden, idle });
}

function beginFrom(start) {
  complain("");
  asked = start;
  send(start);
}

function hasBegun() {
  begun = asked;
  if (!starts.includes(begun)) {
    starts.push(begun); // a picture of one's own joins the gallery
    $("upload").before(startButton(begun, screen.toDataURL(), "your picture"));
  }
  starts.forEach((start, i) => $("prompts").children[i].setAttribute("aria-pressed", start === begun));
}

// ---- What is held -----------------------------------------------------------------------------------

function press(source, what, time) {
  if (!jinn.connected || held.has(source)) return; // the keyboard repeats itself
  held.set(source, what);
  const action = keys.resolve([...held.values()]);
  keyId += 1;
  unanswered.push({ id: keyId, time });
  send({ type: "action", action, id: keyId }); // so that even the shortest press is played
  send({ type: "keys", action, id: keyId });
  lastSent = lastAction = action;
  if (world.idle === null && $("auto").checked) sendSettings(); // a nameless world runs on as it was told last
  show();
}

function release(source) {
  if (!held.delete(source)) return;
  const action = keys.resolve([...held.values()]);
  if (action !== lastSent) send({ type: "keys", action, id: ++keyId });
  lastSent = action;
  show();
}

function releaseAll() {
  [...held.keys()].forEach(release);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const control = event.target.closest?.("button, input");
  if (control && [" ", "Enter"].includes(event.key)) return; // it wants to be pressed
  if (control?.type === "range" && event.key.startsWith("Arrow")) return;
  const what = keys.press(event);
  const shortcut = { r: "reset", p: "pause", " ": "pause" }[event.key.toLowerCase()];
  if (what) press(event.code, what, event.timeStamp);
  else if (shortcut && !event.repeat) $(shortcut).click();
  if (what || shortcut) event.preventDefault(); // arrows and space would scroll
});
addEventListener("keyup", (event) => release(event.code));
addEventListener("blur", releaseAll);
document.addEventListener("visibilitychange", () => {
  releaseAll();
  sendSettings(); // a page that nobody sees does not keep the model busy
});

// ---- The controls -----------------------------------------------------------------------------------

function actionButton(k) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "action";
  button.setAttribute("aria-pressed", "false");
  const label = document.createElement("span");
  label.textContent = nameOf(k);
  const meaning = world.legend?.[k];
  if (meaning?.share) {
    label.prepend(arrow(meaning));
    const steps = [[meaning.down, "down", "up"], [meaning.right, "right", "left"]]
      .map(([pixels, plus, minus]) => `${Math.abs(pixels).toFixed(1)} ${pixels < 0 ? minus : plus}`);
    button.title = `In the videos it learned from: ${steps.join(", ")} pixels a frame`;
  }
  const caps = keys.caps(k).map((cap) => Object.assign(document.createElement("kbd"), { textContent: cap }));
  const capRow = Object.assign(document.createElement("span"), { className: "caps" });
  capRow.append(...caps);
  button.append(label, capRow);
  button.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    press(`pointer ${event.pointerId}`, { action: k }, event.timeStamp);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    button.addEventListener(end, (event) => release(`pointer ${event.pointerId}`));
  }
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch is no question
  button.addEventListener("keydown", (event) => {
    if ([" ", "Enter"].includes(event.key)) press(event.code, { action: k }, event.timeStamp);
  });
  button.addEventListener("blur", () => ["Space", "Enter", "NumpadEnter"].forEach(release));
  return button;
}

/** Where the player went while the action was taken, as a small arrow; its length is its speed among all actions. */
function arrow({ down, right }) {
  const fastest = Math.max(...world.legend.map((action) => Math.hypot(action.down, action.right)), 1e-6);
  const speed = Math.hypot(down, right);
  const picture = $("arrow").content.firstElementChild.cloneNode(true);
  const [line, dot] = picture.children;
  if (speed < Math.min(0.2 * fastest, 0.4)) line.remove();
  else {
    dot.remove();
    const half = 4 + 5 * (speed / fastest);
    line.setAttribute("d", `M${-half} 0H${half}m-4-4l4 4l-4 4`);
    line.setAttribute("transform", `rotate(${((Math.atan2(down, right) * 180) / Math.PI).toFixed(1)})`);
  }
  return picture;
}

function startButton(start, src, what) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(Object.assign(new Image(), { src, alt: `Begin from ${what}`, draggable: false }));
  button.onclick = () => beginFrom(start);
  return button;
}

$("reset").onclick = () => {
  complain("");
  asked = begun; // and not a picture that the server refused
  send({ type: "reset" });
};
$("pause").onclick = () => {
  paused = !paused;
  sendSettings();
  show();
};
$("auto").onchange = () => {
  sendSettings();
  show();
};
$("speed").oninput = () => {
  $("speed-value").value = `${$("speed").value} fps`;
  sendSettings();
};
// After a mouse click the space bar should play again; who came by keyboard keeps the focus.
addEventListener("click", (event) => event.detail > 0 && document.activeElement?.blur());

// ---- What is shown ----------------------------------------------------------------------------------

function complain(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
}

function show() {
  const resting = held.size === 0 && !$("auto").checked;
  const state = !jinn.connected ? "lost" : paused ? "paused" : resting ? "waiting" : "live";
  const words = { lost: "reconnecting", paused: "paused", waiting: touch ? "hold a button" : "hold a key", live: "live" };
  if ($("status").dataset.state !== state || $("status").textContent !== words[state]) {
    $("status").dataset.state = state;
    $("status").textContent = words[state];
  }
  $("veil").hidden = state === "live" || state === "waiting";
  $("veil").textContent = { lost: "Reconnecting…", paused: "Paused. Each press of a key plays one frame." }[state] ?? "";
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").firstElementChild.textContent = paused ? "Resume" : "Pause";
  const action = keys.resolve([...held.values()]);
  [...$("actions").children].forEach((button, k) => {
    button.setAttribute("aria-pressed", String(k === action));
    button.classList.toggle("playing", state === "live" && action === null && k === jinn.action);
  });
  const span = drawnAt.at(-1) - drawnAt[0];
  jinn.fps = span > 0 ? (1000 * (drawnAt.length - 1)) / span : 0;
  $("fps").textContent = jinn.fps && (state === "live") ? jinn.fps.toFixed(1) : "–";
  $("latency").textContent = median(jinn.latencies.slice(-60))?.toFixed(0) ?? "–";
  $("model").textContent = step ? jinn.modelMs.toFixed(0) : "–";
  $("frame").textContent = step;
}

/** Whole multiples of the world's pixels, counted in the pixels of the device. */
function fit() {
  const room = $("drop").parentElement.clientWidth;
  const tall = Math.max(200, innerHeight * (innerWidth < innerHeight ? 0.46 : 0.74));
  const fits = Math.min(Math.min(room, 640) / world.width, Math.min(tall, 640) / world.height);
  const ratio = devicePixelRatio || 1;
  const scale = fits * ratio >= 1 ? Math.floor(fits * ratio) / ratio : fits;
  $("drop").style.width = `${world.width * scale}px`;
  $("drop").style.height = `${world.height * scale}px`;
}

function build() {
  document.title = `${world.name} · jinn`;
  $("name").textContent = world.name;
  screen.width = world.width;
  screen.height = world.height;
  picture = new ImageData(new Uint8ClampedArray(4 * world.width * world.height).fill(255), world.width);
  $("actions").append(...Array.from({ length: world.actions }, (_, k) => actionButton(k)));
  $("upload").before(...starts.map((start, i) => startButton(start, `api/prompts/${i}.png`, `picture ${i + 1}`)));
  $("upload").onclick = () => $("file").click();
  receivePictures($("file"), world.max_upload_bytes, beginFrom);
  const which = touch ? "a button" : keys.usesArrows ? "an arrow or number key" : "a number key";
  $("how").textContent = `Hold ${which}: the model dreams each next frame in answer.`;
  [$("speed").min, $("speed").max] = world.fps_range;
  $("speed").value = Math.round(world.fps);
  $("speed-value").value = `${$("speed").value} fps`;
  $("auto").checked = world.idle !== null;
  $("auto").parentElement.title = world.idle !== null
    ? `While nothing is held, the world plays “${nameOf(world.idle)}”`
    : "While nothing is held, the last action goes on";
  fit();
  addEventListener("resize", fit);
}

build();
