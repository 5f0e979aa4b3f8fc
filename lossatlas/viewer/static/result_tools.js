// The results of the race: the loss against the step, and where each optimizer is.

import { drawChart } from "./chart.js";
import { cell, chartBox, element, group, heads, markSwatch, table, tableRow } from "./elements.js";
import { text } from "./numbers.js";
import { pointOf } from "./race.js";

const ENDS = {
  edge: "left the surface at its edge",
  hole: "reached cells without a value",
  zero: "reached values without a logarithm",
  diverged: "diverged",
};
const DASHES = [[], [7, 5], [2, 5]]; // one for each surface
const STROKES = ["stroke", "stroke dashed", "stroke dotted"]; // the same in the key

/** Returns {root, update()}. */
export function resultTools(app) {
  const canvas = element("canvas", { role: "img", "aria-label": "Value against step" });
  const body = element("tbody");
  const head = tableRow(...heads(["Optimizer", "Step", "Where", "Value", "End"]));
  const root = group("Where each optimizer ends", {}, chartBox(canvas), keyOf(app.model), table(head, body, { id: "results" }));
  const update = () => {
    drawLosses(canvas, app);
    body.replaceChildren(...app.model.surfaces.flatMap((surface, number) => rowsOf(app, surface, number)));
  };
  return { root, update };
}

/** What the kinds of lines mean, where there are several surfaces. */
function keyOf({ surfaces }) {
  const names = surfaces.map(({ label }, k) => {
    const stroke = element("span", { class: STROKES[k % STROKES.length], "aria-hidden": "true" });
    return element("span", {}, stroke, label);
  });
  return element("p", { class: "key", hidden: surfaces.length < 2 }, ...names);
}

function drawLosses(canvas, { model, race, theme }) {
  const { state } = model;
  const curves = model.surfaces.flatMap((_, number) =>
    race.shownOn(number).map((run) => ({
      points: Array.from(run.losses.subarray(0, run.shown + 1), (loss, k) => [k, loss]),
      color: run.optimizer.color,
      width: 2,
      seam: theme.frame,
      dash: DASHES[number % DASHES.length],
    })),
  );
  const positive = curves.every(({ points }) => points.every(([, loss]) => loss > 0));
  drawChart(canvas, theme, curves, {
    log: positive && state.scale !== "linear",
    xLabel: "step",
    yLabel: model.title(state.height),
    empty: model.noRace || "Play, or click on the surface.",
  });
}

/** The rows of a surface, the best optimizer first. */
function rowsOf({ model, race }, surface, number) {
  const sign = model.field().better;
  const runs = [...race.shownOn(number)].sort((a, b) => sign * (a.losses[a.shown] - b.losses[b.shown]));
  const rows = runs.map((run) => rowOf(run, surface));
  if (rows.length && model.surfaces.length > 1) {
    rows.unshift(element("tr", { class: "of" }, element("th", { colspan: 5, scope: "rowgroup" }, surface.label)));
  }
  return rows;
}

function rowOf(run, surface) {
  const k = run.shown;
  const [a, b] = pointOf(run);
  const words = [
    String(k),
    surface.flat ? text(a, 3) : `(${text(a, 3)}, ${text(b, 3)})`,
    text(run.losses[k]),
    k >= run.steps ? ENDS[run.end] || "all steps made" : "on its way",
  ];
  const name = cell(markSwatch(run.optimizer.color, run.optimizer.mark), " ", run.optimizer.title);
  return tableRow(name, ...words.map((each) => cell(each)));
}
