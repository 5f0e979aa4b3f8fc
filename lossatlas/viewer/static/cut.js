// The values along a line through a point, and the curvature there.

import { curvatureAlong, evaluate } from "./interpolant.js";
import { interpolantOf } from "./surface.js";

/** The unit vector at an angle; along x on a curve. */
function directionOf(surface, degrees) {
  const angle = surface.flat ? 0 : (degrees * Math.PI) / 180;
  return [Math.cos(angle), Math.sin(angle)];
}

/** The values of a field along a line through a point at an angle, from edge to edge of the plane: [{r, value}]. */
export function cutThrough(surface, name, point, degrees, count = 240) {
  const own = interpolantOf(surface, name);
  const d = directionOf(surface, degrees);
  const [low, high] = endsOf(surface, point, d);
  if (!(low < high)) return [];
  return Array.from({ length: count + 1 }, (_, k) => {
    const r = low + ((high - low) * k) / count;
    const at = evaluate(own, point[0] + r * d[0] * (1 - 1e-12), point[1] + r * d[1] * (1 - 1e-12));
    return { r, value: at ? at[0] : NaN };
  });
}

/** The distances from a point, along a direction, at which the plane begins and ends. */
function endsOf(surface, point, direction) {
  let [low, high] = [-Infinity, Infinity];
  const axes = surface.flat ? [surface.x] : [surface.x, surface.y];
  axes.forEach((nodes, k) => {
    const [p, d] = [point[k], direction[k]];
    if (Math.abs(d) < 1e-12) return;
    const ends = [(nodes[0] - p) / d, (nodes[nodes.length - 1] - p) / d];
    low = Math.max(low, Math.min(...ends));
    high = Math.min(high, Math.max(...ends));
  });
  return [low, high];
}

/** Second derivative of a field at a point along an angle. */
export function bend(surface, name, point, degrees) {
  const spacing = (surface.x[surface.x.length - 1] - surface.x[0]) / Math.max(1, surface.columns.length - 1);
  const own = interpolantOf(surface, name);
  return curvatureAlong(own, ...point, ...directionOf(surface, degrees), spacing / 2);
}
