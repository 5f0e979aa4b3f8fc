// Pixels of a canvas for each pixel of the page: those of the screen, or more while a picture is made.

let wanted = 0;

/** The pixels of a canvas for one of the page, at most `most` on a screen. */
export const pixelRatio = (most) => wanted || Math.min(most, window.devicePixelRatio || 1);

/** Call a function while every canvas has `ratio` pixels for one of the page. */
export function atRatio(ratio, draw) {
  wanted = ratio;
  try {
    return draw();
  } finally {
    wanted = 0;
  }
}
