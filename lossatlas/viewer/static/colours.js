// Colours: from a colour map, from a hexadecimal number, and those of surfaces that lie over each other.

/** The names of the maps of surfaces in one scene. */
export const OVERLAID = ["Blues", "Oranges", "Greens", "Purples"];
export const WHITE = [1, 1, 1];

/** The colour [r, g, b] of a height on a map of bytes (256 x 3). */
export function colourOf(map, height) {
  const k = 3 * Math.max(0, Math.min(255, Math.round(height * 255)));
  return [map[k], map[k + 1], map[k + 2]];
}

/** The colour [r, g, b], 0 to 1, of a map at a height. */
export const inkOf = (map, height) => colourOf(map, height).map((byte) => byte / 255);

/** The colour [r, g, b], 0 to 1, of "#rrggbb". */
export const byteColour = (hex) => [1, 3, 5].map((k) => Number.parseInt(hex.slice(k, k + 2), 16) / 255);

const CURVES = ["#3b7dc4", "#c9701a", "#2f9153", "#9165c7"]; // at least 3 to 1 on light and dark ground

/** The colour of the curves of a surface. */
export const curveColour = (number) => CURVES[number % CURVES.length];
