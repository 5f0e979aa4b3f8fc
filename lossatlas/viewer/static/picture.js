// What the page shows as one picture: title, the surfaces side by side, the names of the optimizers, and the bar of the colours.
// It is painted on any context of a flat canvas, with sizes in pixels of the page.

import { colourOf, curveColour, OVERLAID } from "./colours.js";
import { download, fileName } from "./download.js";
import { drawMark, FONT } from "./drawing2d.js";
import { element } from "./elements.js";
import { text } from "./numbers.js";
import { atRatio } from "./resolution.js";
import { planeName } from "./surface.js";
import { BAR_HEIGHT, barsOf, drawBar } from "./value_bar.js";

const [MARGIN, GAP] = [20, 16];
const [TITLE, NAME, NOTE, ROW] = [34, 26, 17, 19]; // heights of lines
const WIDEST_BAR = 420;
const FINE = 4; // pixels of the file for one of the page
const MOST = 8e7; // pixels of the file
const TOO_LARGE = "This browser cannot make a picture of this size: make the window smaller.";

/** The views that are shown: tiles {name, panel, layers: [{canvas, box}], box}; the box is a rectangle on the page. */
function viewsOf({ model, panels }) {
  const names = model.surfaces.map((s, k) => `${s.label} (${OVERLAID[k % OVERLAID.length].toLowerCase()})`);
  const tiles = panels.map((panel) => {
    const { scene, plane } = panel;
    const all = model.state.overlay && panel.number === 0;
    const canvases = [...(scene && !scene.root.hidden ? [scene.canvas, scene.labels] : []), plane.canvas];
    const seen = canvases.filter((canvas) => getComputedStyle(canvas).visibility === "visible");
    const layers = seen.map((canvas) => ({ canvas, box: canvas.getBoundingClientRect() }));
    return {
      panel,
      name: all ? names.join(" and ") : nameOf(panel),
      layers: layers.filter(({ box }) => box.width > 1 && box.height > 1),
    };
  });
  return tiles
    .filter(({ layers }) => layers.length)
    .map((tile) => ({ ...tile, box: aroundAll(tile.layers.map(({ box }) => box)) }));
}

function aroundAll(boxes) {
  const [left, top] = ["left", "top"].map((side) => Math.min(...boxes.map((box) => box[side])));
  const [right, bottom] = ["right", "bottom"].map((side) => Math.max(...boxes.map((box) => box[side])));
  return { left, top, width: right - left, height: bottom - top };
}

/** The optimizers of surfaces with their present values, as lines of items that are not wider than `width`. */
function namesOf(context, { race, model }, numbers, width) {
  context.font = FONT;
  return numbers.flatMap((number) => {
    const runs = race.shownOn(number);
    const { label } = model.surfaces[number];
    const curve = numbers.length > 1 ? [{ words: label, longest: label, stroke: strokeOf(model, number) }] : [];
    const items = runs.map(({ optimizer: { title, color, mark }, losses, shown }) => {
      return { words: `${title}  ${text(losses[shown], 3)}`, longest: `${title}  0.0000e-10`, color, mark };
    });
    return linesOf(context, [...curve, ...items], width);
  });
}

/** The colour of a surface among several in one view. */
function strokeOf({ flat, maps }, number) {
  return flat ? curveColour(number) : `rgb(${colourOf(maps[OVERLAID[number % OVERLAID.length]], 0.4).join(",")})`;
}

/** Items in lines; each takes the place of the longest words that it may have, so that lines stay while a race is played. */
function linesOf(context, items, width) {
  const lines = [];
  let used = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const wide = 18 + context.measureText(item.longest).width + 8;
    if (used + wide > width) {
      lines.push([]);
      used = 0;
    }
    lines[lines.length - 1].push({ ...item, at: used });
    used += wide;
  }
  return lines;
}

/** Where everything stands in the picture. tiles: [{name, note, numbers, width, height, paint(context, left, top)}]. */
export function arrangement(context, app, tiles) {
  let left = MARGIN;
  const rows = Math.max(...tiles.map((tile) => namesOf(context, app, tile.numbers, tile.width).length));
  const placed = tiles.map((tile) => {
    const place = { ...tile, left, top: MARGIN + TITLE };
    left += tile.width + GAP;
    return place;
  });
  const head = MARGIN + TITLE + NAME + (tiles.some((tile) => tile.note) ? NOTE : 0);
  const tall = Math.max(...tiles.map((tile) => tile.height));
  const bars = barsOf(app.model);
  const foot = head + tall + rows * ROW + 12;
  const width = Math.max(360, Math.ceil(left - GAP + MARGIN));
  const height = Math.ceil(foot + bars.length * BAR_HEIGHT + MARGIN);
  return { width, height, placed, foot, bars, head, names: head + tall + 6 };
}

/** Paint the whole picture. `layout`: of `arrangement`. */
export function paint(context, app, layout) {
  const { theme } = app;
  const { width, height, placed, foot, bars } = layout;
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, width, height);
  words(context, document.title, MARGIN, MARGIN + 18, `600 20px ${FONT.replace(/^\S+ /, "")}`, theme.strong, width - 2 * MARGIN);
  for (const tile of placed) paintTile(context, app, tile, layout);
  bars.forEach((bar, k) => {
    const box = { left: MARGIN + 4, top: foot + k * BAR_HEIGHT, width: Math.min(WIDEST_BAR, width - 2 * MARGIN - 8) };
    drawBar(context, box, bar, theme);
  });
}

function paintTile(context, app, tile, { head, names }) {
  const { theme } = app;
  const family = FONT.replace(/^\S+ /, "");
  words(context, tile.name, tile.left, tile.top + 17, `600 14px ${family}`, theme.strong, tile.width);
  if (tile.note) words(context, tile.note, tile.left, tile.top + 35, FONT, theme.accent, tile.width);
  tile.paint(context, tile.left, head);
  namesOf(context, app, tile.numbers, tile.width).forEach((items, row) => {
    for (const item of items) {
      const [x, y] = [tile.left + item.at, names + row * ROW];
      if (item.mark) drawMark(context, item.mark, [x + 7, y + 8], 5, item.color);
      else drawStroke(context, x, y, item.stroke);
      words(context, item.words, x + 17, y + 12, FONT, theme.strong);
    }
  });
}

/** A piece of a curve in front of its name. */
function drawStroke(context, x, y, colour) {
  context.fillStyle = colour;
  context.fillRect(x, y + 6.5, 13, 3);
}

function words(context, said, x, y, font, colour, most) {
  context.font = font;
  context.fillStyle = colour;
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.fillText(said, x, y, ...(most ? [most] : []));
}

/** The numbers of the surfaces in a panel: one chart holds all curves. */
export const numbersOf = ({ surfaces, number }) => (surfaces.length > 1 ? [...surfaces.keys()] : [number]);

/** The names of the surfaces in a panel, and of the plane of a volume. */
export const nameOf = ({ surfaces }) =>
  surfaces.map((surface) => [surface.label, planeName(surface)].filter((part) => part).join(", ")).join(" and ");

/** Tiles of the views as they are on the page. before(panel): is called before a panel is painted. */
export function shownTiles(app, before = () => {}) {
  return viewsOf(app).map(({ name, panel, layers, box }) => ({
    name,
    note: panel.note.textContent,
    numbers: app.model.state.overlay && panel.number === 0 ? [...app.model.surfaces.keys()] : numbersOf(panel),
    width: box.width,
    height: box.height,
    paint(context, left, top) {
      before(panel);
      for (const { canvas, box: own } of layers) {
        context.drawImage(canvas, left + own.left - box.left, top + own.top - box.top, own.width, own.height);
      }
    },
  }));
}

/** How many pixels of the file one of the page may have, at most FINE. */
function finest(app, { width, height }) {
  const sides = app.panels.flatMap(({ scene }) => {
    if (!scene) return [];
    const { gl } = scene.renderer;
    const most = Math.min(gl.getParameter(gl.MAX_RENDERBUFFER_SIZE), ...gl.getParameter(gl.MAX_VIEWPORT_DIMS));
    return [most / Math.max(1, scene.root.clientWidth, scene.root.clientHeight)];
  });
  return Math.max(1, Math.min(FINE, ...sides, Math.sqrt(MOST / (width * height))));
}

/** Save the picture, four times as fine as the page where the browser can. */
export function savePicture(app) {
  const canvas = element("canvas");
  const context = canvas.getContext("2d");
  const tiles = shownTiles(app, (panel) => panel.draw());
  const layout = arrangement(context, app, tiles);
  const ratio = finest(app, layout);
  canvas.width = Math.round(layout.width * ratio);
  canvas.height = Math.round(layout.height * ratio);
  context.scale(ratio, ratio);
  context.imageSmoothingQuality = "high";
  atRatio(ratio, () => paint(context, app, layout));
  app.draw(); // with the pixels of the screen again
  canvas.toBlob((blob) => (blob ? download(blob, fileName("png")) : app.controls.complain(TOO_LARGE)));
}
