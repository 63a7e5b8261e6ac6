// A published page plays without a network after the first visit: sw.js keeps its files.

import { world } from "./state.js";

// Browsers allow it on pages of this machine or of https.
if (world.model && "serviceWorker" in navigator) {
  navigator.serviceWorker.register(new URL("../sw.js", import.meta.url)).catch(() => {}); // a private window: it plays all the same
}
