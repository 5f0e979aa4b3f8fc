// The race of the optimizers: their paths from the start that was chosen, and the clock that plays them.

import { descend, suitableRate } from "./descent.js";
import { clamp } from "./numbers.js";
import { OPTIMIZERS } from "./optimizers.js";
import { interpolantOf } from "./surface.js";

export class Race {
  constructor(model) {
    this.model = model;
    this.runs = []; // for each surface, the path of each optimizer that is on
    this.usualRates = []; // for each surface, of each optimizer
    this.only = ""; // the one optimizer that is shown; all of them if empty
    this.playing = false;
    this.held = false; // it plays, but waits at its present step until a film has begun
    this.clock = 0; // milliseconds: when step 0 was shown
  }

  /** Find the rates that suit each surface. */
  findRates() {
    const { surfaces, state } = this.model;
    this.usualRates = surfaces.map((surface) => {
      const own = interpolantOf(surface, state.height);
      return OPTIMIZERS.map((o) => suitableRate(own, o, state.objective));
    });
  }

  /** The rate of an optimizer on a surface, by their numbers. */
  rate(index, number = 0) {
    return this.model.state.rates[number * OPTIMIZERS.length + index] || this.usualRates[number][index];
  }

  /** The rate and the coefficients of an optimizer on a surface. */
  settings(optimizer, number = 0) {
    const index = OPTIMIZERS.indexOf(optimizer);
    let at = OPTIMIZERS.slice(0, index).flatMap((o) => Object.keys(o.settings)).length;
    const found = { rate: this.rate(index, number) };
    for (const name of Object.keys(optimizer.settings)) found[name] = this.model.state.coefficients[at++];
    return found;
  }

  /** Compute all paths; none on what is no loss. */
  run() {
    const { state, surfaces, noRace } = this.model;
    const { steps, objective, noise, seed } = state;
    const how = { steps, objective, noise, seed };
    if (noRace) this.playing = false;
    const raced = noRace ? [] : OPTIMIZERS.filter((o) => state.on.includes(o.name));
    this.runs = surfaces.map((surface, number) => {
      const own = interpolantOf(surface, state.height);
      const start = [state.x, surface.flat ? 0 : state.y];
      return raced.map((optimizer) => ({
        optimizer,
        shown: 0,
        ...descend(own, optimizer, this.settings(optimizer, number), start, how),
      }));
    });
  }

  /** The paths on a surface with the number of steps that are shown of each; none before the first step. */
  shownOn(number) {
    const { at } = this.model.state;
    const runs = this.runs[number] || [];
    for (const run of runs) run.shown = Math.min(at, run.steps);
    if (at === 0 && !this.playing) return [];
    return runs.filter((run) => run.losses.length > 0 && (!this.only || run.optimizer.name === this.only));
  }

  /** Play from the present step, or from the first one after the last; or pause. Nothing plays where there is no race. */
  play(wanted, now) {
    const { state, noRace } = this.model;
    const on = wanted && !noRace;
    if (on && state.at >= state.steps) state.at = 0;
    this.playing = on;
    this.startClock(now);
  }

  startClock(now) {
    const { state } = this.model;
    this.clock = now - (state.at / state.steps) * state.seconds * 1000;
  }

  /** Show the step that is due; true if it is the last one. */
  advance(now) {
    const { state } = this.model;
    if (this.held) {
      this.startClock(now);
      return false;
    }
    state.at = clamp(Math.round(((now - this.clock) / (state.seconds * 1000)) * state.steps), 0, state.steps);
    return state.at >= state.steps;
  }

  /** Show a step that is `count` steps later. */
  move(count) {
    const { state } = this.model;
    state.at = clamp(state.at + count, 0, state.steps);
  }
}

/** The point of a run at its step k: [x, y]. */
export const pointOf = (run, k = run.shown) => [run.points[2 * k], run.points[2 * k + 1]];
