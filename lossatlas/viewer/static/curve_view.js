// A curve: the values along a direction, and the optimizers on it.

import { drawChart } from "./chart.js";
import { cross, dot } from "./drawing2d.js";
import { evaluate } from "./interpolant.js";
import { pointOf } from "./race.js";
import { interpolantOf, toPlane } from "./surface.js";

const PIECES = 600;

export class CurveView {
  constructor(app, surface, number, canvas) {
    this.app = app;
    this.surface = surface;
    this.number = number;
    this.canvas = canvas;
    this.chart = null;
  }

  rebuild() {} // nothing is kept

  /** The rectangle of the chart on the canvas. */
  frame() {
    return this.chart?.frame;
  }

  draw() {
    const { model, theme } = this.app;
    const shown = this.shownFields();
    this.chart = drawChart(this.canvas, theme, this.curves(shown), {
      log: model.state.scale !== "linear",
      xLabel: "coordinate along the direction",
      yLabel: shown.length > 1 ? `${model.title(shown[0])}; dashed: ${model.title(shown[1])}` : model.title(shown[0]),
      range: model.rangeOf(shown),
      guides: model.hover ? [[model.hover[0], theme.accent]] : [],
    });
    if (!this.chart) return;
    this.drawHoles();
    this.drawRace();
  }

  /** The height and, if it is a loss, the other losses. */
  shownFields() {
    const { fields, state } = this.app.model;
    const losses = fields.map((f) => f.name).filter((name) => name.endsWith("_loss"));
    return [state.height, ...(losses.includes(state.height) ? losses.filter((name) => name !== state.height) : [])];
  }

  curves(shown) {
    const { model, theme } = this.app;
    const curves = shown.map((name, n) => {
      const look = n ? { color: theme.text, width: 1.2, dash: [5, 4] } : { color: theme.accent, width: 1.8, dash: [] };
      return { points: this.pointsOf(name), ...look };
    });
    if (model.state.wire) {
      const computed = this.cells().filter((_, k) => !this.surface.interpolated[k]);
      curves.push({ points: computed, color: theme.accent, width: 0, marks: true });
    }
    return curves;
  }

  /** Points [x, value] of a field along the whole line. */
  pointsOf(name) {
    const own = interpolantOf(this.surface, name);
    return Array.from({ length: PIECES + 1 }, (_, k) => {
      const [a] = toPlane(this.surface, k / PIECES, 0);
      const found = evaluate(own, a, 0);
      return [a, found ? found[0] : NaN];
    });
  }

  /** Points [x, value] of the cells. */
  cells() {
    const { values } = this.surface.fields[this.app.model.state.height];
    return this.surface.x.map((a, k) => [a, values[k]]);
  }

  /** Crosses at cells that are not finite. */
  drawHoles() {
    const { context, toX, frame } = this.chart;
    this.cells().forEach(([a, v], k) => {
      if (this.surface.done[k] && !Number.isFinite(v)) cross(context, toX(a), frame.top + 8, 3.5, "#d92b20");
    });
  }

  drawRace() {
    const { race, model } = this.app;
    const { context, toX, toY } = this.chart;
    const own = interpolantOf(this.surface, model.state.height);
    const mark = (a, radius, fill, edge) => {
      const found = evaluate(own, a, 0);
      if (found && Number.isFinite(found[0])) dot(context, toX(a), toY(found[0]), radius, fill, edge);
    };
    for (const run of race.shownOn(this.number)) mark(pointOf(run)[0], 5.5, run.optimizer.color, "#ffffff");
    mark(model.state.x, 4, "rgba(255,255,255,0.9)", "#222222");
  }
}
