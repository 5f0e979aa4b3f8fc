// The path of a training: one checkpoint is chosen, described, and can become the start of the race.

import { button, group, hint, row } from "./elements.js";
import { evaluate } from "./interpolant.js";
import { text } from "./numbers.js";
import { interpolantOf } from "./surface.js";

const WITH_LOSSES =
  "Each checkpoint has the colour and the height of its own training loss; a stem joins it to the surface, on which only its projection lies.";
const WITHOUT_LOSSES =
  "The file does not hold the losses of the checkpoints themselves: what is shown lies on the surface, of which each checkpoint is a projection.";

/** Returns {root, update()}. */
export function trainingTools(app) {
  const { controls, model } = app;
  const walk = hint("", { id: "walk" });
  const longest = Math.max(...model.surfaces.map((s) => s.trajectory?.x.length || 0));
  const limits = () => [0, longest - 1, 1];
  const root = group(
    "Training",
    {},
    controls.range("epoch", "Checkpoint", limits, app.onNewDrawing, (k) => epochName(model, k)),
    walk,
    row(button("from-checkpoint", "Race from here", () => app.startAtCheckpoint())),
    hint(model.surfaces.some((s) => s.trajectory?.loss) ? WITH_LOSSES : WITHOUT_LOSSES),
  );
  const update = () => {
    const known = model.surfaces.filter((s) => s.trajectory && s.trajectory.x[model.state.epoch] !== undefined);
    walk.textContent = known.map((surface) => describe(model, surface)).join(" · ");
  };
  return { root, update };
}

function epochName(model, k) {
  const path = model.surfaces.find((s) => s.trajectory)?.trajectory;
  return path?.epochs?.[k] !== undefined ? `${path.counted ?? "epoch"} ${text(path.epochs[k])}` : String(k + 1);
}

/** The chosen checkpoint of a surface: its own loss, that of the surface under it, and its distance from the plane. */
function describe(model, surface) {
  const { state, surfaces } = model;
  const { x, y, loss: losses, distance: distances, field } = surface.trajectory;
  const k = state.epoch;
  const found = evaluate(interpolantOf(surface, state.height), x[k], y[k]);
  const loss = losses?.[k] ?? null;
  const distance = distances?.[k] ?? null;
  const own = field === state.height ? "loss" : model.title(field);
  return [
    `${epochName(model, k)}${surfaces.length > 1 ? ` of ${surface.label}` : ""}`,
    loss === null ? "its own loss is not recorded" : `its own ${own} ${text(loss)}`,
    found && Number.isFinite(found[0]) ? `the surface under it ${text(found[0])}` : "not on this surface",
    ...(distance === null ? [] : [`distance from the plane ${text(distance)}`]),
  ].join("; ");
}
