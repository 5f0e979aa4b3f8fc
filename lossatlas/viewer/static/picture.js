// All views of the page as one PNG file.

import { OVERLAID } from "./colours.js";
import { element } from "./elements.js";

const TITLE_HEIGHT = 40; // pixels

/** The views of a panel: lists of canvases that lie over each other. */
function viewsOf({ scene, plane }) {
  return scene && !scene.root.hidden ? [[scene.canvas, scene.labels], [plane.canvas]] : [[plane.canvas]];
}

function titleOf(model, panel) {
  const all = model.state.overlay && panel.number === 0;
  const names = all ? model.surfaces.map((s, k) => `${s.label} (${OVERLAID[k % OVERLAID.length].toLowerCase()})`) : [];
  return [names.join(" and ") || panel.surface.label, panel.note.textContent].filter(Boolean).join(" · ");
}

/** One row for each panel: its views side by side under its title. */
function drawRow(context, model, panel, top) {
  context.fillText(titleOf(model, panel), 12, top + 27);
  let x = 0;
  for (const layers of viewsOf(panel)) {
    const { width, height } = layers[0];
    for (const layer of layers) context.drawImage(layer, x, top + TITLE_HEIGHT, width, height);
    x += width;
  }
}

export function savePicture({ model, panels, theme }) {
  const sizes = panels.map((panel) => viewsOf(panel).map(([canvas]) => canvas));
  const width = Math.max(...sizes.map((canvases) => canvases.reduce((sum, canvas) => sum + canvas.width, 0)));
  const heights = sizes.map((canvases) => TITLE_HEIGHT + Math.max(...canvases.map((canvas) => canvas.height)));
  const height = heights.reduce((sum, each) => sum + each, 0);
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, width, height);
  context.fillStyle = theme.strong;
  context.font = "600 22px system-ui, sans-serif";
  let top = 0;
  panels.forEach((panel, k) => {
    drawRow(context, model, panel, top);
    top += heights[k];
  });
  canvas.toBlob(download);
}

function download(blob) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: "surface.png" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
