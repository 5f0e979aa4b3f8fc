// Controls that show and change one entry of the state. `update` brings them up to date with it.

import { element } from "./elements.js";
import { text } from "./numbers.js";

export class Controls {
  /** changed(): is called after an entry of `state` and all that depends on it have changed. */
  constructor(state, changed) {
    this.state = state;
    this.changed = changed;
    this.updates = [];
    this.complaint = element("output", { class: "complaint" });
  }

  update() {
    for (const each of this.updates) each();
  }

  /** Have `update` call a function. */
  onUpdate(update) {
    this.updates.push(update);
  }

  /** Say beside the play button which input was refused, or nothing. */
  complain(words) {
    this.complaint.textContent = words;
  }

  set(key, value, after) {
    this.state[key] = value;
    after();
    this.changed();
  }

  checkbox(key, words, after) {
    const box = element("input", { type: "checkbox", id: `c-${key}`, onchange: () => this.set(key, box.checked, after) });
    this.onUpdate(() => {
      box.checked = this.state[key];
    });
    return element("label", {}, box, words);
  }

  /** options(): the present list of [value, label]. */
  select(key, words, options, after) {
    const list = element("select", { id: `c-${key}`, onchange: () => this.set(key, list.value, after) });
    this.onUpdate(() => {
      list.replaceChildren(...options().map(([value, label]) => element("option", { value }, label)));
      list.value = this.state[key];
    });
    return element("label", {}, words, list);
  }

  /** limits(): the present [low, high, step]. shown(value): its text. */
  range(key, words, limits, after, shown = (value) => text(value, 3)) {
    const slider = element("input", { type: "range", id: `c-${key}`, oninput: () => this.set(key, Number(slider.value), after) });
    const said = element("output", { class: "value" });
    this.onUpdate(() => {
      const [low, high, step] = limits();
      Object.assign(slider, { min: low, max: high, step });
      slider.value = this.state[key];
      said.textContent = shown(this.state[key]);
    });
    return element("label", { class: "row", style: "width:100%" }, words, slider, said);
  }

  number(key, words, { low, high, step, whole = false }, after) {
    const take = () => {
      const value = numberIn(field);
      const fine = value >= low && value <= high;
      if (fine) this.set(key, whole ? Math.round(value) : value, after);
      this.complain(fine ? "" : `${words}: from ${low} to ${high}`);
      field.value = this.state[key];
    };
    const field = element("input", { type: "number", id: `c-${key}`, min: low, max: high, step, onchange: take });
    this.onUpdate(() => showNumber(field, this.state[key]));
    return element("label", {}, words, field);
  }
}

/** The finite number in a field; NaN if there is none. */
export function numberIn(field) {
  const value = Number(field.value);
  return field.value.trim() !== "" && Number.isFinite(value) ? value : NaN;
}

/** Show a number in a field in which nobody types. */
export function showNumber(field, value) {
  if (document.activeElement !== field) field.value = value;
}
