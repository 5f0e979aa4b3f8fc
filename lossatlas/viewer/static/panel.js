// The view of one surface: the scene, the plane from above, and the values at the point under the pointer.

import { CurveView } from "./curve_view.js";
import { openRenderer } from "./drawing3d.js";
import { element } from "./elements.js";
import { Heights } from "./heights.js";
import { listenToPlane } from "./plane_input.js";
import { PlaneView } from "./plane_view.js";
import { notesOn, valuesAt } from "./readout.js";
import { listenToScene } from "./scene_input.js";
import { SceneView } from "./scene_view.js";
import { clippedNote } from "./top_tools.js";

const NOTHING = "\u00a0"; // it keeps the line's height

export class Panel {
  constructor(app, surface, number) {
    this.app = app;
    this.surface = surface;
    this.number = number;
    this.heights = new Heights(app.model, surface);
    this.scene = surface.flat || !app.model.state.gl ? null : this.openScene();
    this.plane = this.openPlane();
    this.flat = element("div", { class: "flat" }, this.plane.canvas);
    this.note = element("p", { class: "note" });
    this.readout = element("output", { class: "readout" }, NOTHING);
    this.root = this.build();
  }

  /** The scene; null if the browser has no WebGL2. */
  openScene() {
    const renderer = openRenderer(element("canvas", { class: "gl" }));
    if (!renderer) return null;
    const scene = new SceneView(this.app, this.heights, this.number, renderer);
    listenToScene(this.app, scene);
    return scene;
  }

  openPlane() {
    const { app, surface, number, heights } = this;
    const about = `${surface.label}: the plane from above. Click or drag to choose a start; arrow keys move it.`;
    const canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": about });
    const plane = surface.flat ? new CurveView(app, surface, number, canvas) : new PlaneView(app, heights, number, canvas);
    listenToPlane(app, plane);
    return plane;
  }

  build() {
    const { surface, scene, flat } = this;
    const caption = element("p", { class: "caption" });
    for (const [name, value] of surface.caption) caption.append(element("span", {}, element("b", {}, name), ` ${value}`), " ");
    const views = element("div", { class: "views" }, ...(scene ? [scene.root] : []), flat);
    return element("section", { class: "panel" }, element("h2", {}, surface.label), this.note, views, this.readout, caption);
  }

  /** Compute meshes and pictures anew, after fields, scales or colours have changed. */
  rebuild() {
    const { model } = this.app;
    this.heights.update();
    const notes = [notesOn(this.surface, model.state.height), clippedNote(this.surface, model)];
    this.note.textContent = notes.filter((words) => words).join(" ");
    this.plane.rebuild();
    if (!this.scene) return;
    this.scene.rebuild();
    this.scene.root.hidden = model.state.overlay && this.number > 0;
  }

  draw() {
    this.plane.draw();
    this.scene?.draw();
  }

  /** Say what is at a point of the plane, or nothing. */
  tell(point) {
    this.readout.textContent = point ? valuesAt(this.surface, this.app.model.fields, point) : NOTHING;
  }
}
