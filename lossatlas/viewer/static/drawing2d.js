// Drawing on a flat canvas: frames, lines, dots. All sizes are in CSS pixels; `fit` sets the canvas up for the screen's own.

import { cornersOf } from "./marks.js";
import { pixelRatio } from "./resolution.js";

export const FONT = "11px system-ui, sans-serif";

/** Make a canvas as large as it is shown; return [context, width, height] in CSS pixels. */
export function fit(canvas) {
  const ratio = pixelRatio(3);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

/** A frame {left, top, width, height} with ticks; xs and ys are lists of [share, label]. */
export function drawFrame(context, frame, theme, xs, ys, labels = {}) {
  const { left, top, width, height } = frame;
  context.strokeStyle = theme.frame;
  context.fillStyle = theme.text;
  context.lineWidth = 1;
  context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
  context.font = FONT;
  drawTicks(context, frame, xs, ys);
  context.textAlign = "center";
  if (labels.x) {
    context.textBaseline = "bottom";
    context.fillText(labels.x, left + width / 2, top + height + 34);
  }
  if (labels.y) writeUpwards(context, labels.y, left - 42, top + height / 2);
}

function drawTicks(context, { left, top, width, height }, xs, ys) {
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const [share, label] of xs) {
    const x = left + share * width;
    line(context, x, top + height, x, top + height + 4);
    context.fillText(label, x, top + height + 6);
  }
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [share, label] of ys) {
    const y = top + (1 - share) * height;
    line(context, left - 4, y, left, y);
    context.fillText(label, left - 6, y);
  }
}

function writeUpwards(context, words, x, y) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.textBaseline = "middle";
  context.fillText(words, 0, 0);
  context.restore();
}

export function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

export function dot(context, x, y, radius, fill, edge) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  if (edge) {
    context.lineWidth = 1.5;
    context.strokeStyle = edge;
    context.stroke();
  }
}

/** A mark in a colour with a white rim within a dark one, which stands out on every ground. */
export function drawMark(context, mark, place, radius, fill) {
  trace(context, cornersOf(mark, place, radius));
  context.closePath();
  context.lineJoin = "round";
  for (const [style, width] of [
    ["#262626", 4.5],
    ["#ffffff", 2.5],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
  context.fillStyle = fill;
  context.fill();
}

export function cross(context, x, y, size, color) {
  context.strokeStyle = color;
  context.lineWidth = 1.5;
  line(context, x - size, y - size, x + size, y + size);
  line(context, x - size, y + size, x + size, y - size);
}

export function trace(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points.slice(1)) context.lineTo(...point);
}

/** A line through points [[x, y], ...] in pixels, with a lighter seam so that it stands out on every ground. */
export function polyline(context, points, color, width, seam) {
  if (points.length < 2) return;
  context.lineJoin = context.lineCap = "round";
  for (const [style, wide] of seam
    ? [
        [seam, width + 2],
        [color, width],
      ]
    : [[color, width]]) {
    trace(context, points);
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.stroke();
  }
}
