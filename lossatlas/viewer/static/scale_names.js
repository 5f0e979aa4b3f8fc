// The scales in plain words.

export const SCALES = {
  linear: "linear scale",
  log: "logarithmic scale",
  soft: "logarithmic scale, flattened below 0.1",
};
