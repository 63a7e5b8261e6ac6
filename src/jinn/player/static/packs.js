// Packs: the large files of a published page, compressed with gzip whatever the host does. One that has arrived stays in
// the browser's store, under its name, which changes with its content.

// Where sw.js looks for packs that the site no longer has.
const STORE = `jinn ${new URL("..", import.meta.url)} packs`;
const CUT = "The download of the world was cut off: check the connection and reload the page.";
const DAMAGED = "A file of this page is damaged or of another version: reload the page, or publish it again.";

/** Whether the last pack could be kept for the next visit. */
export let stored = true;

/** The content of a pack {address, bytes, sha256}; `onProgress` is called with the bytes that have arrived. */
export async function fetchPack({ address, bytes, sha256 }, onProgress) {
  const store = await self.caches?.open(STORE).catch(() => null); // pages without https have none
  const kept = await store?.match(address);
  const packed = kept ? new Uint8Array(await kept.arrayBuffer()) : await download(address, bytes, onProgress);
  onProgress(bytes);
  if (!(await isWhole(packed, bytes, sha256))) {
    await store?.delete(address);
    throw new Error(packed.length < bytes ? CUT : DAMAGED);
  }
  if (store && !kept) stored = await store.put(address, new Response(packed)).then(() => true, () => false);
  return unpack(packed);
}

async function download(address, bytes, onProgress) {
  const answer = await fetch(address).catch(() => null);
  if (!answer) throw new Error(CUT);
  if (!answer.ok) throw new Error(`A file of this page is missing (${answer.status}): publish it again, with all its files.`);
  const parts = [];
  let length = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { value } = await reader.read().catch(() => ({}));
    if (!value) break; // the end, or a cut connection: the length tells
    parts.push(value);
    length += value.length;
    onProgress(Math.min(length, bytes));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function isWhole(packed, bytes, sha256) {
  if (packed.length !== bytes) return false;
  if (!self.crypto?.subtle) return true; // a page without https: gzip has a checksum of its own
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", packed));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

async function unpack(packed) {
  try {
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error(DAMAGED);
  }
}
