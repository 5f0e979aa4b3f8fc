// A surface with its arrays decoded, its coordinates and its interpolants.

import { decoded } from "./bytes.js";
import { makeInterpolant } from "./interpolant.js";
import { text } from "./numbers.js";

/**
 * A surface of the page's data with its arrays decoded. Interpolants are computed when they are first needed. A volume shows one
 * of its planes, see `showPlane`; z is then the list of their coordinates, otherwise null.
 */
export function openSurface(raw) {
  const flat = raw.y === null;
  const { planes = [raw], ...rest } = raw;
  const surface = {
    ...rest,
    y: flat ? [0] : raw.y,
    flat,
    trajectory: raw.trajectory && openTrajectory(raw.trajectory),
    planes: planes.map((plane) => ({ raw: plane, opened: null })),
  };
  showPlane(surface, 0);
  return surface;
}

/** Show the plane of a volume that is nearest to z; returns its coordinate, 0 where there is no volume. */
export function showPlane(surface, z) {
  const k = surface.z ? nearestOf(surface.z, z) : 0;
  Object.assign(surface, opened(surface.planes[k]), { shownPlane: k });
  return surface.z ? surface.z[k] : 0;
}

function opened(plane) {
  plane.opened ??= openCells(plane.raw);
  return plane.opened;
}

/** The planes of a volume, each as a surface. */
export const planesOf = (surface) => surface.planes.map((plane) => ({ ...surface, ...opened(plane) }));

/** What a plane is called in its volume; "" outside of one. */
export const planeName = ({ z, shownPlane }) => (z ? `z = ${text(z[shownPlane])}` : "");

/** The cells of a plane or a curve. */
function openCells({ rows, columns, cells, done, interpolated, fields }) {
  return {
    rows,
    columns,
    cells,
    done: decoded(done, Uint8Array),
    interpolated: decoded(interpolated, Uint8Array),
    fields: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, openField(field)])),
  };
}

function openField(field) {
  const values = decoded(field.values, field.single ? Float32Array : Float64Array);
  return { ...field, values, contours: (field.contours || []).map(openContour), interpolant: null };
}

/** What the axes of a plane are, in full; "" where they are x and y. */
export function axesInWords({ full_axes: [x, y] }) {
  return x === "x" && y === "y" ? "" : ` The axis x is: ${x}. The axis y is: ${y}.`;
}

/** A contour as lines of points [s, t], shares of the axes. */
function openContour({ level, runs, points }) {
  const shares = Array.from(decoded(points, Uint16Array), (number) => number / 65535);
  let at = 0;
  const next = () => [shares[at++], shares[at++]];
  return { level, lines: runs.map((count) => Array.from({ length: count }, next)) };
}

/** Losses are numbers, "Infinity", or null where they are not known. */
function openTrajectory(raw) {
  return { ...raw, loss: raw.loss?.map((v) => (v === null ? null : Number(v))) };
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

/** The point of the plane at shares of the axes, in [0, 1]. */
export function toPlane(surface, s, t) {
  const { x, y } = surface;
  return [x[0] + s * (x[x.length - 1] - x[0]), y[0] + t * (y[y.length - 1] - y[0])];
}

/** The inverse of `toPlane`. */
export function toShare(surface, a, b) {
  const { x, y } = surface;
  const height = y[y.length - 1] - y[0];
  return [(a - x[0]) / (x[x.length - 1] - x[0]), height > 0 ? (b - y[0]) / height : 0.5];
}

/** The number of the node nearest to v. */
function nearestOf(nodes, v) {
  let best = 0;
  for (let k = 1; k < nodes.length; k++) if (Math.abs(nodes[k] - v) < Math.abs(nodes[best] - v)) best = k;
  return best;
}

/** The column and the row of the nearest cell. */
export const nearestCell = (surface, a, b) => [nearestOf(surface.x, a), nearestOf(surface.y, b)];
