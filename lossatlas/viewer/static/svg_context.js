// A context of a flat canvas that writes SVG: lines stay lines, and text stays text. It knows what the page draws with.

import { element } from "./elements.js";

const FRESH = {
  fillStyle: "#000000",
  strokeStyle: "#000000",
  lineWidth: 1,
  lineJoin: "miter",
  lineCap: "butt",
  font: "10px sans-serif",
  textAlign: "start",
  textBaseline: "alphabetic",
  globalAlpha: 1,
  imageSmoothingEnabled: true,
  dash: [],
  clipped: "",
  matrix: [1, 0, 0, 1, 0, 0],
};
const ANCHORS = { start: "start", left: "start", center: "middle", end: "end", right: "end" };
const SHIFTS = { top: 0.78, hanging: 0.78, middle: 0.35, bottom: -0.2, alphabetic: 0 }; // of the baseline, in sizes of the font

const short = (number) => String(Number(number.toFixed(2)));
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** A gradient along a line, as a canvas has it. */
class Gradient {
  constructor(name, ends) {
    const [x1, y1, x2, y2] = ends.map(short);
    this.name = name;
    this.head = `<linearGradient id="${name}" gradientUnits="userSpaceOnUse" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}">`;
    this.stops = [];
  }

  addColorStop(share, colour) {
    this.stops.push(`<stop offset="${Number(share.toFixed(4))}" stop-color="${escaped(colour)}"/>`);
  }

  /** Its definition. */
  text() {
    return `${this.head}${this.stops.join("")}</linearGradient>`;
  }
}

/** Attributes of a colour: "rgba(...)" is a colour and an opacity, which older programs expect. */
function paintOf(kind, colour, alpha) {
  if (colour instanceof Gradient) return { [kind]: `url(#${colour.name})` };
  const found = /^rgba\(([^,]+),([^,]+),([^,]+),([^)]+)\)$/.exec(colour);
  const opacity = alpha * (found ? Number(found[4]) : 1);
  const own = { [kind]: found ? `rgb(${[found[1], found[2], found[3]].map((v) => v.trim()).join(",")})` : colour };
  return opacity < 1 ? { ...own, [`${kind}-opacity`]: short(opacity) } : own;
}

export class SvgContext {
  constructor() {
    Object.assign(this, structuredClone(FRESH));
    this.base = [...FRESH.matrix];
    this.saved = [];
    this.parts = [];
    this.clips = [];
    this.gradients = [];
    this.path = [];
    this.measure = element("canvas").getContext("2d");
  }

  /** Everything that follows is drawn from this place on, also after `setTransform`. */
  moveOrigin(x, y) {
    this.base = [1, 0, 0, 1, x, y];
    this.matrix = [...this.base];
  }

  /** The whole document. */
  text(width, height, title) {
    const clips = this.clips.map((d, k) => `<clipPath id="clip${k}"><path d="${d}"/></clipPath>`).join("");
    const gradients = this.gradients.map((gradient) => gradient.text()).join("");
    const size = `width="${short(width)}" height="${short(height)}" viewBox="0 0 ${short(width)} ${short(height)}"`;
    const head = `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img"><title>${escaped(title)}</title><defs>${clips}${gradients}</defs>`;
    return `<?xml version="1.0" encoding="UTF-8"?>\n${head}\n${this.parts.join("\n")}\n</svg>\n`;
  }

  put(name, attributes, words) {
    const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(value)}"`);
    const part = words === undefined ? `<${name}${written.join("")}/>` : `<${name}${written.join("")}>${escaped(words)}</${name}>`;
    this.parts.push(this.clipped ? `<g clip-path="url(#${this.clipped})">${part}</g>` : part);
  }

  // State -----------------------------------------------------------------------------------------------------------

  save() {
    this.saved.push(Object.fromEntries(Object.keys(FRESH).map((key) => [key, this[key]])));
  }

  restore() {
    Object.assign(this, this.saved.pop());
  }

  setTransform() {
    this.matrix = [...this.base]; // the ratio of pixels is of no use here
  }

  translate(x, y) {
    this.transform(1, 0, 0, 1, x, y);
  }

  rotate(angle) {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    this.transform(c, s, -s, c, 0, 0);
  }

  scale(x, y) {
    this.transform(x, 0, 0, y, 0, 0);
  }

  transform(a, b, c, d, e, f) {
    const m = this.matrix;
    this.matrix = [
      ...[m[0] * a + m[2] * b, m[1] * a + m[3] * b],
      ...[m[0] * c + m[2] * d, m[1] * c + m[3] * d],
      ...[m[0] * e + m[2] * f + m[4], m[1] * e + m[3] * f + m[5]],
    ];
  }

  setLineDash(dash) {
    this.dash = [...dash];
  }

  at(x, y) {
    const m = this.matrix;
    return `${short(m[0] * x + m[2] * y + m[4])} ${short(m[1] * x + m[3] * y + m[5])}`;
  }

  // Paths -----------------------------------------------------------------------------------------------------------

  beginPath() {
    this.path = [];
  }

  moveTo(x, y) {
    this.path.push(`M${this.at(x, y)}`);
  }

  lineTo(x, y) {
    this.path.push(`${this.path.length ? "L" : "M"}${this.at(x, y)}`);
  }

  quadraticCurveTo(a, b, x, y) {
    this.path.push(`Q${this.at(a, b)} ${this.at(x, y)}`);
  }

  bezierCurveTo(a, b, c, d, x, y) {
    this.path.push(`C${this.at(a, b)} ${this.at(c, d)} ${this.at(x, y)}`);
  }

  closePath() {
    this.path.push("Z");
  }

  rect(x, y, width, height) {
    this.moveTo(x, y);
    this.lineTo(x + width, y);
    this.lineTo(x + width, y + height);
    this.lineTo(x, y + height);
    this.closePath();
  }

  /** An arc, in pieces of at most a third of a circle: SVG cannot draw a whole one. */
  arc(x, y, radius, from, to, backwards = false) {
    const whole = 2 * Math.PI;
    let angle = to - from;
    if (Math.abs(angle) >= whole) angle = backwards ? -whole : whole;
    else if (backwards && angle > 0) angle -= whole;
    else if (!backwards && angle < 0) angle += whole;
    const pieces = Math.max(1, Math.ceil(Math.abs(angle) / (whole / 3)));
    const point = (k) => [x + radius * Math.cos(from + (k / pieces) * angle), y + radius * Math.sin(from + (k / pieces) * angle)];
    this.lineTo(...point(0));
    const size = short(radius * Math.hypot(this.matrix[0], this.matrix[1]));
    for (let k = 1; k <= pieces; k++) this.path.push(`A${size} ${size} 0 0 ${angle > 0 ? 1 : 0} ${this.at(...point(k))}`);
    if (Math.abs(angle) === whole) this.closePath();
  }

  fill() {
    if (this.path.length) this.put("path", { d: this.path.join(""), ...paintOf("fill", this.fillStyle, this.globalAlpha) });
  }

  stroke() {
    if (!this.path.length) return;
    this.put("path", { d: this.path.join(""), fill: "none", ...this.pen() });
  }

  pen() {
    const ends = { "stroke-linejoin": this.lineJoin, "stroke-linecap": this.lineCap };
    const dash = this.dash.length ? { "stroke-dasharray": this.dash.join(" ") } : {};
    const width = short(this.lineWidth * Math.hypot(this.matrix[0], this.matrix[1]));
    return { ...paintOf("stroke", this.strokeStyle, this.globalAlpha), "stroke-width": width, ...ends, ...dash };
  }

  /** From now on only what lies within the path is seen: the page never clips twice. */
  clip() {
    this.clips.push(this.path.join(""));
    this.clipped = `clip${this.clips.length - 1}`;
  }

  clearRect() {} // there is nothing below

  around(x, y, width, height, put) {
    const { path } = this;
    this.path = [];
    this.rect(x, y, width, height);
    put();
    this.path = path;
  }

  fillRect(x, y, width, height) {
    this.around(x, y, width, height, () => this.fill());
  }

  strokeRect(x, y, width, height) {
    this.around(x, y, width, height, () => this.stroke());
  }

  createLinearGradient(x0, y0, x1, y1) {
    const [, , , , dx, dy] = this.matrix;
    this.gradients.push(new Gradient(`colours${this.gradients.length}`, [x0 + dx, y0 + dy, x1 + dx, y1 + dy]));
    return this.gradients[this.gradients.length - 1];
  }

  // Text and pictures -----------------------------------------------------------------------------------------------

  measureText(words) {
    this.measure.font = this.font;
    return this.measure.measureText(words);
  }

  /** The attributes of a text; `most`: the width that it may have. */
  letters(words, x, y, most) {
    this.measure.font = this.font;
    const [, weight, size, family] = /^(?:(\d+|bold)\s+)?([\d.]+)px\s+(.*)$/.exec(this.measure.font);
    const m = this.matrix;
    const shift = SHIFTS[this.textBaseline] * Number(size);
    const turned = m[0] !== 1 || m[1] !== 0;
    const moved = turned ? [x, y + shift] : [x + m[4], y + shift + m[5]];
    const place = { x: short(moved[0]), y: short(moved[1]) };
    if (turned) place.transform = `matrix(${m.map((v) => Number(v.toFixed(4))).join(" ")})`;
    if (weight) place["font-weight"] = weight;
    if (most && this.measureText(words).width > most)
      Object.assign(place, { textLength: short(most), lengthAdjust: "spacingAndGlyphs" });
    return { ...place, "font-family": family.replaceAll('"', "'"), "font-size": size, "text-anchor": ANCHORS[this.textAlign] };
  }

  fillText(words, x, y, most) {
    this.put("text", { ...this.letters(words, x, y, most), ...paintOf("fill", this.fillStyle, this.globalAlpha) }, words);
  }

  strokeText(words, x, y, most) {
    this.put("text", { ...this.letters(words, x, y, most), fill: "none", ...this.pen() }, words);
  }

  drawImage(picture, x, y, width, height) {
    const m = this.matrix;
    const box = { x: short(x + m[4]), y: short(y + m[5]), width: short(width), height: short(height) };
    this.put("image", { ...box, preserveAspectRatio: "none", href: picture.toDataURL("image/png") });
  }
}
