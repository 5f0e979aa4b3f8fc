// The key of a chart of curves: a colour for each surface, a dash for each field.

import { curveColour } from "./colours.js";
import { element, swatch } from "./elements.js";

const STYLES = ["", "dashed", "dotted"];

/** The entries of the key of a CurveView. */
export function curveKey(view) {
  const { surfaces } = view;
  const names = surfaces.map((surface, k) => element("span", {}, swatch(curveColour(k)), surface.label));
  const dashes = view.titlesOfDashes().map((titles, n) => {
    const style = STYLES[n % STYLES.length];
    return element("span", {}, element("i", { class: `stroke ${style}` }), titles.join(", "));
  });
  return [...(surfaces.length > 1 ? names : []), ...dashes];
}
