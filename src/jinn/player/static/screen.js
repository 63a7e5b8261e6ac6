// The WebSocket and the screen, in a thread of their own: after a key goes down a browser lays out and paints the page
// before it looks at what came over the network, and a frame should not wait for that. docs/protocol.md describes what
// goes over the socket, connection.js is the page's end of this thread.

import { paint } from "./paint.js";

const HEADER_BYTES = 24;
const KINDS = ["next", "start", "prompt", "back", "what if"];
const address = new URL("../ws", location.href);
address.protocol = address.protocol.replace("http", "ws");

let canvas;
let socket;
let wait = 250; // milliseconds before the next attempt to connect

onmessage = ({ data }) => {
  if (data.canvas) {
    canvas = data.canvas;
    connect();
  } else if (data.paint) paint(canvas, data.paint);
  else if (socket.readyState === WebSocket.OPEN) {
    socket.send(data.send instanceof Blob ? data.send : JSON.stringify(data.send));
  }
};

function connect() {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? receiveMessage(data) : receiveFrame(data));
  socket.onclose = ({ code }) => {
    if ([1011, 1013].includes(code)) wait = 5000; // the model failed, or all sessions are taken: leave time to read the error
    postMessage({ event: "closed" });
    if (code === 4000) return; // the session was idle for too long: it is for others now
    setTimeout(connect, wait);
    wait = Math.min(2 * wait, 5000);
  };
}

function receiveMessage(text) {
  wait = 250;
  postMessage({ event: "message", detail: JSON.parse(text) });
}

function receiveFrame(data) {
  const header = new DataView(data, 0, HEADER_BYTES);
  const number = header.getUint32(4, true);
  const pixels = new Uint8Array(data, HEADER_BYTES);
  if (number) {
    paint(canvas, pixels);
    socket.send(JSON.stringify({ type: "ack", frame: number })); // and now the server computes the next
  }
  const detail = {
    kind: KINDS[header.getUint8(0)],
    ready: header.getUint8(1) === 1,
    action: header.getInt16(2, true),
    key: header.getUint32(8, true),
    step: header.getUint32(12, true),
    modelMs: header.getFloat32(16, true),
    shownAt: performance.timeOrigin + performance.now(),
    pixels,
  };
  postMessage({ event: "frame", detail }, [data]);
}
