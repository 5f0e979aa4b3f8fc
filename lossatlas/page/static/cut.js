// The values along a line through a point, and the curvature there.

import { curvatureAlong, evaluate } from "./interpolant.js";
import { interpolantOf } from "./surface.js";

/** The values of a field along a line through a point at an angle, as far as the plane goes: [{r, value, curvature}]. */
export function cutThrough(surface, name, point, degrees, count = 240) {
  const own = interpolantOf(surface, name);
  const angle = surface.flat ? 0 : (degrees * Math.PI) / 180;
  const d = [Math.cos(angle), Math.sin(angle)];
  const { x, y } = surface;
  let [low, high] = [-Infinity, Infinity];
  for (const [p, v, nodes] of [
    [point[0], d[0], x],
    [point[1], d[1], y],
  ]) {
    if (surface.flat && nodes === y) continue;
    if (Math.abs(v) < 1e-12) continue;
    const ends = [(nodes[0] - p) / v, (nodes[nodes.length - 1] - p) / v];
    low = Math.max(low, Math.min(...ends));
    high = Math.min(high, Math.max(...ends));
  }
  const found = [];
  if (!(low < high)) return found;
  for (let k = 0; k <= count; k++) {
    const r = low + ((high - low) * k) / count;
    const at = evaluate(own, point[0] + r * d[0] * (1 - 1e-12), point[1] + r * d[1] * (1 - 1e-12));
    found.push({ r, value: at ? at[0] : NaN });
  }
  return found;
}

/** Second derivative of a field at a point along an angle. */
export function bend(surface, name, point, degrees) {
  const angle = surface.flat ? 0 : (degrees * Math.PI) / 180;
  const spacing = (surface.x[surface.x.length - 1] - surface.x[0]) / Math.max(1, surface.columns.length - 1);
  const own = interpolantOf(surface, name);
  return curvatureAlong(own, point[0], point[1], Math.cos(angle), Math.sin(angle), spacing / 2);
}
