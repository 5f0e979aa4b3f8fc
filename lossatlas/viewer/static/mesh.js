// Arrays of vertices for the scene: height fields and lines.

import { lightOn } from "./light.js";
import { CIRCLE } from "./marks.js";

/** Numbers of a segment: two points and a colour. */
export const LINE_FLOATS = 10;

/** Numbers of a vertex: see `vertex`. */
export const VERTEX_FLOATS = 9;

/** Numbers of a ball: see `ball`. */
export const BALL_FLOATS = 9;

/**
 * The mesh of a height field on a fine grid: {vertices, triangles}. size: [nu, nv]; half: half the box's widths [eu, ev];
 * sample(s, t) with s and t in [0, 1]: [height, colour, dheight/ds, dheight/dt, height without a lid], or null where nothing is
 * known.
 */
export function heightMesh(size, half, tall, sample) {
  const [nu, nv] = size;
  const vertices = new Float32Array(nu * nv * VERTEX_FLOATS);
  const known = new Uint8Array(nu * nv);
  const z = new Float32Array(nu * nv).fill(NaN);
  for (let at = 0; at < nu * nv; at++) {
    const [s, t] = [(at % nu) / (nu - 1), Math.floor(at / nu) / (nv - 1)];
    const found = sample(s, t);
    if (!found) continue;
    known[at] = 1;
    vertices.set(vertex(s, t, found, half, tall), VERTEX_FLOATS * at);
    z[at] = found[0] * tall;
  }
  lightOn(size, half, z).forEach((light, k) => {
    for (let at = 0; at < nu * nv; at++) vertices[VERTEX_FLOATS * at + 7 + k] = light[at];
  });
  return { vertices, triangles: trianglesOf(size, known) };
}

/** u, v, height without a lid, colour, normal; the light of the sky and of the sun follow. */
function vertex(s, t, [, colour, ds, dt, over], half, tall) {
  const slopeU = (ds * tall) / (2 * half[0]);
  const slopeV = (dt * tall) / (2 * half[1]);
  const length = Math.hypot(slopeU, slopeV, 1);
  return [(2 * s - 1) * half[0], (2 * t - 1) * half[1], over, colour, -slopeU / length, -slopeV / length, 1 / length];
}

/** The numbers of the corners of triangles, two in each square of which all corners are known. */
function trianglesOf([nu, nv], known) {
  const triangles = new Uint32Array(6 * (nu - 1) * (nv - 1));
  let count = 0;
  for (let j = 0; j + 1 < nv; j++) {
    for (let i = 0; i + 1 < nu; i++) {
      const a = j * nu + i;
      if (!(known[a] && known[a + 1] && known[a + nu] && known[a + nu + 1])) continue;
      triangles.set([a, a + 1, a + nu, a + 1, a + nu + 1, a + nu], count);
      count += 6;
    }
  }
  return triangles.slice(0, count);
}

/** The numbers of a ball or another mark at a point, in a colour [r, g, b] (0 to 1). */
export const ball = (point, ink, { points, inner, turn } = CIRCLE) => [...point, ...ink, points, inner, turn];

/** Segments for the renderer from runs of points [[x, y, z], ...] in one colour [r, g, b, a] (0 to 1). */
export function segmentsOf(runs) {
  let count = 0;
  for (const { points } of runs) count += Math.max(0, points.length - 1);
  const out = new Float32Array(count * LINE_FLOATS);
  let at = 0;
  for (const { points, ink } of runs) {
    for (let k = 0; k + 1 < points.length; k++) {
      out.set([...points[k], ...points[k + 1], ...ink], at);
      at += LINE_FLOATS;
    }
  }
  return out;
}
