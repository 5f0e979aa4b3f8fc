// A surface between its cells: a bicubic interpolant with continuous slope. The same arithmetic as
// lossatlas/landscape/interpolant.py has for drawing: slopes at the nodes from parabolas, limited so that a cell which differs
// much from all others makes no pits and towers beside it; Hermite's polynomial between the nodes.

/** Slope at node k of the values u[offset + m * stride], m = 0 .. n - 1, on the coordinates x; from parabolas. */
function parabolaSlope(x, u, offset, stride, n, k) {
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

/** The one nearer to 0 of two numbers of one sign, 0 for two signs; if one is NaN, the other one. */
function smaller(first, second) {
  const a = Number.isNaN(first) ? second : first;
  const b = Number.isNaN(second) ? first : second;
  if (Number.isNaN(a)) return NaN;
  return Math.sign(a) === Math.sign(b) ? Math.sign(a) * Math.min(Math.abs(a), Math.abs(b)) : 0;
}

/** The limited slope at node k, see `parabolaSlope` and Python's `limited_slopes`. */
function slopeAt(x, u, offset, stride, n, k) {
  const value = (m) => (m >= 0 && m < n ? u[offset + m * stride] : NaN);
  const line = (m) => (value(m + 1) - value(m)) / (x[m + 1] - x[m]); // from node m to the next
  const bend = (m) => (line(m) - line(m - 1)) / (x[m + 1] - x[m - 1]);
  const either = (a, b) => (Number.isNaN(a) ? b : a);
  const turn = (m) => (smaller(either(bend(m), bend(m + 2)), either(bend(m + 1), bend(m - 1))) || 0) * (x[m + 1] - x[m]);
  const chord = smaller(line(k - 1), line(k));
  const parabola = smaller(line(k - 1) + turn(k - 1), line(k) - turn(k));
  const found = parabolaSlope(x, u, offset, stride, n, k);
  if (Number.isNaN(parabola)) return found;
  const steepest = Math.max(Math.sign(chord) === Math.sign(parabola) ? 3 * Math.abs(chord) : 0, 1.5 * Math.abs(parabola));
  return smaller(found, Math.sign(parabola) * steepest);
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
    }
  }
  for (let j = 0; j < ny; j++) {
    for (let i = 0; i < nx; i++) {
      uxy[j * nx + i] = smaller(slopeAt(y, ux, i, nx, ny, j), slopeAt(x, uy, j * nx, 1, nx, i));
    }
  }
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
