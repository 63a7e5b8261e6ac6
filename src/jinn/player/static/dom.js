// Short names for what the page does with its elements.

export const $ = (id) => document.getElementById(id);

/** A new element with some properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Whether the page is used with fingers. */
export const touch = matchMedia("(pointer: coarse)").matches;
