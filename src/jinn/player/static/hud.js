// What the page shows of its state.

import { $, make, touch } from "./dom.js";
import { heldButton } from "./input.js";
import { paint } from "./paint.js";
import { onChange, state, world } from "./state.js";

const KEY = touch ? "button" : "key";
const STATUS = {
  queue: "waiting in the queue", loading: "loading", failed: "not loaded", stopped: "stopped", ended: "not playing",
  lost: "reconnecting", past: "looking back", replay: "playing again", self: "plays by itself",
  paused: "paused", waiting: `hold a ${KEY}`, live: "live",
};
const NEED_FRAMES = ["what-if", "pilot", "again", "picture", "mp4", "gif", "save", "copy"]; // buttons
const LARGEST = 640; // pixels of the world on the screen, unless it is full
const copy = make("canvas", { width: world.width, height: world.height }); // of the screen, which a thread paints
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

function statusOf({ queuePosition, loading, failed, ended, frames, connected, viewing, replaying, paused, pilot, held }) {
  if (queuePosition) return "queue";
  if (failed) return frames ? "stopped" : "failed";
  if (ended) return "ended";
  if (loading !== null) return "loading";
  if (!connected) return "lost";
  if (viewing !== null) return "past";
  if (replaying) return "replay";
  if (paused) return "paused";
  if (pilot) return "self";
  return held.size === 0 && !$("auto").checked ? "waiting" : "live";
}

/** The sentence over the screen. */
function veilOf(status) {
  if (state.generating && state.connected) return `Generating a picture of “${state.generating}”…`;
  if (state.recovering) return `Connected again. Playing again to where you were: ${state.script.length} frames to go.`;
  if (typeof state.jump === "number" && state.connected) return `Going back to frame ${state.jump}…`;
  return {
    queue: `All sessions are taken. You are number ${state.queuePosition} in the queue.`,
    loading: state.loading < 1 ? `Loading the world: ${Math.round(100 * state.loading)}%` : "Starting the world…",
    lost: state.refusal || "Reconnecting…",
    ended: "You have not played for a while, so your place was given to others.",
    stopped: "The world has stopped: save the session if you like, and reload the page.",
    paused: `Paused. Each press of a ${KEY} plays one frame.`,
    past: `Frame ${state.viewing} of ${state.tape.step}. Press a ${KEY} to play on from here.`,
  }[status] ?? "";
}

/** What a screen reader says of it: not how far a thing is, and not each key. */
function spokenOf(status) {
  if (["waiting", "live", "self"].includes(status)) return "The world plays.";
  if (status === "loading") return "The world is loading.";
  return status === "replay" ? "Playing again." : veilOf(status);
}

function showSentence(id, sentence) {
  if ($(id).textContent !== sentence) $(id).textContent = sentence; // or screen readers would read it again
}

function showFigures(status) {
  const { shownTimes, tape, viewing } = state;
  const span = shownTimes.at(-1) - shownTimes[0];
  state.fps = span > 0 ? (1000 * (shownTimes.length - 1)) / span : 0;
  $("fps").textContent = state.fps && ["live", "self"].includes(status) ? state.fps.toFixed(1) : "–";
  $("latency").textContent = median(state.latencies.slice(-60))?.toFixed(0) ?? "–";
  $("model").textContent = tape.step ? state.modelMs.toFixed(0) : "–";
  const step = viewing ?? tape.step;
  Object.assign($("scrub"), { min: tape.first, max: tape.step, value: step });
  $("step").textContent = $("frame").textContent = step;
  $("newest").hidden = viewing === null;
  $("speed").ariaValueText = $("speed-value").textContent = `${$("speed").value} fps`;
}

function show() {
  if (state.shown) {
    paint(copy, state.shown);
    // Smoothing fades it into the rim of clear pixels; a mask would cost a core a twentieth of its time.
    $("glow").getContext("2d").drawImage(copy, 1, 1, 8, 8);
  }
  const status = statusOf(state);
  $("status").dataset.state = status;
  showSentence("status", STATUS[status]);
  showSentence("veil", veilOf(status));
  showSentence("spoken", spokenOf(status));
  showSentence("error", state.error);
  showSentence("note", state.note);
  $("play-on").hidden = status !== "ended";
  $("scrub").disabled = state.recovering;
  for (const id of NEED_FRAMES) $(id).disabled = !state.started || state.recovering && ["what-if", "again", "pilot"].includes(id);
  $("pause").ariaPressed = state.paused;
  $("pilot").ariaPressed = state.pilot;
  $("pause").firstElementChild.textContent = state.paused ? "Resume" : "Pause";
  const held = heldButton();
  [...$("actions").children].forEach((button, k) => {
    button.ariaPressed = k === held;
    const playing = ["live", "self"].includes(status) && held === null && world.buttons[k].action === state.action;
    button.classList.toggle("playing", playing);
  });
  showFigures(status);
}

/** Whole multiples of the world's pixels, counted in the pixels of the device. */
function fit() {
  const full = Boolean(document.fullscreenElement) && !touch; // the stage alone, and it fills the screen
  const tall = Math.max(200, innerHeight * (innerWidth < innerHeight ? 0.42 : 0.68));
  const [available, height] = full
    ? [0.96 * innerWidth, innerHeight - 140]
    : [Math.min($("tape").clientWidth, LARGEST), Math.min(tall, LARGEST)];
  const fits = Math.min(available / world.width, height / world.height);
  const ratio = devicePixelRatio || 1;
  const scale = fits * ratio >= 1 ? Math.floor(fits * ratio) / ratio : fits;
  $("drop").style.width = `${world.width * scale}px`;
  $("drop").style.height = `${world.height * scale}px`;
}

document.title = world.title || `${world.name} · jinn`;
$("name").textContent = world.name;
$("world-about").textContent = world.about;
$("card").hidden = !world.about;
$("panel").inert = false;
fit();
addEventListener("resize", fit);
document.addEventListener("fullscreenchange", fit);
$("full").hidden = !document.fullscreenEnabled;
// Fingers need the buttons too.
$("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen()
  : (touch ? document.documentElement : $("stage")).requestFullscreen());
onChange(show);
