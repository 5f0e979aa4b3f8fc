// A small picture of a volume: three slices that cross at the start, seen from where the scene is seen. The plane that is shown has
// an outline.

import { colourOf } from "./colours.js";
import { FONT, fit, line } from "./drawing2d.js";
import { element } from "./elements.js";
import { evaluate } from "./interpolant.js";
import { clamp } from "./numbers.js";
import { interpolantOf, planeName, planesOf, toPlane, toShare } from "./surface.js";

const FINE = 56; // points along each side of a slice
const LIFT = (28 * Math.PI) / 180; // the angle from which the cube is seen
const MARGIN = 13; // pixels around the cube, for the names of its axes
const ABOVE = [156, 156, 156]; // of values above the scale
const AXES = ["x", "y", "z"];

export class CubeView {
  constructor(app, surface, heights) {
    this.app = app;
    this.surface = surface;
    this.heights = heights;
    this.canvas = element("canvas", { role: "img" });
    this.root = element("div", { class: "cube" }, this.canvas);
    this.kept = [null, null, null]; // the pictures of the slices across x, y and z, with what they were made for
  }

  /** Where the slices cross, as shares of the axes. */
  crossing() {
    const { surface } = this;
    const { x, y, z } = this.app.model.state;
    return [...toShare(surface, x, y), shareOf(surface.z, z)].map((share) => clamp(share, 0, 1));
  }

  draw() {
    const [context, width, height] = fit(this.canvas);
    if (width < 2 * MARGIN || height < 2 * MARGIN) return;
    const view = viewOf(this.heights.box, this.app.model.state.azimuth, width, height);
    const crossing = this.crossing();
    const pictures = crossing.map((share, axis) => this.picture(axis, share));
    this.drawBox(context, view, false);
    for (const piece of piecesOf(crossing, view.towards)) drawPiece(context, view, piece, pictures[piece.axis], crossing);
    this.drawBox(context, view, true);
    this.drawOutlines(context, view, crossing);
    const words = `The volume as three slices that cross at the start. The sheet shows the one at ${planeName(this.surface)}.`;
    if (this.canvas.getAttribute("aria-label") !== words) this.canvas.setAttribute("aria-label", words);
  }

  /** The slice across an axis at a share of it. */
  picture(axis, share) {
    const { model } = this.app;
    const { height, scale, vmax, colour, map } = model.state;
    const wanted = [share, height, scale, vmax, colour, map].join();
    if (this.kept[axis]?.wanted !== wanted) this.kept[axis] = { wanted, canvas: this.painted(axis, share) };
    return this.kept[axis].canvas;
  }

  painted(axis, share) {
    const { model } = this.app;
    const { name, scale } = model.colour() || { name: model.state.height, scale: model.scale() };
    const valueAt = valuesOf(this.surface, name);
    const canvas = element("canvas", { width: FINE, height: FINE });
    const context = canvas.getContext("2d");
    const image = context.createImageData(FINE, FINE);
    for (let k = 0; k < FINE * FINE; k++) {
      const place = [(k % FINE) / (FINE - 1), 1 - Math.floor(k / FINE) / (FINE - 1)];
      const value = valueAt(inserted(place, axis, share));
      if (!Number.isFinite(value)) continue;
      const level = scale.height(value);
      image.data.set([...(level > 1 + 1e-6 ? ABOVE : colourOf(model.map(), clamp(level, 0, 1))), 255], 4 * k);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /** The edges of the box: those behind the slices, or those in front of them with the names of the axes. */
  drawBox(context, view, front) {
    const { theme } = this.app;
    context.strokeStyle = theme.frame;
    context.lineWidth = 1;
    for (const [from, to] of edges()) {
      const hidden = AXES.every((_, k) => (from[k] + to[k] - 1) * view.towards[k] <= 0);
      if (hidden === front) continue;
      line(context, ...view.at(from), ...view.at(to));
    }
    if (front) nameAxes(context, view, theme);
  }

  drawOutlines(context, view, crossing) {
    const { theme } = this.app;
    for (const axis of [0, 1, 2]) {
      const corners = rim(axis, crossing[axis]).map(view.at);
      context.strokeStyle = axis === 2 ? theme.accent : theme.frame;
      context.lineWidth = axis === 2 ? 2 : 1;
      context.beginPath();
      for (const corner of corners) context.lineTo(...corner);
      context.closePath();
      context.stroke();
    }
  }
}

/** A function for the value of a field at shares of the three axes: interpolated in the planes, and linear between them. */
function valuesOf(surface, name) {
  const planes = planesOf(surface).map((plane) => interpolantOf(plane, name));
  const { z } = surface;
  return ([s, t, u]) => {
    const c = z[0] + u * (z[z.length - 1] - z[0]);
    let k = 0;
    while (k + 2 < z.length && z[k + 1] <= c) k++;
    const part = clamp((c - z[k]) / (z[k + 1] - z[k]), 0, 1);
    const point = toPlane(surface, s, t);
    const at = (plane) => evaluate(plane, ...point)?.[0] ?? NaN;
    if (part === 0 || part === 1) return at(planes[k + part]);
    return (1 - part) * at(planes[k]) + part * at(planes[k + 1]);
  };
}

/** Two numbers with one for an axis between or beside them. */
const inserted = (pair, axis, number) => [...pair.slice(0, axis), number, ...pair.slice(axis)];

const shareOf = (nodes, v) => (v - nodes[0]) / (nodes[nodes.length - 1] - nodes[0]);

/** {at(shares): pixels; towards: the signs of the direction to the eye}, for a box with the half widths `box`. */
function viewOf(box, azimuth, width, height) {
  const angle = (azimuth * Math.PI) / 180;
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const half = [...box, Math.min(...box, 0.8)];
  const flat = ([a, b, d]) => {
    const [u, v, w] = [a, b, d].map((share, k) => (2 * share - 1) * half[k]);
    return [u * -s + v * c, (u * c + v * s) * Math.sin(LIFT) - w * Math.cos(LIFT)];
  };
  const corners = [0, 1].flatMap((a) => [0, 1].flatMap((b) => [0, 1].map((d) => flat([a, b, d]))));
  const [wide, tall] = [0, 1].map((k) => 2 * Math.max(...corners.map((corner) => Math.abs(corner[k]))));
  const scale = Math.min((width - 2 * MARGIN) / wide, (height - 2 * MARGIN) / tall);
  const at = (shares) => {
    const [x, y] = flat(shares);
    return [width / 2 + scale * x, height / 2 + scale * y];
  };
  return { at, towards: [Math.sign(c), Math.sign(s), 1] };
}

/** The twelve edges of the box, as pairs of corners. */
function edges() {
  const found = [];
  for (const axis of [0, 1, 2]) {
    for (const a of [0, 1]) {
      for (const b of [0, 1]) found.push([0, 1].map((end) => inserted([a, b], axis, end)));
    }
  }
  return found;
}

/** The corners of a slice across an axis. */
const rim = (axis, share) =>
  [
    [0, 0],
    [1, 0],
    [1, 1],
    [0, 1],
  ].map((corner) => inserted(corner, axis, share));

/** The quarters into which the slices cut each other, those far from the eye first: {axis, signs}. */
function piecesOf(crossing, towards) {
  const found = [];
  for (const axis of [0, 1, 2]) {
    for (const a of [-1, 1]) for (const b of [-1, 1]) found.push({ axis, signs: inserted([a, b], axis, 0) });
  }
  const near = ({ signs }) => signs.reduce((sum, sign, k) => sum + sign * towards[k], 0);
  const isEmpty = ({ signs }) => signs.some((sign, k) => (sign < 0 && crossing[k] === 0) || (sign > 0 && crossing[k] === 1));
  return found.filter((piece) => !isEmpty(piece)).sort((p, q) => near(p) - near(q));
}

/** Draw a quarter of a slice: its picture, sheared into the place that it has on the canvas. */
function drawPiece(context, view, { axis, signs }, picture, crossing) {
  const origin = view.at(inserted([0, 0], axis, crossing[axis]));
  const [u, v] = [
    [1, 0],
    [0, 1],
  ].map((end) => view.at(inserted(end, axis, crossing[axis])).map((value, k) => value - origin[k]));
  const [alongU, alongV] = signs.flatMap((sign, k) => (k === axis ? [] : [sign > 0 ? [crossing[k], 1] : [0, crossing[k]]]));
  context.save();
  context.transform(u[0], u[1], -v[0], -v[1], origin[0] + v[0], origin[1] + v[1]);
  context.beginPath();
  context.rect(alongU[0], 1 - alongV[1], alongU[1] - alongU[0], alongV[1] - alongV[0]);
  context.clip();
  context.imageSmoothingEnabled = true;
  context.drawImage(picture, 0, 0, 1, 1);
  context.restore();
}

/** The names of the axes: x and y beside the edges of the floor that face the eye, z beside the left edge. */
function nameAxes(context, view, theme) {
  const [right, far] = view.towards.map((sign) => (sign > 0 ? 1 : 0));
  const upright = [0, 1].flatMap((a) => [0, 1].map((b) => [a, b, 0.5]));
  const left = upright.reduce((p, q) => (view.at(q)[0] < view.at(p)[0] ? q : p));
  const middle = view.at([0.5, 0.5, 0.5]);
  const places = [[0.5, far, 0], [right, 0.5, 0], left];
  context.font = FONT;
  context.fillStyle = theme.text;
  context.textAlign = "center";
  context.textBaseline = "middle";
  places.forEach((place, k) => {
    const [x, y] = view.at(place);
    const away = Math.hypot(x - middle[0], y - middle[1]) || 1;
    context.fillText(AXES[k], x + (9 * (x - middle[0])) / away, y + (9 * (y - middle[1])) / away);
  });
}
