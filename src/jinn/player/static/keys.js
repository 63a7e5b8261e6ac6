// Which key presses which button. Every button has a key of its own (1 to 9, 0, then letters, or what the player
// chose); where the names of the buttons speak of directions, the arrows and the space bar press them too, also
// two at once.

const LETTERS = "qwetyuioasdghjklzxcvbn"; // without those of the page: f, m, p and r
const ARROWS = {
  ArrowLeft: ["left"],
  ArrowRight: ["right"],
  ArrowUp: ["up", "jump"],
  ArrowDown: ["down"],
  " ": ["jump", "up"],
};
const CAPS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "space" };

/** The keys of `count` buttons if the player has chosen none. */
export const usualKeys = (count) => [..."1234567890", ...LETTERS].slice(0, count);

/** The one name of a keyboard event's key: digits go by place, for French ones need Shift. */
export function keyOf(event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (digit) return digit[1];
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

/**
 * The keys of buttons called `names`, `own` being the key of each.
 *
 * A press is {button} or {word}; a word is a direction, which may combine with others.
 */
export function bindKeys(own, names) {
  const directions = Object.values(ARROWS).flat();
  const words = own.map((_, k) =>
    new Set(names[k].toLowerCase().split(/[^a-z]+/).filter((word) => directions.includes(word))));
  const known = new Set(words.flatMap((set) => [...set]));

  const wordOf = (key) => (own.includes(key) ? null : ARROWS[key]?.find((word) => known.has(word)));
  // Of the buttons with just these directions the one with the shortest name: "up" before "up slowly".
  const exactly = (wanted) => [...words.keys()]
    .filter((k) => words[k].size === wanted.size && [...wanted].every((w) => words[k].has(w)))
    .reduce((best, k) => (best < 0 || names[k].length < names[best].length ? k : best), -1);

  return {
    own,

    /** What a key presses, or null. */
    press(key) {
      const button = own.indexOf(key);
      if (button >= 0) return { button };
      const word = wordOf(key);
      return word ? { word } : null;
    },

    /** The button that a list of presses means, the latest last; null if it is empty. */
    resolve(presses) {
      const last = presses.at(-1);
      if (!last) return null;
      // Two fingers on "left" and "up" mean "up-left", as two arrow keys do.
      const all = presses.map(({ word, button }) => (word ? [word] : [...words[button]]));
      const together = all.every((some) => some.length > 0) ? exactly(new Set(all.flat())) : -1;
      const alreadyAlone = last.button !== undefined && (presses.length === 1 || exactly(words[last.button]) === together);
      if (together >= 0 && !alreadyAlone) return together;
      if (last.button !== undefined) return last.button;
      const alone = exactly(new Set([last.word]));
      return alone >= 0 ? alone : words.findIndex((set) => set.has(last.word));
    },

    /** The key caps to print on button k; for a name of two directions, a key for each. */
    caps(k) {
      const arrows = [...words[k]].map((word) => Object.keys(ARROWS).filter((key) => wordOf(key) === word));
      const shown = arrows.length === 1 ? arrows[0] : arrows.map(([key]) => key);
      const first = exactly(words[k]) === k; // of buttons that go one way, the arrows press one
      return [capOf(own[k]), ...(first ? shown.map(capOf) : [])].filter(Boolean);
    },

    usesArrows: known.size > 0,
  };
}

/** What is printed on a key. */
export const capOf = (key) => CAPS[key] ?? (key?.length === 1 ? key.toUpperCase() : key);
