// The uniform noise that a frame is sampled with, bit for bit that of `frame_noise` in models/maskgit.py: PyTorch's
// generator on a CPU is a Mersenne Twister (Matsumoto and Nishimura 1998), and a float has 24 bits of each number.

const N = 624;
const M = 397;
const UPPER = 0x80000000;
const LOWER = 0x7fffffff;

/** The state of a Mersenne Twister that begins with a seed. */
function seeded(seed) {
  const state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i += 1) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  return state;
}

function twist(state) {
  for (let i = 0; i < N; i += 1) {
    const y = (state[i] & UPPER) | (state[(i + 1) % N] & LOWER);
    state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}

function temper(y) {
  y ^= y >>> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return (y ^ (y >>> 18)) >>> 0;
}

/** `count` numbers in [0, 1) for a frame of a roll-out: a function of its seed and its number, and of nothing else. */
export function frameNoise(seed, frame, count) {
  // Of PyTorch's 64 bits of a seed its generator reads the lower 32.
  const state = seeded(Math.imul(seed >>> 0, 0x9e3779b1) + Math.imul(frame, 0x85ebca77));
  const noise = new Float32Array(count);
  for (let i = 0; i < count; i += 1) {
    if (i % N === 0) twist(state);
    noise[i] = (temper(state[i % N]) & 0xffffff) * 2 ** -24;
  }
  return noise;
}
