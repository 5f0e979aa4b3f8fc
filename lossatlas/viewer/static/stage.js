// Where the surfaces stand: each in its own panel, or all in one scene; what they share: a legend, and a hint for newcomers.

import { colourOf, OVERLAID } from "./colours.js";
import { element, hint, swatch } from "./elements.js";
import { legendOf } from "./legend.js";

/** Returns {root, list, arrange(), update(), dropped()}. */
export function stageOf(app) {
  const { model, panels } = app;
  const several = panels.length > 1;
  const list = element("div", { class: "surfaces" }, ...panels.map((panel) => panel.root));
  list.style.setProperty("--columns", Math.min(panels.length, 3));
  list.classList.toggle("alone", !several);
  list.classList.toggle("flat-only", model.flat);
  const bare = panels.every((panel) => !panel.scene);
  list.classList.toggle("bare", bare);
  const stage = element("div", { class: "stage", hidden: true }, namesOf(model));
  const shared = several ? legendOf(app, [...panels.keys()], { class: "legend shared" }) : null;
  const welcome = invitation(model, bare);
  const row = element("div", { class: "hint-row" }, welcome); // a place of its own, which stays when the hint goes
  const root = element("div", { class: "theatre" }, list, stage, row, ...(shared ? [shared.root] : []));

  /** Move the first scene above the panels, or back into its own. */
  function arrange() {
    const [first] = panels;
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
    shared?.update();
  }

  const dropped = () => welcome.remove();
  return { root, list, arrange, update, dropped };
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
    names.append(swatch(`rgb(${colourOf(map, 0.4).join(",")})`), element("span", {}, surface.label));
  });
  return names;
}
