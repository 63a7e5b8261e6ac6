// What if: where every action would lead from here, side by side.

import { paint } from "./paint.js";

const DEPTH = 6; // frames ahead
const BEAT = 150; // milliseconds a frame, over and over

/**
 * The branches of a world, shown in `room`.
 *
 * `on` has ask(depth), which makes the server send frames for take(frame), and choose(action, depth).
 */
export function branches(room, world, nameOf, on) {
  const depth = Math.min(DEPTH, world.max_what_if_frames);
  let films = []; // of each action: its frames so far
  let beat = null;

  const close = () => {
    clearInterval(beat);
    room.hidden = true;
    room.replaceChildren();
    films = [];
  };

  return {
    close,
    /** The world went on: look from there. */
    refresh() {
      if (!room.hidden) this.open();
    },
    open() {
      close();
      films = Array.from({ length: world.actions }, () => []);
      room.hidden = false;
      room.append(...films.map((film, k) => {
        const button = Object.assign(document.createElement("button"), { type: "button", title: `Take this way: ${nameOf(k)}` });
        const canvas = Object.assign(document.createElement("canvas"), { width: world.width, height: world.height });
        const label = Object.assign(document.createElement("span"), { textContent: nameOf(k) });
        button.append(canvas, label);
        button.onclick = () => on.choose(k, depth);
        return button;
      }));
      let tick = 0;
      beat = setInterval(() => {
        tick += 1;
        films.forEach((film, k) => film.length && paint(room.children[k].firstElementChild, film[tick % film.length]));
      }, BEAT);
      on.ask(depth);
    },
    take({ action, pixels }) {
      films[action]?.push(pixels);
      if (films[action]?.length === 1) paint(room.children[action].firstElementChild, pixels);
    },
  };
}
