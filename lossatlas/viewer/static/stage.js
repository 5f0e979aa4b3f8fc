// Where the surfaces stand: each in its own panel, or all in one scene above the panels.

import { colourOf, OVERLAID } from "./colours.js";
import { element, swatch } from "./elements.js";

const MARGIN = ";margin-right:6px";

/** Returns {stage, list, arrange()}. */
export function stageOf({ model, panels }) {
  const list = element("div", { class: "surfaces" }, ...panels.map((panel) => panel.root));
  list.style.setProperty("--columns", Math.min(panels.length, 3));
  list.classList.toggle("alone", panels.length === 1);
  list.classList.toggle(
    "bare",
    panels.every((panel) => !panel.scene),
  );
  const stage = element("div", { class: "stage", hidden: true }, legendOf(model));

  /** Move the first scene above the panels, or back into its own. */
  function arrange() {
    const [first] = panels;
    if (!first.scene) return;
    const { root } = first.scene;
    const { overlay } = model.state;
    if (overlay && !stage.contains(root)) stage.append(root);
    if (!overlay && stage.contains(root)) first.flat.before(root);
    stage.hidden = !overlay;
    list.classList.toggle("overlaid", overlay);
  }

  return { stage, list, arrange };
}

/** The name of each surface beside the colour of its map. */
function legendOf(model) {
  const legend = element("p", { class: "caption" });
  model.surfaces.forEach((surface, k) => {
    const map = model.maps[OVERLAID[k % OVERLAID.length]];
    legend.append(swatch(`rgb(${colourOf(map, 0.4).join(",")})`, MARGIN), element("span", {}, surface.label));
  });
  return legend;
}
