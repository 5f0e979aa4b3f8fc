// Fingers on a picture: what is a tap, and when the page stays where it is.

export const NEAR = 18; // pixels from the start within which a press moves it
export const STILL = 8; // pixels of movement up to which the press of a finger is a tap

/** Keep the page from scrolling or zooming while a picture uses the fingers: two of them, or one that moves something. */
export function keepPage(event, used) {
  if (event.cancelable && (used || event.touches.length > 1)) event.preventDefault();
}
