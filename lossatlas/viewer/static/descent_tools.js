// Controls of the descent: its start and what is descended, and the buttons that play it.

import { button, element, group, hint, row } from "./elements.js";

const CURVE_HINT =
  "Click or drag to choose a start: the race begins there. Keys: space plays, . and , step, r rewinds, arrows move the start.";
const PLANE_HINT =
  "Click on the surface or the map, or drag the ball, to choose a start: the race begins there. Drag to turn; Shift and drag, or two fingers, to move; Ctrl and wheel, or pinch, to zoom. Keys: space plays, . and , step, r rewinds, arrows turn the surface or move the start.";

export function descentTools(app) {
  const { controls, model, onNewRace } = app;
  const { x, y, flat } = model.surfaces[0];
  const limits = (nodes) => () => [nodes[0], nodes[nodes.length - 1], (nodes[nodes.length - 1] - nodes[0]) / 1000];
  const objectives = () => [["loss", "the value"], ...(model.positive() ? [["log", "its logarithm"]] : [])];
  return group(
    "Descent",
    {},
    controls.range("x", "Start x", limits(x), onNewRace),
    ...(flat ? [] : [controls.range("y", "y", limits(y), onNewRace)]),
    row(
      controls.select("objective", "Descend", objectives, app.onNewObjective),
      controls.number("steps", "Steps", { low: 1, high: 5000, step: 1, whole: true }, onNewRace),
      controls.number("seconds", "played in (s)", { low: 0.5, high: 600, step: "any" }, () => app.play(false)),
    ),
    row(
      controls.number("noise", "Noise on each slope", { low: 0, high: 1e6, step: "any" }, onNewRace),
      controls.number("seed", "Seed", { low: 0, high: 4294967295, step: 1, whole: true }, onNewRace),
    ),
    hint(model.flat ? CURVE_HINT : PLANE_HINT),
  );
}

/** Returns {root, say(playing), update()}. */
export function transportOf(app) {
  const { controls, model } = app;
  const play = button("play", "Play", () => app.togglePlay(), { class: "main" });
  const root = element(
    "div",
    { class: "transport", role: "group", "aria-label": "Play" },
    play,
    button("back", "‹", () => app.step(-1), { title: "one step back (,)", "aria-label": "One step back" }),
    button("forward", "›", () => app.step(1), { title: "one step (.)", "aria-label": "One step" }),
    button("rewind", "Rewind", () => app.rewind(), { title: "to the start (r)" }),
    controls.range(
      "at",
      element("span", { class: "word" }, "Step"),
      () => [0, model.state.steps, 1],
      () => app.play(false),
      String,
    ),
  );
  controls.onUpdate(() => {
    play.disabled = Boolean(model.noRace);
  });
  const say = (playing) => {
    play.textContent = playing ? "Pause" : "Play";
  };
  const update = () => root.classList.toggle("raceless", Boolean(model.noRace));
  return { root, say, update };
}
