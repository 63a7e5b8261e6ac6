// The what-if: where each action would lead, shown side by side; one of them can be played.

import { branches } from "./branches.js";
import { send } from "./connection.js";
import { $ } from "./dom.js";
import { releaseAll } from "./input.js";
import { playNext, replay } from "./replay.js";
import { branchOff } from "./rewind.js";
import { state } from "./state.js";
import { nameOf, world } from "./world.js";

export const whatIf = branches($("branches"), world, nameOf, {
  ask: (depth) => send({ type: "what_if", depth }),
  choose(action, depth) {
    releaseAll();
    replay(Array(depth).fill({ action }));
    playNext();
  },
});

$("what-if").onclick = () => {
  branchOff();
  if (!state.paused) $("pause").click();
  whatIf.open();
};
