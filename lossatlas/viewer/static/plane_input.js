// Pointer and keys over a plane from above or a curve: they choose a start and show the point under the pointer.

import { clamp } from "./numbers.js";
import { toPlane, toShare } from "./surface.js";
import { keepPage, NEAR, STILL } from "./touch.js";

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

/**
 * A mouse moves the start at once. A finger moves it if it touches the start, or by a tap; a finger that goes sideways reads
 * values off, and one that goes up or down scrolls the page. view: a PlaneView or a CurveView.
 */
export function listenToPlane(app, view) {
  const { canvas } = view;
  const press = new Press(app, view);
  canvas.style.touchAction = "pan-y";
  canvas.addEventListener("touchmove", (event) => keepPage(event, press.movesStart), { passive: false });
  canvas.addEventListener("pointerdown", (event) => press.begin(event));
  canvas.addEventListener("pointermove", (event) => press.move(event));
  canvas.addEventListener("pointerup", (event) => press.end(event, true));
  canvas.addEventListener("pointercancel", (event) => press.end(event, false));
  canvas.addEventListener("pointerleave", () => app.pointAt(null));
  canvas.addEventListener("keydown", (event) => moveByKey(app, view.surface, event));
}

/** The press of one pointer, from when it goes down to when it is lifted. */
class Press {
  constructor(app, view) {
    this.app = app;
    this.view = view;
    this.from = null; // where a pointer went down: [x, y]
    this.movesStart = false;
  }

  begin(event) {
    const point = pointUnder(this.view, event, false);
    if (!point || event.button > 0 || this.from) return;
    this.from = [event.clientX, event.clientY];
    this.movesStart = event.pointerType !== "touch" || this.isNearStart(event);
    if (event.pointerType === "touch") return; // the browser may still take it for scrolling
    this.view.canvas.setPointerCapture(event.pointerId);
    this.app.startAt(point);
  }

  isNearStart(event) {
    const { x, y } = this.app.model.state;
    const point = pointUnder(this.view, event, false);
    const { width, height } = this.view.frame();
    const [from, to] = [toShare(this.view.surface, x, y), toShare(this.view.surface, ...point)];
    return Math.hypot((from[0] - to[0]) * width, (from[1] - to[1]) * height) < NEAR;
  }

  move(event) {
    if (this.from && this.movesStart) this.app.startAt(pointUnder(this.view, event, true));
    this.app.pointAt(pointUnder(this.view, event, false));
  }

  end(event, finished) {
    if (!this.from) return;
    const [x, y] = this.from;
    const tapped = !this.movesStart && Math.hypot(event.clientX - x, event.clientY - y) < STILL;
    const point = tapped && finished ? pointUnder(this.view, event, true) : null;
    if (point) this.app.startAt(point);
    if (point || (this.movesStart && finished)) this.app.started();
    if (event.pointerType === "touch") this.app.pointAt(null);
    this.from = null;
    this.movesStart = false;
  }
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
