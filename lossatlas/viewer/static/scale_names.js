// The scales in plain words.

export const SCALES = {
  linear: "linear",
  log: "logarithmic",
  soft: "logarithmic: ln(loss + 0.1)",
};
