// A surface with its arrays decoded, its coordinates and its interpolants.

import { decoded } from "./bytes.js";
import { makeInterpolant } from "./interpolant.js";

/** A surface as the page's data has it, with its arrays. Interpolants are made when they are first asked for. */
export function openSurface(raw) {
  const flat = raw.y === null;
  const y = flat ? [0] : raw.y;
  const fields = {};
  for (const [name, field] of Object.entries(raw.fields)) {
    const values = decoded(field.values, name.endsWith("_se") ? Float32Array : Float64Array);
    const contours = (field.contours || []).map(({ level, runs, points }) => {
      const numbers = decoded(points, Uint16Array);
      let at = 0;
      const lines = runs.map((count) => {
        const line = [];
        for (let k = 0; k < count; k++, at += 2) line.push([numbers[at] / 65535, numbers[at + 1] / 65535]);
        return line;
      });
      return { level, lines };
    });
    fields[name] = { ...field, values, contours, interpolant: null };
  }
  const trajectory = raw.trajectory && { ...raw.trajectory };
  if (trajectory?.loss) trajectory.loss = trajectory.loss.map((v) => (v === null ? null : Number(v)));
  return {
    ...raw,
    y,
    flat,
    fields,
    trajectory,
    done: decoded(raw.done, Uint8Array),
    interpolated: decoded(raw.interpolated, Uint8Array),
  };
}

/** The interpolant of a field on the part of the grid that is complete. */
export function interpolantOf(surface, name) {
  const field = surface.fields[name];
  if (!field.interpolant) {
    const x = Float64Array.from(surface.columns, (k) => surface.x[k]);
    const y = Float64Array.from(surface.rows, (k) => surface.y[k]);
    const values = new Float64Array(x.length * y.length);
    surface.rows.forEach((row, j) => {
      surface.columns.forEach((column, i) => {
        values[j * x.length + i] = field.values[row * surface.x.length + column];
      });
    });
    field.interpolant = makeInterpolant(x, y, values, field.log);
  }
  return field.interpolant;
}

/** Half the widths of the box that shows a plane: the longer side is 1; no side is less than a third. */
export function boxOf(surface) {
  const width = surface.x[surface.x.length - 1] - surface.x[0];
  const height = surface.y[surface.y.length - 1] - surface.y[0];
  if (surface.flat || !(width > 0 && height > 0)) return [1, 1];
  const ratio = Math.min(3, Math.max(1 / 3, height / width));
  return ratio < 1 ? [1, ratio] : [1 / ratio, 1];
}

/** Shares of the axes, in [0, 1], to coordinates in the plane and back. */
export function toPlane(surface, s, t) {
  const { x, y } = surface;
  return [x[0] + s * (x[x.length - 1] - x[0]), y[0] + t * (y[y.length - 1] - y[0])];
}

export function toShare(surface, a, b) {
  const { x, y } = surface;
  const height = y[y.length - 1] - y[0];
  return [(a - x[0]) / (x[x.length - 1] - x[0]), height > 0 ? (b - y[0]) / height : 0.5];
}

/** The numbers of the nearest cell. */
export function nearestCell(surface, a, b) {
  const nearest = (nodes, v) => {
    let best = 0;
    for (let k = 1; k < nodes.length; k++) if (Math.abs(nodes[k] - v) < Math.abs(nodes[best] - v)) best = k;
    return best;
  };
  return [nearest(surface.x, a), nearest(surface.y, b)];
}
