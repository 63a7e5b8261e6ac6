// One player's session in a page that computes its own frames: what player/session.py and player/control.py do on a
// server. It takes the messages that docs/protocol.md describes and shows a frame when it is due.

import { frameOf } from "./crop.js";
import { History } from "./history.js";

const HISTORY_BYTES = 32 * 2 ** 20; // for the cached states
const SPARE = 1.2; // of the time that the last frame took: as much must be left before the next for one that may be in vain

/** What each message does. */
const HANDLERS = {
  start: (session, { prompt, seed }) => session.begin({ tokens: session.world.model.prompts[prompt] }, seed),
  reset: (session, { seed }) => session.begin(session.prompt, seed),
  clip: (session, { frames, seed }) => Object.assign(session, { uploads: frames, seed, pictures: [] }),
  keys: (session, { action }) => (session.held = action),
  action: (session, { action }) => (session.pressed = action),
  back: (session, { step }) => {
    session.held = session.pressed = null;
    session.request = () => session.goBack(step);
  },
  what_if: (session, { depth }) => (session.branches = session.whatIf(depth)),
  settings: (session, { type, ...changes }) => session.apply(changes),
};

// Lets messages in between two frames: while one is computed, they wait.
const channel = new MessageChannel();
const breathe = () => new Promise((resolve) => {
  channel.port1.onmessage = resolve;
  channel.port2.postMessage(null);
});

export class Session {
  /** `show` is called with each frame as screen.js hands it to the page, `tell` with each message. */
  constructor(world, model, show, tell) {
    Object.assign(this, { world, model, show, tell });
    this.settings = { fps: world.fps, idle: world.idle, paused: false, look_ahead: true, doubt: world.sampling.doubt ?? 0 };
    this.history = null; // the roll-out so far
    this.prompt = null; // what it started from: {tokens}, and {pixels} of a picture of the player's own
    this.request = null; // computes a frame that does not wait for the beat: the first of a roll-out, or an earlier one
    this.ahead = new Map(); // action -> the next frame, computed before the player has chosen an action
    this.branches = null; // the frames of a what-if that are still to be computed
    this.held = this.pressed = null; // the action of what is down, and one to play once even if its key is up again
    this.keyId = 0;
    this.uploads = 1; // pictures that belong together
    this.pictures = [];
    this.modelMs = 0;
    this.wake = () => {};
  }

  handle(message) {
    HANDLERS[message.type](this, message);
    this.keyId = message.id ?? this.keyId;
    this.wake();
  }

  /** Start from a picture, a Blob, or from the newest of several: there is no graph for the actions between them. */
  async take(blob) {
    this.pictures.push(blob);
    if (this.pictures.length < this.uploads) return;
    const { uploads, seed, pictures, world } = this;
    Object.assign(this, { uploads: 1, pictures: [] });
    try {
      const pixels = await frameOf(pictures.at(-1), world);
      if (uploads > 1) this.tell({ type: "note", message: "A clip starts from its newest frame here; jinn play reads all of it." });
      this.begin({ tokens: await this.model.encode(pixels), pixels }, seed);
      this.wake();
    } catch (error) {
      this.tell({ type: "error", message: error.message });
    }
  }

  begin(prompt, seed) {
    this.pressed = null;
    this.request = async () => {
      const frame = await this.model.start(prompt.tokens, seed);
      Object.assign(this, { prompt, history: new History(frame, HISTORY_BYTES) });
      if (prompt.pixels) this.present("prompt", { pixels: prompt.pixels, modelMs: 0 });
      return ["start", frame];
    };
  }

  apply(changes) {
    const { doubt, look_ahead } = { ...this.settings, ...changes };
    if (doubt !== this.settings.doubt || !look_ahead) this.forgetAhead();
    Object.assign(this.settings, changes);
  }

  forgetAhead() {
    this.ahead.clear();
    this.branches = null;
  }

  /** The action to play next; null: the world waits. */
  nextAction() {
    const { history, held, pressed, settings } = this;
    if (!history) return null;
    return pressed !== null || settings.paused ? pressed : (held ?? settings.idle);
  }

  /** Do what there is to do, the most urgent first, for as long as the page is open. */
  async run() {
    for (let due = 0; ; ) {
      try {
        due = await this.turn(due);
      } catch (error) {
        this.history = null;
        this.forgetAhead();
        this.tell({ type: "error", message: `The model failed (${error.message}): start again or reload the page.` });
      }
      await breathe();
    }
  }

  /** Show the frame that is due, or use the time until then; returns when the next frame is due. */
  async turn(due) {
    const turn = performance.now();
    const beat = 1000 / this.settings.fps;
    // A key that goes down does not wait for the beat, up to the highest pace.
    const early = this.pressed === null ? 0 : beat - 1000 / this.world.fps_range[1];
    const wait = this.nextAction() === null ? Infinity : due - early - turn;
    if (this.request || wait <= 0) {
      await this.play();
      return (due <= turn && turn < due + beat / 2 ? due : turn) + beat;
    }
    if (!(await this.useTime(wait))) await this.pause(wait);
    return due;
  }

  pause(milliseconds) {
    return new Promise((resolve) => {
      this.wake = resolve;
      if (milliseconds < Infinity) setTimeout(resolve, milliseconds);
    });
  }

  /** Compute and show the frame whose turn it is. */
  async play() {
    const { request, keyId: key } = this;
    const action = this.nextAction();
    if (request) {
      this.request = null;
      this.forgetAhead();
      const [kind, frame] = await request();
      return this.present(kind, frame, { key });
    }
    this.pressed = null;
    const { doubt } = this.settings; // it may change while the frame is computed
    const known = this.ahead.get(action);
    const frame = known ?? (await this.compute(this.history.now, action));
    this.forgetAhead();
    this.history.add({ action, doubt }, frame);
    this.present("next", frame, { action, key, ready: Boolean(known) });
  }

  async compute({ state }, action, doubt = this.settings.doubt) {
    const frame = await this.model.next(state, action, doubt);
    this.modelMs = frame.modelMs;
    return frame;
  }

  async goBack(step) {
    const { history } = this;
    if (step < history.step) {
      let at = history.cachedBefore(step);
      let frame = history.cache.get(at);
      for (; at < step; at += 1) frame = await this.compute(frame, history.inputs[at].action, history.inputs[at].doubt);
      history.goBack(step, frame);
    }
    return ["back", history.now];
  }

  /** Compute one frame of a what-if or ahead of the player, if there is time for it; returns whether it did. */
  async useTime(milliseconds) {
    const { history, ahead, settings } = this;
    if (!history || milliseconds < SPARE * this.modelMs) return false;
    if (this.branches && !(await this.branches.next()).done) return true;
    this.branches = null;
    if (!settings.look_ahead) return false;
    // The likeliest come first: the action that is next as things are, the last one, and the idle one.
    const likely = [this.nextAction(), history.inputs.at(-1)?.action, settings.idle, ...Array(this.world.actions).keys()];
    const action = likely.find((wanted) => wanted !== null && wanted !== undefined && !ahead.has(wanted));
    if (action === undefined) return false;
    ahead.set(action, await this.compute(history.now, action));
    return true;
  }

  /** Show the `depth` frames that each action would lead to, were it held from now on: one each time that it is asked. */
  async *whatIf(depth) {
    const { history, ahead, world } = this;
    const frames = Array(world.actions).fill(history.now);
    const { step } = history;
    for (let i = 1; i <= depth; i += 1) {
      for (const action of frames.keys()) {
        const frame = (i === 1 && ahead.get(action)) || (await this.compute(frames[action], action));
        if (i === 1) ahead.set(action, frame);
        frames[action] = frame;
        this.present("what if", frame, { action, step: step + i });
        yield;
      }
    }
  }

  present(kind, { pixels, modelMs }, { action = -1, key = this.keyId, step = this.history.step, ready = false } = {}) {
    // A copy: the frame may be in the history, and is handed over.
    this.show({ kind, ready, action, key, step, modelMs, pixels: pixels.slice() });
  }
}
