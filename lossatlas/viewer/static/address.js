// The state of the page in the fragment of its address.

/** A state of texts, numbers, booleans and lists of them as a fragment of an address. */
export function toFragment(state) {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) parts.set(key, Array.isArray(value) ? value.join("~") : String(value));
  return parts.toString();
}

/** The entries of `state` that a fragment changes; unknown names and values of another type are left out. */
export function fromFragment(fragment, state) {
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

/** The part of a state that differs from another one; numbers in seven digits. */
export function changesOf(state, initial) {
  const changed = {};
  for (const [key, value] of Object.entries(state)) {
    if (String(value) === String(initial[key])) continue;
    changed[key] = typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
  }
  return changed;
}

/** The address of this window. It changes without a new entry in the browser's history. */
export class Address {
  constructor() {
    this.known = null; // the fragment that the page has read or written, with its #
  }

  /** True if somebody else has changed the fragment. */
  get isForeign() {
    return location.hash !== this.known;
  }

  /** The fragment of the address. */
  read() {
    this.known = location.hash;
    return this.known.slice(1);
  }

  /**
   * Write a whole address: in a srcdoc frame, a relative one would be relative to the page around it, which is refused.
   * Some browsers refuse every address there, and all of them refuse too many in a short time. The page works without.
   */
  write(fragment) {
    const [own] = location.href.split("#");
    const wanted = fragment && `#${fragment}`;
    try {
      history.replaceState(null, "", own + wanted);
      this.known = wanted;
    } catch {
      this.known = location.hash;
    }
  }
}
