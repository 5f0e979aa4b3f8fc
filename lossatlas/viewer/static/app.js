// The page as a whole: its parts, and the actions that change the state and draw it again.

import { Address, changesOf, toFragment } from "./address.js";
import { Controls } from "./controls.js";
import { cutTools } from "./cut_tools.js";
import { descentTools, transportOf } from "./descent_tools.js";
import { element, hint } from "./elements.js";
import { exportTools } from "./export_tools.js";
import { flatnessTools } from "./flatness_tools.js";
import { listenToKeys } from "./keyboard.js";
import { Model } from "./model.js";
import { optimizerTools } from "./optimizer_tools.js";
import { Panel } from "./panel.js";
import { Race } from "./race.js";
import { resultTools } from "./result_tools.js";
import { stageOf } from "./stage.js";
import { Story } from "./story.js";
import { applyTheme, onSystemTheme } from "./theme.js";
import { trainingTools } from "./training_tools.js";
import { viewTools } from "./view_tools.js";

const OF_A_LINE =
  "The loss of a trained network on a line through its parameters, and optimizers that descend it. They see one coordinate of the many that a network has: this is a descent of the slice, not of the network.";
const WITHOUT_SCENE = "This browser has no WebGL2: the surface is shown from above only. Everything else works.";
const DIFFERENT_PLANES =
  "These surfaces cover different parts of their planes: a start is at the same coordinates where it can be.";

export class App {
  constructor(root, content) {
    this.address = new Address();
    const fragment = this.address.read();
    this.model = new Model(content, fragment);
    this.race = new Race(this.model);
    this.theme = applyTheme(this.model.state.theme);
    this.waiting = false; // for the next frame
    this.frameTime = undefined; // milliseconds that the last one took
    this.controls = new Controls(this.model.state, () => this.remember());
    this.panels = this.model.surfaces.map((surface, k) => new Panel(this, surface, k));
    this.stage = stageOf(this);
    this.transport = transportOf(this);
    this.remark = hint("", { id: "remark" });
    this.story = new Story(this, content.story);
    this.parts = [this.story]; // what is updated in each frame
    this.build(root);
    this.refresh();
    this.listen();
    this.story.begin(fragment);
  }

  listen() {
    addEventListener("resize", () => this.draw());
    onSystemTheme(() => {
      this.setTheme();
      this.draw();
    });
    addEventListener("hashchange", () => this.fromAddress());
    listenToKeys(this);
  }

  // The document ---------------------------------------------------------------------------------------------------

  build(root) {
    const { model, stage, transport } = this;
    if (model.flat) document.querySelector("header p").textContent = OF_A_LINE;
    document.querySelector("header").append(this.story.opener);
    document.body.append(this.story.root);
    root.replaceChildren(this.remark, stage.stage, stage.list, transport.root, this.tools());
    const sceneless = model.state.gl && this.panels.some((panel) => !panel.scene && !panel.surface.flat);
    if (sceneless) root.prepend(hint(WITHOUT_SCENE, { id: "sceneless" }));
  }

  tools() {
    const { surfaces } = this.model;
    const descent = element("div", { class: "pile" }, descentTools(this));
    const [view, cut, results] = [viewTools(this), cutTools(this), resultTools(this)];
    this.parts.push(results, cut);
    if (surfaces.some((s) => s.trajectory)) {
      const training = trainingTools(this);
      descent.append(training.root);
      this.parts.push(training);
    }
    this.parts.push(view, this.controls);
    const tools = element("div", { class: "tools" }, view.root, descent, cut.root, optimizerTools(this), results.root);
    if (surfaces.some((s) => Object.keys(s.flatness).length)) tools.append(flatnessTools(this));
    const exports = exportTools(this);
    this.parts.push(exports);
    tools.append(exports.root);
    return tools;
  }

  // After a change of the state -------------------------------------------------------------------------------------

  onNewDrawing = () => this.draw();
  onNewView = () => this.refresh();
  onNewRace = () => this.restart();
  onNewHeight = () => {
    this.model.newHeight();
    this.refresh();
  };
  onNewObjective = () => {
    this.model.forgetRates();
    this.refresh();
  };
  onNewTheme = () => {
    this.setTheme();
    this.refresh();
  };

  setTheme() {
    this.theme = applyTheme(this.model.state.theme);
  }

  /** Compute everything anew: meshes, pictures, rates, race. */
  refresh() {
    this.remark.textContent = this.remarks().join(" ");
    this.race.findRates();
    for (const panel of this.panels) panel.rebuild();
    this.stage.arrange();
    this.race.run();
    this.draw();
  }

  remarks() {
    const { model } = this;
    const { surfaces, state } = model;
    const remarks = surfaces.length < 2 || model.flat || model.alike() ? [] : [DIFFERENT_PLANES];
    if (model.field().better < 0) remarks.push(`${model.title(state.height)} is climbed, not descended.`);
    return remarks;
  }

  /** Run the race anew, and stay at its present step. */
  restart() {
    this.race.run();
    this.race.move(0);
    this.draw();
  }

  // Drawing ---------------------------------------------------------------------------------------------------------

  /** Draw in the next frame. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.waiting = false;
    const began = performance.now();
    if (this.race.playing && this.race.advance(now)) this.play(false);
    for (const panel of this.panels) panel.draw();
    for (const part of this.parts) part.update();
    this.frameTime = performance.now() - began;
    if (this.race.playing) this.draw();
  }

  // The address -----------------------------------------------------------------------------------------------------

  /** Write the state into the address. */
  remember() {
    this.address.write(toFragment(changesOf(this.model.state, this.model.initial)));
  }

  fromAddress() {
    if (!this.address.isForeign) return;
    this.model.restore(this.address.read());
    this.setTheme();
    this.refresh();
  }

  // Actions ---------------------------------------------------------------------------------------------------------

  play(on) {
    this.race.play(on, performance.now());
    this.transport.say(on);
    this.draw();
    if (!on) this.remember();
  }

  togglePlay() {
    this.play(!this.race.playing);
  }

  step(count) {
    this.play(false);
    this.race.move(count);
    this.remember();
    this.draw();
  }

  rewind() {
    this.step(-Infinity);
  }

  /** Move the start, as long as a pointer drags it. */
  startAt(point) {
    if (this.model.hover) this.pointAt(null);
    this.model.setStart(point);
    this.race.run();
    this.model.state.at = 0;
    this.race.playing = false;
    this.draw();
  }

  /** The start has been chosen: play from there. */
  started() {
    this.play(true);
    this.remember();
  }

  startAtCheckpoint() {
    const { trajectory } = this.model.surfaces.find((s) => s.trajectory);
    const k = Math.min(this.model.state.epoch, trajectory.x.length - 1);
    this.startAt([trajectory.x[k], trajectory.y[k]]);
    this.remember();
    this.play(true);
    this.stage.list.scrollIntoView({ block: "nearest" });
  }

  /** Show a point of the plane in all views, or none. */
  pointAt(point) {
    this.model.hover = point;
    for (const panel of this.panels) panel.tell(point);
    this.draw();
  }

  turn(right, up) {
    this.model.turn(right, up);
    this.draw();
  }

  zoom(factor) {
    this.model.zoom(factor);
    this.draw();
  }

  resetView() {
    this.model.resetView();
    this.draw();
    this.remember();
  }

  useUsualSettings() {
    this.model.forgetSettings();
    this.restart();
    this.remember();
  }
}
