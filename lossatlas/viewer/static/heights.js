// The present height field of a surface in the box of the scene.

import { clamp } from "./numbers.js";
import { sampler } from "./sampler.js";
import { boxOf, toShare } from "./surface.js";

export const TALL = 0.85; // height of the scene's box
export const FLOOR = -0.3;
const OWN = 1.15; // the height of checkpoints whose own losses lie above the scale

export class Heights {
  constructor(model, surface) {
    this.model = model;
    this.surface = surface;
    this.box = boxOf(surface);
    this.update();
  }

  /** Take the present field, scale and colours. */
  update() {
    const { model, surface } = this;
    this.scale = model.scale();
    this.sample = surface.flat ? null : sampler(surface, model.state.height, this.scale, model.colour());
  }

  /** The point of the scene over a point of the plane; its height is that of the surface unless it is given. */
  scenePoint(a, b, height) {
    const [s, t] = toShare(this.surface, a, b);
    if (!(s > -1e-9 && s < 1 + 1e-9 && t > -1e-9 && t < 1 + 1e-9)) return null;
    const h = height === undefined ? this.sample(clamp(s, 0, 1), clamp(t, 0, 1))?.[0] : height;
    return h === undefined ? null : this.inBox(s, t, h * TALL);
  }

  /** The point of the scene at shares of the axes. */
  inBox(s, t, z) {
    return [(2 * s - 1) * this.box[0], (2 * t - 1) * this.box[1], z];
  }

  /** The shares of the axes at a point of the scene. */
  toShares(u, v) {
    return [(u / this.box[0] + 1) / 2, (v / this.box[1] + 1) / 2];
  }

  /** The height of the surface in the scene; NaN where it is not known. */
  zAt(u, v) {
    const [s, t] = this.toShares(u, v);
    if (s < 0 || s > 1 || t < 0 || t > 1) return NaN;
    const found = this.sample(s, t);
    return found ? found[0] * TALL : NaN;
  }

  /** Height of a checkpoint's own loss; null where it is not known. */
  ofCheckpoint(k) {
    const { loss: losses, field } = this.surface.trajectory;
    const loss = losses?.[k];
    if (loss === undefined || loss === null || this.model.state.height !== field) return null;
    const height = loss === Infinity ? OWN : this.scale.height(Math.max(loss, this.scale.low));
    return Math.min(OWN, height);
  }
}
