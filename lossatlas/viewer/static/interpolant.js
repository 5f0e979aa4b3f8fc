// A surface between its cells: a bicubic interpolant with continuous slope. The same arithmetic as
// lossatlas/landscape/interpolant.py: slopes at the nodes from parabolas, Hermite's polynomial between them.

import { clamp } from "./numbers.js";

/** How far a drawn value may lie beyond the cells around it, in second differences of these: a parabola needs an eighth. */
const BEYOND = 0.25;

/** Slope at node k of the values u[offset + m * stride], m = 0 .. n - 1, on the coordinates x. */
function slopeAt(x, u, offset, stride, n, k) {
  const value = (m) => u[offset + m * stride];
  const known = (m) => m >= 0 && m < n && Number.isFinite(value(m));
  if (!known(k)) return NaN;
  const line = (a, b) => (value(b) - value(a)) / (x[b] - x[a]);
  const parabola = (a, b, c) => {
    const first = line(a, b);
    const bend = (line(b, c) - first) / (x[c] - x[a]);
    return first + bend * (x[k] - x[a] + (x[k] - x[b]));
  };
  const left = known(k - 1);
  const right = known(k + 1);
  if (left && right) return parabola(k - 1, k, k + 1);
  if (right && known(k + 2)) return parabola(k, k + 1, k + 2);
  if (left && known(k - 2)) return parabola(k - 2, k - 1, k);
  if (right) return line(k, k + 1);
  if (left) return line(k - 1, k);
  return 0;
}

/**
 * The interpolant of values (ny x nx, row by row; NaN and infinity are holes) on the coordinates x and y.
 * With log, the logarithm of the values is interpolated. One row makes a curve: y is then ignored.
 */
export function makeInterpolant(x, y, values, log) {
  const nx = x.length;
  const ny = y.length;
  const u = Float64Array.from(values, (v) => (Number.isFinite(v) ? (log ? Math.log(v) : v) : NaN));
  const ux = new Float64Array(nx * ny);
  const uy = new Float64Array(nx * ny);
  const uxy = new Float64Array(nx * ny);
  for (let j = 0; j < ny; j++) for (let i = 0; i < nx; i++) ux[j * nx + i] = slopeAt(x, u, j * nx, 1, nx, i);
  for (let i = 0; i < nx; i++) {
    for (let j = 0; j < ny; j++) {
      uy[j * nx + i] = slopeAt(y, u, i, nx, ny, j);
      uxy[j * nx + i] = slopeAt(y, ux, i, nx, ny, j);
    }
  }
  return { x, y, u, ux, uy, uxy, log, limits: null };
}

/** Second derivative at node k of the parabola through it and its neighbours, NaN where they are not known; see `slopeAt`. */
function bendAt(x, u, offset, stride, n, k) {
  if (k < 1 || k + 1 >= n) return NaN;
  const [a, b, c] = [-1, 0, 1].map((m) => u[offset + (k + m) * stride]);
  return (2 * ((c - b) / (x[k + 1] - x[k]) - (b - a) / (x[k] - x[k - 1]))) / (x[k + 1] - x[k - 1]);
}

/**
 * Second difference in the interval after node k, the smaller one of its ends; 0 if they differ in sign. Beside an edge or a
 * hole, that of the next node counts. One cell that differs much from all others bends one end alone.
 */
function differenceIn(x, u, offset, stride, n, k) {
  const bend = (m) => bendAt(x, u, offset, stride, n, m);
  const either = (a, b) => (Number.isNaN(a) ? b : a);
  const [left, right] = [either(bend(k), bend(k + 2)), either(bend(k + 1), bend(k - 1))];
  const [a, b] = [either(left, right), either(right, left)];
  return a * b > 0 ? Math.sign(a) * Math.min(Math.abs(a), Math.abs(b)) * (x[k + 1] - x[k]) ** 2 : 0;
}

/** For each square of four cells the lowest and the highest value that is drawn there: [low, high], one after the other. */
function limitsOf({ x, y, u }) {
  const [nx, ny] = [x.length, y.length];
  const limits = [];
  for (let j = 0; j < Math.max(1, ny - 1); j++) {
    for (let i = 0; i + 1 < nx; i++) {
      const rows = ny === 1 ? [0] : [j, j + 1];
      const along = rows.map((row) => differenceIn(x, u, row * nx, 1, nx, i));
      const across = ny === 1 ? [0] : [i, i + 1].map((column) => differenceIn(y, u, column, nx, ny, j));
      const corners = rows.flatMap((row) => [u[row * nx + i], u[row * nx + i + 1]]);
      const beyond = (sign) => Math.max(0, ...along.map((v) => sign * v)) + Math.max(0, ...across.map((v) => sign * v));
      limits.push([Math.min(...corners) - BEYOND * beyond(1), Math.max(...corners) + BEYOND * beyond(-1)]);
    }
  }
  return limits;
}

/** The number of the interval of sorted nodes that holds a. */
function intervalOf(nodes, a) {
  let low = 0;
  let high = nodes.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (nodes[middle] <= a) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The weights of Hermite's polynomial at the share t of an interval of length h, of (value, slope) at either end: of its value and of its slope. */
function hermite(t, h) {
  const s = 1 - t;
  return {
    value: [(1 + 2 * t) * s * s, h * t * s * s, t * t * (3 - 2 * t), h * t * t * (t - 1)],
    slope: [(6 * t * (t - 1)) / h, s * (1 - 3 * t), (6 * t * s) / h, t * (3 * t - 2)],
  };
}

const weighted = (w, a, b, c, d) => w[0] * a + w[1] * b + w[2] * c + w[3] * d;

/** [u, du/dx, du/dy] of the interpolated array at a point of the grid. */
function polynomial({ x, y, u, ux, uy, uxy }, a, b) {
  const nx = x.length;
  const i = intervalOf(x, a);
  const j = y.length === 1 ? 0 : intervalOf(y, b);
  const h = x[i + 1] - x[i];
  const along = hermite((a - x[i]) / h, h);
  const at = j * nx + i;
  const row = (weights, v, m, n) => weighted(weights, v[n], m[n], v[n + 1], m[n + 1]);
  if (y.length === 1) return [row(along.value, u, ux, at), row(along.slope, u, ux, at), 0];
  const k = y[j + 1] - y[j];
  const across = hermite((b - y[j]) / k, k);
  const rows = (weights) => [
    row(weights, u, ux, at),
    row(weights, uy, uxy, at),
    row(weights, u, ux, at + nx),
    row(weights, uy, uxy, at + nx),
  ];
  const values = rows(along.value);
  return [weighted(across.value, ...values), weighted(across.value, ...rows(along.slope)), weighted(across.slope, ...values)];
}

/** True if a point lies within the grid. */
function isInside({ x, y }, a, b) {
  const within = (nodes, v) => v >= nodes[0] && v <= nodes[nodes.length - 1];
  return within(x, a) && (y.length === 1 || within(y, b));
}

/** [f, df/dx, df/dy] from what the polynomial gives. */
function unscaled({ log }, [u, ux, uy]) {
  if (!log) return [u, ux, uy];
  const f = Math.exp(u);
  return [f, ux * f, uy * f];
}

/** Value and slopes [f, df/dx, df/dy] at a point, NaN in a hole; null outside the grid. */
export function evaluate(surface, a, b) {
  return isInside(surface, a, b) ? unscaled(surface, polynomial(surface, a, b)) : null;
}

/**
 * Value and slopes as they are drawn: beside a cell that differs much from all others the polynomial swings far beyond the cells
 * around a point, and the value stays within their range; the slope is 0 there.
 */
export function drawn(surface, a, b) {
  if (!isInside(surface, a, b)) return null;
  const found = polynomial(surface, a, b);
  const { x, y } = surface;
  surface.limits ??= limitsOf(surface);
  const [low, high] = surface.limits[(y.length === 1 ? 0 : intervalOf(y, b)) * (x.length - 1) + intervalOf(x, a)];
  const u = clamp(found[0], low, high);
  return unscaled(surface, u === found[0] || Number.isNaN(u) ? found : [u, 0, 0]);
}

/** Second derivative along a direction (unit vector) by central differences of the exact slope; NaN where unknown. */
export function curvatureAlong(surface, a, b, dx, dy, step) {
  const [plus, minus] = [1, -1].map((sign) => evaluate(surface, a + sign * step * dx, b + sign * step * dy));
  if (!plus || !minus) return NaN;
  return ((plus[1] - minus[1]) * dx + (plus[2] - minus[2]) * dy) / (2 * step);
}
