// Numbers within limits, and as text.

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

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
