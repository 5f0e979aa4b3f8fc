// The slider that moves through the planes of a volume, and the button that lets it move by itself.

import { button, element } from "./elements.js";
import { planeName } from "./surface.js";

const PAUSE = 220; // milliseconds for which a plane is shown, at least

export class PlaneTools {
  constructor(app) {
    this.app = app;
    this.waiting = 0; // the timer of the next plane, while they are played
    this.wished = null; // the number of a plane that the slider asks for, until the next frame
    this.player = button("planes-play", "", () => this.play(!this.waiting), { class: "planes-play" });
    this.slider = element("input", { type: "range", id: "c-z", min: 0, step: 1, oninput: () => this.slide() });
    this.said = element("output", { class: "value", for: "c-z" });
    this.root = this.build();
    this.update();
  }

  build() {
    const { planes } = this.app.model;
    const about = { class: "planes", role: "group", "aria-label": "Plane of the volume", hidden: !planes };
    if (planes) this.slider.max = planes.length - 1;
    const words = element("span", {}, "Plane z");
    const title = "through the planes of the volume ([ and ])";
    return element("div", about, this.player, element("label", { title }, words, this.slider, this.said));
  }

  /** The number of the plane that is shown. */
  get number() {
    return this.app.model.surfaces[0].shownPlane;
  }

  update() {
    const { planes, surfaces } = this.app.model;
    if (!planes) return;
    const words = planeName(surfaces[0]);
    if (this.wished === null) this.slider.value = this.number;
    this.slider.setAttribute("aria-valuetext", words);
    if (this.said.textContent !== words) this.said.textContent = words;
    const playing = this.waiting !== 0;
    this.player.textContent = playing ? "❚❚" : "▶";
    this.player.setAttribute("aria-label", playing ? "Stop at this plane" : "Play through the planes");
    this.player.title = this.player.getAttribute("aria-label");
  }

  /** The slider has moved: many moves within a frame are one. */
  slide() {
    this.play(false);
    const waits = this.wished !== null;
    this.wished = Number(this.slider.value);
    if (waits) return;
    requestAnimationFrame(() => {
      const number = this.wished;
      this.wished = null;
      this.show(number);
    });
  }

  /** Show the plane with a number, if there is one. */
  show(number) {
    const { controls, model, onNewPlane } = this.app;
    const z = model.planes?.[number];
    if (z !== undefined && z !== model.state.z) controls.set("z", z, onNewPlane);
  }

  step(count) {
    this.play(false);
    this.show(this.number + count);
  }

  /** Go on from the present plane, or from the first one after the last; or stop. */
  play(on) {
    clearTimeout(this.waiting);
    this.waiting = 0;
    if (on) this.next(this.number + 1 < this.app.model.planes.length ? this.number + 1 : 0);
    this.app.draw();
  }

  next(number) {
    this.show(number);
    const more = number + 1 < this.app.model.planes.length;
    this.waiting = more ? setTimeout(() => this.next(number + 1), PAUSE) : 0;
  }
}
