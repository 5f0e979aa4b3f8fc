// Light on a height field, computed once: how much of the sky a point sees, and whether the sun reaches it. Both follow from
// horizons, the steepest lines of sight to other points of the field.

/** Where the sun stands: a unit vector. */
export const SUN = unit([-0.62, -0.3, 0.75]);

const SKY = Array.from({ length: 8 }, (_, k) => [Math.cos((k * Math.PI) / 4), Math.sin((k * Math.PI) / 4)]);
const NEAR = [1, 2, 4, 7, 12, 20]; // steps to the points of a horizon, in widths of the mesh
const FAR = [1.5, 3, 5, 7, 10, 14, 19, 26, 36, 50];
const PENUMBRA = [0.7, 1.25]; // of the sun's slope: horizons that leave all of its light, and none

function unit(v) {
  const length = Math.hypot(...v);
  return v.map((x) => x / length);
}

/**
 * The light on a mesh of [nu, nv] points over [-half, half] with the heights z, NaN where nothing is known: [sky, sun], two
 * arrays from 0, none, to 1, all of it.
 */
export function lightOn([nu, nv], half, z) {
  const field = { nu, nv, z, du: (2 * half[0]) / (nu - 1), dv: (2 * half[1]) / (nv - 1) };
  const rays = SKY.map((direction) => rayOf(field, direction, NEAR));
  const flat = Math.hypot(SUN[0], SUN[1]);
  const toSun = rayOf(field, [SUN[0] / flat, SUN[1] / flat], FAR);
  const slope = SUN[2] / flat;
  const [sky, sun] = [new Float32Array(nu * nv), new Float32Array(nu * nv)];
  for (let at = 0; at < nu * nv; at++) {
    let hidden = 0;
    for (const ray of rays) {
      const rise = horizon(field, ray, at);
      hidden += rise / Math.sqrt(1 + rise * rise);
    }
    sky[at] = 1 - hidden / rays.length;
    const share = (horizon(field, toSun, at) / slope - PENUMBRA[0]) / (PENUMBRA[1] - PENUMBRA[0]);
    const soft = Math.min(1, Math.max(0, share));
    sun[at] = 1 - soft * soft * (3 - 2 * soft);
  }
  return [sky, sun];
}

/** The points along a direction as steps of the mesh: [columns, rows, distance] of each. */
function rayOf({ du, dv }, [a, b], steps) {
  const width = Math.min(du, dv);
  return steps.map((count) => {
    const [i, j] = [Math.round((count * width * a) / du), Math.round((count * width * b) / dv)];
    return [i, j, Math.hypot(i * du, j * dv)];
  });
}

/** The steepest slope from a point of the mesh to those of a ray; 0 if none is higher. */
function horizon({ nu, nv, z }, ray, at) {
  const [i, j, here] = [at % nu, Math.floor(at / nu), z[at]];
  let most = 0;
  for (const [columns, rows, distance] of ray) {
    const [x, y] = [i + columns, j + rows];
    if (x < 0 || y < 0 || x >= nu || y >= nv) break;
    const rise = (z[y * nu + x] - here) / distance;
    if (rise > most) most = rise;
  }
  return most;
}
