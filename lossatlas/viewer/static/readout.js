// Sentences about the page and its surfaces: what they show, their state, and the values at a point.

import { evaluate } from "./interpolant.js";
import { text } from "./numbers.js";
import { interpolantOf, nearestCell, planeName } from "./surface.js";

const DIFFERENT_PLANES =
  "These surfaces cover different parts of their planes: a start is at the same coordinates where it can be.";

const ON_A_PLANE = "the balls are optimizers descending this plane alone (z stays fixed), not training the network";
const BALLS = "the balls are optimizers descending this slice, not training the network";

/** One plain sentence: what the page shows. */
export function sentenceOn(model) {
  const title = model.title(model.state.height);
  const balls = model.noRace ? "" : `; ${BALLS}`;
  if (model.surfaces.some((s) => s.checkpoints)) return `The curves are the ${title}.`;
  if (model.surfaces.some((s) => s.chart)) return `Height is the ${title} along the path of a training, and beside it.`;
  if (model.flat) return `The curves are the ${title} of a network on one line through its parameters${balls}.`;
  if (model.planes) {
    const alone = model.noRace ? "" : `; ${ON_A_PLANE}`;
    return `Height is the ${title} of a network on the plane ${planeName(model.surfaces[0])} of a volume${alone}.`;
  }
  return `Height is the ${title} of a network when its parameters move in two directions${balls}.`;
}

/** What x and y are: a sentence, or one for each group of surfaces that differ in it. */
export function coordinatesOn({ surfaces }) {
  const groups = new Map();
  for (const { coordinates, label } of surfaces) groups.set(coordinates, [...(groups.get(coordinates) || []), label]);
  if (groups.size === 1) return surfaces[0].coordinates;
  const named = ([words, labels]) => words.replace(/^x(, y)?/, (letters) => `${letters} (${labels.join(", ")})`);
  return [...groups].map(named).join(" ");
}

/** Remarks on the page as a whole. */
export function remarksOn(model) {
  const { surfaces } = model;
  const remarks = surfaces.length < 2 || model.flat || model.alike() ? [] : [DIFFERENT_PLANES];
  if (model.noRace) remarks.push(model.noRace);
  return remarks;
}

/** Notes about unfinished, infinite, interpolated and badly resolved cells. */
export function notesOn(surface, fieldName) {
  const notes = [];
  const [done, all] = surface.cells;
  const field = surface.fields[fieldName];
  if (done < all) {
    const [columns, rows] = [surface.columns.length, surface.rows.length];
    notes.push(`Unfinished: ${done} of ${all} cells; what is shown rests on ${columns} × ${rows} of them.`);
  }
  const odd = field.values.reduce((n, v, k) => n + (surface.done[k] && !Number.isFinite(v) ? 1 : 0), 0);
  if (odd) notes.push(`${odd} cells are not finite: red crosses.`);
  const guessed = surface.interpolated.reduce((n, v) => n + v, 0);
  if (guessed) {
    notes.push(
      `${guessed} of ${all} cells are not computed, but interpolated from those around them ("wire frame", under View, marks the others).`,
    );
  }
  if (field.error !== null && field.error > 0.1) {
    const percent = (100 * field.error).toFixed(0);
    notes.push(
      `Between the cells this surface is a guess: with every second row and column left out, half of them are off by more than ${percent} % of the spread.`,
    );
  }
  return notes.join(" ");
}

/** The coordinates of a point and the values of all fields there. */
export function valuesAt(surface, fields, point) {
  const [i, j] = nearestCell(surface, ...point);
  const k = j * surface.x.length + i;
  const plane = surface.z ? `, ${planeName(surface).replace("= ", "")}` : "";
  const parts = [surface.flat ? `x ${text(point[0])}` : `x ${text(point[0])}, y ${text(point[1])}${plane}`];
  for (const { name, title } of fields) {
    parts.push(`${title} ${valueText(surface, name, point, k)}`);
    const se = surface.fields[`${name}_se`];
    if (surface.interpolated[k]) parts.push("(interpolated)");
    else if (se && surface.done[k] && se.values[k] > 0) {
      parts.push(`± ${text(se.values[k], 2)} (standard error of the nearest cell)`);
    }
  }
  return parts.join("; ");
}

/** The value at a point; that of its nearest cell, number k, if the point's own is not known. */
function valueText(surface, name, point, k) {
  const found = evaluate(interpolantOf(surface, name), ...point);
  if (found && Number.isFinite(found[0])) return text(found[0]);
  return surface.done[k] ? text(surface.fields[name].values[k]) : "not computed";
}
