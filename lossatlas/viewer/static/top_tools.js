// The top of the scale: a slider, a number, and how much of the plane lies above it.

import { numberIn, showNumber } from "./controls.js";
import { element } from "./elements.js";
import { percent, text } from "./numbers.js";

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

/** The share of the finite cells of a surface that lie above the scale, in words; "" if none does. */
export function clippedNote(surface, model) {
  if (!model.clipped) return "";
  const { high } = model.scale();
  const { finite, above, all, largest } = countAbove(high, surface.fields[model.state.height].values, surface.done);
  if (!above) return "";
  const cells = finite < all ? "finite cells" : "cells";
  return `${percent(above / finite)} of the ${cells} lie above ${text(high, 3)}, the top of the scale: hatched grey (the largest is ${text(largest)}).`;
}

/** How many values of cells that are done are finite, and lie above a value; how many are done, and the largest finite one. */
function countAbove(high, values, done) {
  const found = { finite: 0, above: 0, all: 0, largest: -Infinity };
  values.forEach((value, k) => {
    if (!done[k]) return;
    found.all++;
    if (!Number.isFinite(value)) return;
    found.finite++;
    if (value > high) found.above++;
    found.largest = Math.max(found.largest, value);
  });
  return found;
}
