// A story: a card with a step's text, and the camera and state that belong to it. The number of the step, from 1, is the entry
// `story` of the state; 0 is no story.

import { fromFragment } from "./address.js";
import { button, element } from "./elements.js";
import { CAMERA } from "./model.js";

const FLIGHT = 900; // milliseconds of the camera's way to the next step
const KINDS = { b: "strong", i: "em", code: "code" };
const KEPT = ["theme", "gl"]; // the reader's, whatever a step says nothing about
const ADDRESSES = /^(https?:\/\/|mailto:)/;

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A paragraph of spans [kind, text, address]: what they hold is text, and never becomes a part of the page otherwise. */
function paragraph(spans) {
  const parts = spans.map(([kind, words, href]) => {
    if (kind !== "a") return kind ? element(KINDS[kind], {}, words) : words;
    return ADDRESSES.test(href) ? element("a", { href, target: "_blank", rel: "noopener noreferrer" }, words) : words;
  });
  return element("p", {}, ...parts);
}

export class Story {
  /** steps: [{title, text, state, play, surface}]. */
  constructor(app, { steps, opens }) {
    this.app = app;
    this.steps = steps;
    this.opens = opens;
    this.shown = 0; // the step on the card
    this.plays = false; // as soon as the camera is there
    this.opener = button("story-open", "What is this?", () => this.go(1), { "aria-expanded": "false" });
    this.root = this.build();
    this.listen();
  }

  build() {
    this.title = element("h2", { id: "story-title", tabindex: -1 });
    this.text = element("div", { class: "words" });
    this.dots = this.steps.map((step, k) =>
      element("button", {
        type: "button",
        class: "dot",
        "aria-label": `Step ${k + 1}: ${step.title}`,
        onclick: () => this.go(k + 1),
      }),
    );
    this.back = button("story-back", "Back", () => this.go(this.shown - 1));
    this.next = button("story-next", "Next", () => this.forward(), { class: "main" });
    const close = button("story-close", "×", () => this.close(), { "aria-label": "Close the story", title: "close (Escape)" });
    const steps = element("div", { class: "dots", role: "group", "aria-label": "Steps" }, ...this.dots);
    const words = element("div", { "aria-live": "polite" }, this.title, this.text);
    const about = { class: "story", role: "region", "aria-labelledby": "story-title", hidden: true };
    return element("section", about, close, words, element("div", { class: "ways" }, this.back, steps, this.next));
  }

  listen() {
    addEventListener("keydown", (event) => this.key(event));
    for (const kind of ["pointerdown", "wheel"]) {
      addEventListener(kind, (event) => this.root.contains(event.target) || this.stop(), { passive: true, capture: true });
    }
  }

  /** Escape closes the story. Arrows change the step where nothing else takes them. */
  key(event) {
    if (!this.shown || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const free = event.target === document.body || this.root.contains(event.target);
    const ways = { ArrowRight: () => this.forward(true), ArrowLeft: () => this.go(Math.max(1, this.shown - 1)) };
    if (event.key === "Escape") this.close();
    else if (free && Object.hasOwn(ways, event.key)) ways[event.key]();
    else return;
    event.preventDefault();
  }

  /** The next step; after the last one the story is closed, unless it stays. */
  forward(stays = false) {
    if (this.shown < this.steps.length) this.go(this.shown + 1);
    else if (!stays) this.close();
  }

  /** Begin where the address of the page says, or with the first step of a story that opens by itself. */
  begin(fragment) {
    const { state } = this.app.model;
    const [only, more] = fragment.split("&");
    if (state.story && !more && only.startsWith("story=")) this.go(state.story, false);
    else if (this.opens && fragment === "") this.go(1, false);
  }

  /** Show a step: its text, and the state that it asks for. */
  go(number, focus = true) {
    const step = this.steps[number - 1];
    if (!step) return;
    const { app } = this;
    this.stop();
    app.play(false);
    app.model.state.story = number;
    this.update();
    if (focus) this.title.focus({ preventScroll: true });
    if (step.state !== null) this.take(step);
    app.remember();
    app.draw();
  }

  /** Change the state to that of a step, and let the camera fly there. */
  take(step) {
    const { app } = this;
    const { model } = app;
    const { state, initial } = model;
    const from = this.camera();
    const kept = Object.fromEntries(KEPT.map((key) => [key, state[key]]));
    const before = JSON.stringify({ ...state, ...initial, ...kept, ...from });
    const old = JSON.stringify(state);
    Object.assign(state, initial, kept, fromFragment(step.state, initial), { story: this.shown });
    model.repair();
    const to = this.camera();
    Object.assign(state, from);
    if (before === old && JSON.stringify(state) === old) app.draw();
    else {
      app.setTheme();
      app.refresh();
    }
    app.flight.to(to, FLIGHT);
    this.plays = step.play;
    requestAnimationFrame(() => this.bringIntoView(step.surface));
  }

  camera() {
    return Object.fromEntries(CAMERA.map((key) => [key, this.app.model.state[key]]));
  }

  /** The reader takes over: the camera stays where it is, and nothing begins to play. */
  stop() {
    if (this.shown) this.app.flight.stop();
    this.plays = false;
  }

  /** On a narrow page the surfaces stand one below the other: scroll to the one that the step tells about. */
  bringIntoView(number) {
    const panel = this.app.panels[number] || this.app.panels[0];
    this.app.stage.show(panel.number);
    const { top, bottom } = panel.root.getBoundingClientRect();
    const card = this.root.getBoundingClientRect();
    const room = card.width === document.documentElement.clientWidth ? card.top : innerHeight;
    if (top >= 0 && (bottom <= room || top < 40)) return;
    panel.root.scrollIntoView({ block: "start", behavior: still() ? "auto" : "smooth" });
  }

  close() {
    this.app.flight.land();
    this.app.model.state.story = 0;
    this.update();
    this.app.remember();
    this.opener.focus({ preventScroll: true });
  }

  /** Show the step that the state holds; play if it does, and the camera is there. */
  update() {
    const { app } = this;
    if (this.plays && !app.flight.isUnderWay) {
      this.plays = false;
      app.play(true);
    }
    const { story: number } = app.model.state;
    if (number === this.shown) return;
    this.shown = number;
    const step = this.steps[number - 1];
    this.root.hidden = !step;
    this.opener.setAttribute("aria-expanded", String(Boolean(step)));
    document.body.classList.toggle("told", Boolean(step));
    if (!step) return;
    this.title.textContent = step.title;
    this.text.replaceChildren(...step.text.map(paragraph));
    this.text.scrollTop = 0;
    this.back.disabled = number === 1;
    this.next.textContent = number === this.steps.length ? "Done" : "Next";
    this.dots.forEach((dot, k) => {
      if (k === number - 1) dot.setAttribute("aria-current", "step");
      else dot.removeAttribute("aria-current");
    });
  }
}
