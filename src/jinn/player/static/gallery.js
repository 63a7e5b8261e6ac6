// The choice among the worlds of the server, if there are several: links, for each has a page of its own. It does not
// wait for this page's world, which may take a while to load.

import { $, make } from "./dom.js";

function link(name) {
  const page = `../${encodeURIComponent(name)}/`;
  const image = make("img", { src: `${page}api/thumbnail.png`, alt: "", width: 40, height: 40 });
  const choice = make("a", { href: page }, image, make("span", { textContent: name }));
  if (choice.pathname === location.pathname) choice.ariaCurrent = "page";
  return choice;
}

const answer = fetch("api/worlds").then((response) => (response.ok ? response.json() : { worlds: [] }));
answer.then(({ worlds }) => {
  if (worlds.length < 2) return;
  $("worlds").append(...worlds.map(link));
  $("worlds").hidden = false;
  $("worlds").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
});
