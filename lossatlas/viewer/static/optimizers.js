// Optimizers in the plane. Each is { name, title, color, mark, settings: {name: [default, label]}, start(): state,
// step(state, point, gradientAt, settings): point }. They do what torch.optim does, with the same names; SAM is that of
// Foret et al. (2021). A step is pure: it changes nothing but the state it is given.

import { CIRCLE, CROSS, DIAMOND, HEXAGON, POINTING_DOWN, SQUARE, STAR, TRIANGLE } from "./marks.js";

const add = (p, factor, d) => [p[0] + factor * d[0], p[1] + factor * d[1]];
const each = (f, ...vectors) => [f(...vectors.map((v) => v[0])), f(...vectors.map((v) => v[1]))];
const zero = () => [0, 0];

/** Momentum as in torch.optim.SGD: the first step takes the gradient as it is. */
function momentumStep(state, point, gradientAt, { rate, momentum }, nesterov) {
  const g = gradientAt(point);
  state.buffer = state.buffer ? each((b, d) => momentum * b + d, state.buffer, g) : g;
  return add(point, -rate, nesterov ? add(g, momentum, state.buffer) : state.buffer);
}

/** The moments of Adam after a gradient g, at step state.t. */
function moments(state, g, { beta1, beta2 }) {
  state.t += 1;
  state.m = each((m, d) => m + (1 - beta1) * (d - m), state.m, g);
  state.v = each((v, d) => beta2 * v + (1 - beta2) * d * d, state.v, g);
}

function adamStep(state, point, g, settings) {
  moments(state, g, settings);
  const { rate, beta1, beta2, eps } = settings;
  const size = rate / (1 - beta1 ** state.t);
  const root = Math.sqrt(1 - beta2 ** state.t);
  return each((p, m, v) => p - (size * m) / (Math.sqrt(v) / root + eps), point, state.m, state.v);
}

const adamStart = () => ({ t: 0, m: zero(), v: zero(), product: 1 });
const BETAS = {
  beta1: [0.9, "β₁: decay of the mean of slopes"],
  beta2: [0.999, "β₂: decay of the mean of their squares"],
  eps: [1e-8, "ε: added to the root, against a division by zero"],
};

/** The colours are those of Paul Tol, bright and, for Momentum, vibrant: colour-blind readers tell them apart. */
export const OPTIMIZERS = [
  {
    name: "sgd",
    title: "SGD",
    color: "#ee6677",
    mark: CIRCLE,
    pace: 1,
    settings: {},
    start: () => ({}),
    step: (_state, point, gradientAt, { rate }) => add(point, -rate, gradientAt(point)),
  },
  {
    name: "momentum",
    title: "Momentum",
    color: "#ee7733",
    mark: SQUARE,
    pace: 0.3,
    settings: { momentum: [0.9, "μ: momentum, the share of the last step that is kept"] },
    start: () => ({ buffer: null }),
    step: (state, point, gradientAt, settings) => momentumStep(state, point, gradientAt, settings, false),
  },
  {
    name: "nesterov",
    title: "Nesterov",
    color: "#ccbb44",
    mark: DIAMOND,
    pace: 0.3,
    settings: { momentum: [0.9, "μ: momentum, the share of the last step that is kept"] },
    start: () => ({ buffer: null }),
    step: (state, point, gradientAt, settings) => momentumStep(state, point, gradientAt, settings, true),
  },
  {
    name: "rmsprop",
    title: "RMSProp",
    color: "#228833",
    mark: TRIANGLE,
    pace: 0,
    settings: {
      alpha: [0.99, "α: decay of the mean of squared slopes"],
      eps: [1e-8, "ε: added to the root, against a division by zero"],
    },
    start: () => ({ v: zero() }),
    step(state, point, gradientAt, { rate, alpha, eps }) {
      const g = gradientAt(point);
      state.v = each((v, d) => alpha * v + (1 - alpha) * d * d, state.v, g);
      return each((p, d, v) => p - (rate * d) / (Math.sqrt(v) + eps), point, g, state.v);
    },
  },
  {
    name: "adam",
    title: "Adam",
    color: "#4477aa",
    mark: POINTING_DOWN,
    pace: 0,
    settings: BETAS,
    start: adamStart,
    step: (state, point, gradientAt, settings) => adamStep(state, point, gradientAt(point), settings),
  },
  {
    name: "adamw",
    title: "AdamW",
    color: "#66ccee",
    mark: STAR,
    pace: 0,
    settings: { ...BETAS, decay: [0.01, "λ: weight decay, of the two coordinates"] },
    start: adamStart,
    step(state, point, gradientAt, settings) {
      const g = gradientAt(point);
      const shrunk = each((p) => p * (1 - settings.rate * settings.decay), point);
      return adamStep(state, shrunk, g, settings);
    },
  },
  {
    name: "nadam",
    title: "NAdam",
    color: "#aa3377",
    mark: HEXAGON,
    pace: 0,
    settings: { ...BETAS, decay: [0.004, "ψ: momentum decay"] },
    start: adamStart,
    step(state, point, gradientAt, settings) {
      const { rate, beta1, beta2, eps, decay } = settings;
      const g = gradientAt(point);
      moments(state, g, settings);
      const now = beta1 * (1 - 0.5 * 0.96 ** (state.t * decay));
      const next = beta1 * (1 - 0.5 * 0.96 ** ((state.t + 1) * decay));
      state.product *= now;
      const own = (rate * (1 - now)) / (1 - state.product);
      const kept = (rate * next) / (1 - state.product * next);
      const correction = 1 - beta2 ** state.t;
      return each(
        (p, d, m, v) => {
          const root = Math.sqrt(v / correction) + eps;
          return p - (own * d) / root - (kept * m) / root;
        },
        point,
        g,
        state.m,
        state.v,
      );
    },
  },
  {
    name: "sam",
    title: "SAM",
    color: "#bbbbbb",
    mark: CROSS,
    pace: 1,
    settings: { rho: [0.05, "ρ: the radius that is looked at"] },
    start: () => ({}),
    step(_state, point, gradientAt, { rate, rho }) {
      const g = gradientAt(point);
      const length = Math.hypot(g[0], g[1]);
      const worst = length > 0 ? add(point, rho / length, g) : point;
      return add(point, -rate, gradientAt(worst));
    },
  },
];
