// How large the scene is drawn and where: as large as it can be without lying under what stands on it, its legend, its map and
// its name, however it is turned.

import { FLOOR, TALL } from "./heights.js";
import { looked } from "./projection.js";

const AROUND = 32; // points of a rim
const GAP = 6; // pixels between the scene and what stands on it
const ZOOMS = [0.25, 1.3]; // shares of the size at which the lens alone fills the height
const HALVINGS = 13;
const STEPS = 18; // of the search for the best middle
const GOLDEN = 0.618;
const BY_MIDDLE = 0.02; // how much smaller the scene may be to stand nearer to the middle
const CORNER = -0.7; // share of the radius up to which the corner with the vertical axis can stand
const ROOM = { floor: [-30, -6, 30, 28], axis: [-48, -26, 48, 6], other: [-10, -10, 10, 10] }; // pixels [left, top, right, bottom]

/** The rims of the scene as places [x, y] of the lens with the room that axes take there; radius: of the corners. */
function rimsOf(radius, camera) {
  return [FLOOR, TALL].flatMap((z) =>
    Array.from({ length: AROUND }, (_, k) => {
      const angle = (2 * Math.PI * k) / AROUND;
      const [back, right] = [Math.cos(angle), Math.sin(angle)]; // as the camera at the azimuth 0 sees them
      const [x, y] = looked({ ...camera, azimuth: 0 }, [radius * back, radius * right, z]);
      return { x, y, room: z === FLOOR ? ROOM.floor : right < CORNER ? ROOM.axis : ROOM.other };
    }),
  );
}

/** The heights [low, high] at which the middle of the scene can stand; low > high if there are none. */
function heightsAt(rims, unit, middle, [width, height], obstacles) {
  let [low, high] = [0, height];
  for (const { x, y, room } of rims) {
    const [left, right] = [middle + unit * x + room[0], middle + unit * x + room[2]];
    if (left < 0 || right > width) return [1, 0];
    const [above, below] = [room[1] - unit * y, room[3] - unit * y];
    low = Math.max(low, -above);
    high = Math.min(high, height - below);
    for (const box of obstacles) {
      if (box.right + GAP <= left || box.left - GAP >= right) continue;
      if (box.top + box.bottom < height) low = Math.max(low, box.bottom + GAP - above);
      else high = Math.min(high, box.top - GAP - below);
    }
  }
  return [low, high];
}

/** The largest zoom with which the scene has a place around a vertical line; 0 if none has. */
function zoomAt(rims, middle, size, obstacles) {
  const fits = (zoom) => {
    const [low, high] = heightsAt(rims, (zoom * size[1]) / 2, middle, size, obstacles);
    return low <= high;
  };
  let [small, large] = ZOOMS;
  if (!fits(small)) return 0;
  for (let k = 0; k < HALVINGS; k++) {
    const zoom = (small + large) / 2;
    if (fits(zoom)) small = zoom;
    else large = zoom;
  }
  return small;
}

/**
 * The frame {zoom, shift: [right, up]} of a scene, see `viewProjection`; null if nothing leaves it room. radius: of the corners
 * of the plane; camera: at its usual distance; size: [width, height] in pixels; obstacles: rectangles in it.
 */
export function frameFor(radius, camera, size, obstacles) {
  const [width, height] = size;
  const rims = rimsOf(radius, camera);
  const worth = (middle) => zoomAt(rims, middle, size, obstacles) * (1 - BY_MIDDLE * Math.abs((2 * middle) / width - 1));
  const middle = highest(worth, 0.2 * width, 0.8 * width);
  const zoom = zoomAt(rims, middle, size, obstacles);
  if (!zoom) return null;
  const [low, high] = heightsAt(rims, (zoom * height) / 2, middle, size, obstacles);
  return { zoom, shift: [(2 * middle) / width - 1, 1 - (low + high) / height] };
}

/** Where a function of one maximum has it, by golden section. */
function highest(f, from, to) {
  let [low, high] = [from, to];
  let [a, b] = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
  let [fa, fb] = [f(a), f(b)];
  for (let k = 0; k < STEPS; k++) {
    if (fa >= fb) {
      [high, b, fb] = [b, a, fa];
      a = high - GOLDEN * (high - low);
      fa = f(a);
    } else {
      [low, a, fa] = [a, b, fb];
      b = low + GOLDEN * (high - low);
      fb = f(b);
    }
  }
  return (low + high) / 2;
}
