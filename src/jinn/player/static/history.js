// What was played so far in a page that computes its own frames, so that one may go back and play on differently: the
// same as player/history.py. A few cached states are enough, for any other frame is computed again from the one before.

const MIN_CACHED = 4; // states, however large
const EVERY = 8; // frames between two cached states, as long as there is memory

export class History {
  /** `first` is the frame {state, pixels} of the prompt; cached states take `maxBytes`. */
  constructor(first, maxBytes) {
    this.now = first;
    this.inputs = []; // what led to each frame after the prompt: {action, doubt}
    this.cache = new Map([[0, first]]); // some of the frames, by step, in order
    this.maxCached = Math.max(MIN_CACHED, Math.floor(maxBytes / first.state.bytes));
  }

  /** The number of frames played since the prompt. */
  get step() {
    return this.inputs.length;
  }

  add(input, frame) {
    this.inputs.push(input);
    this.now = frame;
    if (this.step % EVERY > 0) return;
    this.cache.set(this.step, frame);
    while (this.cache.size > this.maxCached) this.cache.delete(this.closest());
  }

  /** The cached step whose neighbours are nearest to each other; never that of the prompt. */
  closest() {
    const steps = [...this.cache.keys(), this.step];
    const gap = (i) => steps[i + 1] - steps[i - 1];
    let best = 1;
    for (let i = 2; i < this.cache.size; i += 1) if (gap(i) < gap(best)) best = i;
    return steps[best];
  }

  /** The last cached step that is not after the given one. */
  cachedBefore(step) {
    return Math.max(...[...this.cache.keys()].filter((cached) => cached <= step));
  }

  /** Forget what came after a step, whose frame this is. */
  goBack(step, frame) {
    this.inputs.length = step;
    for (const cached of [...this.cache.keys()]) if (cached > step) this.cache.delete(cached);
    this.now = frame;
  }
}
