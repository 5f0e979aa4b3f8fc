// Controls of the view: field, scale, colours, lines, theme; and the views that one press shows.

import { button, element, group, row } from "./elements.js";
import { SCALES } from "./scale_names.js";
import { topTools } from "./top_tools.js";
import { FRONT, ravineView, TOP } from "./viewpoints.js";

const MAPS = ["viridis", "cividis", "magma", "coolwarm"];
const THEMES = [
  ["auto", "as the system"],
  ["light", "light"],
  ["dark", "dark"],
];

/** The group of controls of the view. */
export function viewTools(app) {
  return app.model.flat ? curveTools(app) : planeTools(app);
}

const namesOf = (model) => model.fields.map((f) => [f.name, f.title]);

const height = (app, words) => app.controls.select("height", words, () => namesOf(app.model), app.onNewHeight);

function scale(app, kinds) {
  const shown = () => Object.keys(app.model.field().levels).filter((kind) => kinds.includes(kind));
  return app.controls.select("scale", "Scale", () => shown().map((kind) => [kind, SCALES[kind]]), app.onNewView);
}

const theme = (app) => app.controls.select("theme", "Theme", () => THEMES, app.onNewTheme);

function curveTools(app) {
  return group(
    "View",
    {},
    row(height(app, "Field"), scale(app, ["linear", "log"])),
    row(app.controls.checkbox("wire", "mark the points that were computed", app.onNewView)),
    row(theme(app)),
  );
}

function planeTools(app) {
  const { controls, model } = app;
  const colours = () => [["", "as the height"], ...namesOf(model)];
  const maps = () => MAPS.map((name) => [name, name]);
  return group(
    "View",
    {},
    row(height(app, "Height"), scale(app, Object.keys(SCALES))),
    row(controls.select("colour", "Colour", colours, app.onNewView), controls.select("map", "Map", maps, app.onNewView)),
    topTools(app),
    row(...boxes(app)),
    row(theme(app)),
  );
}

function boxes({ controls, model, onNewView }) {
  const shown = [controls.checkbox("lines", "contour lines", onNewView), controls.checkbox("wire", "wire frame", onNewView)];
  if (model.surfaces.length > 1 && model.alike()) shown.push(controls.checkbox("overlay", "one over the other", onNewView));
  return shown;
}

/** Buttons for the views from the front, from the top, along the valley, and the usual one. */
export function viewpointTools(app) {
  const { model } = app;
  const ravine = () => ravineView(model.surfaces, model.state.height);
  const views = [
    button("view-front", "Front", () => app.look(FRONT), { title: "look along y" }),
    button("view-top", "Top", () => app.look(TOP), { title: "look down on the plane" }),
    button("view-ravine", "Ravine", () => app.look({ ...model.usualView(), ...ravine() }), {
      title: "look along the valley in which the lowest point lies",
    }),
    button("reset-view", "Reset view", () => app.resetView()),
  ];
  return element("div", { class: "viewpoints", role: "group", "aria-label": "Views", hidden: model.flat }, ...views);
}

/** A button for the whole screen, where the browser has one to give. */
export function fullScreenButton() {
  const page = document.documentElement;
  const toggle = () => (document.fullscreenElement ? document.exitFullscreen() : page.requestFullscreen());
  return button("full-screen", "Full screen", toggle, { hidden: !document.fullscreenEnabled });
}

/** A button that goes to what lies below the first screen. */
export function factsButton(details) {
  return button("facts", "Facts", () => details.scrollIntoView({ behavior: "smooth" }), { title: "results and facts, below" });
}
