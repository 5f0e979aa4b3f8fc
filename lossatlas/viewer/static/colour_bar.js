// The colour bar on the scene: the colours of all surfaces, true ticks, and the name of the scale in plain words.

import { colourOf, OVERLAID } from "./colours.js";
import { FONT, fit, line } from "./drawing2d.js";
import { element } from "./elements.js";
import { text } from "./numbers.js";
import { ticks } from "./scale.js";
import { SCALES } from "./scale_names.js";

const THICK = 12; // pixels of the bar
const SIDE = 24; // pixels that are free beside it, for half a label
const LABEL = 52; // pixels from one tick to the next, at least

/** Returns {root, update()}. */
export function colourBarOf(app) {
  const { model } = app;
  const canvas = element("canvas", { role: "img" });
  const title = element("p", { class: "bar-title" });
  const root = element("div", { class: "bar", hidden: model.flat }, title, canvas);

  function update() {
    if (model.flat) return;
    const scale = model.colour()?.scale || model.scale();
    const words = titleOf(model, scale);
    if (title.textContent !== words) title.textContent = words;
    const about = `Colours from ${text(scale.low, 3)} to ${text(scale.high, 3)}: ${words}`;
    if (canvas.getAttribute("aria-label") !== about) canvas.setAttribute("aria-label", about);
    drawBar(canvas, app.theme, scale, mapsOf(model));
  }

  return { root, update };
}

/** The field and its scale in plain words. */
function titleOf(model, scale) {
  const { colour, height } = model.state;
  const name = model.colour() ? colour : height;
  return `${model.title(name)}, ${SCALES[scale.kind]}`;
}

/** One colour map, or those of the surfaces that lie over each other. */
function mapsOf(model) {
  if (!model.state.overlay) return [model.map()];
  return model.surfaces.map((_, k) => model.maps[OVERLAID[k % OVERLAID.length]]);
}

function drawBar(canvas, theme, scale, maps) {
  const [context, width] = fit(canvas);
  const long = width - 2 * SIDE;
  if (long < 20) return;
  maps.forEach((map, n) => {
    const [top, tall] = [(n * THICK) / maps.length, THICK / maps.length];
    for (let k = 0; k < long; k++) {
      context.fillStyle = `rgb(${colourOf(map, k / (long - 1)).join(",")})`;
      context.fillRect(SIDE + k, top, 1.5, tall);
    }
  });
  context.font = FONT;
  context.textAlign = "center";
  context.textBaseline = "top";
  context.fillStyle = theme.strong;
  context.strokeStyle = theme.text;
  context.lineWidth = 1;
  for (const value of ticks(scale, Math.max(2, Math.floor(long / LABEL)))) {
    const x = SIDE + scale.height(value) * long;
    line(context, x, THICK, x, THICK + 4);
    context.fillText(text(value, 3), x, THICK + 6);
  }
}
