// From what the page is given to what is drawn: decoded arrays, interpolants, heights, colours, cuts, and the state that
// is kept in the address. Pure functions.

function bytesOf(text) {
  const raw = atob(text);
  return Uint8Array.from({ length: raw.length }, (_, k) => raw.charCodeAt(k));
}

/** Little-endian numbers of a kind from base64, as every processor of today has them. */
const decoded = (text, Kind) => new Kind(bytesOf(text).buffer);

/** A surface as the page's data has it, with its arrays. Interpolants are made when they are first asked for. */
function openSurface(raw) {
  const flat = raw.y === null;
  const y = flat ? [0] : raw.y;
  const fields = {};
  for (const [name, field] of Object.entries(raw.fields)) {
    const values = decoded(field.values, name.endsWith("_se") ? Float32Array : Float64Array);
    const contours = (field.contours || []).map(({ level, runs, points }) => {
      const numbers = decoded(points, Uint16Array);
      let at = 0;
      const lines = runs.map((count) => {
        const line = [];
        for (let k = 0; k < count; k++, at += 2) line.push([numbers[at] / 65535, numbers[at + 1] / 65535]);
        return line;
      });
      return { level, lines };
    });
    fields[name] = { ...field, values, contours, interpolant: null };
  }
  const trajectory = raw.trajectory && { ...raw.trajectory };
  if (trajectory?.loss) trajectory.loss = trajectory.loss.map((v) => (v === null ? null : Number(v)));
  return {
    ...raw,
    y,
    flat,
    fields,
    trajectory,
    done: decoded(raw.done, Uint8Array),
    interpolated: decoded(raw.interpolated, Uint8Array),
  };
}

/** The interpolant of a field on the part of the grid that is complete. */
function interpolantOf(surface, name) {
  const field = surface.fields[name];
  if (!field.interpolant) {
    const x = Float64Array.from(surface.columns, (k) => surface.x[k]);
    const y = Float64Array.from(surface.rows, (k) => surface.y[k]);
    const values = new Float64Array(x.length * y.length);
    surface.rows.forEach((row, j) => {
      surface.columns.forEach((column, i) => {
        values[j * x.length + i] = field.values[row * surface.x.length + column];
      });
    });
    field.interpolant = makeInterpolant(x, y, values, field.log);
  }
  return field.interpolant;
}

/** Half the widths of the box that shows a plane: the longer side is 1; no side is less than a third. */
function boxOf(surface) {
  const width = surface.x[surface.x.length - 1] - surface.x[0];
  const height = surface.y[surface.y.length - 1] - surface.y[0];
  if (surface.flat || !(width > 0 && height > 0)) return [1, 1];
  const ratio = Math.min(3, Math.max(1 / 3, height / width));
  return ratio < 1 ? [1, ratio] : [1 / ratio, 1];
}

/** Shares of the axes, in [0, 1], to coordinates in the plane and back. */
function toPlane(surface, s, t) {
  const { x, y } = surface;
  return [x[0] + s * (x[x.length - 1] - x[0]), y[0] + t * (y[y.length - 1] - y[0])];
}

function toShare(surface, a, b) {
  const { x, y } = surface;
  const height = y[y.length - 1] - y[0];
  return [(a - x[0]) / (x[x.length - 1] - x[0]), height > 0 ? (b - y[0]) / height : 0.5];
}

/** The numbers of the nearest cell. */
function nearestCell(surface, a, b) {
  const nearest = (nodes, v) => {
    let best = 0;
    for (let k = 1; k < nodes.length; k++) if (Math.abs(nodes[k] - v) < Math.abs(nodes[best] - v)) best = k;
    return best;
  };
  return [nearest(surface.x, a), nearest(surface.y, b)];
}

/** How many points of the fine mesh lie along an axis of n nodes. */
const fineSize = (n) => (n - 1) * Math.max(1, Math.min(8, Math.floor(220 / Math.max(1, n - 1)))) + 1;

/**
 * What a height field is made of: sample(s, t) gives [height, colour, slopes], see heightField. Values below and above the
 * scale keep a height beyond it. colour is null where it is the height.
 */
function sampler(surface, name, scale, colour) {
  const own = interpolantOf(surface, name);
  const width = surface.x[surface.x.length - 1] - surface.x[0];
  const length = surface.y[surface.y.length - 1] - surface.y[0];
  return (s, t) => {
    const [a, b] = toPlane(surface, s, t);
    const found = evaluate(own, a, b);
    if (!found || Number.isNaN(found[0])) return null;
    // A bicubic swings a little beyond a plateau, which is drawn flat; a minimum between the cells is lower than all of them.
    const value = Math.min(scale.high, Math.max(found[0], scale.low > 0 ? scale.low / 2 : -Infinity));
    const height = scale.height(value);
    const factor = value === found[0] ? slopeOfScale(scale, value) : 0;
    let tint = height;
    if (colour) {
      const other = evaluate(interpolantOf(surface, colour.name), a, b);
      tint = other && !Number.isNaN(other[0]) ? colour.scale.height(other[0]) : -1;
      if (tint !== -1) tint = Math.min(1, Math.max(0, tint));
    }
    return [height, tint === -1 ? -1 : Math.min(1, Math.max(0, tint)), found[1] * factor * width, found[2] * factor * length];
  };
}

/** dheight / dvalue. */
function slopeOfScale(scale, value) {
  const { kind, low, high } = scale;
  if (kind === "log") return 1 / (value * Math.log(high / low));
  if (kind === "soft") return 1 / ((value + SOFT) * Math.log((high + SOFT) / (low + SOFT)));
  return high > low ? 1 / (high - low) : 1;
}

/** The values of a field along a line through a point at an angle, as far as the plane goes: [{r, value, curvature}]. */
function cutThrough(surface, name, point, degrees, count = 240) {
  const own = interpolantOf(surface, name);
  const angle = surface.flat ? 0 : (degrees * Math.PI) / 180;
  const d = [Math.cos(angle), Math.sin(angle)];
  const { x, y } = surface;
  let [low, high] = [-Infinity, Infinity];
  for (const [p, v, nodes] of [
    [point[0], d[0], x],
    [point[1], d[1], y],
  ]) {
    if (surface.flat && nodes === y) continue;
    if (Math.abs(v) < 1e-12) continue;
    const ends = [(nodes[0] - p) / v, (nodes[nodes.length - 1] - p) / v];
    low = Math.max(low, Math.min(...ends));
    high = Math.min(high, Math.max(...ends));
  }
  const found = [];
  if (!(low < high)) return found;
  for (let k = 0; k <= count; k++) {
    const r = low + ((high - low) * k) / count;
    const at = evaluate(own, point[0] + r * d[0] * (1 - 1e-12), point[1] + r * d[1] * (1 - 1e-12));
    found.push({ r, value: at ? at[0] : NaN });
  }
  return found;
}

/** Second derivative of a field at a point along an angle. */
function bend(surface, name, point, degrees) {
  const angle = surface.flat ? 0 : (degrees * Math.PI) / 180;
  const spacing = (surface.x[surface.x.length - 1] - surface.x[0]) / Math.max(1, surface.columns.length - 1);
  const own = interpolantOf(surface, name);
  return curvatureAlong(own, point[0], point[1], Math.cos(angle), Math.sin(angle), spacing / 2);
}

/** A state of texts, numbers, booleans and lists of them as a fragment of an address, and back. */
function toFragment(state) {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) parts.set(key, Array.isArray(value) ? value.join("~") : String(value));
  return parts.toString();
}

/** What of `state` a fragment changes; what it cannot be, or what is not known, is left out. */
function fromFragment(fragment, state) {
  const found = {};
  const read = (text, like) => {
    if (typeof like === "number") return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined;
    if (typeof like === "boolean") return text === "true" ? true : text === "false" ? false : undefined;
    return text;
  };
  for (const [key, text] of new URLSearchParams(fragment)) {
    if (!Object.hasOwn(state, key)) continue;
    const like = state[key];
    if (Array.isArray(like)) {
      const kind = like.length ? like[0] : "";
      const values = text === "" ? [] : text.split("~").map((part) => read(part, kind));
      if (values.every((v) => v !== undefined)) found[key] = values;
    } else {
      const value = read(text, like);
      if (value !== undefined) found[key] = value;
    }
  }
  return found;
}
