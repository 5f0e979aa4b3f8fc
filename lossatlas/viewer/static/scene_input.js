// Pointer, wheel and keys over the scene: they turn, move and zoom it, and choose a start.

import { element } from "./elements.js";
import { toScreen } from "./projection.js";
import { keepPage, NEAR, STILL } from "./touch.js";

const CLICK = 4; // pixels of movement up to which the press of a mouse is a click
const TURNS = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] }; // degrees
const HINT = "Ctrl + wheel zooms, or click the picture first";
const HINT_FOR = 1600; // milliseconds

export function listenToScene(app, scene) {
  const { root } = scene;
  const drag = new Drag(app, scene);
  root.style.touchAction = "pan-y";
  root.addEventListener("touchmove", (event) => keepPage(event, drag.movesStart || drag.turns), { passive: false });
  root.addEventListener("pointerdown", (event) => drag.begin(event));
  root.addEventListener("pointermove", (event) => drag.move(event));
  root.addEventListener("pointerup", (event) => drag.end(event, true));
  root.addEventListener("pointercancel", (event) => drag.end(event, false));
  root.addEventListener("pointerleave", () => app.pointAt(null));
  root.addEventListener("keydown", (event) => turnByKey(app, event));
  listenToWheel(app, root);
}

/** The wheel zooms with Ctrl or Meta, or after a click on the scene until the pointer leaves it; otherwise the page scrolls. */
function listenToWheel(app, root) {
  const hint = element("p", { class: "wheel-hint", hidden: true }, HINT);
  let clicked = false;
  let timer = 0;
  root.append(hint);
  root.addEventListener("pointerdown", () => {
    clicked = true;
  });
  root.addEventListener("pointerleave", () => {
    clicked = false;
    hint.hidden = true;
  });
  root.addEventListener(
    "wheel",
    (event) => {
      const zooms = clicked || event.ctrlKey || event.metaKey;
      hint.hidden = zooms;
      clearTimeout(timer);
      timer = setTimeout(() => {
        hint.hidden = true;
      }, HINT_FOR);
      if (!zooms) return;
      event.preventDefault();
      app.zoom(Math.exp(event.deltaY * (event.ctrlKey ? 0.004 : 0.001)));
      app.remember();
    },
    { passive: false },
  );
}

function turnByKey(app, event) {
  const turn = TURNS[event.key];
  if (!turn) return;
  event.preventDefault();
  app.turn(...turn);
  app.remember();
}

/** One pointer turns the scene or moves the start; two zoom and move it. */
class Drag {
  constructor(app, scene) {
    this.app = app;
    this.scene = scene;
    this.pointers = new Map();
    this.moved = 0;
    this.movesStart = false;
    this.turns = false;
  }

  begin(event) {
    if (event.button > 0) return;
    const { pointers, scene } = this;
    if (event.pointerType !== "touch") scene.root.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 1) this.moved = 0;
    this.turns = false;
    this.movesStart = pointers.size === 1 && this.isNearStart(event);
    this.from = [event.clientX, event.clientY];
    this.still = event.pointerType === "touch" ? STILL : CLICK;
  }

  isNearStart(event) {
    const { showsStart, state } = this.app.model;
    const { x, y } = state;
    const p = showsStart && this.scene.heights.scenePoint(x, y);
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
    const [spread, middle] = [this.spread(), this.middle()];
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    this.moved += Math.abs(dx) + Math.abs(dy);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size === 2) this.spreadAndMove(spread, middle);
    else if (this.movesStart) this.chooseStart(event);
    else if (this.isTurned(event)) this.turnOrMove(event, dx, dy);
  }

  /** One pointer turns the scene, and moves it with the Shift key. */
  turnOrMove({ shiftKey }, dx, dy) {
    if (shiftKey) this.app.pan(dx, dy, this.scene.tallness());
    else this.app.turn(-dx * 0.4, dy * 0.4);
  }

  /** Two pointers zoom by their distance and move the scene with the point between them. */
  spreadAndMove(spread, middle) {
    this.moved = Infinity; // no tap any more
    this.app.zoom(spread / Math.max(1, this.spread()));
    const [x, y] = this.middle();
    this.app.pan(x - middle[0], y - middle[1], this.scene.tallness());
  }

  /** True once a pointer turns the scene; that of a finger has to go sideways first, since otherwise the page scrolls. */
  isTurned(event) {
    const [dx, dy] = [event.clientX - this.from[0], event.clientY - this.from[1]];
    const sideways = event.pointerType !== "touch" || Math.abs(dx) > Math.abs(dy);
    this.turns ||= this.moved > this.still && sideways;
    return this.turns;
  }

  /** The first and the last pointer, which are one if there is one. */
  ends() {
    const points = [...this.pointers.values()];
    return [points[0], points[points.length - 1]];
  }

  /** Distance of two pointers; 0 if there is one. */
  spread() {
    const [a, b] = this.ends();
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  }

  /** The point between two pointers. */
  middle() {
    const [a, b] = this.ends();
    return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  }

  /** Take the point under the pointer as the start; false if there is none. */
  chooseStart(event) {
    const p = this.scene.pointUnder(event);
    if (p) this.app.startAt(p);
    return p !== null;
  }

  end(event, finished) {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size > 0) return;
    const { movesStart, turns } = this;
    this.movesStart = false;
    this.turns = false;
    if (!finished) return;
    if (movesStart) this.app.started();
    else if (turns || this.moved > this.still) this.app.remember();
    else if (this.chooseStart(event)) this.app.started();
  }
}
