// Pointer, wheel and keys over the scene: they turn and zoom it, and choose a start.

import { toScreen } from "./projection.js";

const NEAR = 14; // pixels from the start within which a drag moves it
const STILL = 4; // pixels of movement up to which a press is a click
const TURNS = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] }; // degrees

export function listenToScene(app, scene) {
  const { root } = scene;
  const drag = new Drag(app, scene);
  root.addEventListener("pointerdown", (event) => drag.begin(event));
  root.addEventListener("pointermove", (event) => drag.move(event));
  root.addEventListener("pointerup", (event) => drag.end(event, true));
  root.addEventListener("pointercancel", (event) => drag.end(event, false));
  root.addEventListener("pointerleave", () => app.pointAt(null));
  root.addEventListener("wheel", (event) => wheel(app, event), { passive: false });
  root.addEventListener("keydown", (event) => turnByKey(app, event));
}

function wheel(app, event) {
  event.preventDefault();
  app.zoom(Math.exp(event.deltaY * 0.001));
  app.remember();
}

function turnByKey(app, event) {
  const turn = TURNS[event.key];
  if (!turn) return;
  event.preventDefault();
  app.turn(...turn);
  app.remember();
}

/** One pointer turns the scene or moves the start; two zoom. */
class Drag {
  constructor(app, scene) {
    this.app = app;
    this.scene = scene;
    this.pointers = new Map();
    this.moved = 0;
    this.movesStart = false;
  }

  begin(event) {
    if (event.button > 0) return;
    this.scene.root.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.moved = 0;
    this.movesStart = this.pointers.size === 1 && this.isNearStart(event);
  }

  isNearStart(event) {
    const { x, y } = this.app.model.state;
    const p = this.scene.heights.scenePoint(x, y);
    if (!p) return false;
    const view = this.scene.view();
    const [left, top] = toScreen(view.matrix, p, view.width, view.height);
    const [px, py] = this.scene.pixelOf(event);
    return Math.hypot(px - left, py - top) < NEAR;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.app.pointAt(this.scene.pointUnder(event));
      return;
    }
    const spread = this.spread();
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    this.moved += Math.abs(dx) + Math.abs(dy);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size === 2) this.app.zoom(spread / Math.max(1, this.spread()));
    else if (this.movesStart) this.chooseStart(event);
    else if (this.moved > STILL) this.app.turn(-dx * 0.4, dy * 0.4);
  }

  /** Distance of two pointers; 0 if there is one. */
  spread() {
    const points = [...this.pointers.values()];
    const [a, b] = [points[0], points[points.length - 1]];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  }

  /** Take the point under the pointer as the start; false if there is none. */
  chooseStart(event) {
    const p = this.scene.pointUnder(event);
    if (p) this.app.startAt(p);
    return p !== null;
  }

  end(event, finished) {
    if (!this.pointers.delete(event.pointerId) || !finished || this.pointers.size > 0) return;
    if (this.movesStart) this.app.started();
    else if (this.moved > STILL) this.app.remember();
    else if (this.chooseStart(event)) this.app.started();
  }
}
