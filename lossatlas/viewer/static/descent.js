// The path of an optimizer on a surface, and the learning rate that suits a surface.

import { evaluate } from "./interpolant.js";

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function randomFrom(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Two independent normal numbers (Box and Muller). */
export function normalPair(random) {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  const angle = 2 * Math.PI * random();
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

/**
 * Slopes for an optimizer: at(point) is the gradient, NaN where it has none; `missing` then says why: "hole", "edge", or
 * "zero" for the logarithm of what is not positive. drawn: the noise of a step, which is that of a batch: the two gradients
 * of a step of SAM share it.
 */
function slopesOf(surface, { objective, noise }) {
  const flat = surface.y.length === 1;
  const slopes = { missing: "", drawn: [0, 0], at };
  function at(point) {
    const found = evaluate(surface, point[0], point[1]);
    if (!found || Number.isNaN(found[0])) slopes.missing = found ? "hole" : "edge";
    else if (objective === "log" && !(found[0] > 0)) slopes.missing = "zero";
    else {
      const scale = objective === "log" ? 1 / found[0] : 1;
      const slope = (k) => found[k + 1] * scale + noise * slopes.drawn[k];
      return [slope(0), flat ? 0 : slope(1)];
    }
    return [NaN, NaN];
  }
  return slopes;
}

/** The value at a point, or the reason why there is none: {value, end}. */
function valueAt(surface, point) {
  const here = evaluate(surface, point[0], point[1]);
  if (!here) return { end: Number.isFinite(point[0] + point[1]) ? "edge" : "diverged" };
  return Number.isNaN(here[0]) ? { end: "hole" } : { value: here[0], end: "" };
}

/**
 * The path of one optimizer: {points: Float64Array of x, y; losses; steps; end}. It stops where the surface ends or has a
 * hole; `end` is then "edge", "hole", "zero" (no logarithm) or "diverged", and "" after all steps.
 * objective: "loss" or "log". noise: standard deviation of a normal number that is added to each slope.
 */
export function descend(surface, optimizer, settings, start, { steps, objective = "loss", noise = 0, seed = 0 }) {
  const random = randomFrom(seed);
  const state = optimizer.start();
  const slopes = slopesOf(surface, { objective, noise });
  const points = [];
  const losses = [];
  let point = [start[0], start[1]];
  let end = "";
  while (losses.length <= steps) {
    const here = valueAt(surface, point);
    end = here.end;
    if (end) break;
    points.push(...point);
    losses.push(here.value);
    if (losses.length > steps) break;
    slopes.missing = "";
    if (noise > 0) slopes.drawn = normalPair(random);
    point = optimizer.step(state, point, slopes.at, settings);
    end = slopes.missing;
    if (end) break;
  }
  return { points: Float64Array.from(points), losses: Float64Array.from(losses), steps: Math.max(0, losses.length - 1), end };
}

/** A rate that suits a surface: a share of its width for the larger slopes, two significant digits. */
export function suitableRate(surface, optimizer, objective) {
  const width = surface.x[surface.x.length - 1] - surface.x[0];
  if (optimizer.pace === 0) return twoDigits(width / 100);
  return twoDigits((optimizer.pace * width) / 40 / steepness(surface, objective));
}

/** The length of the slope that four cells in five do not exceed; kept with the surface. */
function steepness(surface, objective) {
  surface.steepness ??= {};
  if (objective in surface.steepness) return surface.steepness[objective];
  const lengths = [];
  for (const b of surface.y) {
    for (const a of surface.x) {
      const found = evaluate(surface, a, b);
      if (!found || Number.isNaN(found[0])) continue;
      const scale = objective === "log" ? 1 / found[0] : 1;
      lengths.push(Math.hypot(found[1], found[2] || 0) * scale);
    }
  }
  lengths.sort((a, b) => a - b);
  surface.steepness[objective] = lengths[Math.floor(0.8 * (lengths.length - 1))] || 1;
  return surface.steepness[objective];
}

const twoDigits = (value) => Number(value.toPrecision(2));
