// The table of flatness measures that came with the surfaces.

import { cell, element, group, heads, table, tableRow } from "./elements.js";

export function flatnessTools({ model }) {
  const { surfaces } = model;
  const names = [...new Set(surfaces.flatMap((s) => Object.keys(s.flatness)))];
  const rows = names.map((name) => {
    const values = surfaces.map((s) => cell(name in s.flatness ? s.flatness[name] : ""));
    return tableRow(element("th", { scope: "row" }, name), ...values);
  });
  const head = tableRow(...heads(["Measure"]), ...heads(surfaces.map((s) => s.label)));
  return group("Flatness", {}, table(head, element("tbody", {}, ...rows)));
}
