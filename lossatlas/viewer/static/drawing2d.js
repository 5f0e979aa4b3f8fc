// Drawings on a flat canvas: a plane from above, and charts of curves. All sizes are in CSS pixels; `fit` sets the canvas
// up for the screen's own.

/** Make a canvas as large as it is shown, and return its context in CSS pixels with [context, width, height]. */
function fit(canvas) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
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

const FONT = "11px system-ui, sans-serif";

/** A frame with ticks: {left, top, width, height, xs, ys}; xs and ys are lists of [share, label]. */
function drawFrame(context, frame, theme, xs, ys, labels = {}) {
  const { left, top, width, height } = frame;
  context.strokeStyle = theme.frame;
  context.fillStyle = theme.text;
  context.lineWidth = 1;
  context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
  context.font = FONT;
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
  context.textAlign = "center";
  if (labels.x) {
    context.textBaseline = "bottom";
    context.fillText(labels.x, left + width / 2, top + height + 34);
  }
  if (labels.y) {
    context.save();
    context.translate(left - 42, top + height / 2);
    context.rotate(-Math.PI / 2);
    context.textBaseline = "middle";
    context.fillText(labels.y, 0, 0);
    context.restore();
  }
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function dot(context, x, y, radius, fill, edge) {
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

function cross(context, x, y, size, color) {
  context.strokeStyle = color;
  context.lineWidth = 1.5;
  line(context, x - size, y - size, x + size, y + size);
  line(context, x - size, y + size, x + size, y - size);
}

function trace(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points.slice(1)) context.lineTo(...point);
}

/** A line through points [[x, y], ...] in pixels, with a lighter seam so that it stands out on every ground. */
function polyline(context, points, color, width, seam) {
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

/** The colours of a field on a fine grid, as a canvas; cells without a value stay clear. */
function paintedField(size, sample, map, top) {
  const [nu, nv] = size;
  const canvas = document.createElement("canvas");
  canvas.width = nu;
  canvas.height = nv;
  const context = canvas.getContext("2d");
  const image = context.createImageData(nu, nv);
  for (let j = 0; j < nv; j++) {
    for (let i = 0; i < nu; i++) {
      const found = sample(i / (nu - 1), 1 - j / (nv - 1));
      if (!found) continue;
      const shade = found[0] > top ? [255, 255, 255] : found[1] < 0 ? [150, 150, 150] : colourOf(map, found[1]);
      image.data.set([...shade, found[0] > top ? 0 : 255], 4 * (j * nu + i));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * A chart: curves [{points: [[x, y]], color, width, dash, marks}] on a linear x and a linear or logarithmic y axis.
 * Returns {toX, toY, frame}, or null where nothing is finite. guides: vertical lines [x, colour].
 */
function drawChart(canvas, theme, curves, { log, xLabel, yLabel, range = null, guides = [], empty = "" }) {
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
