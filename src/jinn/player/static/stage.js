// What both threads have in common, screen.js and local.js: the canvas, and that no exception is swallowed.

import { paint } from "./paint.js";

const JUMPS = ["start", "back"]; // frames that begin something else: nobody looks back any more

let canvas;
let held = false; // whether the page shows an earlier frame: those that are still on their way must not cover it

/** Take a message of the page about the screen: {canvas}, or {paint, hold}, pixels to show, and whether they stay. */
export function takeScreen(data) {
  if (data.canvas) canvas = data.canvas;
  else {
    held = data.hold;
    paint(canvas, data.paint);
  }
}

/** Show a frame of the roll-out. */
export function showFrame(kind, pixels) {
  if (JUMPS.includes(kind)) held = false;
  if (!held) paint(canvas, pixels);
}

/** Hand something to the page, for which connection.js calls `on[event](detail)`. */
export const tellPage = (event, detail, handedOver = []) => postMessage({ event, detail }, handedOver);

/** Hand it a message, as a server's socket would. */
export const tell = (detail) => tellPage("message", detail);

// Exceptions reach the page by themselves, but not those in what was not waited for.
addEventListener("unhandledrejection", ({ reason }) => tell({ type: "failed", message: `The page's thread failed: ${reason?.message ?? reason}` }));
