// The WebSocket and the screen, in a thread of their own: after a key goes down a browser lays out and paints the page
// before it looks at what came over the network, and a frame should not wait for that. docs/protocol.md describes what
// goes over the socket, connection.js is the page's end of this thread.

import { sentenceOf } from "./sentences.js";
import { showFrame, takeScreen, tell, tellPage } from "./stage.js";

const HEADER_BYTES = 24;
const KINDS = ["next", "start", "prompt", "back", "what if"];
const IDLE = 4000; // the code of a socket that was closed because nobody played
const TRY_AGAIN_LATER = 1013; // of one that got no session
const BEAT_MS = 1500; // of the watch over a connection that may have gone silent
const SILENT_BEATS = 4; // after which it counts as lost; from the first one on the server is asked for an answer
const REFUSED = "The server answers, but refuses the page's connection: a proxy between them must pass WebSockets on, and the Host of the page's address with them.";
const address = new URL("../ws", location.href);
address.protocol = address.protocol.replace("http", "ws");

let socket = null;
let answered = false; // whether anything came through this socket
let failures = 0; // attempts in a row that nothing came of
let refusal = ""; // the server's own sentence on why there is no session
let silence = 0; // beats since something came
let wait = 250; // milliseconds before the next attempt to connect
let attempt; // its timer

onmessage = ({ data }) => {
  if (data.canvas || data.paint) takeScreen(data);
  if (data.canvas || data.connect) connect();
  if (data.send && socket?.readyState === WebSocket.OPEN) {
    socket.send(data.send instanceof Blob ? data.send : JSON.stringify(data.send));
  }
};
setInterval(watch, BEAT_MS);

function connect() {
  clearTimeout(attempt);
  if (socket) return;
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  answered = false;
  refusal = "";
  silence = 0;
  socket.onmessage = ({ data }) => {
    answered = true;
    failures = silence = 0;
    if (typeof data === "string") receiveMessage(data);
    else receiveFrame(data);
  };
  socket.onclose = ({ code }) => lose(code);
}

/** The connection is lost: connect again, unless the server has given the place to others. */
function lose(code) {
  socket.onmessage = socket.onclose = null; // a silent network may close it minutes later
  socket.close();
  socket = null;
  failures += answered ? 0 : 1;
  tellPage("closed", { idle: code === IDLE });
  if (code === IDLE) return;
  if ([1008, 1011, TRY_AGAIN_LATER].includes(code)) wait = 5000; // the server has sent an error: leave time to read it
  attempt = setTimeout(connect, wait);
  wait = Math.min(2 * wait, 5000);
  if (refusal && code === TRY_AGAIN_LATER) tellPage("refused", refusal);
  else if (failures > 1) explain();
}

/** Browsers do not say why a WebSocket was refused: ask in another way. */
async function explain() {
  const answer = await fetch(new URL("../api/worlds", location.href)).catch(() => null);
  const sentence = !answer ? "" : answer.ok ? REFUSED : await sentenceOf(answer);
  if (failures > 1) tellPage("refused", sentence);
}

function watch() {
  if (!socket) return;
  silence += 1;
  if (socket.readyState !== WebSocket.OPEN || answered) {
    if (silence > SILENT_BEATS) return lose();
  } // a server that loads a world says nothing at first
  if (answered) socket.send(JSON.stringify({ type: "ping" }));
}

function receiveMessage(text) {
  const message = JSON.parse(text);
  if (message.type === "session") wait = 250;
  if (message.type === "error") refusal = message.message;
  if (message.type !== "pong") tell(message);
}

function receiveFrame(data) {
  const header = new DataView(data, 0, HEADER_BYTES);
  const number = header.getUint32(4, true);
  const kind = KINDS[header.getUint8(0)];
  const pixels = new Uint8Array(data, HEADER_BYTES);
  if (number) {
    showFrame(kind, pixels);
    socket.send(JSON.stringify({ type: "ack", frame: number })); // and now the server computes the next
  }
  const detail = {
    kind,
    ready: header.getUint8(1) === 1,
    action: header.getInt16(2, true),
    key: header.getUint32(8, true),
    step: header.getUint32(12, true),
    modelMs: header.getFloat32(16, true),
    shownAt: performance.timeOrigin + performance.now(),
    pixels,
  };
  tellPage("frame", detail, [data]);
}
