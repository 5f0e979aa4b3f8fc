// A surface between its cells: a bicubic interpolant with continuous slope. The same arithmetic as
// lossatlas/landscape/interpolant.py has for drawing: slopes at the nodes from parabolas, limited so that a cell which differs
// much from all others makes no pits and towers beside it; Hermite's polynomial between the nodes.

/** The minmod of two numbers: the one nearer to 0, 0 for two signs; if one is NaN, the other one. */
function minmod(first, second) {
  const a = Number.isNaN(first) ? second : first;
  const b = Number.isNaN(second) ? first : second;
  if (Number.isNaN(a)) return NaN;
  return Math.sign(a) === Math.sign(b) ? Math.sign(a) * Math.min(Math.abs(a), Math.abs(b)) : 0;
}

const either = (a, b) => (Number.isNaN(a) ? b : a);

/**
 * Slopes and second divided differences on a line of values u[offset + k * stride] on the coordinates x: {lines, bends, turns}.
 * lines[k] is the slope from node k - 1 to node k, bends[k + 2] the difference at node k, and turns[k] what the slope changes by
 * from the middle of the interval to its ends if it bends as both ends do; see Python's `shared_bends`.
 */
function differences(x, u, offset, stride) {
  const n = x.length;
  const lines = new Float64Array(n + 1).fill(NaN);
  const bends = new Float64Array(n + 3).fill(NaN);
  const turns = new Float64Array(n + 1);
  for (let k = 1; k < n; k++) lines[k] = (u[offset + k * stride] - u[offset + (k - 1) * stride]) / (x[k] - x[k - 1]);
  for (let k = 1; k + 1 < n; k++) bends[k + 2] = (lines[k + 1] - lines[k]) / (x[k + 1] - x[k - 1]);
  for (let k = 1; k < n; k++) {
    const shared = minmod(either(bends[k + 1], bends[k + 3]), either(bends[k + 2], bends[k]));
    turns[k] = (shared || 0) * (x[k] - x[k - 1]);
  }
  return { lines, bends, turns };
}

/** The slope at node k, where a value is known: of the parabola through it and its neighbours, or what comes nearest to it. */
function parabolaSlope(x, { lines, bends }, k) {
  const [left, right] = [lines[k], lines[k + 1]];
  if (!Number.isNaN(bends[k + 2])) return left + bends[k + 2] * (x[k] - x[k - 1]);
  if (!Number.isNaN(right + bends[k + 3])) return right - bends[k + 3] * (x[k + 1] - x[k]);
  if (!Number.isNaN(left + bends[k + 1])) return left + bends[k + 1] * (x[k] - x[k - 1]);
  return either(either(right, left), 0);
}

/** Write the limited slopes on a line, see `differences` and Python's `limited_slopes`. */
function writeSlopes(x, u, offset, stride, slopes) {
  const known = differences(x, u, offset, stride);
  const { lines, turns } = known;
  for (let k = 0; k < x.length; k++) {
    const at = offset + k * stride;
    slopes[at] = Number.isNaN(u[at]) ? NaN : parabolaSlope(x, known, k);
    const chord = minmod(lines[k], lines[k + 1]);
    const parabola = minmod(lines[k] + turns[k], lines[k + 1] - turns[k + 1]);
    if (Number.isNaN(parabola)) continue;
    const monotone = Math.sign(chord) === Math.sign(parabola) ? 3 * Math.abs(chord) : 0;
    slopes[at] = minmod(slopes[at], Math.sign(parabola) * Math.max(monotone, 1.5 * Math.abs(parabola)));
  }
}

/** Limited slopes of values (ny x nx) along x. */
function slopesAlongX(x, y, u) {
  const slopes = new Float64Array(u.length);
  for (let j = 0; j < y.length; j++) writeSlopes(x, u, j * x.length, 1, slopes);
  return slopes;
}

/** Those along y. */
function slopesAlongY(x, y, u) {
  const slopes = new Float64Array(u.length);
  for (let i = 0; i < x.length; i++) writeSlopes(y, u, i, x.length, slopes);
  return slopes;
}

/**
 * The interpolant of values (ny x nx, row by row; NaN and infinity are holes) on the coordinates x and y.
 * With log, the logarithm of the values is interpolated. One row makes a curve: y is then ignored.
 */
export function makeInterpolant(x, y, values, log) {
  const u = Float64Array.from(values, (v) => (Number.isFinite(v) ? (log ? Math.log(v) : v) : NaN));
  const ux = slopesAlongX(x, y, u);
  const uy = slopesAlongY(x, y, u);
  const other = slopesAlongX(x, y, uy);
  const uxy = slopesAlongY(x, y, ux).map((slope, k) => minmod(slope, other[k]));
  return { x, y, u, ux, uy, uxy, log };
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

/** Value and slopes [f, df/dx, df/dy] at a point, NaN in a hole; null outside the grid. */
export function evaluate(surface, a, b) {
  const { x, y, log } = surface;
  const within = (nodes, v) => v >= nodes[0] && v <= nodes[nodes.length - 1];
  if (!within(x, a) || (y.length > 1 && !within(y, b))) return null;
  const [u, ux, uy] = polynomial(surface, a, b);
  if (!log) return [u, ux, uy];
  const f = Math.exp(u);
  return [f, ux * f, uy * f];
}

/** Second derivative along a direction (unit vector) by central differences of the exact slope; NaN where unknown. */
export function curvatureAlong(surface, a, b, dx, dy, step) {
  const [plus, minus] = [1, -1].map((sign) => evaluate(surface, a + sign * step * dx, b + sign * step * dy));
  if (!plus || !minus) return NaN;
  return ((plus[1] - minus[1]) * dx + (plus[2] - minus[2]) * dy) / (2 * step);
}
