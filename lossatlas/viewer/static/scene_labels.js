// The axes of the scene: on the edges that face the reader, in text that does not turn.

import { FONT, fit, line } from "./drawing2d.js";
import { FLOOR, TALL } from "./heights.js";
import { clamp, text } from "./numbers.js";
import { toScreen } from "./projection.js";
import { roundSteps, ticks } from "./scale.js";

const BESIDE = [30, 38, 46, 56, 68, 82]; // pixels from an axis to its title
const RIGHT = 40; // pixels that the name of the height may reach to the right of its axis: the surface begins there
const WIDEST = 120; // pixels of a line of this name, at most, where a single one finds no room
const LINE = 13; // pixels from one of its lines to the next
const ALONG = [0.5, 0.4, 0.6, 0.3, 0.7, 0.15, 0.85]; // shares of the part of the axis that is shown

const ends = (nodes) => [nodes[0], nodes[nodes.length - 1]];

/** Writes words at a place and an offset, within the canvas and not over each other. */
class Writer {
  constructor(context, size, theme, taken) {
    this.context = context;
    this.size = size;
    this.theme = theme;
    this.taken = taken; // boxes [left, top, right, bottom]
  }

  /** Where words stand: {side, x, y, box, moved}; moved: they would have been cut by the edge of the canvas. */
  spot(words, place, away) {
    const wide = this.context.measureText(words).width + 2;
    const side = Math.abs(away[0]) < 4 ? "center" : away[0] > 0 ? "left" : "right";
    const left = { center: wide / 2, left: 0, right: wide }[side]; // of the place where the words are anchored
    const [width, height] = this.size;
    const [a, b] = [place[0] + away[0], place[1] + away[1]];
    const [x, y] = [clamp(a, left + 2, Math.max(left + 2, width - wide + left - 2)), clamp(b, 8, height - 8)];
    return { side, x, y, box: [x - left, y - 7, x - left + wide, y + 7], moved: x !== a || y !== b };
  }

  isFree([left, top, right, bottom]) {
    return this.taken.every((box) => right + 3 < box[0] || box[2] + 3 < left || bottom < box[1] || box[3] < top);
  }

  /** True if words would stand there whole and alone. */
  fits(words, place, away) {
    const { box, moved } = this.spot(words, place, away);
    return !moved && this.isFree(box);
  }

  /** Write words, unless others stand there; `strong` words stand anywhere. */
  write(words, place, away, strong = false) {
    const { context, theme } = this;
    const { side, x, y, box } = this.spot(words, place, away);
    if (!strong && !this.isFree(box)) return;
    this.taken.push(box);
    context.textAlign = side;
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = theme.ground;
    context.strokeText(words, x, y);
    context.fillStyle = strong ? theme.strong : theme.text;
    context.fillText(words, x, y);
  }
}

/** Draw the axes on a canvas over the scene. view: see SceneView; obstacles: rectangles that stand on the scene. */
export function drawSceneLabels(canvas, view, obstacles, heights, theme) {
  const [context, width, height] = fit(canvas);
  const { surface, box } = heights;
  context.font = FONT;
  const at = (p) => toScreen(view.matrix, p, width, height);
  const size = [width, height];
  const taken = obstacles.map(({ left, top, right, bottom }) => [left, top, right, bottom]);
  const writer = new Writer(context, size, theme, taken);
  const [nearU, nearV] = [0, 1].map((k) => (view.back[k] > 0 ? box[k] : -box[k]));
  const corners = [
    [nearU, -nearV],
    [-nearU, nearV],
  ].sort((a, b) => at([...a, 0])[0] - at([...b, 0])[0]);
  const [corner] = corners; // the vertical axis stands there
  const foot = at([...corner, FLOOR]);
  const axes = { at, writer, middle: at([0, 0, FLOOR]), foot, size };
  heightTitle(context, axes, corner, heights, width);
  context.font = FONT;
  verticalAxis(context, axes, corner, heights, theme);
  floorAxis(axes, ends(surface.x), (u) => [u * box[0], nearV, FLOOR], surface.axes[0]);
  floorAxis(axes, ends(surface.y), (v) => [nearU, v * box[1], FLOOR], surface.axes[1]);
}

function floorAxis({ at, writer, middle, foot, size }, [low, high], place, name) {
  const outwards = (p, distance) => {
    const d = [p[0] - middle[0], p[1] - middle[1]];
    const length = Math.hypot(...d) || 1;
    return [(d[0] / length) * distance, (d[1] / length) * distance];
  };
  const inside = ([x, y]) => x > 0 && y > 0 && x < size[0] && y < size[1];
  for (const v of roundSteps(low, high, 4)) {
    const p = at(place((2 * (v - low)) / (high - low) - 1));
    if (inside(p) && Math.hypot(p[0] - foot[0], p[1] - foot[1]) >= 24) writer.write(text(v), p, outwards(p, 15));
  }
  const shown = Array.from({ length: 41 }, (_, k) => at(place(k / 20 - 1))).filter(inside);
  if (shown.length) axisTitle(writer, name, shown, outwards);
}

/** The name of an axis beside the part of it that is shown, beyond the numbers of its ticks; without its share if room is short. */
function axisTitle(writer, name, shown, outwards) {
  for (const words of [name, name.replace(/ \(.*/, "")]) {
    for (const distance of BESIDE) {
      for (const share of ALONG) {
        const p = shown[Math.round(share * (shown.length - 1))];
        if (!writer.fits(words, p, outwards(p, distance))) continue;
        writer.write(words, p, outwards(p, distance), true);
        return;
      }
    }
  }
}

function verticalAxis(context, { at, writer, foot }, corner, { scale }, theme) {
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
    writer.write(text(value, 3), [x, y], [-7, 0]);
  }
}

/** The name of the height over its axis: in one line, or in several where that finds no room; none if these find none either. */
function heightTitle(context, { at, writer }, corner, { model }, width) {
  context.font = `600 ${FONT}`;
  const title = model.title(model.state.height);
  const top = at([...corner, TALL]);
  const wide = (words) => context.measureText(words).width;
  const room = Math.min(WIDEST, top[0] + RIGHT - 4);
  for (const lines of [[title], wrapped(title, (words) => wide(words) <= room)]) {
    const widest = Math.max(...lines.map(wide));
    const wished = top[0] - widest + Math.min(widest / 2, RIGHT);
    const left = clamp(wished, 4, Math.max(4, width - widest - 4));
    const lowest = Math.max(10 + LINE * (lines.length - 1), top[1] - 16);
    const box = [left, lowest - LINE * (lines.length - 1) - 7, left + widest + 2, lowest + 7];
    if (!writer.isFree(box) || (lines.length === 1 && left + widest > top[0] + RIGHT + 4 && widest > room)) continue;
    lines.forEach((words, k) => {
      writer.write(words, [left, lowest - LINE * (lines.length - 1 - k)], [5, 0], true);
    });
    return;
  }
}

/** Words in lines of which each fits. */
function wrapped(text, fits) {
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && fits(longer)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
