// Which key plays which action: the usual keys, or those that the player chose. The browser remembers them.

import { $, make } from "./dom.js";
import { bindKeys, capOf, keyOf, usualKeys } from "./keys.js";
import { state } from "./state.js";
import { nameOf, names, world } from "./world.js";

const STORAGE_KEY = `jinn keys ${world.id}`;
const RESERVED = ["Escape", "Tab", "r", "p"];

function storedKeys() {
  const usual = usualKeys(world.actions);
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY));
    const good = Array.isArray(stored) && stored.length === usual.length && stored.every((key) => typeof key === "string");
    return good ? stored : usual;
  } catch {
    return usual;
  }
}

function setKeys(ownKeys) {
  Object.assign(state, { ownKeys, keys: bindKeys(ownKeys, names) });
  showKeys();
}

function chooseKeys(ownKeys) {
  setKeys(ownKeys);
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(ownKeys));
  } catch {
    // a private window: the keys last as long as the page
  }
}

function showKeys() {
  [...$("actions").children].forEach((button, k) => {
    const caps = state.keys.caps(k).map((cap) => make("kbd", { textContent: cap }));
    button.querySelector(".caps").replaceChildren(...caps);
  });
  $("bindings").replaceChildren(...state.ownKeys.map((key, k) => {
    const cap = make("kbd", { textContent: capOf(key) ?? "–" });
    const button = make("button", { type: "button" }, make("span", { textContent: nameOf(k) }), cap);
    button.setAttribute("aria-label", `Key of ${nameOf(k)}: ${capOf(key) ?? "none"}. Press to choose another`);
    button.onclick = () => rebind(k, cap);
    return button;
  }));
}

/** Wait for a key; the action that had it before gets the other's. */
function rebind(k, cap) {
  cap.textContent = "press a key";
  addEventListener("keydown", (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    const key = keyOf(event);
    if (RESERVED.includes(key)) return showKeys();
    const { ownKeys } = state;
    chooseKeys(ownKeys.map((old, i) => (i === k ? key : old === key ? ownKeys[k] : old)));
  }, { once: true, capture: true });
}

/** Bind the keys, once the buttons of the actions are there. */
export function bindStoredKeys() {
  setKeys(storedKeys());
  $("usual-keys").onclick = () => chooseKeys(usualKeys(world.actions));
}
