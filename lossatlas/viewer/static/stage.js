// Where the surfaces stand: each in its own panel, or all in one scene; what they share: a legend, and a row for a hint to
// newcomers and for the values under the pointer.

import { colourOf, OVERLAID } from "./colours.js";
import { element, hint, swatch } from "./elements.js";
import { legendOf } from "./legend.js";
import { Tabs } from "./tabs.js";

/** Returns {root, list, arrange(), update(), dropped(), show(number)}. */
export function stageOf(app) {
  const { model, panels } = app;
  const several = panels.length > 1;
  const list = element("div", { class: "surfaces" }, ...panels.map((panel) => panel.root));
  list.style.setProperty("--columns", Math.min(panels.length, 3));
  list.classList.toggle("flat-only", model.flat);
  const bare = panels.every((panel) => !panel.scene);
  list.classList.toggle("bare", bare);
  const stage = element("div", { class: "stage", hidden: true }, namesOf(model));
  const shared = several ? legendOf(app, [...panels.keys()], { class: "legend shared" }) : null;
  const welcome = invitation(model, bare);
  const readouts = element("div", { class: "readouts" }, ...panels.map(({ readout }) => readout));
  readouts.style.setProperty("--columns", Math.min(panels.length, 3));
  const row = element("div", { class: "hint-row" }, welcome, readouts); // a place of its own, which stays when both go
  const tabs = new Tabs(panels, changed);
  const root = element(
    "div",
    { class: "theatre" },
    ...(several ? [tabs.root] : []),
    list,
    stage,
    row,
    ...(shared ? [shared.root] : []),
  );

  function changed() {
    arrange();
    app.draw();
  }

  /** Show the panels that are wanted, and move the first scene above them, or back into its own. */
  function arrange() {
    const [first] = panels;
    const single = tabs.arrange(model.state.overlay);
    root.classList.toggle("single", single);
    list.classList.toggle("alone", single || !several);
    if (!first.scene) return;
    const { root: scene } = first.scene;
    const { overlay } = model.state;
    if (overlay && !stage.contains(scene)) stage.append(scene);
    if (!overlay && stage.contains(scene)) first.flat.before(scene);
    stage.hidden = !overlay;
    root.classList.toggle("overlaid", overlay);
  }

  function update() {
    root.classList.toggle("enlarged", model.state.enlarged);
    welcome.hidden = Boolean(model.noRace);
    root.classList.toggle("pointed", Boolean(model.hover));
    shared?.update();
  }

  const dropped = () => welcome.remove();
  return { root, list, arrange, update, dropped, show: (number) => tabs.show(number) };
}

/** What a newcomer may do, for the pointer that the device has. */
function invitation({ flat }, bare) {
  const touch = matchMedia("(pointer: coarse)").matches;
  const found = hint(`${touch ? "Tap" : "Click"} anywhere to drop a ball`, { id: "drop-hint" });
  if (!flat && !bare) found.append(element("span", { class: "more" }, " · drag to turn"));
  return found;
}

/** The name of each surface beside the colour of its map. */
function namesOf(model) {
  const names = element("p", { class: "names" });
  model.surfaces.forEach((surface, k) => {
    const map = model.maps[OVERLAID[k % OVERLAID.length]];
    names.append(element("span", {}, swatch(`rgb(${colourOf(map, 0.4).join(",")})`), surface.label));
  });
  return names;
}
