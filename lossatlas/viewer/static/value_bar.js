// The bar that says which colour is which value: with ticks, the name of the field and that of its scale.

import { colourOf, OVERLAID } from "./colours.js";
import { FONT, line } from "./drawing2d.js";
import { text } from "./numbers.js";
import { ticks } from "./scale.js";
import { SCALES } from "./scale_names.js";

const THICK = 12;
const STOPS = 64; // colours between which the bar is interpolated
export const BAR_HEIGHT = 52; // with its title and its ticks

/** The bars of the present state: [{title, map, scale}]; none of curves, one for each surface in one scene. */
export function barsOf(model) {
  if (model.flat) return [];
  const { state } = model;
  const colour = model.colour();
  const scale = colour?.scale || model.scale();
  const title = `${model.title(colour?.name || state.height)}, ${SCALES[scale.kind]}`;
  if (!state.overlay) return [{ title, map: model.map(), scale }];
  return model.surfaces.map(({ label }, k) => ({
    title: `${label}: ${title}`,
    map: model.maps[OVERLAID[k % OVERLAID.length]],
    scale: model.scale(),
  }));
}

/** Draw a bar, as wide as `width`, into a rectangle of the height BAR_HEIGHT. */
export function drawBar(context, { left, top, width }, { title, map, scale }, theme) {
  const below = top + 18 + THICK;
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.font = `600 ${FONT}`;
  context.fillStyle = theme.strong;
  context.fillText(title, left, top + 11, width);
  const colours = context.createLinearGradient(left, 0, left + width, 0);
  for (let k = 0; k <= STOPS; k++) colours.addColorStop(k / STOPS, `rgb(${colourOf(map, k / STOPS).join(",")})`);
  context.fillStyle = colours;
  context.fillRect(left, top + 18, width, THICK);
  context.strokeStyle = theme.frame;
  context.lineWidth = 1;
  context.font = FONT;
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const value of ticks(scale, Math.max(2, Math.floor(width / 60)))) {
    const x = left + Math.min(1, Math.max(0, scale.height(value))) * width;
    line(context, x, below, x, below + 4);
    context.fillStyle = theme.text;
    context.fillText(text(value, 3), x, below + 6);
  }
}
