// A world's model in the page: its three graphs in ONNX Runtime Web. world/web.py describes them.

import { frameNoise } from "./noise.js";
import { fetchPack } from "./packs.js";

const MAX_THREADS = 4;
const SPARE = 1.3; // how much faster than its pace a world should be
const WEIGHTS = "weights.bin"; // what the graphs call the file of their weights

/**
 * Load a model. `site` is the address of the site's folder and `page` that of the world's; `onProgress` is called with
 * the fraction that has arrived. It throws a sentence for the player.
 */
export async function loadModel(world, site, page, onProgress) {
  const packs = [
    { ...world.runtime.pack, address: new URL(world.runtime.pack.file, site) },
    { ...world.model.pack, address: new URL(world.model.pack.file, page) },
  ];
  const all = packs.reduce((sum, { bytes }) => sum + bytes, 0);
  const arrived = packs.map(() => 0);
  const report = (i) => (bytes) => {
    arrived[i] = bytes;
    onProgress(arrived.reduce((sum, part) => sum + part) / all);
  };
  const [[runtime, wasm], model] = await Promise.all([
    Promise.all([import(new URL(world.runtime.script, site)), fetchPack(packs[0], report(0))]),
    fetchPack(packs[1], report(1)),
  ]);
  Object.assign(runtime.env.wasm, {
    wasmBinary: wasm,
    numThreads: threadsFor(world),
  });
  const part = (name) => model.subarray(...world.model.parts[name]);
  const create = (name) => runtime.InferenceSession.create(part(name), {
    externalData: [{ path: WEIGHTS, data: part("weights") }],
    graphOptimizationLevel: "disabled", // `jinn publish` has done it
  });
  return new Model(world, runtime.Tensor, create);
}

/**
 * No more threads than the world's pace needs and half of the cores can give: all wait for the slowest, and do so by
 * spinning, which saves a third of a frame's time and takes the cores from everybody else.
 */
function threadsFor({ fps, model }) {
  if (!self.crossOriginIsolated) return 1; // the page has no memory that threads could share
  const needed = Math.ceil((SPARE * fps) / model.fps);
  return Math.max(1, Math.min(needed, MAX_THREADS, navigator.hardwareConcurrency >> 1));
}

/** The state of a roll-out is a value, as in world/state.py: {tensors, seed, frame, bytes}. Nothing changes it. */
class Model {
  constructor(world, Tensor, create) {
    Object.assign(this, { world, Tensor, create, sessions: {} });
  }

  /** A graph's session, made when it is needed: the first frame does not wait for the others. */
  async session(name) {
    this.sessions[name] ??= await this.create(name);
    return this.sessions[name];
  }

  /** The tokens of RGB pixels of the world's size. */
  async encode(pixels) {
    const { height, width } = this.world;
    const session = await this.session("encode");
    const frame = new this.Tensor("uint8", pixels, [1, height, width, 3]);
    return [...(await session.run({ frame_BHWC: frame })).tokens_BN.data].map(Number);
  }

  /** The first frame of a roll-out, {state, pixels, modelMs}. */
  async start(tokens, seed) {
    const session = await this.session("start");
    const started = performance.now();
    const tokens_BN = new this.Tensor("int64", BigInt64Array.from(tokens, BigInt), [1, tokens.length]);
    const { frame_BHWC, ...caches } = await session.run({ tokens_BN });
    return toFrame({ tokens_BN, ...caches }, seed, 0, frame_BHWC, started);
  }

  /** The frame after a state when an action is played. */
  async next({ tensors, seed, frame }, action, doubt) {
    const session = await this.session("frame");
    const started = performance.now();
    const [S, N, U] = this.world.model.noise;
    const inputs = {
      ...tensors,
      actions_B: new this.Tensor("int64", BigInt64Array.of(BigInt(action)), [1]),
      noise_SBNU: new this.Tensor("float32", frameNoise(seed, frame, S * N * U), [S, 1, N, U]),
      doubt_B: new this.Tensor("float32", Float32Array.of(doubt), [1]),
    };
    // Exporting drops the inputs that nothing uses.
    const feeds = Object.fromEntries(session.inputNames.map((name) => [name, inputs[name]]));
    const { frame_BHWC, ...state } = await session.run(feeds);
    const following = Object.fromEntries(Object.entries(state).map(([name, x]) => [name.replace("next_", ""), x]));
    return toFrame(following, seed, frame + 1, frame_BHWC, started);
  }
}

function toFrame(tensors, seed, frame, frame_BHWC, started) {
  const bytes = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
  return { state: { tensors, seed, frame, bytes }, pixels: frame_BHWC.data, modelMs: performance.now() - started };
}
