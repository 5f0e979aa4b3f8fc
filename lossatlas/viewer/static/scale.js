// From values to heights: linear, logarithmic, or ln(value + 0.1), the recipe of the release of 2018, which keeps a basin that
// goes down to zero from looking like a needle.

const SOFT = 0.1;

/**
 * A scale over [low, high]: height(value) in [0, 1] and its inverse, value(height). Neither is clamped. most: the largest value
 * of the field, which may lie above the scale.
 */
export function makeScale(kind, low, high, most = high) {
  const forms = {
    linear: [(v) => v, (h) => h],
    log: [Math.log, Math.exp],
    soft: [(v) => Math.log(v + SOFT), (h) => Math.exp(h) - SOFT],
  };
  const [into, back] = forms[kind];
  const [bottom, top] = [into(low), into(high)];
  const span = top > bottom ? top - bottom : 1;
  return {
    kind,
    low,
    high,
    most,
    height: (v) => (into(v) - bottom) / span,
    value: (h) => back(bottom + h * span),
  };
}

/** dheight / dvalue. */
export function slopeOfScale(scale, value) {
  const { kind, low, high } = scale;
  if (kind === "log") return 1 / (value * Math.log(high / low));
  if (kind === "soft") return 1 / ((value + SOFT) * Math.log((high + SOFT) / (low + SOFT)));
  return high > low ? 1 / (high - low) : 1;
}

/** About `count` round values on a scale. */
export function ticks(scale, count) {
  const { kind, low, high } = scale;
  if (kind === "linear") return roundSteps(low, high, count);
  const found = [];
  const first = Math.floor(Math.log10(kind === "soft" ? Math.max(low, SOFT / 10) : low));
  for (let power = first; power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
  }
  const inside = found.filter((v) => v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9));
  const far = 0.75 / count;
  const kept = [];
  const byPower = (v) => (/^1e|^10*$|^0\.0*1$/.test(String(v)) ? 0 : 1);
  for (const v of [...inside].sort((a, b) => byPower(a) - byPower(b))) {
    if (kept.every((other) => Math.abs(scale.height(v) - scale.height(other)) > far)) kept.push(v);
  }
  return kept.length > 1 ? kept.sort((a, b) => a - b) : roundSteps(low, high, count);
}

/** About `count` round values from low to high. */
export function roundSteps(low, high, count) {
  const raw = (high - low) / count;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((digit) => digit * power >= raw) * power;
  const first = Math.ceil(low / step - 1e-9);
  if (!(step > 1e-12 * Math.max(Math.abs(low), Math.abs(high))) || !Number.isSafeInteger(first)) return [low];
  const found = [];
  for (let k = 0; k <= 10 * count && (first + k) * step <= high + 1e-9 * step; k++) found.push((first + k) * step);
  return found;
}
