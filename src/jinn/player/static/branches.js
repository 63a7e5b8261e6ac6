// Short films of where every action would lead from here, side by side.

import { paint } from "./paint.js";

const DEPTH = 6; // frames of each film
const BEAT = 150; // milliseconds per frame; the films repeat

/**
 * The films, shown in the element `container`.
 *
 * `on` has ask(depth), which requests the frames that come to take(frame), and choose(action, depth).
 */
export function branches(container, world, nameOf, on) {
  const depth = Math.min(DEPTH, world.max_what_if_frames);
  let films = []; // of each action: its frames so far
  let beat = null;

  const close = () => {
    clearInterval(beat);
    container.hidden = true;
    container.replaceChildren();
    films = [];
  };

  return {
    close,
    /** A frame was played: start again from there. */
    refresh() {
      if (!container.hidden) this.open();
    },
    open() {
      close();
      films = Array.from({ length: world.actions }, () => []);
      container.hidden = false;
      container.append(...films.map((film, k) => {
        const button = Object.assign(document.createElement("button"), { type: "button", title: `Play this action: ${nameOf(k)}` });
        const canvas = Object.assign(document.createElement("canvas"), { width: world.width, height: world.height });
        const label = Object.assign(document.createElement("span"), { textContent: nameOf(k) });
        button.append(canvas, label);
        button.onclick = () => on.choose(k, depth);
        return button;
      }));
      let tick = 0;
      beat = setInterval(() => {
        tick += 1;
        films.forEach((film, k) => film.length && paint(container.children[k].firstElementChild, film[tick % film.length]));
      }, BEAT);
      on.ask(depth);
    },
    take({ action, pixels }) {
      films[action]?.push(pixels);
      if (films[action]?.length === 1) paint(container.children[action].firstElementChild, pixels);
    },
  };
}
