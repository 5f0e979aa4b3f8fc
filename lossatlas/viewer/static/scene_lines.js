// The lines and balls of the scene: runs of points [{points, ink}] for `segmentsOf`.

import { byteColour, inkOf } from "./colours.js";
import { cutThrough } from "./cut.js";
import { FLOOR, TALL } from "./heights.js";
import { ball } from "./mesh.js";
import { clamp } from "./numbers.js";

const CLOSE = 0.006; // in the scene, whose sides are 2

/** Collect points into runs, which end where a point is not known. */
function runCollector(ink) {
  const runs = [];
  let points = [];
  const end = () => {
    if (points.length > 1) runs.push({ points, ink });
    points = [];
  };
  const take = (point) => {
    if (point) points.push(point);
    else end();
  };
  return { runs, take, end };
}

/** The edge of the box on the floor. */
export function floorFrame([eu, ev], ink) {
  const corners = [
    [-eu, -ev, FLOOR],
    [eu, -ev, FLOOR],
    [eu, ev, FLOOR],
    [-eu, ev, FLOOR],
    [-eu, -ev, FLOOR],
  ];
  return [{ points: corners, ink }];
}

/** Contour lines of layers [{surface, map}] on the floor. */
export function floorContours(heights, layers) {
  const { model, scale } = heights;
  const { state } = model;
  const wanted = new Set(model.levels());
  const runs = [];
  for (const { surface, map } of layers) {
    for (const { level, lines } of surface.fields[state.height].contours) {
      const h = scale.height(level);
      if (!wanted.has(level) || h > 1) continue;
      const ink = [...inkOf(map, state.colour ? 0.4 : clamp(h, 0, 1)), 1];
      for (const points of lines) runs.push({ points: points.map(([s, t]) => heights.inBox(s, t, FLOOR)), ink });
    }
  }
  return runs;
}

/** Crosses on the floor for cells that are not finite, squares for those that are not computed. */
export function markedCells(heights) {
  const { surface, model } = heights;
  const { values } = surface.fields[model.state.height];
  const nx = surface.x.length;
  const size = Math.min(0.012, 0.6 / nx);
  const runs = [];
  surface.y.forEach((b, j) => {
    surface.x.forEach((a, i) => {
      const k = j * nx + i;
      if (surface.done[k] && Number.isFinite(values[k])) return;
      const [u, v] = heights.scenePoint(a, b, 0);
      const at = (du, dv) => [u + du * size, v + dv * size, FLOOR];
      if (surface.done[k]) {
        const ink = [0.85, 0.15, 0.12, 1];
        runs.push({ points: [at(-1, -1), at(1, 1)], ink }, { points: [at(-1, 1), at(1, -1)], ink });
      } else {
        const ink = [0.55, 0.55, 0.55, 1];
        runs.push({ points: [at(-1, -1), at(1, -1), at(1, 1), at(-1, 1), at(-1, -1)], ink });
      }
    });
  });
  return runs;
}

/** The grid of the cells that were computed, on the surface; a cross at each of them if others are interpolated. */
export function wires(heights) {
  const { surface } = heights;
  const lines = runCollector([0.05, 0.05, 0.1, 1]);
  const xs = surface.columns.map((k) => surface.x[k]);
  const ys = surface.rows.map((k) => surface.y[k]);
  if (surface.interpolated.some((v) => v)) crosses(heights, xs, ys, lines);
  else {
    for (const b of ys) wire(xs, (a) => heights.scenePoint(a, b), lines);
    for (const a of xs) wire(ys, (b) => heights.scenePoint(a, b), lines);
  }
  return lines.runs;
}

/** A line on the surface through nodes, four pieces between two of them. */
function wire(nodes, point, lines) {
  const pieces = 4;
  const take = (v) => {
    const p = point(v);
    lines.take(p);
  };
  for (let k = 0; k + 1 < nodes.length; k++) {
    for (let n = 0; n < pieces; n++) take(nodes[k] + ((nodes[k + 1] - nodes[k]) * n) / pieces);
  }
  take(nodes[nodes.length - 1]);
  lines.end();
}

function crosses(heights, xs, ys, lines) {
  const { surface } = heights;
  const arm = (nodes, k) => {
    const near = [Math.max(0, k - 1), Math.min(nodes.length - 1, k + 1)];
    return near.map((other) => 0.75 * nodes[k] + 0.25 * nodes[other]);
  };
  surface.rows.forEach((row, j) => {
    surface.columns.forEach((column, i) => {
      if (surface.interpolated[row * surface.x.length + column]) return;
      wire(arm(xs, i), (u) => heights.scenePoint(u, ys[j]), lines);
      wire(arm(ys, j), (u) => heights.scenePoint(xs[i], u), lines);
    });
  });
}

/**
 * A path on the surface through points x, y, x, y, ...; broken where the surface is not known. Points nearer than a pixel or so to
 * the last one are left out: an optimizer that has come to rest makes hundreds of them.
 */
export function pathOn(heights, points, ink) {
  const lines = runCollector(ink);
  const count = points.length / 2;
  let last = null;
  const take = (p, end) => {
    if (p && last && !end && Math.hypot(p[0] - last[0], p[1] - last[1], p[2] - last[2]) < CLOSE) return;
    lines.take(p);
    last = p;
  };
  for (let k = 0; k < count; k++) {
    const from = k === 0 ? 0 : 2 * (k - 1);
    for (const share of k === 0 ? [1] : [0.25, 0.5, 0.75, 1]) {
      const a = points[from] + share * (points[2 * k] - points[from]);
      const b = points[from + 1] + share * (points[2 * k + 1] - points[from + 1]);
      take(heights.scenePoint(a, b), k === count - 1 && share === 1);
    }
  }
  lines.end();
  return lines.runs;
}

const DARK = [0.1, 0.1, 0.12]; // with a light seam it stands out on every ground

/** The path of a training, and stems from it to the checkpoints' own losses. */
export function trajectoryRuns(heights) {
  const { trajectory } = heights.surface;
  if (!trajectory) return [];
  const ink = DARK;
  const runs = pathOn(heights, Float64Array.from(trajectory.x.flatMap((a, k) => [a, trajectory.y[k]])), [...ink, 1]);
  trajectory.x.forEach((a, k) => {
    const on = heights.scenePoint(a, trajectory.y[k]);
    const own = heights.ofCheckpoint(k);
    if (on && own !== null) runs.push({ points: [on, [on[0], on[1], own * TALL]], ink: [...ink, 0.6] });
  });
  return runs;
}

/** The checkpoints of a training as balls, see `ball`. */
export function trajectoryBalls(heights, theme) {
  const { surface, model } = heights;
  const { trajectory } = surface;
  if (!trajectory) return [];
  return trajectory.x.flatMap((a, k) => {
    const p = heights.scenePoint(a, trajectory.y[k], heights.ofCheckpoint(k) ?? undefined);
    if (!p) return [];
    const ink = k === model.state.epoch ? byteColour(theme.accent) : inkOf(model.map(), clamp(p[2] / TALL, 0, 1));
    return ball(p, ink);
  });
}

/** The cut through the start, on the surface. */
export function cutRuns(heights, theme) {
  const { surface, model } = heights;
  const { state } = model;
  const angle = (state.angle * Math.PI) / 180;
  const lines = runCollector([...byteColour(theme.accent), 1]);
  for (const { r } of cutThrough(surface, state.height, [state.x, state.y], state.angle, 200)) {
    const p = heights.scenePoint(state.x + r * Math.cos(angle), state.y + r * Math.sin(angle));
    lines.take(p);
  }
  lines.end();
  return lines.runs;
}
