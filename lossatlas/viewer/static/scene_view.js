// The scene of a surface: it draws meshes, lines and balls, and finds the point of the plane under the pointer.

import { byteColour, OVERLAID, WHITE } from "./colours.js";
import { element } from "./elements.js";
import { frameFor } from "./framing.js";
import { FLOOR, TALL } from "./heights.js";
import { ball, heightMesh, segmentsOf } from "./mesh.js";
import { firstHit, lineOfSight, viewProjection } from "./projection.js";
import { pointOf } from "./race.js";
import { pixelRatio } from "./resolution.js";
import { meshSize, sampler } from "./sampler.js";
import { drawSceneLabels } from "./scene_labels.js";
import { cutRuns, floorContours, floorFrame, markedCells, pathOn, trajectoryBalls, trajectoryRuns, wires } from "./scene_lines.js";
import { toPlane } from "./surface.js";

const HALO = [1, 1, 1, 1]; // around paths
const ON_THE_SCENE = ".panel h2, .note, .legend, .cube, .flat, .enlarge, .names, .hint-row"; // what the scene leaves room for

export class SceneView {
  constructor(app, heights, number, renderer) {
    this.app = app;
    this.heights = heights;
    this.number = number;
    this.renderer = renderer;
    this.kept = {}; // lines that stay until something is changed
    this.contourLevels = [];
    this.framed = ["", null]; // what the frame was found for, and the frame
    this.standing = []; // what stood on the scene then
    this.canvas = renderer.canvas;
    this.labels = element("canvas", { class: "labels" });
    this.root = element("div", { class: "solid", tabindex: 0, role: "application" }, this.canvas, this.labels);
  }

  /** The surfaces that this scene shows, with their colour maps; none if another scene shows them all. */
  layers() {
    const { model } = this.app;
    if (!model.state.overlay) return [{ surface: this.heights.surface, map: model.map() }];
    if (this.number > 0) return [];
    return model.surfaces.map((surface, k) => ({ surface, map: model.maps[OVERLAID[k % OVERLAID.length]] }));
  }

  /** Compute meshes anew, after fields, scales or colours have changed. */
  rebuild() {
    const { model } = this.app;
    const { state } = model;
    const { box, scale, surface } = this.heights;
    const layers = this.layers();
    const colour = state.overlay ? null : model.colour();
    this.kept = {};
    this.renderer.setFields(
      layers.map((layer) => ({
        ...heightMesh(meshSize(surface), box, TALL, sampler(layer.surface, state.height, scale, colour)),
        map: layer.map,
        opacity: layers.length > 1 ? 0.72 : 1,
      })),
    );
    this.contourLevels = model
      .levels()
      .map((level) => scale.height(level))
      .filter((h) => h > 1e-6 && h < 1 - 1e-6);
  }

  /** The camera and the size of the scene in pixels. */
  view() {
    const { clientWidth: width, clientHeight: height } = this.root;
    const frame = this.frame([width, height]) ?? undefined;
    return { ...viewProjection(this.app.model.camera(), width / height, frame), width, height };
  }

  /** The size and place that leave what stands on the scene free, found anew when something has moved; null if none does. */
  frame(size) {
    const { model } = this.app;
    const obstacles = this.obstacles(size);
    const wanted = JSON.stringify([size, model.state.elevation, obstacles]);
    if (this.framed[0] === wanted) return this.framed[1];
    this.standing = obstacles;
    const radius = Math.hypot(...this.heights.box);
    this.framed = [wanted, size[0] && size[1] ? frameFor(radius, model.framedCamera(), size, obstacles) : null];
    return this.framed[1];
  }

  /** Where visible parts of the page stand on the scene, in its pixels. */
  obstacles([width, height]) {
    const own = this.root.getBoundingClientRect();
    return [...this.app.stage.root.querySelectorAll(ON_THE_SCENE)]
      .filter((part) => part.checkVisibility({ visibilityProperty: true }))
      .map((part) => part.getBoundingClientRect())
      .map((box) => ({
        left: Math.round(box.left - own.left),
        right: Math.round(box.right - own.left),
        top: Math.round(box.top - own.top),
        bottom: Math.round(box.bottom - own.top),
      }))
      .filter((box) => box.right > 0 && box.bottom > 0 && box.left < width && box.top < height && box.right > box.left);
  }

  /** Pixels of the height that the lens shows at its present zoom. */
  tallness() {
    const { zoom, height } = this.view();
    return zoom * height;
  }

  /** The place of a pointer within the scene. */
  pixelOf(event) {
    const box = this.root.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** The point of the plane whose place on the surface is under a pointer; null where there is none. */
  pointUnder(event) {
    const { heights } = this;
    const view = this.view();
    const sight = lineOfSight(view.matrix, ...this.pixelOf(event), view.width, view.height);
    const hit = firstHit(sight, (u, v) => heights.zAt(u, v));
    return hit && toPlane(heights.surface, ...heights.toShares(...hit));
  }

  // Drawing -------------------------------------------------------------------------------------------------------

  draw() {
    const { app, renderer, heights } = this;
    const { model, theme } = app;
    if (model.state.overlay && this.number > 0) return;
    const ratio = pixelRatio(2);
    const view = this.view();
    if (!this.resize(view, ratio)) return;
    renderer.begin(view, byteColour(theme.ground));
    this.drawFloor(ratio);
    this.drawSurface(ratio);
    const { paths, balls } = this.race();
    const segments = segmentsOf(paths);
    renderer.drawLines(segments, { width: 5.2 * ratio, lift: 0.0012, over: HALO });
    renderer.drawLines(segments, { width: 2.8 * ratio, lift: 0.0018, hidden: 0.3 });
    this.drawTraining(ratio);
    renderer.drawBalls(new Float32Array(balls), { size: 19 * ratio, lift: 0.004, hidden: 0.35 });
    if (balls.length === 0) this.drawStart(ratio);
    this.drawHover(ratio);
    drawSceneLabels(this.labels, view, this.standing, heights, theme);
  }

  /** Give the canvas the pixels of the screen; false if there are none. */
  resize(view, ratio) {
    const { canvas } = this;
    const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (!width || !height) return false;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    return true;
  }

  /** Segments that are made once until something is changed. */
  keep(name, runs) {
    this.kept[name] ??= segmentsOf(runs());
    return this.kept[name];
  }

  drawFloor(ratio) {
    const { renderer, heights, app } = this;
    renderer.drawLines(segmentsOf(floorFrame(heights.box, [...byteColour(app.theme.frame), 1])), { width: ratio });
    if (app.model.state.lines) {
      const contours = this.keep("floor", () => floorContours(heights, this.layers()));
      renderer.drawLines(contours, { width: 1.2 * ratio });
    }
    const marks = this.keep("marks", () => markedCells(heights));
    renderer.drawLines(marks, { width: 1.6 * ratio });
  }

  drawSurface(ratio) {
    const { renderer, heights } = this;
    const { lines, wire } = this.app.model.state;
    renderer.drawFields({ tall: TALL, levels: this.contourLevels, strength: lines ? 1 : 0, cut: this.app.model.clipped });
    if (!wire) return;
    const grid = this.keep("wires", () => wires(heights));
    renderer.drawLines(grid, { width: 0.8 * ratio, lift: 0.0006, opacity: 0.55 });
  }

  /** The paths of the optimizers, and the balls at their ends. */
  race() {
    const { race, model, panels } = this.app;
    const paths = [];
    const balls = [];
    for (const { number, heights } of model.state.overlay ? panels : [this]) {
      for (const run of race.shownOn(number)) {
        const ink = byteColour(run.optimizer.color);
        paths.push(...pathOn(heights, run.points.subarray(0, 2 * (run.shown + 1)), [...ink, 1]));
        const p = heights.scenePoint(...pointOf(run));
        if (p) balls.push(...ball(p, ink, run.optimizer.mark));
      }
    }
    return { paths, balls };
  }

  /** The path of the training and the cut. */
  drawTraining(ratio) {
    const { renderer, heights } = this;
    const { theme, model } = this.app;
    const path = segmentsOf(trajectoryRuns(heights));
    renderer.drawLines(path, { width: 3.6 * ratio, lift: 0.0008, over: HALO, opacity: 0.8 });
    renderer.drawLines(path, { width: 1.8 * ratio, lift: 0.0015, hidden: 0.25 });
    if (model.state.cut) {
      renderer.drawLines(segmentsOf(cutRuns(heights, theme)), { width: 1.6 * ratio, lift: 0.001, hidden: 0.2 });
    }
    const balls = new Float32Array(trajectoryBalls(heights, theme));
    renderer.drawBalls(balls, { size: 9 * ratio, lift: 0.003, hidden: 0.25 });
  }

  drawStart(ratio) {
    if (!this.app.model.showsStart) return;
    const { x, y } = this.app.model.state;
    const start = this.heights.scenePoint(x, y);
    if (!start) return;
    this.renderer.drawBalls(new Float32Array(ball(start, WHITE)), { size: 15 * ratio, lift: 0.004, hidden: 0.4 });
  }

  /** The point under the pointer, and a stem to the floor. */
  drawHover(ratio) {
    const { renderer, heights } = this;
    const { model, theme } = this.app;
    const hover = model.hover && heights.scenePoint(...model.hover);
    if (!hover) return;
    const ink = byteColour(theme.accent);
    renderer.drawBalls(new Float32Array(ball(hover, ink)), { size: 10 * ratio, lift: 0.004, hidden: 0.5 });
    const stem = [{ points: [hover, [hover[0], hover[1], FLOOR]], ink: [...ink, 0.8] }];
    renderer.drawLines(segmentsOf(stem), { width: ratio, hidden: 0.3 });
  }
}
