// The colour bar on the scene, which all surfaces share.

import { fit } from "./drawing2d.js";
import { element } from "./elements.js";
import { text } from "./numbers.js";
import { BAR_HEIGHT, barsOf, drawBar } from "./value_bar.js";

const SIDE = 16; // pixels that are free beside the bar, for half a label

/** Returns {root, update()}. */
export function colourBarOf(app) {
  const { model } = app;
  const canvas = element("canvas", { role: "img" });
  const root = element("div", { class: "bar", hidden: model.flat }, canvas);

  function update() {
    const bars = barsOf(model);
    if (!bars.length) return;
    const about = bars.map(({ title, scale }) => `${title}: from ${text(scale.low, 3)} to ${text(scale.high, 3)}`).join("; ");
    if (canvas.getAttribute("aria-label") !== about) canvas.setAttribute("aria-label", about);
    canvas.style.height = `${bars.length * BAR_HEIGHT}px`;
    const [context, width] = fit(canvas);
    if (width < 4 * SIDE) return;
    bars.forEach((bar, k) => {
      drawBar(context, { left: SIDE, top: k * BAR_HEIGHT, width: width - 2 * SIDE }, bar, app.theme);
    });
  }

  return { root, update };
}
