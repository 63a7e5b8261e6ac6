// The service worker of a published page, without a network after the first visit. `jinn publish` puts a line before
// this file: SITE has the site's version and files. The packs are kept by packs.js, when a world is played.

const mine = `jinn ${registration.scope} `; // other sites on this host have theirs
const store = mine + SITE.version;

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(activate()));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event.request));
});

async function install() {
  const kept = await caches.open(store);
  await kept.addAll(SITE.files.map((file) => new Request(file || "./", { cache: "reload" })));
  await skipWaiting();
}

/** Forget other versions, and packs that this one does not have. */
async function activate() {
  for (const name of await caches.keys()) if (name.startsWith(mine) && name !== store && name !== `${mine}packs`) await caches.delete(name);
  const packs = await caches.open(`${mine}packs`);
  const current = SITE.packs.map((file) => new URL(file, registration.scope).href);
  for (const { url } of await packs.keys()) if (!current.includes(url)) await packs.delete(url);
  await clients.claim();
}

async function answer(request) {
  const kept = await (await caches.open(store)).match(request, { ignoreSearch: true });
  return isolated(kept ?? (await fetch(request)));
}

/** With the headers that let a page use threads, for hosts that do not send them. */
function isolated(response) {
  if (response.status === 0 || response.type === "opaqueredirect") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response([204, 304].includes(status) ? null : response.body, { status, statusText, headers });
}
