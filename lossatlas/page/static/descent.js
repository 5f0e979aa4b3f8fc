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
 * The path of one optimizer: { points: Float64Array of x, y; losses; steps; end }.
 * objective: "loss" or "log". uphill: climb instead. noise: standard deviation of what is added to each slope. It stops where the surface
 * ends or has a hole, and says so in `end`: "edge", "hole", "diverged" or "" when all steps were made.
 */
export function descend(surface, optimizer, settings, start, { steps, objective = "loss", noise = 0, seed = 0, uphill = false }) {
  const random = randomFrom(seed);
  const state = optimizer.start();
  const flat = surface.y.length === 1;
  let outside = "";
  let drawn = [0, 0]; // the noise of a step, as that of a batch: SAM's two gradients share it
  const gradientAt = (p) => {
    const found = evaluate(surface, p[0], p[1]);
    if (!found || Number.isNaN(found[0])) {
      outside = found ? "hole" : "edge";
      return [NaN, NaN];
    }
    if (objective === "log" && !(found[0] > 0)) {
      outside = "zero";
      return [NaN, NaN];
    }
    const scale = (objective === "log" ? 1 / found[0] : 1) * (uphill ? -1 : 1);
    return [found[1] * scale + noise * drawn[0], flat ? 0 : found[2] * scale + noise * drawn[1]];
  };
  const points = new Float64Array(2 * (steps + 1));
  const losses = new Float64Array(steps + 1);
  let point = [start[0], start[1]];
  let count = 0;
  let end = "";
  for (let k = 0; k <= steps; k++) {
    const here = evaluate(surface, point[0], point[1]);
    if (!here || Number.isNaN(here[0])) {
      end = here ? "hole" : Number.isFinite(point[0] + point[1]) ? "edge" : "diverged";
      break;
    }
    points.set(point, 2 * k);
    losses[k] = here[0];
    count = k;
    if (k === steps) break;
    outside = "";
    if (noise > 0) drawn = normalPair(random);
    const next = optimizer.step(state, point, gradientAt, settings);
    if (outside) {
      end = outside;
      break;
    }
    point = next;
  }
  return { points: points.slice(0, 2 * (count + 1)), losses: losses.slice(0, count + 1), steps: count, end };
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
