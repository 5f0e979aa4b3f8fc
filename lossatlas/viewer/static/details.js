// What follows below the first screen: where each optimizer ended, and the facts of each surface.

import { element, group } from "./elements.js";
import { flatnessTools } from "./flatness_tools.js";
import { resultTools } from "./result_tools.js";

/** Returns {root, update()}. */
export function detailsOf(app) {
  const { surfaces } = app.model;
  const results = resultTools(app);
  const facts = surfaces.map((surface) => group(`What was computed: ${surface.label}`, {}, factsOf(surface)));
  const flatness = surfaces.some((s) => Object.keys(s.flatness).length) ? [flatnessTools(app)] : [];
  const pile = element("div", { class: "pile" }, ...facts, ...flatness);
  const root = element("section", { class: "details", "aria-label": "Results and facts" }, results.root, pile);
  return { root, update: results.update };
}

/** The facts of a surface as pairs of a name and a value. */
function factsOf(surface) {
  const pairs = surface.caption.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("dl", { class: "caption" }, ...pairs);
}
