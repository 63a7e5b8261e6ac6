// The real game beside the dream: both begin with a first frame of the game, and do what the player does.

import { $ } from "./dom.js";
import { paint, painted } from "./paint.js";
import { startFrom } from "./starts.js";
import { state, update, world } from "./state.js";

const GOES_ALONG = "The real game, by the same keys";

let socket = null;
let unsent = []; // until the socket is open
let wanted = null; // the seed of a level that the dream is to start from, once its first frame is there
let seed = null; // of the level that the game is in
let follows = false; // whether the game does what the player does
let steps = 0; // that it did

function connect() {
  socket = new WebSocket(new URL("game", document.baseURI.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  socket.onopen = () => unsent.splice(0).forEach((text) => socket.send(text));
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : show(new Uint8Array(data)));
  socket.onclose = () => {
    socket = wanted = null;
    unsent = [];
    if (follows) stand("The connection to the real game is lost: Reset plays it again.");
  };
}

function tellGame(message) {
  if (!socket) connect();
  const text = JSON.stringify(message);
  if (socket.readyState === WebSocket.OPEN) socket.send(text);
  else unsent.push(text);
}

function begin(level) {
  seed = level;
  steps = 0;
  tellGame({ type: "start", seed });
}

function show(pixels) {
  paint($("game"), pixels);
  if (wanted === null) return;
  const level = wanted;
  wanted = null;
  painted(pixels, world).toBlob((picture) => startFrom({ pictures: [picture], level }));
}

function hear({ type, message }) {
  if (type === "error") update({ error: message });
  if (type === "ended") stand("The real game has ended. Reset plays it again.");
}

/** The game stands still. */
function stand(why) {
  follows = false;
  $("game-note").textContent = why;
}

/** A frame of the dream has arrived: the game does the same. */
export function gameSees(kind, action) {
  if (kind === "start") meet(state.started.level);
  else if (kind === "back" && follows) stand("The real game cannot go back. Reset plays it again.");
  else if (kind === "next" && follows) {
    steps += 1;
    tellGame({ type: "step", action });
  }
}

/** The dream has started: from a level of the game, or from something that the game does not know. */
function meet(level) {
  follows = level !== undefined;
  $("beside").hidden = !follows;
  if (!follows) return;
  $("game-note").textContent = GOES_ALONG;
  if (level !== seed || steps > 0 || !socket) begin(level);
}

$("real").hidden = !world.real_game;
Object.assign($("game"), { width: world.width, height: world.height });
$("real").onclick = () => {
  [wanted] = crypto.getRandomValues(new Uint32Array(1)).map((number) => number >>> 1);
  begin(wanted);
};
