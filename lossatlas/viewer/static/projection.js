// The camera: orbit around the middle of the scene, points to the screen and back. Matrices are column by column, as GL
// wants them. The scene is the box [-1, 1] x [-1, 1] in the plane and about [0, 1] in height, z upwards.

import { clamp } from "./numbers.js";

const FIELD_OF_VIEW = 30; // degrees
const ROOM = 1.5; // width over height below which the width decides how large the scene is

function multiply(a, b) {
  const out = new Float64Array(16);
  for (let c = 0; c < 4; c++) {
    for (let r = 0; r < 4; r++) {
      for (let k = 0; k < 4; k++) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
    }
  }
  return out;
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** The axes of a camera: unit vectors to its right, upwards, and back from what it looks at. */
function axesOf({ azimuth, elevation }) {
  const [a, e] = [azimuth, elevation].map((degrees) => (degrees * Math.PI) / 180);
  const back = [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)];
  const right = [-Math.sin(a), Math.cos(a), 0];
  const up = [
    back[1] * right[2] - back[2] * right[1],
    back[2] * right[0] - back[0] * right[2],
    back[0] * right[1] - back[1] * right[0],
  ];
  return { right, up, back };
}

/** The frame of a scene that stands alone. */
const usualFrame = (aspect) => ({ zoom: Math.min(1, aspect / ROOM), shift: [0, 0] });

/**
 * camera: {azimuth, elevation (degrees), distance, target: [u, v, height], the point that is looked at}; aspect: width / height;
 * frame: {zoom, shift}, the size of the scene and where its middle stands, [right, up] in shares of half the canvas.
 */
export function viewProjection(camera, aspect, frame = usualFrame(aspect)) {
  const { right, up, back } = axesOf(camera);
  const { distance, target } = camera;
  const eye = target.map((value, k) => value + back[k] * distance);
  const view = [
    ...[right[0], up[0], back[0], 0],
    ...[right[1], up[1], back[1], 0],
    ...[right[2], up[2], back[2], 0],
    ...[-dot(right, eye), -dot(up, eye), -dot(back, eye), 1],
  ];
  return { matrix: multiply(lens(aspect, frame), view), eye, back, right, up, zoom: frame.zoom };
}

/** The place [x, y] of a point of the scene in the picture of the lens, whose height is from -1 to 1 at a zoom of 1. */
export function looked(camera, p) {
  const { right, up, back } = axesOf(camera);
  const d = p.map((value, k) => value - camera.target[k]);
  const f = 1 / Math.tan((FIELD_OF_VIEW * Math.PI) / 360);
  const depth = camera.distance - dot(back, d);
  return [(f * dot(right, d)) / depth, (f * dot(up, d)) / depth];
}

/** The point [u, v] to look at after the scene was dragged by pixels; height: of the lens's picture at this zoom, in pixels. */
export function panned(camera, dx, dy, height) {
  const { right, up } = axesOf(camera);
  const size = (2 * camera.distance * Math.tan((FIELD_OF_VIEW * Math.PI) / 360)) / height; // of a pixel
  const length = Math.hypot(up[0], up[1]);
  const forth = length > 1e-6 ? [up[0] / length, up[1] / length] : [0, 0];
  return [0, 1].map((k) => camera.target[k] + size * (forth[k] * dy - right[k] * dx));
}

/** The perspective projection. */
function lens(aspect, { zoom, shift }) {
  const f = 1 / Math.tan((FIELD_OF_VIEW * Math.PI) / 360);
  const [near, far] = [0.1, 30];
  return [
    ...[(f * zoom) / aspect, 0, 0, 0],
    ...[0, f * zoom, 0, 0],
    ...[-shift[0], -shift[1], (far + near) / (near - far), -1],
    ...[0, 0, (2 * far * near) / (near - far), 0],
  ];
}

/** [x, y] in pixels and the depth in [-1, 1] of a point of the scene. */
export function toScreen(matrix, p, width, height) {
  const m = matrix;
  const clip = [0, 1, 2, 3].map((r) => m[r] * p[0] + m[4 + r] * p[1] + m[8 + r] * p[2] + m[12 + r]);
  return [((clip[0] / clip[3] + 1) / 2) * width, ((1 - clip[1] / clip[3]) / 2) * height, clip[2] / clip[3]];
}

/** The inverse of a 4 x 4 matrix, by elimination. */
function inverse(matrix) {
  const rows = [0, 1, 2, 3].map((r) => [0, 1, 2, 3, 4, 5, 6, 7].map((c) => (c < 4 ? matrix[4 * c + r] : +(c - 4 === r))));
  for (let k = 0; k < 4; k++) {
    let best = k;
    for (let r = k; r < 4; r++) if (Math.abs(rows[r][k]) > Math.abs(rows[best][k])) best = r;
    [rows[k], rows[best]] = [rows[best], rows[k]];
    const pivot = rows[k][k];
    rows[k] = rows[k].map((v) => v / pivot);
    for (let r = 0; r < 4; r++) {
      if (r === k) continue;
      const factor = rows[r][k];
      rows[r] = rows[r].map((v, c) => v - factor * rows[k][c]);
    }
  }
  const out = new Float64Array(16);
  for (let r = 0; r < 4; r++) for (let c = 0; c < 4; c++) out[4 * c + r] = rows[r][4 + c];
  return out;
}

/** The line of sight through a pixel: {from, to}, points of the scene on the near and the far plane. */
export function lineOfSight(matrix, px, py, width, height) {
  const back = inverse(matrix);
  const [a, b] = [(2 * px) / width - 1, 1 - (2 * py) / height];
  const [from, to] = [-1, 1].map((depth) => {
    const w = [0, 1, 2, 3].map((r) => back[r] * a + back[4 + r] * b + back[8 + r] * depth + back[12 + r]);
    return [w[0] / w[3], w[1] / w[3], w[2] / w[3]];
  });
  return { from, to };
}

/**
 * The point [u, v] at which a line of sight first meets the height field heightAt(u, v) over [-1, 1] x [-1, 1], which is NaN
 * where there is no surface; null if it meets none.
 */
export function firstHit({ from, to }, heightAt) {
  const d = [0, 1, 2].map((k) => to[k] - from[k]);
  const gap = (t) => {
    const p = [0, 1, 2].map((k) => from[k] + t * d[k]);
    const h = heightAt(clamp(p[0], -1, 1), clamp(p[1], -1, 1));
    return p[2] - h;
  };
  const [low, high] = withinSquare(from, d);
  if (!(low < high)) return null;
  const pieces = 400;
  let before = gap(low);
  for (let k = 1; k <= pieces; k++) {
    const t = low + ((high - low) * k) / pieces;
    const here = gap(t);
    if ((before >= 0 && here < 0) || (before < 0 && here >= 0)) {
      const hit = bisected(gap, t - (high - low) / pieces, t, before >= 0);
      return [from[0] + hit * d[0], from[1] + hit * d[1]];
    }
    before = here;
  }
  return null;
}

/** The interval of t in which from + t d lies over [-1, 1] x [-1, 1]; low >= high if there is none. */
function withinSquare(from, d) {
  let [low, high] = [0, 1];
  for (let k = 0; k < 2; k++) {
    const [a, b] = [(-1 - from[k]) / d[k], (1 - from[k]) / d[k]];
    low = Math.max(low, Math.min(a, b));
    high = Math.min(high, Math.max(a, b));
  }
  return [low, high];
}

/** The place between a and b where a function changes its sign; positive: its sign at a. */
function bisected(f, a, b, positive) {
  let [low, high] = [a, b];
  for (let n = 0; n < 40; n++) {
    const middle = (low + high) / 2;
    if (f(middle) >= 0 === positive) low = middle;
    else high = middle;
  }
  return low;
}
