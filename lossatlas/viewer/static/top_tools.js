// The top of the scale: a slider, a number, and how much of the plane lies above it.

import { numberIn, showNumber } from "./controls.js";
import { element } from "./elements.js";
import { text } from "./numbers.js";

/** A row that chooses the value at which heights and colours end. */
export function topTools({ controls, model, onNewView }) {
  const choose = (value) => {
    controls.complain("");
    controls.set("vmax", model.possibleTop(value), onNewView);
  };
  const slider = element("input", {
    type: "range",
    id: "c-top",
    min: 0.02,
    max: 1,
    step: 0.005,
    "aria-label": "Top of the scale",
    oninput: () => choose(wholeScale().value(Number(slider.value))),
  });
  const take = () => {
    const value = numberIn(field);
    if (value > model.field().range[0]) choose(value);
    else controls.complain(`Top: a number above the lowest value, ${text(model.field().range[0])}`);
    field.value = shortened(model.scale().high);
  };
  const field = element("input", { type: "number", id: "c-vmax", step: "any", "aria-label": "Top of the scale", onchange: take });
  const wholeScale = () => model.wholeScale();
  controls.onUpdate(() => {
    slider.value = wholeScale().height(model.scale().high);
    showNumber(field, shortened(model.scale().high));
  });
  return element("div", { class: "row" }, element("span", {}, "Top of the scale"), slider, field);
}

const shortened = (value) => Number(value.toPrecision(3));

/** The share of the cells of a surface that lie above the scale, in words; "" if none does. */
export function clippedNote(surface, model) {
  if (!model.clipped) return "";
  const { high } = model.scale();
  const values = surface.fields[model.state.height].values.filter((v, k) => surface.done[k] && Number.isFinite(v));
  const above = values.filter((v) => v > high).length;
  if (!above) return "";
  const share = (100 * above) / values.length;
  const percent = share < 1 ? share.toPrecision(1) : share.toFixed(0);
  return `${percent} % of the cells lie above ${text(high, 3)}: hatched grey, up to ${text(Math.max(...values))}.`;
}
