// The planes from above, or the curves, as SVG: contours, paths, marks and axes are lines, and text is text. The colours
// between them are a picture.

import { download, fileName } from "./download.js";
import { arrangement, nameOf, numbersOf, paint } from "./picture.js";
import { SvgContext } from "./svg_context.js";

const [WIDE, TALL, CHART] = [560, 560, 420]; // the largest size of a plane, and the height of a chart
const BESIDE = [58, 44]; // what the axes of a plane take

/** The size of a view: a plane that is wide is not as tall. */
function sizeOf({ surface, heights }) {
  if (surface.flat) return { width: WIDE, height: CHART };
  const [u, v] = heights.box;
  const scale = Math.min((WIDE - BESIDE[0]) / u, (TALL - BESIDE[1]) / v);
  return { width: WIDE, height: Math.round(scale * v + BESIDE[1]) };
}

/** Have a view draw on another context, as if its canvas had the given size. */
function drawOn(view, context, { width, height }) {
  const { canvas } = view;
  view.canvas = { clientWidth: width, clientHeight: height, width: 0, height: 0, getContext: () => context };
  try {
    view.draw();
  } finally {
    view.canvas = canvas;
  }
}

/** The text of the file. */
function mapAsSvg(app) {
  const context = new SvgContext();
  const tiles = app.panels.map((panel) => {
    const size = sizeOf(panel);
    const paintView = (_, left, top) => {
      context.save();
      context.moveOrigin(left, top);
      drawOn(panel.plane, context, size);
      context.moveOrigin(0, 0);
      context.restore();
    };
    return { name: nameOf(panel), note: panel.note.textContent, numbers: numbersOf(panel), ...size, paint: paintView };
  });
  const layout = arrangement(context, app, tiles);
  paint(context, app, layout);
  app.draw(); // views keep what they drew last
  return context.text(layout.width, layout.height, document.title);
}

export function saveMap(app) {
  download(new Blob([mapAsSvg(app)], { type: "image/svg+xml" }), fileName("svg"));
}
