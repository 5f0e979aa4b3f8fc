// Heights, colours and slopes between the cells of a surface, for meshes and pictures.

import { evaluate } from "./interpolant.js";
import { clamp } from "./numbers.js";
import { slopeOfScale } from "./scale.js";
import { interpolantOf, toPlane } from "./surface.js";

/** The height, in units of the scale, at which values far above its end are drawn: enough to know where the lid begins. */
const OVER = 4;

/** How many points of a fine mesh lie along an axis of n nodes. */
const fineSize = (n) => (n - 1) * Math.max(1, Math.min(8, Math.floor(220 / Math.max(1, n - 1)))) + 1;

/** How many points of the mesh of a surface lie along its axes. */
export const meshSize = (surface) => [surface.columns, surface.rows].map((nodes) => Math.min(fineSize(nodes.length), 241));

/**
 * A function for heights, colours and slopes: sample(s, t), see heightMesh. A height below the scale, down to half its lowest
 * value, stays there; the last number of a sample is larger than 1 where the scale cuts the surface off. colour: {name, scale}
 * of the field that colours; null if it is the height.
 */
export function sampler(surface, name, scale, colour) {
  const own = interpolantOf(surface, name);
  const width = surface.x[surface.x.length - 1] - surface.x[0];
  const length = surface.y[surface.y.length - 1] - surface.y[0];
  return (s, t) => {
    const point = toPlane(surface, s, t);
    const found = evaluate(own, ...point);
    if (!found || Number.isNaN(found[0])) return null;
    // A value between the cells may lie a little beyond all of them.
    const value = Math.min(scale.most, Math.max(found[0], scale.low > 0 ? scale.low / 2 : -Infinity));
    const over = Math.min(OVER, scale.height(value));
    const height = Math.min(1, over);
    const factor = value === found[0] ? slopeOfScale(scale, value) : 0;
    const shade = colour ? shadeAt(surface, colour, point) : clamp(height, 0, 1);
    return [height, shade, found[1] * factor * width, found[2] * factor * length, over];
  };
}

/** The share of its scale, 0 to 1, of the field that colours; -1 where it is not known. */
function shadeAt(surface, { name, scale }, point) {
  const found = evaluate(interpolantOf(surface, name), ...point);
  return found && !Number.isNaN(found[0]) ? clamp(scale.height(found[0]), 0, 1) : -1;
}
