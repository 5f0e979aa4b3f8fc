// The model of the page: the surfaces and fields, and the state that the controls change and the address keeps. It does not
// know the document. Other modules read `state` and write it through the actions in app.js and controls.js, which redraw.

import { fromFragment, misreadIn } from "./address.js";
import { bytesOf } from "./bytes.js";
import { evaluate } from "./interpolant.js";
import { clamp } from "./numbers.js";
import { OPTIMIZERS } from "./optimizers.js";
import { makeScale } from "./scale.js";
import { interpolantOf, openSurface, showPlane, toShare } from "./surface.js";

const USUAL_VIEW = { azimuth: -60, elevation: 34, distance: 4.9, panx: 0, pany: 0 };
export const CAMERA = Object.keys(USUAL_VIEW); // the entries of the state that are the camera's
const LOOKED_AT = 0.12; // height in the scene
const ELEVATIONS = [-10, 89]; // degrees
const DISTANCES = [2.5, 12];

/** For each surface the rate of each optimizer; a rate of 0 stands for the one that suits the surface. */
const usualRates = (surfaces) => surfaces.flatMap(() => OPTIMIZERS.map(() => 0));
const usualCoefficients = () => OPTIMIZERS.flatMap((o) => Object.values(o.settings).map(([value]) => value));

const last = (values) => values[values.length - 1];

const NO_RACE_ON_CHART = "No race here: this map bends along a training, so that a step on it is no step of an optimizer.";

/** The state without any choice of the reader; its start is [x, y, z]. A vmax of 0 stands for the usual top of the field. */
function usualState(field, [x, y, z], surfaces) {
  return {
    height: field.name,
    scale: field.scale,
    vmax: 0,
    colour: "",
    map: "viridis",
    lines: true,
    wire: false,
    overlay: false,
    ...USUAL_VIEW,
    x,
    y,
    z,
    objective: "loss",
    noise: 0,
    seed: 0,
    steps: 300,
    seconds: 7,
    at: 0,
    on: OPTIMIZERS.map((o) => o.name),
    rates: usualRates(surfaces),
    coefficients: usualCoefficients(),
    cut: false,
    angle: 0,
    epoch: 0,
    story: 0,
    theme: "auto",
    enlarged: false,
    gl: true,
  };
}

export class Model {
  /** content: the data of the page. fragment: of the address, the changes of the usual state. */
  constructor(content, fragment) {
    this.fields = content.fields.filter((field) => field.range);
    this.surfaces = content.surfaces.map(openSurface);
    this.steps = content.story.steps.length;
    this.maps = Object.fromEntries(Object.entries(content.maps).map(([name, bytes]) => [name, bytesOf(bytes)]));
    this.flat = this.surfaces.every((s) => s.flat);
    this.hover = null; // the point of the plane under the pointer
    this.misread = ""; // what the address asks for in vain
    const z = showPlane(this.surfaces[0], 0);
    this.initial = usualState(this.fields[0], [...this.usualStart(), z], this.surfaces);
    this.state = { ...this.initial };
    this.restore(fragment);
  }

  /** Set the usual state with the changes of a fragment. */
  restore(fragment) {
    Object.assign(this.state, this.initial, fromFragment(fragment, this.initial));
    this.repair();
    this.misread = misreadIn(fragment, this.state, this.initial);
  }

  /** Change values of a state that somebody else wrote into possible ones. */
  repair() {
    this.showPlane(this.state.z);
    this.repairView();
    this.repairRace();
  }

  repairView() {
    const { state, fields } = this;
    const field = this.field() || fields[0];
    state.height = field.name;
    if (!Object.hasOwn(field.levels, state.scale)) state.scale = field.scale;
    if (this.flat && state.scale === "soft") state.scale = "log";
    if (state.colour && !this.field(state.colour)) state.colour = "";
    if (!Object.hasOwn(this.maps, state.map)) state.map = "viridis";
    if (!["auto", "light", "dark"].includes(state.theme)) state.theme = "auto";
    if (this.surfaces.length < 2 || !this.alike()) state.overlay = false;
    state.story = Math.round(clamp(state.story, 0, this.steps));
    state.vmax = this.possibleTop(state.vmax);
    state.elevation = clamp(state.elevation, ...ELEVATIONS);
    state.distance = clamp(state.distance, ...DISTANCES);
    this.lookAt([state.panx, state.pany]);
  }

  repairRace() {
    const { state } = this;
    state.on = state.on.filter((name) => OPTIMIZERS.some((o) => o.name === name));
    state.steps = Math.round(clamp(state.steps, 1, 5000));
    state.seconds = clamp(state.seconds, 0.5, 600);
    state.at = Math.round(clamp(state.at, 0, state.steps));
    const rates = usualRates(this.surfaces);
    if (state.rates.length === OPTIMIZERS.length) state.rates = this.surfaces.flatMap(() => state.rates); // of all surfaces
    if (state.rates.length !== rates.length) state.rates = rates;
    if (state.coefficients.length !== this.initial.coefficients.length) state.coefficients = usualCoefficients();
    if (state.objective !== "log" || !this.positive()) state.objective = "loss";
    [state.x, state.y] = this.inside([state.x, state.y]);
  }

  // The state -------------------------------------------------------------------------------------------------------

  /** Another field is the height: its own scale and rates. */
  newHeight() {
    this.state.scale = this.field().scale;
    this.state.vmax = 0;
    this.forgetRates();
    this.repair();
  }

  forgetRates() {
    this.state.rates = usualRates(this.surfaces);
  }

  forgetSettings() {
    this.forgetRates();
    this.state.coefficients = usualCoefficients();
  }

  setStart(point) {
    [this.state.x, this.state.y] = this.inside(point);
    if (this.surfaces[0].flat) this.state.y = 0;
  }

  /** Show the plane of a volume that is nearest to z. */
  showPlane(z) {
    this.state.z = showPlane(this.surfaces[0], z);
  }

  turn(right, up) {
    const { state } = this;
    state.azimuth = ((((state.azimuth + right + 180) % 360) + 360) % 360) - 180;
    state.elevation = clamp(state.elevation + up, ...ELEVATIONS);
  }

  zoom(factor) {
    this.state.distance = clamp(this.state.distance * factor, ...DISTANCES);
  }

  /** Look at a point [u, v] of the scene. */
  lookAt(place) {
    [this.state.panx, this.state.pany] = place.map((value) => clamp(value, -1, 1));
  }

  usualView() {
    return { ...USUAL_VIEW };
  }

  /** The camera at its usual distance, looking at the middle: the scene is as large as it has room there. */
  framedCamera() {
    return { ...this.camera(), distance: USUAL_VIEW.distance, target: [0, 0, LOOKED_AT] };
  }

  /** The camera of the scenes, see `viewProjection`. */
  camera() {
    const { azimuth, elevation, distance, panx, pany } = this.state;
    return { azimuth, elevation, distance, target: [panx, pany, LOOKED_AT] };
  }

  // Surfaces and fields ---------------------------------------------------------------------------------------------

  /** A start near the upper right corner, at which the first surface is known. */
  usualStart() {
    const [surface] = this.surfaces;
    const { x, y } = surface;
    const wished = [x[0] + 0.86 * (last(x) - x[0]), this.flat ? 0 : y[0] + 0.9 * (last(y) - y[0])];
    const own = interpolantOf(surface, this.fields[0].name);
    const known = ([a, b]) => Number.isFinite(evaluate(own, a, b)?.[0]);
    if (known(wished)) return wished;
    const cells = y.flatMap((b) => x.map((a) => [a, b])).filter(known);
    const far = ([a, b]) => Math.hypot(...toShare(surface, a - wished[0] + x[0], b - wished[1] + y[0]));
    return cells.sort((p, q) => far(p) - far(q))[0] || wished;
  }

  /** True if the surfaces lie over the same plane, so that one picture can hold them. */
  alike() {
    const ends = this.surfaces.map((s) => [s.flat, s.x[0], last(s.x), s.y[0], last(s.y)].join());
    return !this.surfaces[0].flat && ends.every((each) => each === ends[0]);
  }

  /** The coordinates of the planes of a volume; null where the page shows none. */
  get planes() {
    return this.surfaces[0].z;
  }

  /** The nearest point of the first surface's plane. */
  inside([a, b]) {
    const { x, y } = this.surfaces[0];
    return [clamp(a, x[0], last(x)), clamp(b, y[0], last(y))];
  }

  field(name = this.state.height) {
    return this.fields.find((f) => f.name === name);
  }

  /** True if all values of the height are positive, so that they have logarithms. */
  positive() {
    return this.field().range[0] > 0;
  }

  /** From the lowest value of some fields to the highest top, on all surfaces. */
  rangeOf(names) {
    const ranges = names.map((name) => this.field(name)).map((field) => [field.range[0], this.topOf(field)]);
    return [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))];
  }

  /** The value at which the scale of a field ends: the reader's choice for the height, otherwise the usual one. */
  topOf(field) {
    return (field.name === this.state.height && this.state.vmax) || field.top;
  }

  /** A top that the present height can have; 0, the usual one, for any other. */
  possibleTop(value) {
    const [low, high] = this.field().range;
    return value > low && Number.isFinite(value) ? Math.min(value, high) : 0;
  }

  /** True if some values of the present height lie above its scale. */
  get clipped() {
    return this.topOf(this.field()) < this.field().range[1];
  }

  /** What x is along curves: a coordinate, or the number of a checkpoint. */
  get along() {
    const counted = this.surfaces.filter((s) => s.checkpoints).length;
    if (!counted) return "coordinate along the direction";
    return counted === this.surfaces.length ? "number of the checkpoint" : "coordinate, or number of the checkpoint";
  }

  /** Why no optimizer descends the present height; "" if they do. */
  get noRace() {
    if (this.surfaces.some((s) => s.checkpoints))
      return "No race here: x counts checkpoints, and no optimizer moves along their numbers.";
    if (this.surfaces.some((s) => s.chart)) return NO_RACE_ON_CHART;
    return this.field().race ? "" : `No race here: optimizers descend a loss, and this is the ${this.title(this.state.height)}.`;
  }

  /** True if the start means something that is shown: a race begins there, or a cut goes through it. */
  get showsStart() {
    return !this.noRace || this.state.cut;
  }

  title(name) {
    return this.field(name).title;
  }

  /** The scale of the height. */
  scale() {
    const field = this.field();
    return makeScale(this.state.scale, field.range[0], this.topOf(field), field.range[1]);
  }

  /** The scale of the height up to its largest value. */
  wholeScale() {
    return makeScale(this.state.scale, ...this.field().range);
  }

  /** The values of the contour lines. */
  levels() {
    return this.field().levels[this.state.scale] || [];
  }

  /** The field that colours, with its own scale; null if it is the height. */
  colour() {
    const { colour, height } = this.state;
    if (!colour || colour === height) return null;
    const field = this.field(colour);
    return { name: colour, scale: makeScale(field.scale, field.range[0], this.topOf(field)) };
  }

  /** The colour map of the present state. */
  map() {
    return this.maps[this.state.map];
  }
}
