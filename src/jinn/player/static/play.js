// The page: what is held goes to the server, what comes back is drawn.

import { branches } from "./branches.js";
import { watchGamepads } from "./gamepad.js";
import { bindKeys, capOf, keyOf, usualKeys } from "./keys.js";
import { save, screenshot, toPng } from "./keep.js";
import { paint } from "./paint.js";
import { endOfVideo, openCamera, receiveFiles, smaller } from "./pictures.js";
import { connect } from "./screen-link.js";
import { sketchPad } from "./sketch.js";
import { fingerprint, readSession, Tape } from "./tape.js";

const $ = (id) => document.getElementById(id);
const small = document.createElement("canvas"); // what is on the screen, for the page's own use
const touch = matchMedia("(pointer: coarse)").matches;
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

const answer = await fetch("api/world");
if (!answer.ok) document.body.textContent = await answer.text();
const world = await answer.json();
history.replaceState(null, "", location.pathname); // a token is no part of what one shows around
const names = world.legend?.map((action) => action.name) ?? null;
const nameOf = (k) => names?.[k] ?? `action ${k + 1}`;
const keysPlace = `jinn keys ${world.id}`;
let ownKeys = chosenKeys();
let keys = bindKeys(ownKeys, names);

// Measured figures, for the curious and for the tests. Latencies are milliseconds from a key going down
// to the frame that answers it being drawn. `shown`: the pixels on the screen.
const jinn = (window.jinn = {
  world, frames: 0, fps: 0, latencies: [], modelMs: 0, waitedMs: 0, action: -1, connected: false, replaying: false,
  shown: null, ready: [], tape: new Tape(world.max_film_frames),
});
const { tape } = jinn;

// What play begins from: {index} of a prompt of the world's, or {pictures} as Blobs; `text` is drawn first.
const starts = Array.from({ length: world.prompts }, (_, index) => ({ index }));
let asked = starts[0];
let begun = starts[0]; // the last one that the server accepted
let askedSeed = 0;
let session = null; // the server's name for what we play
let lost = false; // the connection was, in the middle of play
let given = []; // the prompt's pictures as the server understood them, as data URLs
let place = 0; // in the queue before the door
let paused = false;
let viewing = null; // the step that is looked back at, null: the newest
let lastAction = world.idle ?? 0;
let lastSent = null;
let keyId = 0;
let script = []; // keys that are being played again, the next one first
let expected = null; // the fingerprint of the frame they should lead to
let opened = null; // a session whose first frame is to come
let shownAt = 0; // when the figures beside the screen were last brought up to date
let drawnAt = []; // times of the last frames
let unanswered = []; // {id, time} of presses whose frame has not come yet
const held = new Map(); // what is down (a key, a finger, a button) -> press, the latest last

// ---- The connection ---------------------------------------------------------------------------------

for (const canvas of [$("screen"), small]) Object.assign(canvas, { width: world.width, height: world.height });
const link = connect($("screen"), {
  told(message) {
    if (message.type === "error") {
      script = [];
      return complain(message.message);
    }
    if (message.type === "queue") place = message.place;
    if (message.type === "gone") beginFrom(begun);
    if (message.type === "session") {
      place = 0;
      jinn.connected = true;
      complain("");
      sendSettings();
      if (lost && session) send({ type: "resume", session });
      else beginFrom(begun);
      session = message.session;
      lost = false;
    }
    show();
  },
  closed() {
    lost ||= jinn.connected && tape.frames[0] !== null;
    jinn.connected = false;
    place = 0;
    held.clear();
    script = [];
    lastSent = null;
    unanswered = [];
    show();
  },
  frame(frame) {
    const { drawn, pixels } = frame;
    if (frame.kind === "what if") return what.take(frame);
    if (frame.kind === "picture") return given.push(toPng(pixels, world));
    if (frame.kind === "begin") tape.begin(promptOf(asked), askedSeed, pixels);
    if (frame.kind === "back") tape.back(frame.step, pixels);
    if (frame.kind === "next") {
      tape.add(pixels, { action: frame.action, steps: Number($("steps").value), temperature: Number($("temperature").value) });
      answered(frame.key, drawn);
      jinn.ready.push(frame.ready);
    }
    viewing = null;
    if (paused && !jinn.replaying) what.refresh();
    else what.close();
    jinn.shown = pixels;
    drawnAt = [...drawnAt.filter((time) => drawn - time < 2000), drawn];
    jinn.frames += 1;
    jinn.modelMs = frame.modelMs;
    jinn.waitedMs = frame.waitedMs;
    jinn.action = frame.action;
    if (frame.kind === "begin") hasBegun(pixels);
    if (frame.kind !== "next" || drawn - shownAt > 200) {
      shownAt = drawn; // nobody reads figures that change with every frame, and laying them out takes time
      show();
    }
    playScript();
  },
});

const send = link.send;

function answered(key, drawn) {
  for (const press of unanswered) if (press.id <= key) jinn.latencies.push(drawn - press.time);
  unanswered = unanswered.filter((press) => press.id > key);
}

function sendSettings() {
  const busy = script.length > 0;
  send({
    type: "settings",
    fps: busy ? world.fps_range[1] : Number($("speed").value),
    paused: paused || document.hidden || viewing !== null || busy,
    idle: $("auto").checked ? (world.idle ?? lastAction) : null,
    steps: Number($("steps").value),
    temperature: Number($("temperature").value),
    look_ahead: $("look-ahead").checked,
  });
}

/** Begin from a start, with the seed that is kept or a new one. */
async function beginFrom(start, seed = null) {
  complain("");
  stopScript();
  opened = null;
  asked = start;
  given = [];
  if (seed === null && !$("keep-seed").checked) $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
  askedSeed = seed ?? Math.min(Math.max(0, Math.floor(Number($("seed").value)) || 0), 2 ** 32 - 1);
  $("seed").value = askedSeed;
  if (start.text) send({ type: "text", text: start.text, seed: askedSeed });
  else if (start.pictures) {
    send({ type: "clip", frames: start.pictures.length, seed: askedSeed });
    start.pictures.forEach(send);
  } else send({ type: "start", prompt: start.index, seed: askedSeed });
  if (start.text) veil(`Drawing “${start.text}”…`);
}

const promptOf = (start) => (given.length ? { pictures: given } : { index: start.index ?? 0 });

function hasBegun(pixels) {
  begun = asked;
  if (opened) playKeys(opened.script, opened.last);
  opened = null;
  if (given.length) {
    // What begins again is what the server made of it, so that it begins the same.
    begun.text = null;
    begun.pictures = given.map(toBlob);
  }
  $("pair").hidden = given.length === 0;
  if (given.length) {
    paint($("seen"), pixels);
    const last = Object.assign(new Image(), { src: given.at(-1) });
    last.decode().then(() => $("given").getContext("2d").drawImage(last, 0, 0));
  }
  if (!starts.includes(begun)) {
    starts.push(begun); // a picture of one's own joins the gallery
    $("prompts").append(startButton(begun, toPng(pixels, world), "your picture"));
  }
  starts.forEach((start, i) => $("prompts").children[i].setAttribute("aria-pressed", start === begun));
}

/** A data URL as a Blob. (To fetch it would need a looser policy.) */
function toBlob(url) {
  return new Blob([Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

// ---- What is held -----------------------------------------------------------------------------------

function press(source, pressed, time) {
  if (!jinn.connected || !pressed || held.has(source)) return; // the keyboard repeats itself
  if (script.length) stopScript();
  if (viewing !== null) branchOff();
  held.set(source, pressed);
  const action = keys.resolve([...held.values()]);
  keyId += 1;
  unanswered.push({ id: keyId, time: performance.timeOrigin + time });
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

const SHORTCUTS = { r: "reset", p: "pause", " ": "pause", ".": "again", "/": "what-if" };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const control = event.target.closest?.("button, input, summary");
  if (control && [" ", "Enter"].includes(event.key)) return; // it wants to be pressed
  if (control?.type === "range" && event.key.startsWith("Arrow")) return;
  if (["text", "number"].includes(control?.type)) return; // somebody writes
  const pressed = keys.press(keyOf(event));
  const shortcut = SHORTCUTS[event.key.toLowerCase()];
  if (pressed) press(event.code, pressed, event.timeStamp);
  else if (shortcut === "again") press(event.code, { action: lastAction }, event.timeStamp);
  else if (shortcut && !event.repeat) $(shortcut).click();
  if (pressed || shortcut) event.preventDefault(); // arrows and space would scroll
});
addEventListener("keyup", (event) => release(event.code));
addEventListener("blur", releaseAll);
document.addEventListener("visibilitychange", () => {
  releaseAll();
  sendSettings(); // a page that nobody sees does not keep the model busy
});
watchGamepads((source, key) => press(source, keys.press(key), performance.now()), release);

// ---- Back in time, and other ways ------------------------------------------------------------------

/** Look at a frame of the past; the world waits meanwhile. */
function look(step) {
  stopScript();
  const before = viewing;
  viewing = step < tape.step ? step : null;
  jinn.shown = tape.frames[step];
  link.paint(jinn.shown);
  if ((before === null) !== (viewing === null)) sendSettings();
  show();
}

/** Go on from the frame that is looked at. */
function branchOff() {
  send({ type: "back", step: viewing });
  viewing = null;
  sendSettings();
}

/** Play keys again, one frame after the other, each when the one before it has come. */
function playKeys(list, last = null) {
  releaseAll();
  script = [...list];
  expected = last;
  jinn.replaying = true;
  sendSettings();
}

function playScript() {
  if (!jinn.replaying) return;
  const key = script.shift();
  if (!key) {
    jinn.replaying = false;
    sendSettings();
    const same = expected === null || expected === fingerprint(tape.frames.at(-1));
    if (expected !== null) keptNote(same ? "Played again, the very same frames." : "Played again; the frames differ: it is of another world, or was computed in another way.");
    expected = null;
    return show();
  }
  if (key.steps && (key.steps !== Number($("steps").value) || key.temperature !== Number($("temperature").value))) {
    $("steps").value = key.steps;
    $("temperature").value = key.temperature;
    sendSettings();
  }
  send({ type: "action", action: key.action, id: ++keyId });
}

function stopScript() {
  if (!jinn.replaying) return;
  script = [];
  expected = null;
  jinn.replaying = false;
  sendSettings();
}

const what = branches($("branches"), world, nameOf, {
  ask: (depth) => send({ type: "what_if", depth }),
  choose(action, depth) {
    playKeys(Array(depth).fill({ action }));
    playScript();
  },
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
  button.append(label, Object.assign(document.createElement("span"), { className: "caps" }));
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

function startButton(start, src, words) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(Object.assign(new Image(), { src, alt: `Begin from ${words}`, draggable: false }));
  button.onclick = () => beginFrom(start);
  return button;
}

$("reset").onclick = () => beginFrom(begun);
$("pause").onclick = () => {
  paused = !paused;
  sendSettings();
  show();
};
$("again").onclick = () => {
  press("again", { action: lastAction }, performance.now());
  release("again");
};
$("what-if").onclick = () => {
  if (viewing !== null) branchOff();
  if (!paused) $("pause").click();
  what.open();
};
$("scrub").oninput = () => look(Math.max(tape.first, Number($("scrub").value)));
$("newest").onclick = () => look(tape.step);
$("auto").onchange = $("look-ahead").onchange = () => {
  sendSettings();
  show();
};
$("steps").onchange = $("temperature").onchange = () => {
  for (const id of ["steps", "temperature"]) {
    const field = $(id);
    if (!field.checkValidity() || field.value === "") field.value = world.sampling[id];
  }
  sendSettings();
};
$("seed").onchange = () => ($("keep-seed").checked = true);
$("speed").oninput = () => {
  $("speed-value").value = `${$("speed").value} fps`;
  sendSettings();
};
// After a mouse click the space bar should play again; who came by keyboard keeps the focus.
addEventListener("click", (event) => {
  if (event.detail > 0 && event.target.closest("button, [type=range], [type=checkbox]")) document.activeElement?.blur();
});

// ---- Other beginnings -------------------------------------------------------------------------------

/** Pictures, several for a clip; a video; or a session that somebody kept. */
async function receive(files) {
  try {
    const [first] = files;
    if (first.type === "application/json" || first.name?.endsWith(".json")) return await openSession(await first.text());
    if (first.type.startsWith("video/")) return beginFrom({ pictures: await endOfVideo(first, world.window, world.fps) });
    const clip = files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })).slice(-world.max_clip_frames);
    beginFrom({ pictures: await Promise.all(clip.map((file) => smaller(file, world.max_upload_bytes))) });
  } catch (error) {
    complain(error.message);
  }
}

async function openSession(text) {
  const kept = readSession(text, world);
  const start = kept.prompt.pictures ? { pictures: kept.prompt.pictures.map(toBlob) } : starts[kept.prompt.index];
  await beginFrom(start, kept.seed);
  opened = kept; // its keys follow the first frame
  keptNote(kept.same ? "" : "This session is of another world: the frames will differ.");
}

$("upload").onclick = () => {
  $("file").accept = $("file").dataset.all;
  $("file").click();
};
$("words").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) beginFrom({ text });
};

let pad;
$("draw").onclick = () => {
  pad ??= sketchPad({
    paper: $("paper"), colours: $("colours"), own: $("own-colour"), tools: $("tools"), sizes: $("sizes"),
    undo: $("undo"), clear: $("clear"), copy: $("copy"),
  }, world, () => {
    paint(small, jinn.shown);
    return small;
  });
  open($("sketch"));
};
$("begin-sketch").onclick = async () => {
  $("sketch").close();
  beginFrom({ pictures: [await pad.blob()] });
};

let camera = null;
$("camera").onclick = async () => {
  complain("");
  try {
    camera = await openCamera($("video"));
    open($("photo"));
  } catch (error) {
    complain(error.message);
  }
};
$("begin-photo").onclick = async () => {
  const picture = await camera.blob();
  $("photo").close();
  beginFrom({ pictures: [picture] });
};
$("photo").onclose = () => camera?.stop();

function open(dialog) {
  releaseAll();
  dialog.showModal();
}
for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();

// ---- Keep -------------------------------------------------------------------------------------------

const fileName = (what, kind) => `${world.name}-${what}-${tape.step}.${kind}`.replaceAll(/[^\w.-]+/g, "-");
const keptNote = (sentence) => ($("kept").textContent = sentence);

$("picture").onclick = async () => save(await screenshot(jinn.shown, world), fileName("frame", "png"));
$("save").onclick = () => {
  const text = JSON.stringify(tape.toSession(world));
  save(new Blob([text], { type: "application/json" }), fileName("session", "json"));
};
$("open").onclick = () => {
  $("file").accept = ".json,application/json";
  $("file").click();
};
for (const kind of ["mp4", "gif"]) {
  $(kind).onclick = async () => {
    const frames = tape.frames.slice(tape.first);
    keptNote(`Making a film of ${frames.length} frames…`);
    const answer = await fetch(`api/film.${kind}?fps=${$("speed").value}`, { method: "POST", body: new Blob(frames) });
    if (!answer.ok) return keptNote((await answer.json()).error);
    save(await answer.blob(), fileName("film", kind));
    keptNote(`A film of ${frames.length} frames.`);
  };
}

// ---- Keys of one's own ------------------------------------------------------------------------------

function chosenKeys() {
  const usual = usualKeys(world.actions);
  try {
    const chosen = JSON.parse(localStorage.getItem(keysPlace));
    const good = Array.isArray(chosen) && chosen.length === usual.length && chosen.every((key) => typeof key === "string");
    return good ? chosen : usual;
  } catch {
    return usual;
  }
}

function setKeys(chosen) {
  ownKeys = chosen;
  keys = bindKeys(ownKeys, names);
  try {
    localStorage.setItem(keysPlace, JSON.stringify(ownKeys));
  } catch {
    // a private window: they last as long as the page
  }
  showKeys();
}

function showKeys() {
  [...$("actions").children].forEach((button, k) => {
    const caps = keys.caps(k).map((cap) => Object.assign(document.createElement("kbd"), { textContent: cap }));
    button.querySelector(".caps").replaceChildren(...caps);
  });
  $("bindings").replaceChildren(...ownKeys.map((key, k) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const label = Object.assign(document.createElement("span"), { textContent: nameOf(k) });
    const cap = Object.assign(document.createElement("kbd"), { textContent: capOf(key) ?? "–" });
    button.append(label, cap);
    button.setAttribute("aria-label", `Key of ${nameOf(k)}: ${capOf(key) ?? "none"}. Press to choose another`);
    button.onclick = () => rebind(k, cap);
    return button;
  }));
}

/** Wait for a key; the action that had it gets the other's. */
function rebind(k, cap) {
  cap.textContent = "press a key";
  addEventListener("keydown", (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    const key = keyOf(event);
    if (["Escape", "Tab", "r", "p"].includes(key)) return showKeys();
    setKeys(ownKeys.map((old, i) => (i === k ? key : old === key ? ownKeys[k] : old)));
  }, { once: true, capture: true });
}
$("usual-keys").onclick = () => setKeys(usualKeys(world.actions));

// ---- What is shown ----------------------------------------------------------------------------------

function complain(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
}

function veil(sentence) {
  $("veil").textContent = sentence;
  $("veil").hidden = !sentence;
}

function show() {
  if (jinn.shown) {
    paint(small, jinn.shown);
    $("glow").getContext("2d", { alpha: false }).drawImage(small, 0, 0, 8, 8);
  }
  const resting = held.size === 0 && !$("auto").checked;
  const state = place ? "queue" : !jinn.connected ? "lost" : viewing !== null ? "past" : jinn.replaying ? "again" :
    paused ? "paused" : resting ? "waiting" : "live";
  const words = {
    queue: "waiting for a place", lost: "reconnecting", past: "looking back", again: "playing again", paused: "paused",
    waiting: touch ? "hold a button" : "hold a key", live: "live",
  };
  if ($("status").dataset.state !== state || $("status").textContent !== words[state]) {
    $("status").dataset.state = state;
    $("status").textContent = words[state];
  }
  const key = touch ? "button" : "key";
  veil({
    queue: `All places are taken. You are number ${place} in the queue.`,
    lost: "Reconnecting…",
    paused: `Paused. Each press of a ${key} plays one frame.`,
    past: `Frame ${viewing} of ${tape.step}. Press a ${key} to take another way from here.`,
  }[state] ?? "");
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").firstElementChild.textContent = paused ? "Resume" : "Pause";
  const action = keys.resolve([...held.values()]);
  [...$("actions").children].forEach((button, k) => {
    button.setAttribute("aria-pressed", String(k === action));
    button.classList.toggle("playing", state === "live" && action === null && k === jinn.action);
  });
  const now = viewing ?? tape.step;
  $("scrub").min = tape.first;
  $("scrub").max = tape.step;
  $("scrub").value = now;
  $("place").value = now;
  $("newest").hidden = viewing === null;
  const span = drawnAt.at(-1) - drawnAt[0];
  jinn.fps = span > 0 ? (1000 * (drawnAt.length - 1)) / span : 0;
  $("fps").textContent = jinn.fps && (state === "live") ? jinn.fps.toFixed(1) : "–";
  $("latency").textContent = median(jinn.latencies.slice(-60))?.toFixed(0) ?? "–";
  $("model").textContent = tape.step ? jinn.modelMs.toFixed(0) : "–";
  $("frame").textContent = now;
}

/** Whole multiples of the world's pixels, counted in the pixels of the device. */
function fit() {
  const room = $("drop").parentElement.clientWidth;
  const tall = Math.max(200, innerHeight * (innerWidth < innerHeight ? 0.42 : 0.68));
  const fits = Math.min(Math.min(room, 640) / world.width, Math.min(tall, 640) / world.height);
  const ratio = devicePixelRatio || 1;
  const scale = fits * ratio >= 1 ? Math.floor(fits * ratio) / ratio : fits;
  $("drop").style.width = `${world.width * scale}px`;
  $("drop").style.height = `${world.height * scale}px`;
}

function build() {
  document.title = `${world.name} · jinn`;
  $("name").textContent = world.name;
  for (const id of ["given", "seen"]) Object.assign($(id), { width: world.width, height: world.height });
  $("actions").append(...Array.from({ length: world.actions }, (_, k) => actionButton(k)));
  showKeys();
  $("prompts").append(...starts.map((start, i) => startButton(start, `api/prompts/${i}.png`, `picture ${i + 1}`)));
  $("file").dataset.all = $("file").accept;
  receiveFiles($("file"), receive);
  const which = touch ? "a button" : keys.usesArrows ? "an arrow or number key" : "a number key";
  $("how").textContent = `Hold ${which}: the model dreams each next frame in answer.`;
  [$("speed").min, $("speed").max] = world.fps_range;
  $("speed").value = Math.round(world.fps);
  $("speed-value").value = `${$("speed").value} fps`;
  for (const id of ["steps", "temperature"]) {
    [$(id).min, $(id).max] = world[`${id}_range`];
    $(id).value = world.sampling[id];
  }
  $("text").maxLength = world.max_text;
  $("text").disabled = $("paint").disabled = !world.text;
  $("text-why-not").hidden = world.text;
  $("text-why-not").textContent = world.text ? "" : `Text: ${world.text_why_not}.`;
  $("auto").checked = world.idle !== null;
  $("auto").parentElement.title = world.idle !== null
    ? `While nothing is held, the world plays “${nameOf(world.idle)}”`
    : "While nothing is held, the last action goes on";
  fit();
  addEventListener("resize", fit);
}

build();
