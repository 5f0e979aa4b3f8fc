// Elements of the document.

import { cornersOf } from "./marks.js";

/** An element with attributes, listeners ("onclick": function) and children. */
export function element(name, attributes = {}, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") found.className = value;
    else if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) found.setAttribute(key, value === true ? "" : value);
  }
  found.append(...children);
  return found;
}

export const row = (...parts) => element("div", { class: "row" }, ...parts);
export const hint = (words, attributes = {}) => element("p", { class: "hint", ...attributes }, words);
export const chartBox = (canvas) => element("div", { class: "chart" }, canvas);

/** A group of controls under a title. */
export function group(title, attributes, ...parts) {
  return element("fieldset", attributes, element("legend", {}, title), ...parts);
}

export function button(id, words, onclick, attributes = {}) {
  return element("button", { type: "button", ...attributes, id, onclick }, words);
}

/** A square of a colour in front of a name. */
export function swatch(colour, more = "") {
  return element("span", { class: "swatch", style: `background:${colour}${more}` });
}

/** A mark of a colour in front of a name; its shape is one of marks.js. */
export function markSwatch(colour, mark) {
  const corners = cornersOf(mark, [50, 50], 50).map(([x, y]) => `${x.toFixed(1)}% ${y.toFixed(1)}%`);
  return element("span", { class: "swatch mark", style: `background:${colour};clip-path:polygon(${corners.join(",")})` });
}

/** A row of a table. */
export const tableRow = (...cells) => element("tr", {}, ...cells);
export const cell = (...parts) => element("td", {}, ...parts);
export const heads = (names) => names.map((name) => element("th", { scope: "col" }, name));

/** A table that scrolls by itself where it is too wide. */
export function table(head, body, attributes = {}) {
  return element("div", { class: "scroll", tabindex: 0 }, element("table", attributes, element("thead", {}, head), body));
}
