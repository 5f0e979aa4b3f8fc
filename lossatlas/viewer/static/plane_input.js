// Pointer and keys over a plane from above or a curve: they choose a start and show the point under the pointer.

import { clamp } from "./numbers.js";
import { toPlane } from "./surface.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** The point of the plane under a pointer; outside: null, or the nearest one if it is clamped. */
function pointUnder(view, event, clamped) {
  const { surface, canvas } = view;
  const frame = view.frame();
  if (!frame) return null;
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let share = [(x - frame.left) / frame.width, surface.flat ? 0.5 : 1 - (y - frame.top) / frame.height];
  if (clamped) share = share.map((v) => clamp(v, 0, 1));
  return share.some((v) => v < 0 || v > 1) ? null : toPlane(surface, ...share);
}

/** view: a PlaneView or a CurveView. */
export function listenToPlane(app, view) {
  const { canvas } = view;
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    const p = pointUnder(view, event, false);
    if (!p || event.button > 0) return;
    dragging = true;
    canvas.setPointerCapture(event.pointerId);
    app.startAt(p);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragging) app.startAt(pointUnder(view, event, true));
    app.pointAt(pointUnder(view, event, false));
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, () => {
      if (dragging) app.started();
      dragging = false;
    });
  }
  canvas.addEventListener("pointerleave", () => app.pointAt(null));
  canvas.addEventListener("keydown", (event) => moveByKey(app, view.surface, event));
}

function moveByKey(app, surface, event) {
  const move = MOVES[event.key];
  if (!move) return;
  event.preventDefault();
  const step = (event.shiftKey ? 0.1 : 0.02) * (surface.x[surface.x.length - 1] - surface.x[0]);
  const { x, y } = app.model.state;
  app.startAt([x + move[0] * step, y + move[1] * step]);
  app.started();
}
