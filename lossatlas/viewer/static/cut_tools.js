// The cut through the start: the values along it and the second derivative at the start.

import { drawChart } from "./chart.js";
import { curveColour } from "./colours.js";
import { bend, cutThrough } from "./cut.js";
import { chartBox, element, group, hint, row } from "./elements.js";
import { text } from "./numbers.js";

/** Returns {root, update()}. */
export function cutTools(app) {
  const { model } = app;
  const canvas = element("canvas", { role: "img", "aria-label": "The values along a line through the start" });
  const words = hint("", { id: "cut-words" });
  const title = model.flat ? "Slope and curvature at the start" : "A cut through the start";
  const root = group(title, {}, ...(model.flat ? [] : choices(app)), chartBox(canvas), words);
  const update = () => {
    drawCut(canvas, app);
    words.textContent = `${curvatures(model).join("; ")} (of the value itself, whatever the scale).`;
  };
  return { root, update };
}

function choices({ controls, model, onNewDrawing }) {
  const turned = () => {
    model.state.cut = true;
    onNewDrawing();
  };
  return [
    row(controls.checkbox("cut", "show it", onNewDrawing)),
    controls.range(
      "angle",
      "Angle",
      () => [-90, 90, 1],
      turned,
      (degrees) => `${degrees}°`,
    ),
  ];
}

function drawCut(canvas, { model, theme }) {
  const { height, x, y, angle, scale } = model.state;
  const curves = model.surfaces.map((surface, k) => ({
    points: cutThrough(surface, height, [x, y], angle).map(({ r, value }) => [r, value]),
    color: curveColour(k),
    width: 1.8,
  }));
  drawChart(canvas, theme, curves, {
    log: scale !== "linear",
    xLabel: "distance from the start along the cut",
    yLabel: model.title(height),
    guides: [[0, theme.frame]],
    empty: "nothing is known along this line",
  });
}

/** The second derivative on each surface, in words. */
function curvatures({ surfaces, state }) {
  return surfaces.map((surface) => {
    const value = bend(surface, state.height, [state.x, state.y], state.angle);
    const name = surfaces.length > 1 ? `${surface.label}: ` : "";
    const found = Number.isFinite(value) ? `along it at the start ${text(value, 3)}` : "unknown";
    return `${name}second derivative ${found}`;
  });
}
