// The view of one surface: the scene, the map of the plane on it, and the values at the point under the pointer. One panel
// shows all curves.

import { CubeView } from "./cube_view.js";
import { curveKey } from "./curve_key.js";
import { CurveView } from "./curve_view.js";
import { openRenderer } from "./drawing3d.js";
import { button, element } from "./elements.js";
import { Heights } from "./heights.js";
import { legendOf } from "./legend.js";
import { listenToPlane } from "./plane_input.js";
import { PlaneView } from "./plane_view.js";
import { notesOn, valuesAt } from "./readout.js";
import { listenToScene } from "./scene_input.js";
import { SceneView } from "./scene_view.js";
import { axesInWords, planeName } from "./surface.js";
import { clippedNote } from "./top_tools.js";

export class Panel {
  constructor(app, surface, number) {
    this.app = app;
    this.surface = surface;
    this.number = number;
    this.surfaces = surface.flat ? app.model.surfaces : [surface];
    this.heights = new Heights(app.model, surface);
    this.scene = surface.flat || !app.model.state.gl ? null : this.openScene();
    this.plane = this.openPlane();
    this.flat = element("div", { class: "flat" }, this.plane.canvas);
    this.note = element("p", { class: "note" });
    this.key = element("p", { class: "key", hidden: !surface.flat });
    this.readout = element("output", { class: "readout", hidden: true });
    this.named = null; // what the names of the views say of a start
    this.cube = surface.z ? new CubeView(app, surface, this.heights) : null;
    this.title = element("h2");
    this.legend = legendOf(app, surface.flat ? [...app.model.surfaces.keys()] : [number]);
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
    const canvas = element("canvas", { tabindex: 0, role: "application" });
    const plane = surface.flat ? new CurveView(app, canvas) : new PlaneView(app, heights, number, canvas);
    listenToPlane(app, plane);
    return plane;
  }

  build() {
    const { surface, scene, flat, legend, note, cube } = this;
    const words = element("div", { class: "panel-head" }, this.title, this.key, note, ...(cube ? [cube.root] : []));
    const corner = element("div", { class: "corner" }, words, legend.root);
    if (scene) flat.append(this.enlarger());
    flat.style.setProperty("--shape", this.heights.box[0] / this.heights.box[1]);
    const parts = [corner, ...(scene ? [scene.root] : []), flat];
    return element("section", { class: "panel", "aria-label": surface.label }, ...parts);
  }

  /** Say the name of the surface, where the title of the page does not, and that of the plane of a volume. */
  head() {
    const { label, flat } = this.surface;
    const said = flat || document.querySelector("h1").textContent.trim() === label.trim();
    const words = [...(said ? [] : [label]), planeName(this.surface)].filter((part) => part).join(", ");
    this.title.hidden = !words;
    Object.assign(this.title, { textContent: words, title: words });
  }

  /** The button that makes the map as large as the scene, and small again. */
  enlarger() {
    const { controls, model } = this.app;
    const after = () => {
      this.app.stage.update();
      this.app.draw();
    };
    const found = button(`enlarge-${this.number}`, "⤢", () => controls.set("enlarged", !model.state.enlarged, after), {
      class: "enlarge",
      title: "a large map, or a small one",
      "aria-label": `Large map of ${this.surface.label}`,
    });
    controls.onUpdate(() => found.setAttribute("aria-pressed", String(model.state.enlarged)));
    return found;
  }

  /** Compute meshes and pictures anew, after fields, scales or colours have changed. */
  rebuild() {
    const { model } = this.app;
    this.heights.update();
    this.head();
    const notes = this.surfaces.flatMap((surface) => [notesOn(surface, model.state.height), clippedNote(surface, model)]);
    this.note.textContent = [...new Set(notes)].filter((words) => words).join(" ");
    this.plane.rebuild();
    if (this.surface.flat) this.key.replaceChildren(...curveKey(this.plane));
    if (!this.scene) return;
    this.scene.rebuild();
    this.scene.root.hidden = model.state.overlay && this.number > 0;
  }

  /** Say what the views are, and what keys and pointers do there. */
  nameViews() {
    const { label, flat } = this.surface;
    const { showsStart } = this.app.model;
    const at = planeName(this.surface);
    if (this.named === `${showsStart} ${at}`) return;
    this.named = `${showsStart} ${at}`;
    const axes = axesInWords(this.surface);
    const plane = flat ? "The curves" : `${label}: the plane ${at ? `${at} ` : ""}from above`;
    const choose = showsStart ? " Click or drag to choose a start; arrow keys move it." : "";
    this.plane.canvas.setAttribute("aria-label", `${plane}.${choose}${axes}`);
    const turn = `Drag to turn it${showsStart ? ", click to choose a start" : ""}; arrow keys turn it.`;
    this.scene?.root.setAttribute("aria-label", `${label}: the surface${at ? ` at ${at}` : ""}. ${turn}${axes}`);
  }

  draw() {
    this.nameViews();
    this.plane.draw();
    this.scene?.draw();
    this.cube?.draw();
    this.legend.update();
  }

  /** Say what is at a point of the plane, or nothing. */
  tell(point) {
    const { fields, state } = this.app.model;
    const several = this.surfaces.length > 1 || state.overlay;
    const words = (surface) => `${several ? `${surface.label}: ` : ""}${valuesAt(surface, fields, point)}`;
    this.readout.hidden = !point;
    if (point) this.readout.textContent = this.surfaces.map(words).join(" · ");
  }
}
