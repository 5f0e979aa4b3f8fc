// The page as a whole: its parts, and the actions that change the state and draw it again.

import { Address, changesOf, toFragment } from "./address.js";
import { colourBarOf } from "./colour_bar.js";
import { Controls } from "./controls.js";
import { cutTools } from "./cut_tools.js";
import { descentTools, transportOf } from "./descent_tools.js";
import { detailsOf } from "./details.js";
import { drawerOf } from "./drawer.js";
import { hint } from "./elements.js";
import { exportTools } from "./export_tools.js";
import { Flight, welcome } from "./flight.js";
import { listenToKeys } from "./keyboard.js";
import { Model } from "./model.js";
import { optimizerTools } from "./optimizer_tools.js";
import { Panel } from "./panel.js";
import { PlaneTools } from "./plane_tools.js";
import { panned } from "./projection.js";
import { Race } from "./race.js";
import { coordinatesOn, remarksOn, sentenceOn } from "./readout.js";
import { shareTools } from "./share_tools.js";
import { stageOf } from "./stage.js";
import { Story } from "./story.js";
import { applyTheme, onSystemTheme } from "./theme.js";
import { trainingTools } from "./training_tools.js";
import { factsButton, fullScreenButton, viewpointTools, viewTools } from "./view_tools.js";

const WITHOUT_SCENE = "This browser has no WebGL2: the surface is shown from above only. Everything else works.";

export class App {
  constructor(root, content) {
    this.address = new Address();
    const fragment = this.address.read();
    this.model = new Model(content, fragment);
    this.race = new Race(this.model);
    this.flight = new Flight(this.model);
    this.theme = applyTheme(this.model.state.theme);
    this.waiting = false; // for the next frame
    this.frameTime = undefined; // milliseconds that the last one took
    this.controls = new Controls(this.model.state, () => this.remember());
    this.panels = this.shownSurfaces().map((surface, k) => new Panel(this, surface, k));
    this.stage = stageOf(this);
    this.transport = transportOf(this);
    this.planes = new PlaneTools(this);
    this.remark = hint("", { id: "remark" });
    this.misread = hint("", { id: "misread", role: "status" });
    this.story = new Story(this, content.story);
    this.parts = [this.story]; // what is updated in each frame
    this.build(root);
    this.refresh();
    this.listen();
    this.story.begin(fragment);
    if (!this.story.shown) welcome(this);
  }

  /** The surfaces that have a panel: one chart holds all curves. */
  shownSurfaces() {
    const { surfaces, flat } = this.model;
    return flat ? surfaces.slice(0, 1) : surfaces;
  }

  listen() {
    addEventListener("resize", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.stage.root); // the drawer takes room
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
    const bar = colourBarOf(this);
    const share = shareTools(this);
    const details = detailsOf(this);
    const drawer = drawerOf(this, this.tools());
    transport.root.append(viewpointTools(this));
    root.replaceChildren(this.misread, this.remark, stage.root, bar.root, this.planes.root, transport.root);
    const sceneless = model.state.gl && this.panels.some((panel) => !panel.scene && !panel.surface.flat);
    if (sceneless) root.prepend(hint(WITHOUT_SCENE, { id: "sceneless" }));
    document
      .getElementById("actions")
      .append(this.story.opener, factsButton(details.root), share.open, fullScreenButton(), drawer.open);
    document.body.append(details.root, drawer.root, share.root, this.story.root);
    this.parts.push(bar, details, stage, transport, this.planes, this.controls);
  }

  /** The groups of the drawer. */
  tools() {
    const { surfaces } = this.model;
    const [view, cut] = [viewTools(this), cutTools(this)];
    const racing = [descentTools(this), optimizerTools(this)];
    const groups = [view, ...racing, cut.root];
    this.controls.onUpdate(() => {
      for (const group of racing) group.hidden = Boolean(this.model.noRace);
    });
    this.parts.push(cut);
    if (surfaces.some((s) => s.trajectory)) {
      const training = trainingTools(this);
      groups.push(training.root);
      this.parts.push(training);
    }
    const exports = exportTools(this);
    this.parts.push(exports);
    return [...groups, exports.root];
  }

  // After a change of the state -------------------------------------------------------------------------------------

  onNewDrawing = () => this.draw();
  onNewView = () => this.refresh();
  onNewRace = () => this.restart();
  onNewPlane = () => {
    this.model.showPlane(this.model.state.z);
    this.refresh();
  };
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
    this.remark.textContent = remarksOn(this.model).join(" ");
    this.misread.textContent = this.model.misread;
    document.getElementById("sentence").textContent = sentenceOn(this.model);
    document.getElementById("coordinates").textContent = coordinatesOn(this.model);
    this.race.findRates();
    for (const panel of this.panels) panel.rebuild();
    this.stage.arrange();
    this.race.run();
    this.draw();
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
    if (this.flight.advance(now)) this.remember();
    if (this.race.playing && this.race.advance(now)) this.play(false);
    for (const panel of this.panels) panel.draw();
    for (const part of this.parts) part.update();
    this.frameTime = performance.now() - began;
    if (this.race.playing || this.flight.isUnderWay) this.draw();
  }

  // The address -----------------------------------------------------------------------------------------------------

  /** Write the state into the address; not before the reader has changed something. */
  remember() {
    if (this.race.only || this.flight.isUnderWay) return;
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
    this.transport.say(this.race.playing);
    this.draw();
    if (!this.race.playing) this.remember();
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

  /** The reader takes over from the ball that rolled by itself: all optimizers stand at the start. */
  endWelcome() {
    this.race.only = "";
    this.model.state.at = 0;
    this.play(false);
  }

  toggleOptimizer(name) {
    const { on } = this.model.state;
    const others = on.filter((each) => each !== name);
    this.controls.set("on", others.length < on.length ? others : [...on, name], this.onNewRace);
  }

  /** Move the start, as long as a pointer drags it. */
  startAt(point) {
    if (this.model.hover) this.pointAt(null);
    this.stage.dropped();
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
  }

  /** Show a point of the plane in all views, or none. */
  pointAt(point) {
    this.model.hover = point;
    for (const panel of this.panels) panel.tell(point);
    this.draw();
  }

  turn(right, up) {
    this.flight.land();
    this.model.turn(right, up);
    this.draw();
  }

  /** Move what is looked at by pixels; height: see `panned`. */
  pan(dx, dy, height) {
    this.flight.land();
    this.model.lookAt(panned(this.model.camera(), dx, dy, height));
    this.draw();
  }

  zoom(factor) {
    this.flight.land();
    this.model.zoom(factor);
    this.draw();
  }

  /** Fly to another view. */
  look(view) {
    this.flight.to(view);
    this.draw();
    this.remember();
  }

  resetView() {
    this.look(this.model.usualView());
  }

  useUsualSettings() {
    this.model.forgetSettings();
    this.restart();
    this.remember();
  }
}
