// The table of the optimizers: which ones run, with which rates and coefficients.

import { numberIn, showNumber } from "./controls.js";
import { button, cell, element, group, heads, markSwatch, row, table, tableRow } from "./elements.js";
import { OPTIMIZERS } from "./optimizers.js";

export function optimizerTools(app) {
  let index = 0; // among the coefficients of all optimizers
  const rows = OPTIMIZERS.map((optimizer, k) => {
    const coefficients = Object.keys(optimizer.settings).map((name) => coefficient(app, optimizer, name, index++));
    const all = element("div", { class: "row coefficients" }, ...coefficients);
    const rates = app.model.surfaces.map((_, number) => rate(app, optimizer, k, number));
    return tableRow(cell(nameOf(app, optimizer), all), cell(element("div", { class: "rates" }, ...rates)));
  });
  return group(
    "Optimizers",
    { class: "optimizers" },
    table(tableRow(...heads(["Optimizer and its coefficients", ratesOf(app.model)])), element("tbody", {}, ...rows)),
    row(button("usual", "Usual settings", () => app.useUsualSettings())),
  );
}

/** A box that switches an optimizer on and off, its colour and its name. */
function nameOf({ controls, model, onNewRace }, { name, title, color, mark }) {
  const { state } = model;
  const onchange = () =>
    controls.set("on", box.checked ? [...state.on, name] : state.on.filter((each) => each !== name), onNewRace);
  const box = element("input", { type: "checkbox", id: `o-${name}`, onchange });
  controls.onUpdate(() => {
    box.checked = state.on.includes(name);
  });
  return element("label", {}, box, markSwatch(color, mark), title);
}

/** The head of the rates, of which there is one for each surface. */
const ratesOf = ({ surfaces }) => (surfaces.length > 1 ? "Rate on each" : "Rate");

/** The rate of optimizer k on a surface. */
function rate(app, optimizer, k, number) {
  const { surfaces } = app.model;
  const label = surfaces.length > 1 ? `rate on ${surfaces[number].label}` : "rate";
  const id = `r-${optimizer.name}${number ? `-${number}` : ""}`;
  const about = { id, label, key: "rates", index: number * OPTIMIZERS.length + k };
  return numberField(app, optimizer, about, () => app.race.rate(k, number));
}

function coefficient(app, optimizer, name, index) {
  const [, label] = optimizer.settings[name];
  const about = { id: `s-${optimizer.name}-${name}`, label, key: "coefficients", index };
  const field = numberField(app, optimizer, about, () => app.model.state.coefficients[index]);
  return element("label", { title: label }, label.split(":")[0], field);
}

/** A field for one number of a list of the state; read() gives what it shows. */
function numberField({ controls, model, onNewRace }, optimizer, { id, label, key, index }, read) {
  const take = () => {
    const value = numberIn(field);
    const fine = value >= 0;
    controls.complain(fine ? "" : `${optimizer.title}, ${label}: a number that is not negative`);
    if (!fine) field.value = read();
    const present = model.state[key];
    controls.set(key, fine ? present.map((v, n) => (n === index ? value : v)) : present, onNewRace);
  };
  const about = { "aria-label": `${optimizer.title}: ${label}`, title: label };
  const field = element("input", { type: "number", id, step: "any", min: 0, ...about, onchange: take });
  controls.onUpdate(() => showNumber(field, read()));
  return field;
}
