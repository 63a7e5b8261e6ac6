// The page of jinn record: an environment is played by keys, and the server keeps what happens (player/record.py).

import { $, make } from "./dom.js";
import { bindKeys, keyOf, usualKeys } from "./keys.js";
import { paint } from "./paint.js";

const game = await (await fetch("api/game")).json();
const keys = bindKeys(usualKeys(game.buttons.length), game.buttons);
const screen = Object.assign($("screen"), { width: game.width, height: game.height });
const socket = new WebSocket(new URL("ws", document.baseURI.replace(/^http/, "ws")));
socket.binaryType = "arraybuffer";
const held = new Map(); // what is down -> its press

$("name").textContent = game.name;
$("how").textContent = game.waits ? "The environment waits until a key is down." : "";
$("keys").append(...game.buttons.map((name, k) => make("li", {}, `${keys.caps(k).join(" ") || "no key"}: ${name}`)));

const send = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));

function status(state, text) {
  Object.assign($("status"), { textContent: text }).dataset.state = state;
}

function show({ frames, episodes, reward }) {
  $("count").textContent = `${frames} frames and ${episodes} whole episodes are kept; reward ${reward.toFixed(2)}`;
}

function tellKeys(pressed) {
  const action = keys.resolve([...held.values()]);
  if (pressed) send({ type: "action", action }); // so that even the shortest press is played
  send({ type: "keys", action });
}

function release(code) {
  if (held.delete(code)) tellKeys(false);
}

const restart = () => send({ type: "restart" });

socket.onopen = () => status("live", "recording");
socket.onclose = () => status("lost", "the recording has ended");
socket.onmessage = ({ data }) => {
  if (typeof data !== "string") return paint(screen, new Uint8Array(data));
  const message = JSON.parse(data);
  if (message.type === "error") $("error").textContent = message.message;
  else show(message);
  window.jinnRecord = message; // for tests
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const pressed = keys.press(keyOf(event));
  if (!pressed && event.key !== "Enter") return;
  event.preventDefault(); // arrows and space would scroll
  if (event.repeat || held.has(event.code)) return;
  if (!pressed) return restart();
  held.set(event.code, pressed);
  tellKeys(true);
});
addEventListener("keyup", ({ code }) => release(code));
addEventListener("blur", () => [...held.keys()].forEach(release));
$("restart").onclick = restart;
