// Charts of curves.

import { dot, drawFrame, FONT, fit, line, polyline } from "./drawing2d.js";
import { text } from "./numbers.js";
import { makeScale, roundSteps, ticks } from "./scale.js";

const PAD = 0.05; // share of the height that stays free above and below the curves

/** The part of a canvas that a chart takes: all of it. */
const WHOLE = { top: 0, share: 1 };

/**
 * A chart: curves [{points: [[x, y]], color, width, dash, marks, seam}] on a linear x and a linear or logarithmic y axis.
 * Returns {context, frame, toX, toY}; null if no point can be drawn, which `empty` says. range: [low, high] that the y axis
 * includes. guides: vertical lines [x, colour]. part: {top, share} of the canvas's height, for charts one over the other;
 * only the first of them clears the canvas.
 */
export function drawChart(canvas, theme, curves, { log, xLabel, yLabel, range = null, guides = [], empty = "", part = WHOLE }) {
  const [context, width, height] = part.top > 0 ? sizeOf(canvas) : fit(canvas);
  const frame = { left: 58, top: part.top * height + 10, width: width - 70, height: part.share * height - (xLabel ? 52 : 34) };
  const drawable = (v) => Number.isFinite(v) && (!log || v > 0);
  const ends = endsOf(curves, drawable, range, log);
  if (!ends || frame.width < 20 || frame.height < 20) {
    context.fillStyle = theme.text;
    context.font = FONT;
    context.textAlign = "center";
    context.fillText(empty, width / 2, height / 2);
    return null;
  }
  const chart = { context, frame, ...axesOf(ends, frame, log) };
  drawFrame(context, frame, theme, xLabel ? chart.xs : chart.xs.map(([share]) => [share, ""]), chart.ys, { x: xLabel, y: yLabel });
  context.save();
  context.beginPath();
  context.rect(frame.left, frame.top, frame.width, frame.height);
  context.clip();
  for (const guide of guides) drawGuide(chart, guide);
  for (const curve of curves) drawCurve(chart, curve, drawable, theme);
  context.restore();
  return chart;
}

/** What `fit` returns, of a canvas that is set up already. */
const sizeOf = (canvas) => [canvas.getContext("2d"), canvas.clientWidth, canvas.clientHeight];

/** The ends [x0, x1, y0, y1] of the axes; null if no point can be drawn. */
function endsOf(curves, drawable, range, log) {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, ...(range || [Infinity, -Infinity])];
  for (const { points } of curves) {
    for (const [x, y] of points) {
      if (!drawable(y)) continue;
      [x0, x1] = [Math.min(x0, x), Math.max(x1, x)];
      [y0, y1] = [Math.min(y0, y), Math.max(y1, y)];
    }
  }
  if (x0 === Infinity) return null;
  if (x1 === x0) x1 = x0 + 1;
  if (y1 - y0 <= 1e-9 * Math.max(Math.abs(y0), Math.abs(y1))) [y0, y1] = log ? [y0 / 2, y1 * 2] : [y0 - 0.5, y1 + 0.5];
  return [x0, x1, y0, y1];
}

/** From coordinates to pixels, and the ticks as lists of [share, label]. */
function axesOf([x0, x1, y0, y1], frame, log) {
  const scale = makeScale(log ? "log" : "linear", y0, y1);
  const shareX = (x) => (x - x0) / (x1 - x0);
  const shareY = (y) => PAD + (1 - 2 * PAD) * scale.height(y);
  const xs = roundSteps(x0, x1, Math.max(2, Math.floor(frame.width / 70)));
  const ys = ticks(scale, Math.max(2, Math.floor(frame.height / 34)));
  return {
    toX: (x) => frame.left + shareX(x) * frame.width,
    toY: (y) => frame.top + (1 - shareY(y)) * frame.height,
    xs: xs.map((v) => [shareX(v), text(v)]),
    ys: ys.map((v) => [shareY(v), text(v, 3)]),
  };
}

function drawGuide({ context, frame, toX }, [x, color]) {
  context.strokeStyle = color;
  context.lineWidth = 1;
  line(context, toX(x), frame.top, toX(x), frame.top + frame.height);
}

/** A curve, broken where it cannot be drawn. A width of 0 leaves its marks alone. */
function drawCurve({ context, toX, toY }, { points, color, width = 1.5, dash = [], marks = false, seam }, drawable, theme) {
  context.setLineDash(dash);
  let run = [];
  for (const [x, y] of [...points, [NaN, NaN]]) {
    if (drawable(y)) run.push([toX(x), toY(y)]);
    else {
      if (width > 0) polyline(context, run, color, width, seam);
      run = [];
    }
  }
  context.setLineDash([]);
  if (!marks) return;
  for (const [x, y] of points) if (drawable(y)) dot(context, toX(x), toY(y), 3, color, theme.ground);
}
