// Controls of the view: field, scale, colours, lines, theme.

import { colourOf, OVERLAID } from "./colours.js";
import { fit } from "./drawing2d.js";
import { button, element, group, row } from "./elements.js";
import { text } from "./numbers.js";

const SCALES = { linear: "linear", log: "logarithmic", soft: "ln(value + 0.1), the paper's" };
const MAPS = ["viridis", "cividis", "magma", "coolwarm"];
const THEMES = [
  ["auto", "as the system"],
  ["light", "light"],
  ["dark", "dark"],
];

/** Returns {root, update()}. */
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
  const root = group(
    "View",
    {},
    row(height(app, "Field"), scale(app, ["linear", "log"])),
    row(app.controls.checkbox("wire", "computed cells", app.onNewView)),
    row(theme(app)),
  );
  return { root, update: () => {} };
}

function planeTools(app) {
  const { controls, model } = app;
  const colours = () => [["", "as the height"], ...namesOf(model)];
  const maps = () => MAPS.map((name) => [name, name]);
  const topText = (share) => text(model.scale().value(share), 3);
  const bar = colourBar(model);
  const root = group(
    "View",
    {},
    row(height(app, "Height"), scale(app, Object.keys(SCALES))),
    row(controls.select("colour", "Colour", colours, app.onNewView), controls.select("map", "Map", maps, app.onNewView)),
    controls.range("top", "Hide above", () => [0.05, 1, 0.01], app.onNewView, topText),
    bar.root,
    row(...boxes(app)),
    row(
      theme(app),
      button("reset-view", "Reset view", () => app.resetView()),
    ),
  );
  return { root, update: bar.update };
}

function boxes({ controls, model, onNewView }) {
  const shown = [controls.checkbox("lines", "contour lines", onNewView), controls.checkbox("wire", "computed cells", onNewView)];
  if (model.surfaces.length > 1 && model.alike()) shown.push(controls.checkbox("overlay", "one over the other", onNewView));
  return shown;
}

/** The colours from the lowest to the highest value. */
function colourBar(model) {
  const canvas = element("canvas");
  const [low, high] = [element("span"), element("span")];

  function update() {
    const [context, width, tall] = fit(canvas);
    const { low: from, high: to } = model.colour()?.scale || model.scale();
    const map = model.state.overlay ? model.maps[OVERLAID[0]] : model.map();
    for (let k = 0; k < width; k++) {
      context.fillStyle = `rgb(${colourOf(map, k / width).join(",")})`;
      context.fillRect(k, 0, 1.5, tall);
    }
    low.textContent = text(from, 3);
    high.textContent = text(to, 3);
  }

  return { root: element("div", { class: "bar" }, low, canvas, high), update };
}
