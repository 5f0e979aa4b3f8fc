// Numbers within limits, and as text.

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A share above 0 in percent, with two digits; "<0.01 %" below that, and ">99 %" up to all. */
export function percent(share) {
  const value = 100 * share;
  if (value < 0.01) return "<0.01 %";
  if (share < 1 && value >= 99.5) return ">99 %";
  return `${value < 10 ? Number(value.toPrecision(2)) : value.toFixed(0)} %`;
}

/** A value in a few digits. */
export function text(value, digits = 4) {
  if (value === Infinity) return "∞";
  if (value === -Infinity) return "−∞";
  if (!Number.isFinite(value)) return "not a number";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const shown =
    size >= 1e6 || size < 1e-4
      ? value
          .toExponential(Math.max(0, digits - 2))
          .replace(/\.?0+e/, "e")
          .replace("e+", "e")
      : String(Number(value.toPrecision(digits)));
  return shown.replace(/^-/, "−");
}

/** A value in at most six characters after its sign, for a narrow column: three digits, or fewer with an exponent. */
export function shortText(value) {
  const fits = (words) => words.replace("−", "").length <= 6;
  const shown = [text(value, 3), ...[1, 0].map((digits) => value.toExponential(digits).replace("e+", "e").replace(/^-/, "−"))];
  return Number.isFinite(value) ? (shown.find(fits) ?? shown[2]) : shown[0];
}
