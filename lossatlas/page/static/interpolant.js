// A surface between its cells: a bicubic interpolant with continuous slope. The same arithmetic as
// lossatlas/landscape/interpolant.py: slopes at the nodes from parabolas, Hermite's polynomial between them.

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
function makeInterpolant(x, y, values, log) {
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

/** Value and slopes [f, df/dx, df/dy] at a point, NaN in a hole; null outside the grid. */
function evaluate(surface, a, b) {
  const { x, y, u, ux, uy, uxy } = surface;
  const nx = x.length;
  const flat = y.length === 1;
  if (!(a >= x[0] && a <= x[nx - 1]) || !(flat || (b >= y[0] && b <= y[y.length - 1]))) return null;
  const i = intervalOf(x, a);
  const j = flat ? 0 : intervalOf(y, b);
  const h = x[i + 1] - x[i];
  const t = (a - x[i]) / h;
  const s = 1 - t;
  const p = [(1 + 2 * t) * s * s, h * t * s * s, t * t * (3 - 2 * t), h * t * t * (t - 1)];
  const dp = [(6 * t * (t - 1)) / h, s * (1 - 3 * t), (6 * t * s) / h, t * (3 * t - 2)];
  let f = 0;
  let fx = 0;
  let fy = 0;
  const rows = flat ? 1 : 4;
  let q = [1];
  let dq = [0];
  if (!flat) {
    const k = y[j + 1] - y[j];
    const v = (b - y[j]) / k;
    const w = 1 - v;
    q = [(1 + 2 * v) * w * w, k * v * w * w, v * v * (3 - 2 * v), k * v * v * (v - 1)];
    dq = [(6 * v * (v - 1)) / k, w * (1 - 3 * v), (6 * v * w) / k, v * (3 * v - 2)];
  }
  for (let n = 0; n < rows; n++) {
    const at = (n > 1 ? j + 1 : j) * nx + i;
    const along = n & 1 ? uy : u;
    const mixed = n & 1 ? uxy : ux;
    const line = p[0] * along[at] + p[1] * mixed[at] + p[2] * along[at + 1] + p[3] * mixed[at + 1];
    const slope = dp[0] * along[at] + dp[1] * mixed[at] + dp[2] * along[at + 1] + dp[3] * mixed[at + 1];
    f += q[n] * line;
    fx += q[n] * slope;
    fy += dq[n] * line;
  }
  if (surface.log) {
    f = Math.exp(f);
    fx *= f;
    fy *= f;
  }
  return [f, fx, fy];
}

/** Second derivative along a direction (unit vector) by central differences of the exact slope; NaN where unknown. */
function curvatureAlong(surface, a, b, dx, dy, step) {
  const [plus, minus] = [1, -1].map((sign) => evaluate(surface, a + sign * step * dx, b + sign * step * dy));
  if (!plus || !minus) return NaN;
  return ((plus[1] - minus[1]) * dx + (plus[2] - minus[2]) * dy) / (2 * step);
}
