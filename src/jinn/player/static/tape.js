// What was played: every frame, to look back at, and every input, to play it again.

const FORMAT = "jinn session";
const PNG = "data:image/png;base64,";
const MOST_INPUTS = 1e6; // of a session: nine hours at the highest pace
// Settings that are a part of the graph where a page computes its own frames.
const FIXED = { steps: "a number of steps of", temperature: "a temperature of" };
const fixed = (world, id) => world[`${id}_range`][0] === world[`${id}_range`][1];

/** A fingerprint of pixels (FNV-1a): equal frames have equal ones. */
export function fingerprint(pixels) {
  let hash = 0x811c9dc5;
  for (const value of pixels) hash = Math.imul(hash ^ value, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}

export class Tape {
  /** `maxFrames`: how many frames are kept to look back at; inputs are kept for ever. */
  constructor(maxFrames) {
    this.maxFrames = maxFrames;
    this.start({ index: 0 }, 0, null);
  }

  /** A new roll-out. `prompt` is {index} of the world's prompts or {pictures: [data URLs]}. */
  start(prompt, seed, pixels) {
    Object.assign(this, { prompt, seed, frames: [pixels], inputs: [null] });
  }

  get step() {
    return this.frames.length - 1;
  }

  /** The first step whose frame is still there. */
  get first() {
    return Math.max(0, this.frames.length - this.maxFrames);
  }

  /** The next frame; `input` is the action and the sampling settings. */
  add(pixels, input) {
    this.frames.push(pixels);
    this.inputs.push(input);
    if (this.first > 0) this.frames[this.first - 1] = null;
  }

  back(step, pixels) {
    this.frames.length = this.inputs.length = step + 1;
    this.frames[step] = pixels;
  }

  /** All that is needed to play it again; `script` is what is still to come of a session that is played, if it is. */
  toSession(world, script = [], expected = null) {
    const rest = expected === null ? [] : script;
    const keys = [];
    for (const input of [...this.inputs.slice(1), ...rest]) {
      const { frames, ...last } = keys.at(-1) ?? {};
      if (JSON.stringify(last) === JSON.stringify(input)) keys.at(-1).frames += 1;
      else keys.push({ ...input, frames: 1 });
    }
    const { prompt, seed } = this;
    const last = rest.length > 0 ? expected : fingerprint(this.frames.at(-1));
    return { format: FORMAT, version: 1, world: { name: world.name, id: world.id }, prompt, seed, keys, last };
  }
}

function isPicture(url) {
  try {
    return typeof url === "string" && url.startsWith(PNG) && atob(url.slice(PNG.length)) !== "";
  } catch {
    return false;
  }
}

/** A saved session, its inputs one by one as `script`; throws a sentence if the text is not a session. */
export function readSession(text, world) {
  let session;
  try {
    session = JSON.parse(text);
  } catch {
    throw new Error("This is not a session: the file is not JSON.");
  }
  if (session?.format !== FORMAT || session.version !== 1) throw new Error("This is not a session of jinn.");
  const whole = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
  const { prompt, seed, keys } = session;
  const urls = prompt?.pictures;
  const pictures = Array.isArray(urls) && urls.length > 0 && urls.length <= world.max_clip_frames &&
    urls.every(isPicture);
  const within = (value, [low, high]) => Number.isFinite(value) && value >= low && value <= high;
  const settings = Object.keys(world.sampling);
  const good = (pictures || whole(prompt?.index, 0, world.prompts - 1)) && whole(seed, 0, 2 ** 32) &&
    Array.isArray(keys) && keys.every((key) => whole(key?.action, 0, world.actions - 1) &&
      whole(key.frames, 1, MOST_INPUTS) && Number.isInteger(key.steps) &&
      settings.every((id) => within(key[id], world[`${id}_range`]))) &&
    keys.reduce((sum, { frames }) => sum + frames, 0) <= MOST_INPUTS;
  const other = Array.isArray(keys) && Object.keys(FIXED).find((id) =>
    fixed(world, id) && keys.some((key) => Number.isFinite(key?.[id]) && key[id] !== world.sampling[id]));
  if (other) {
    throw new Error(`This page samples with ${FIXED[other]} ${world.sampling[other]} only, and the session has others: open it in jinn play.`);
  }
  if (!good) throw new Error("This session is damaged, or of a world with other actions or prompts.");
  const known = ["action", "steps", ...settings]; // what else there is may be too deep to be saved again
  const input = (key) => Object.fromEntries(Object.entries(key).filter(([id]) => known.includes(id)));
  const script = keys.flatMap((key) => Array(key.frames).fill(input(key)));
  const [id, ours] = [typeof session.world?.id === "string" ? session.world.id : "", world.id];
  const weights = (text) => text.split("-")[0];
  return { ...session, script, same: id === ours, elsewhere: id !== ours && weights(id) === weights(ours) };
}
