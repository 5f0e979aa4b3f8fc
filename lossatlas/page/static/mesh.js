// Arrays of vertices for the scene: height fields and lines.

/** Numbers of a segment: two points and a colour. */
export const LINE_FLOATS = 10;

/**
 * The vertices of a height field on a fine grid: Float32Array of u, v, height, colour, normal for each point that is known,
 * and the triangles between them. size: [nu, nv]; half: half the box's widths [eu, ev]; sample(s, t) with s and t in
 * [0, 1] gives [height, colour, dheight/ds, dheight/dt] or null.
 */
export function heightMesh(size, half, tall, sample) {
  const [nu, nv] = size;
  const vertices = new Float32Array(nu * nv * 7);
  const known = new Uint8Array(nu * nv);
  for (let j = 0; j < nv; j++) {
    for (let i = 0; i < nu; i++) {
      const [s, t] = [i / (nu - 1), j / (nv - 1)];
      const found = sample(s, t);
      if (!found) continue;
      const at = j * nu + i;
      known[at] = 1;
      const slopeU = (found[2] * tall) / (2 * half[0]);
      const slopeV = (found[3] * tall) / (2 * half[1]);
      const length = Math.hypot(slopeU, slopeV, 1);
      const values = [(2 * s - 1) * half[0], (2 * t - 1) * half[1], found[0], found[1]];
      vertices.set([...values, -slopeU / length, -slopeV / length, 1 / length], 7 * at);
    }
  }
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
  return { vertices, triangles: triangles.slice(0, count) };
}

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
