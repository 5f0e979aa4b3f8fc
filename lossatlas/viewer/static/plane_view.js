// The plane from above: its picture, contour lines, marks and paths.

import { colourOf } from "./colours.js";
import { cutThrough } from "./cut.js";
import { cross, dot, drawFrame, drawMark, fit, line, polyline, trace } from "./drawing2d.js";
import { clamp, text } from "./numbers.js";
import { pointOf } from "./race.js";
import { meshSize } from "./sampler.js";
import { roundSteps } from "./scale.js";
import { toShare } from "./surface.js";

const HATCH = [
  [128, 128, 128],
  [184, 184, 184],
]; // of values above the scale
const UNKNOWN = [150, 150, 150];

/** The colours of a field on a fine grid, as a canvas; cells without a value stay clear. */
function paintedField(size, sample, map) {
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
      const shade = found[4] > 1 ? HATCH[Number((i + j) % 8 < 4)] : found[1] < 0 ? UNKNOWN : colourOf(map, found[1]);
      image.data.set([...shade, 255], 4 * (j * nu + i));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export class PlaneView {
  constructor(app, heights, number, canvas) {
    this.app = app;
    this.heights = heights;
    this.surface = heights.surface;
    this.number = number;
    this.canvas = canvas;
    this.picture = null;
  }

  /** Compute the picture anew, after fields, scales or colours have changed. */
  rebuild() {
    const { model } = this.app;
    this.picture = paintedField(meshSize(this.surface), this.heights.sample, model.map());
  }

  /** True if the map is small: it then has no numbers at its axes. */
  isInset() {
    return this.canvas.clientWidth < 300;
  }

  /** The rectangle of the plane on the canvas. */
  frame() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const { box } = this.heights;
    const [left, top, right, bottom] = this.isInset() ? [3, 3, 3, 3] : [46, 8, 12, 36];
    const [w, h] = [width - left - right, height - top - bottom];
    const scale = Math.min(w / (2 * box[0]), h / (2 * box[1]));
    const size = [2 * box[0] * scale, 2 * box[1] * scale];
    return { left: left + (w - size[0]) / 2, top: top + (h - size[1]) / 2, width: size[0], height: size[1] };
  }

  draw() {
    const [context] = fit(this.canvas);
    const frame = this.frame();
    if (frame.width < 10 || frame.height < 10) return;
    const at = (s, t) => [frame.left + s * frame.width, frame.top + (1 - t) * frame.height];
    const of = (a, b) => at(...toShare(this.surface, a, b));
    context.imageSmoothingEnabled = true;
    context.drawImage(this.picture, frame.left, frame.top, frame.width, frame.height);
    if (this.app.model.state.lines) this.drawContours(context, at);
    this.drawMarks(context, of);
    this.drawAxes(context, frame);
    context.save();
    context.beginPath();
    context.rect(frame.left - 6, frame.top - 6, frame.width + 12, frame.height + 12);
    context.clip();
    this.drawCut(context, of);
    this.drawTraining(context, of);
    this.drawRace(context, of);
    this.drawHover(context, of);
    context.restore();
  }

  drawContours(context, at) {
    const { model } = this.app;
    const { state } = model;
    const wanted = new Set(model.levels());
    context.lineWidth = 0.8;
    for (const { level, lines } of this.surface.fields[state.height].contours) {
      const h = this.heights.scale.height(level);
      if (!wanted.has(level) || h > 1) continue;
      context.strokeStyle = h > 0.55 && !state.colour ? "rgba(0,0,0,0.5)" : "rgba(255,255,255,0.65)";
      for (const points of lines) {
        const pixels = points.map((p) => at(...p));
        trace(context, pixels);
        context.stroke();
      }
    }
  }

  /** Cells that are not computed or not finite; with `wire`, also those that are. */
  drawMarks(context, of) {
    const { surface } = this;
    const { height, wire } = this.app.model.state;
    const { values } = surface.fields[height];
    const nx = surface.x.length;
    const square = ([x, y], half, colour) => {
      context.fillStyle = colour;
      context.fillRect(x - half, y - half, 2 * half, 2 * half);
    };
    surface.y.forEach((b, j) => {
      surface.x.forEach((a, i) => {
        const k = j * nx + i;
        if (!surface.done[k]) square(of(a, b), 1.5, "rgba(128,128,128,0.8)");
        else if (!Number.isFinite(values[k])) cross(context, ...of(a, b), 3.5, "#d92b20");
        else if (wire && !surface.interpolated[k]) square(of(a, b), 0.75, "rgba(0,0,0,0.45)");
      });
    });
  }

  drawAxes(context, frame) {
    const { surface } = this;
    const { x, y } = surface;
    if (this.isInset()) {
      drawFrame(context, frame, this.app.theme, [], []);
      return;
    }
    const steps = (nodes, room) => roundSteps(nodes[0], nodes[nodes.length - 1], clamp(Math.floor(room), 2, 6));
    const xs = steps(x, frame.width / 50).map((v) => [toShare(surface, v, y[0])[0], text(v)]);
    const ys = steps(y, frame.height / 36).map((v) => [toShare(surface, x[0], v)[1], text(v)]);
    drawFrame(context, frame, this.app.theme, xs, ys, { x: surface.axes[0], y: surface.axes[1] });
  }

  drawCut(context, of) {
    const { model, theme } = this.app;
    const { cut, angle: degrees, height, x, y } = model.state;
    if (!cut) return;
    const angle = (degrees * Math.PI) / 180;
    const ends = cutThrough(this.surface, height, [x, y], degrees, 1).map(({ r }) =>
      of(x + r * Math.cos(angle), y + r * Math.sin(angle)),
    );
    polyline(context, ends, theme.accent, 1.5, "rgba(255,255,255,0.7)");
  }

  /** The checkpoints of a training, in the colours of their own losses where these are known. */
  drawTraining(context, of) {
    const { trajectory } = this.surface;
    if (!trajectory) return;
    const { model, theme } = this.app;
    const points = trajectory.x.map((a, k) => of(a, trajectory.y[k]));
    polyline(context, points, "#111111", 1.2, "rgba(255,255,255,0.7)");
    points.forEach((p, k) => {
      const share = toShare(this.surface, trajectory.x[k], trajectory.y[k]);
      const value = this.heights.ofCheckpoint(k) ?? this.heights.sample(...share)?.[0];
      const colour = value === undefined ? [150, 150, 150] : colourOf(model.map(), clamp(value, 0, 1));
      const chosen = k === model.state.epoch;
      dot(context, ...p, chosen ? 6 : 3.5, `rgb(${colour.join(",")})`, chosen ? theme.accent : "#111111");
    });
  }

  /** The paths of the optimizers, their ends, and the start. */
  drawRace(context, of) {
    const { race, model } = this.app;
    const runs = race.shownOn(this.number);
    const size = clamp(this.canvas.clientWidth / 30, 4, 7.5);
    for (const run of runs) {
      const points = [];
      for (let k = 0; k <= run.shown; k++) points.push(of(...pointOf(run, k)));
      polyline(context, points, run.optimizer.color, 2.2, "rgba(255,255,255,0.95)");
    }
    for (const run of runs) drawMark(context, run.optimizer.mark, of(...pointOf(run)), size, run.optimizer.color);
    if (model.showsStart) dot(context, ...of(model.state.x, model.state.y), 4, "rgba(255,255,255,0.9)", "#222222");
  }

  /** A dark cross with a light seam at the point under the pointer. */
  drawHover(context, of) {
    const { hover } = this.app.model;
    if (!hover) return;
    const [x, y] = of(...hover);
    for (const [colour, width] of [
      ["rgba(255,255,255,0.9)", 3],
      ["#111111", 1],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      line(context, x - 9, y, x + 9, y);
      line(context, x, y - 9, x, y + 9);
    }
  }
}
