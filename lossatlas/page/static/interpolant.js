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
export function evaluate(surface, a, b) {
  const { x, y, u, ux, uy, uxy } = surface;
  const nx = x.length;
  const flat = y.length === 1;
  if (!(a >= x[0] && a <= x[nx - 1]) || !(flat || (b >= y[0] && b <= y[y.length - 1]))) return null;
  const i = intervalOf(x, a);
  const j = flat ? 0 : intervalOf(y, b);
  const h = x[i + 1] - x[i];
  const t = (a - x[i]) / h;
  const s = 1 - t;
  // Along x: value, slope, next value, next slope, and the slopes of these weights.
  const p0 = (1 + 2 * t) * s * s;
  const p1 = h * t * s * s;
  const p2 = t * t * (3 - 2 * t);
  const p3 = h * t * t * (t - 1);
  const d0 = (6 * t * (t - 1)) / h;
  const d1 = s * (1 - 3 * t);
  const d2 = (6 * t * s) / h;
  const d3 = t * (3 * t - 2);
  const at = j * nx + i;
  const line = (v, m, n) => p0 * v[n] + p1 * m[n] + p2 * v[n + 1] + p3 * m[n + 1];
  const slope = (v, m, n) => d0 * v[n] + d1 * m[n] + d2 * v[n + 1] + d3 * m[n + 1];
  let f = line(u, ux, at);
  let fx = slope(u, ux, at);
  let fy = 0;
  if (!flat) {
    const k = y[j + 1] - y[j];
    const v = (b - y[j]) / k;
    const w = 1 - v;
    const q0 = (1 + 2 * v) * w * w;
    const q1 = k * v * w * w;
    const q2 = v * v * (3 - 2 * v);
    const q3 = k * v * v * (v - 1);
    const low = f;
    const lowUp = line(uy, uxy, at);
    const high = line(u, ux, at + nx);
    const highUp = line(uy, uxy, at + nx);
    f = q0 * low + q1 * lowUp + q2 * high + q3 * highUp;
    fx = q0 * fx + q1 * slope(uy, uxy, at) + q2 * slope(u, ux, at + nx) + q3 * slope(uy, uxy, at + nx);
    fy = ((6 * v * (v - 1)) / k) * low + w * (1 - 3 * v) * lowUp + ((6 * v * w) / k) * high + v * (3 * v - 2) * highUp;
  }
  if (surface.log) {
    f = Math.exp(f);
    fx *= f;
    fy *= f;
  }
  return [f, fx, fy];
}

/** Second derivative along a direction (unit vector) by central differences of the exact slope; NaN where unknown. */
export function curvatureAlong(surface, a, b, dx, dy, step) {
  const [plus, minus] = [1, -1].map((sign) => evaluate(surface, a + sign * step * dx, b + sign * step * dy));
  if (!plus || !minus) return NaN;
  return ((plus[1] - minus[1]) * dx + (plus[2] - minus[2]) * dy) / (2 * step);
}
