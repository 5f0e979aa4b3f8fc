// On a narrow page a surface at a time is shown, so that it is large: a button for each, and one for all of them.

import { button, element } from "./elements.js";

const ALL = -1;
const narrow = () => matchMedia("(max-width: 820px)"); // as in page.css

export class Tabs {
  /** panels: of the surfaces. changed(): is called when others are to be shown. */
  constructor(panels, changed) {
    this.panels = panels;
    this.changed = changed;
    this.chosen = 0; // the number of a panel, or ALL
    const all = panels.length > 2 ? "all" : "both";
    this.buttons = new Map(panels.map(({ surface, number }) => [number, this.tab(surface.label, number)]));
    this.buttons.set(ALL, this.tab(all, ALL));
    const about = { class: "tabs", role: "group", "aria-label": "Which surface is shown" };
    this.root = element("div", about, ...this.buttons.values());
    narrow().addEventListener("change", changed);
  }

  tab(words, number) {
    return button(number === ALL ? "tab-all" : `tab-${number}`, words, () => this.choose(number), { title: words });
  }

  choose(number) {
    if (number === this.chosen) return;
    this.chosen = number;
    this.changed();
  }

  /** Show a surface, unless all of them are shown. */
  show(number) {
    if (this.chosen !== ALL && this.panels[number]) this.choose(number);
  }

  /** Hide the panels that are not shown; overlaid: all surfaces are in one scene. Returns whether one is shown alone. */
  arrange(overlaid) {
    const single = narrow().matches && this.chosen !== ALL && !overlaid && this.panels.length > 1;
    for (const { root, readout, number } of this.panels) {
      root.hidden = single && number !== this.chosen;
      readout.classList.toggle("away", root.hidden);
    }
    for (const [number, found] of this.buttons) found.setAttribute("aria-pressed", String(number === this.chosen));
    return single;
  }
}
