// The axes of the scene: on the edges that face the reader, in text that does not turn.

import { FONT, fit, line } from "./drawing2d.js";
import { FLOOR, TALL } from "./heights.js";
import { clamp, text } from "./numbers.js";
import { toScreen } from "./projection.js";
import { roundSteps, ticks } from "./scale.js";

const ends = (nodes) => [nodes[0], nodes[nodes.length - 1]];

/** A function that writes words at a place and an offset, where no others stand; `strong` words stand anywhere. */
function labelWriter(context, [width, height], theme) {
  const taken = [];
  return (words, place, away, strong = false) => {
    const wide = context.measureText(words).width + 2;
    const side = Math.abs(away[0]) < 4 ? "center" : away[0] > 0 ? "left" : "right";
    const [left, right] = { center: [wide / 2, wide / 2], left: [2, wide], right: [wide, 2] }[side]; // of its anchor
    const x = clamp(place[0] + away[0], left, width - right);
    const y = clamp(place[1] + away[1], 8, height - 8);
    if (!strong && taken.some(([a, b]) => Math.abs(a - x) < 26 && Math.abs(b - y) < 13)) return;
    taken.push([x, y]);
    context.textAlign = side;
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = theme.ground;
    context.strokeText(words, x, y);
    context.fillStyle = strong ? theme.strong : theme.text;
    context.fillText(words, x, y);
  };
}

/** Draw the axes on a canvas over the scene. view: see SceneView. */
export function drawSceneLabels(canvas, view, heights, theme) {
  const [context, width, height] = fit(canvas);
  const { surface, box } = heights;
  context.font = FONT;
  const at = (p) => toScreen(view.matrix, p, width, height);
  const write = labelWriter(context, [width, height], theme);
  const [nearU, nearV] = [0, 1].map((k) => (view.back[k] > 0 ? box[k] : -box[k]));
  const corners = [
    [nearU, -nearV],
    [-nearU, nearV],
  ].sort((a, b) => at([...a, 0])[0] - at([...b, 0])[0]);
  const [corner] = corners; // the vertical axis stands there
  const foot = at([...corner, FLOOR]);
  const axes = { at, write, middle: at([0, 0, FLOOR]), foot };
  floorAxis(axes, ends(surface.x), (u) => [u * box[0], nearV, FLOOR], surface.axes[0]);
  floorAxis(axes, ends(surface.y), (v) => [nearU, v * box[1], FLOOR], surface.axes[1]);
  verticalAxis(context, axes, corner, heights, theme);
  heightTitle(context, axes, corner, heights, width);
}

function floorAxis({ at, write, middle, foot }, [low, high], place, name) {
  const outwards = (p, size) => {
    const d = [p[0] - middle[0], p[1] - middle[1]];
    const length = Math.hypot(...d) || 1;
    return [(d[0] / length) * size, (d[1] / length) * size];
  };
  for (const v of roundSteps(low, high, 4)) {
    const p = at(place((2 * (v - low)) / (high - low) - 1));
    if (Math.hypot(p[0] - foot[0], p[1] - foot[1]) >= 24) write(text(v), p, outwards(p, 15));
  }
  const p = at(place(0));
  write(name, p, outwards(p, 32), true);
}

function verticalAxis(context, { at, write, foot }, corner, { scale }, theme) {
  const stroke = (from, to) => {
    context.strokeStyle = theme.frame;
    context.lineWidth = 1;
    line(context, ...from, ...to);
  };
  stroke(foot.slice(0, 2), at([...corner, TALL]).slice(0, 2));
  for (const value of ticks(scale, 5)) {
    const h = scale.height(value);
    if (h > 1 + 1e-9) continue;
    const [x, y] = at([...corner, h * TALL]);
    stroke([x - 4, y], [x, y]);
    write(text(value, 3), [x, y], [-7, 0]);
  }
}

function heightTitle(context, { at, write }, corner, { model }, width) {
  context.font = `600 ${FONT}`;
  const words = model.title(model.state.height);
  const wide = context.measureText(words).width;
  const [x, y] = at([...corner, TALL]);
  write(words, [Math.max(4, Math.min(x - wide / 2, width - wide - 4)), Math.max(10, y - 16)], [5, 0], true);
}
