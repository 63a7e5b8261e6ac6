// What the page shows of its state.

import { $, make, touch } from "./dom.js";
import { heldButton } from "./input.js";
import { paint } from "./paint.js";
import { onChange, state, world } from "./state.js";

const KEY = touch ? "button" : "key";
const STATUS = {
  queue: "waiting in the queue", loading: "loading", failed: "not loaded", lost: "reconnecting", past: "looking back", replay: "playing again", paused: "paused",
  waiting: `hold a ${KEY}`, live: "live",
};
const copy = make("canvas", { width: world.width, height: world.height }); // of the screen, which a thread paints
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

function statusOf({ queuePosition, loading, failed, connected, viewing, replaying, paused, held }) {
  if (queuePosition) return "queue";
  if (failed) return "failed";
  if (loading !== null) return "loading";
  if (!connected) return "lost";
  if (viewing !== null) return "past";
  if (replaying) return "replay";
  if (paused) return "paused";
  return held.size === 0 && !$("auto").checked ? "waiting" : "live";
}

/** The sentence over the screen. */
function veilOf(status) {
  if (state.generating && state.connected) return `Generating a picture of “${state.generating}”…`;
  return {
    queue: `All sessions are taken. You are number ${state.queuePosition} in the queue.`,
    loading: state.loading < 1 ? `Loading the world: ${Math.round(100 * state.loading)}%` : "Starting the world…",
    lost: "Reconnecting…",
    paused: `Paused. Each press of a ${KEY} plays one frame.`,
    past: `Frame ${state.viewing} of ${state.tape.step}. Press a ${KEY} to play on from here.`,
  }[status] ?? "";
}

function showSentence(id, sentence) {
  if ($(id).textContent !== sentence) $(id).textContent = sentence; // or screen readers would read it again
}

function showFigures(status) {
  const { shownTimes, tape, viewing } = state;
  const span = shownTimes.at(-1) - shownTimes[0];
  state.fps = span > 0 ? (1000 * (shownTimes.length - 1)) / span : 0;
  $("fps").textContent = state.fps && status === "live" ? state.fps.toFixed(1) : "–";
  $("latency").textContent = median(state.latencies.slice(-60))?.toFixed(0) ?? "–";
  $("model").textContent = tape.step ? state.modelMs.toFixed(0) : "–";
  const step = viewing ?? tape.step;
  Object.assign($("scrub"), { min: tape.first, max: tape.step, value: step });
  $("step").value = $("frame").textContent = step;
  $("newest").hidden = viewing === null;
  $("speed-value").value = `${$("speed").value} fps`;
}

function show() {
  if (state.shown) {
    paint(copy, state.shown);
    $("glow").getContext("2d", { alpha: false }).drawImage(copy, 0, 0, 8, 8);
  }
  const status = statusOf(state);
  $("status").dataset.state = status;
  showSentence("status", STATUS[status]);
  showSentence("veil", veilOf(status));
  showSentence("error", state.error);
  showSentence("note", state.note);
  $("pause").ariaPressed = state.paused;
  $("pause").firstElementChild.textContent = state.paused ? "Resume" : "Pause";
  const held = heldButton();
  [...$("actions").children].forEach((button, k) => {
    button.ariaPressed = k === held;
    const playing = status === "live" && held === null && world.buttons[k].action === state.action;
    button.classList.toggle("playing", playing);
  });
  showFigures(status);
}

/** Whole multiples of the world's pixels, counted in the pixels of the device. */
function fit() {
  const available = $("drop").parentElement.clientWidth;
  const tall = Math.max(200, innerHeight * (innerWidth < innerHeight ? 0.42 : 0.68));
  const fits = Math.min(Math.min(available, 640) / world.width, Math.min(tall, 640) / world.height);
  const ratio = devicePixelRatio || 1;
  const scale = fits * ratio >= 1 ? Math.floor(fits * ratio) / ratio : fits;
  $("drop").style.width = `${world.width * scale}px`;
  $("drop").style.height = `${world.height * scale}px`;
}

document.title = world.title || `${world.name} · jinn`;
$("name").textContent = world.name;
$("panel").inert = false;
fit();
addEventListener("resize", fit);
onChange(show);
