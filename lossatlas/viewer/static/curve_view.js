// Curves: the values of all surfaces along their directions in one chart, losses over accuracies, and the optimizers on them.

import { drawChart } from "./chart.js";
import { curveColour } from "./colours.js";
import { cross, dot, drawMark } from "./drawing2d.js";
import { evaluate } from "./interpolant.js";
import { pointOf } from "./race.js";
import { interpolantOf, toPlane } from "./surface.js";

const PIECES = 600;
const UPPER = 0.6; // share of the height, of the upper one of two charts
const DASHES = [[], [6, 4], [2, 3]]; // one for each field of a chart

const KINDS = [
  { title: "loss", holds: (name) => name.endsWith("_loss") },
  { title: "accuracy (%)", holds: (name) => name.endsWith("_acc") },
];

export class CurveView {
  constructor(app, canvas) {
    this.app = app;
    this.surfaces = app.model.surfaces;
    [this.surface] = this.surfaces; // whose coordinates a pointer has
    this.canvas = canvas;
    this.chart = null; // that of the height
  }

  rebuild() {} // nothing is kept

  /** The rectangle of the chart on the canvas. */
  frame() {
    return this.chart?.frame;
  }

  /** The charts: lists of fields, the losses over the accuracies; the height alone if it is neither. */
  charts() {
    const { fields, state } = this.app.model;
    const names = fields.map((f) => f.name);
    const found = KINDS.map(({ title, holds }) => ({ title, names: names.filter(holds) })).filter((kind) => kind.names.length);
    if (found.some((kind) => kind.names.includes(state.height))) return found;
    return [{ title: this.app.model.title(state.height), names: [state.height] }];
  }

  draw() {
    const charts = this.charts();
    this.chart = null;
    charts.forEach((chart, n) => {
      const share = charts.length === 1 ? 1 : n ? 1 - UPPER : UPPER;
      const drawn = this.drawOne(chart, { top: n ? UPPER : 0, share }, n === charts.length - 1);
      if (!drawn || !chart.names.includes(this.app.model.state.height)) return;
      this.chart = drawn;
      this.drawHoles();
      this.drawRace();
    });
  }

  drawOne({ title, names }, part, last) {
    const { model, theme } = this.app;
    const drawn = names.map((name) => model.title(name));
    return drawChart(this.canvas, theme, this.curves(names), {
      log: model.state.scale !== "linear" && names.every((name) => name.endsWith("_loss") || name === model.state.height),
      xLabel: last ? model.along : "",
      yLabel: drawn.length > 1 ? title : drawn[0],
      range: model.rangeOf(names),
      guides: model.hover ? [[model.hover[0], theme.accent]] : [],
      part,
    });
  }

  curves(names) {
    const { height, wire } = this.app.model.state;
    return this.surfaces.flatMap((surface, k) => {
      const curves = names.map((name, n) => ({
        points: pointsOf(surface, name),
        color: curveColour(k),
        width: name === height ? 2.4 : 1.5,
        dash: DASHES[n % DASHES.length],
      }));
      if (wire && names.includes(height)) {
        const computed = cellsOf(surface, height).filter((_, n) => !surface.interpolated[n]);
        curves.push({ points: computed, color: curveColour(k), width: 0, marks: true });
      }
      return curves;
    });
  }

  /** The titles of the fields that share a dash: a list for each dash. */
  titlesOfDashes() {
    const charts = this.charts();
    const most = Math.max(...charts.map(({ names }) => names.length));
    const title = (name) => this.app.model.title(name);
    return Array.from({ length: most }, (_, n) => charts.flatMap(({ names }) => names.slice(n, n + 1).map(title)));
  }

  /** Crosses at cells that are not finite. */
  drawHoles() {
    const { context, toX, frame } = this.chart;
    for (const surface of this.surfaces) {
      cellsOf(surface, this.app.model.state.height).forEach(([a, v], k) => {
        if (surface.done[k] && !Number.isFinite(v)) cross(context, toX(a), frame.top + 8, 3.5, "#d92b20");
      });
    }
  }

  drawRace() {
    const { race, model } = this.app;
    const { context, toX, toY } = this.chart;
    this.surfaces.forEach((surface, number) => {
      const own = interpolantOf(surface, model.state.height);
      const at = (a) => {
        const found = evaluate(own, a, 0);
        return found && Number.isFinite(found[0]) ? [toX(a), toY(found[0])] : null;
      };
      for (const run of race.shownOn(number)) {
        const place = at(pointOf(run)[0]);
        if (place) drawMark(context, run.optimizer.mark, place, 7, run.optimizer.color);
      }
      const start = model.showsStart && at(model.state.x);
      if (start) dot(context, ...start, 4, "rgba(255,255,255,0.9)", "#222222");
    });
  }
}

/** Points [x, value] of a field along the whole line. */
function pointsOf(surface, name) {
  const own = interpolantOf(surface, name);
  return Array.from({ length: PIECES + 1 }, (_, k) => {
    const [a] = toPlane(surface, k / PIECES, 0);
    const found = evaluate(own, a, 0);
    return [a, found ? found[0] : NaN];
  });
}

/** Points [x, value] of the cells. */
function cellsOf(surface, name) {
  const { values } = surface.fields[name];
  return surface.x.map((a, k) => [a, values[k]]);
}
