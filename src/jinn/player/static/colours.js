// Names of colours, for those who do not see them.

const HUES = ["red", "orange", "yellow", "lime", "green", "emerald", "cyan", "azure", "blue", "violet", "magenta", "rose"];

/** The name of a colour such as "#2a1019": "very dark red". */
export function nameOf(colour) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255);
  const [low, high] = [Math.min(red, green, blue), Math.max(red, green, blue)];
  const lightness = (low + high) / 2;
  if (lightness < 0.04) return "black";
  if (lightness > 0.96) return "white";
  const shade = lightness < 0.15 ? "very dark " : lightness < 0.35 ? "dark " : lightness > 0.85 ? "very light " : lightness > 0.65 ? "light " : "";
  const spread = high - low;
  const saturation = spread / (1 - Math.abs(2 * lightness - 1));
  if (saturation < 0.12) return `${shade}grey`;
  const sixth = high === red ? (green - blue) / spread : high === green ? 2 + (blue - red) / spread : 4 + (red - green) / spread;
  return `${shade}${saturation < 0.4 ? "greyish " : ""}${HUES[(Math.round(2 * sixth) + 12) % 12]}`;
}
