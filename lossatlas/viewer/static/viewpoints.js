// Views that the reader can ask for: from the front, from the top, and along the valley in which the minimum lies.

import { boxOf } from "./surface.js";

const SHARE = 0.02; // of all cells, that make up the valley
const FEWEST = 12; // cells of a valley

export const FRONT = { azimuth: -90, elevation: 16, distance: 4.6, panx: 0, pany: 0 };
export const TOP = { azimuth: -90, elevation: 89, distance: 5, panx: 0, pany: 0 };

/** The direction {azimuth, elevation} of a view along the longest valley of all surfaces; null if no cell is finite. */
export function ravineView(surfaces, name) {
  const valleys = surfaces.map((surface) => valleyOf(surface, name)).filter((valley) => valley);
  if (!valleys.length) return null;
  const { angle } = valleys.reduce((a, b) => (b.stretch > a.stretch ? b : a));
  const degrees = (angle * 180) / Math.PI;
  const azimuth = Math.sin(angle) > 0 ? degrees - 180 : degrees; // from the front, where the reader stands
  return { azimuth, elevation: 30 };
}

/**
 * The valley of a surface: the lowest cells that join the minimum. {angle of the long axis; stretch: its length over its width};
 * null if no cell is finite. Of an accuracy, it is the ridge.
 */
function valleyOf(surface, name) {
  const { values } = surface.fields[name];
  const sign = name.endsWith("_acc") ? -1 : 1;
  const height = (k) => (Number.isFinite(values[k]) ? sign * values[k] : Infinity);
  const cells = grown(surface, height);
  if (!cells.length) return null;
  return axisOf(cells.map((k) => placeOf(surface, k)));
}

/** The minimum and then, one by one, the lowest cell beside those that are taken. */
function grown(surface, height) {
  const [nx, ny] = [surface.x.length, surface.y.length];
  let lowest = 0;
  for (let k = 1; k < nx * ny; k++) if (height(k) < height(lowest)) lowest = k;
  const wanted = Math.max(FEWEST, Math.round(SHARE * nx * ny));
  const taken = [];
  const seen = new Set([lowest]);
  const rim = new Set(seen);
  while (taken.length < wanted && rim.size) {
    const next = [...rim].reduce((a, b) => (height(b) < height(a) ? b : a));
    if (height(next) === Infinity) break;
    rim.delete(next);
    taken.push(next);
    for (const k of neighbours(next, nx, ny)) {
      if (!seen.has(k)) rim.add(k);
      seen.add(k);
    }
  }
  return taken;
}

function neighbours(k, nx, ny) {
  const [i, j] = [k % nx, Math.floor(k / nx)];
  const near = (n, most) => [n - 1, n, n + 1].filter((each) => each >= 0 && each < most);
  return near(j, ny).flatMap((row) => near(i, nx).map((column) => row * nx + column));
}

/** The place of a cell in the scene. */
function placeOf(surface, k) {
  const box = boxOf(surface);
  const [a, b] = [surface.x[k % surface.x.length], surface.y[Math.floor(k / surface.x.length)]];
  const share = (nodes, v) => (2 * (v - nodes[0])) / (nodes[nodes.length - 1] - nodes[0]) - 1;
  return [box[0] * share(surface.x, a), box[1] * share(surface.y, b)];
}

/** The long axis of places: the larger principal component of their covariance. */
function axisOf(places) {
  const mean = [0, 1].map((n) => places.reduce((sum, p) => sum + p[n], 0) / places.length);
  const spread = (n, m) => places.reduce((sum, p) => sum + (p[n] - mean[n]) * (p[m] - mean[m]), 0) / places.length;
  const [xx, xy, yy] = [spread(0, 0), spread(0, 1), spread(1, 1)];
  const [half, root] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  return { angle: 0.5 * Math.atan2(2 * xy, xx - yy), stretch: Math.sqrt((half + root) / Math.max(half - root, 1e-12)) };
}
