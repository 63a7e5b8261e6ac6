// The thread of a page that computes its own frames (`jinn publish`): it has the model and the canvas. Towards the page
// it is as screen.js, which has a server's socket in the place of the model.

import { loadModel } from "./model.js";
import { stored } from "./packs.js";
import { paint } from "./paint.js";
import { Session } from "./session.js";

const site = new URL("..", import.meta.url);

let canvas;
let session;

onmessage = ({ data }) => {
  if (data.canvas) begin(data);
  else if (data.paint) paint(canvas, data.paint);
  else if (!session) return; // the page sends nothing that matters before it hears of a session
  else if (data.send instanceof Blob) session.take(data.send);
  else session.handle(data.send);
};

const tell = (detail) => postMessage({ event: "message", detail });

async function begin({ canvas: screen, world, page }) {
  canvas = screen;
  try {
    const model = await loadModel(world, site, page, (fraction) => tell({ type: "loading", fraction }));
    session = new Session(world, model, show, tell);
  } catch (error) {
    return tell({ type: "failed", message: error.message });
  }
  tell({ type: "session", session: null });
  if (!stored) tell({ type: "note", message: "The browser's store is full: the world plays, but not without a network." });
  session.run();
}

function show(frame) {
  if (!["prompt", "what if"].includes(frame.kind)) paint(canvas, frame.pixels);
  const detail = { ...frame, shownAt: performance.timeOrigin + performance.now() };
  postMessage({ event: "frame", detail }, [frame.pixels.buffer]);
}
