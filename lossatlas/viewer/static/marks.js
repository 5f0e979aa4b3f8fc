// The shapes of marks: stars with `points` tips at the radius 1 and notches at the radius `inner` between them, the first tip
// at the angle `turn`. A regular polygon is such a star, and a circle one with many tips.

const star = (points, inner, degrees) => ({ points, inner, turn: (degrees * Math.PI) / 180 });
const polygon = (corners, degrees) => star(corners, Math.cos(Math.PI / corners), degrees);

export const CIRCLE = polygon(32, 0);
export const SQUARE = polygon(4, 45);
export const DIAMOND = polygon(4, 0);
export const TRIANGLE = polygon(3, 90);
export const POINTING_DOWN = polygon(3, -90);
export const STAR = star(5, 0.5, 90);
export const HEXAGON = polygon(6, 0);
export const CROSS = star(4, 0.4, 45);

/** The corners [x, y] of a mark around a place of a canvas, on which y grows downwards. */
export function cornersOf({ points, inner, turn }, [x, y], radius) {
  return Array.from({ length: 2 * points }, (_, k) => {
    const angle = turn + (k * Math.PI) / points;
    const size = radius * (k % 2 ? inner : 1);
    return [x + size * Math.cos(angle), y - size * Math.sin(angle)];
  });
}
