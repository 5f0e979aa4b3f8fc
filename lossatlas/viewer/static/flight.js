// Movements of the camera from one view to another one, and the first seconds of the page: one sweep and one rolling ball.

const SHORT = 700; // milliseconds of a flight to another view
const SWEEP = { azimuth: -70, elevation: 14, duration: 5200 }; // degrees from which the camera comes
const ROLLING = "momentum"; // the optimizer that resembles a ball most

const smooth = (t) => t * t * (3 - 2 * t);
const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export class Flight {
  /** model: its state holds the camera. */
  constructor(model) {
    this.model = model;
    this.ways = null; // [name, from, to] of each number that changes
    this.began = undefined;
    this.duration = SHORT;
  }

  get isUnderWay() {
    return this.ways !== null;
  }

  /** Fly to a view {azimuth, elevation, ...}; at once where motion is unwelcome. */
  to(view, duration = SHORT) {
    this.land();
    const { state } = this.model;
    this.ways = Object.entries(view).map(([name, to]) => [name, name === "azimuth" ? nearest(state[name], to) : state[name], to]);
    this.began = undefined;
    this.duration = duration;
    if (isStill()) this.land();
  }

  /** Show the view that is due; true if it is the last one. */
  advance(now) {
    if (!this.ways) return false;
    this.began ??= now;
    const share = (now - this.began) / this.duration;
    if (share < 1) for (const [name, from, to] of this.ways) this.model.state[name] = from + (to - from) * smooth(share);
    else this.land();
    return !this.ways;
  }

  /** Stay where the flight is. */
  stop() {
    this.ways = null;
  }

  /** Be where the flight ends. */
  land() {
    if (!this.ways) return;
    for (const [name, , to] of this.ways) this.model.state[name] = to;
    this.ways = null;
  }
}

/** The angle, plus whole turns, from which the way to another one is shortest. */
function nearest(from, to) {
  return from + 360 * Math.round((to - from) / 360);
}

/** Show the page to a reader who has just come: not if motion is unwelcome, or if the address asks for a view. */
export function welcome(app) {
  const { model, flight, race } = app;
  if (isStill() || app.address.read()) return;
  const { azimuth, elevation } = model.state;
  if (!model.flat) {
    Object.assign(model.state, { azimuth: azimuth + SWEEP.azimuth, elevation: elevation + SWEEP.elevation });
    flight.to({ azimuth, elevation }, SWEEP.duration);
  }
  race.only = ROLLING;
  app.play(true);
  const stop = () => {
    for (const kind of INPUTS) removeEventListener(kind, stop, true);
    flight.land();
    app.endWelcome();
  };
  for (const kind of INPUTS) addEventListener(kind, stop, true);
}

const INPUTS = ["pointerdown", "keydown", "wheel", "hashchange"];
