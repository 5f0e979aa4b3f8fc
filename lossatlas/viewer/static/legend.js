// The legend on a scene: each optimizer with its colour, its name and its present loss; a click switches it on or off.

import { element, markSwatch } from "./elements.js";
import { shortText } from "./numbers.js";
import { OPTIMIZERS } from "./optimizers.js";

/** The legend of the surfaces with some numbers: {root, update()}. */
export function legendOf(app, numbers, attributes = {}) {
  const names = numbers.map((number) => app.model.surfaces[number].label).join(" and ");
  const items = OPTIMIZERS.map((optimizer) => itemOf(app, optimizer, numbers));
  const about = { role: "group", "aria-label": `Optimizers on ${names}: a click shows or hides one` };
  const root = element("div", { class: "legend", ...about, ...attributes }, ...items.map((item) => item.root));
  const update = () => {
    root.hidden = Boolean(app.model.noRace);
    for (const item of items) item.update();
  };
  return { root, update };
}

function itemOf(app, { name, title, color, mark }, numbers) {
  const losses = numbers.map(() => element("span", { class: "loss" }));
  const toggle = () => app.toggleOptimizer(name);
  const words = `Show or hide ${title}`;
  const root = element(
    "button",
    { type: "button", title: words, onclick: toggle, "data-name": name },
    element("span", { class: "tick", "aria-hidden": "true" }),
    markSwatch(color, mark),
    element("span", { class: "name" }, title),
    ...losses,
  );
  const update = () => {
    const on = app.model.state.on.includes(name);
    root.setAttribute("aria-pressed", String(on));
    numbers.forEach((number, k) => {
      const shown = on ? lossOf(app.race, number, name) : "";
      if (losses[k].textContent !== shown) losses[k].textContent = shown;
    });
  };
  return { root, update };
}

/** The present loss of an optimizer on a surface; "" where it does not run. */
function lossOf(race, number, name) {
  const run = race.shownOn(number).find(({ optimizer }) => optimizer.name === name);
  return run ? shortText(run.losses[run.shown]) : "";
}
