// The thread of a page that computes its own frames (`jinn publish`): it has the model and the canvas. Towards the page
// it is as screen.js, which has a server's socket in the place of the model.

import { loadModel } from "./model.js";
import { stored } from "./packs.js";
import { Session } from "./session.js";
import { showFrame, takeScreen, tell, tellPage } from "./stage.js";

const site = new URL("..", import.meta.url);

let session;

onmessage = ({ data }) => {
  if (data.canvas || data.paint) takeScreen(data);
  if (data.canvas) begin(data);
  if (!session || !data.send) return; // the page sends nothing that matters before it hears of a session
  if (data.send instanceof Blob) session.take(data.send);
  else session.handle(data.send);
};

async function begin({ world, page }) {
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
  if (!["prompt", "what if"].includes(frame.kind)) showFrame(frame.kind, frame.pixels);
  tellPage("frame", { ...frame, shownAt: performance.timeOrigin + performance.now() }, [frame.pixels.buffer]);
}
