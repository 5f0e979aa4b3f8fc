// Charts of curves.

import { dot, drawFrame, FONT, fit, line, polyline } from "./drawing2d.js";
import { text } from "./numbers.js";
import { makeScale, roundSteps, ticks } from "./scale.js";

/**
 * A chart: curves [{points: [[x, y]], color, width, dash, marks}] on a linear x and a linear or logarithmic y axis.
 * Returns {toX, toY, frame}, or null where nothing is finite. guides: vertical lines [x, colour].
 */
export function drawChart(canvas, theme, curves, { log, xLabel, yLabel, range = null, guides = [], empty = "" }) {
  const [context, width, height] = fit(canvas);
  const finite = (v) => Number.isFinite(v) && (!log || v > 0);
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { points } of curves) {
    for (const [x, y] of points) {
      if (!finite(y)) continue;
      x0 = Math.min(x0, x);
      x1 = Math.max(x1, x);
      y0 = Math.min(y0, y);
      y1 = Math.max(y1, y);
    }
  }
  const frame = { left: 58, top: 10, width: width - 70, height: height - 52 };
  if (!(x0 < Infinity) || frame.width < 20 || frame.height < 20) {
    context.fillStyle = theme.text;
    context.font = FONT;
    context.textAlign = "center";
    context.fillText(empty, width / 2, height / 2);
    return null;
  }
  if (range) [y0, y1] = [Math.min(y0, range[0]), Math.max(y1, range[1])];
  if (x1 === x0) x1 = x0 + 1;
  if (y1 - y0 <= 1e-9 * Math.max(Math.abs(y0), Math.abs(y1))) [y0, y1] = log ? [y0 / 2, y1 * 2] : [y0 - 0.5, y1 + 0.5];
  const scale = makeScale(log ? "log" : "linear", y0, y1);
  const pad = 0.05;
  const toX = (x) => frame.left + ((x - x0) / (x1 - x0)) * frame.width;
  const share = (y) => pad + (1 - 2 * pad) * scale.height(y);
  const toY = (y) => frame.top + (1 - share(y)) * frame.height;
  const xs = roundSteps(x0, x1, Math.max(2, Math.floor(frame.width / 70))).map((v) => [(v - x0) / (x1 - x0), text(v)]);
  const ys = ticks(scale, Math.max(2, Math.floor(frame.height / 34))).map((v) => [share(v), text(v, 3)]);
  drawFrame(context, frame, theme, xs, ys, { x: xLabel, y: yLabel });
  context.save();
  context.beginPath();
  context.rect(frame.left, frame.top, frame.width, frame.height);
  context.clip();
  for (const [x, color] of guides) {
    context.strokeStyle = color;
    context.lineWidth = 1;
    line(context, toX(x), frame.top, toX(x), frame.top + frame.height);
  }
  for (const { points, color, width: wide = 1.5, dash = [], marks = false } of curves) {
    context.setLineDash(dash);
    let run = [];
    for (const [x, y] of [...points, [NaN, NaN]]) {
      if (finite(y)) run.push([toX(x), toY(y)]);
      else {
        if (wide > 0) polyline(context, run, color, wide);
        run = [];
      }
    }
    context.setLineDash([]);
    if (marks) for (const [x, y] of points) if (finite(y)) dot(context, toX(x), toY(y), 3, color, theme.ground);
  }
  context.restore();
  return { toX, toY, frame, x0, x1, context };
}
