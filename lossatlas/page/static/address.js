// The state of the page in the fragment of its address.

/** A state of texts, numbers, booleans and lists of them as a fragment of an address, and back. */
export function toFragment(state) {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) parts.set(key, Array.isArray(value) ? value.join("~") : String(value));
  return parts.toString();
}

/** What of `state` a fragment changes; what it cannot be, or what is not known, is left out. */
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
    this.written = null;
  }

  get fragment() {
    return location.hash.slice(1);
  }

  /** True if somebody else than `write` changed the fragment. */
  get isForeign() {
    return location.hash !== this.written;
  }

  write(fragment) {
    this.written = `#${fragment}`;
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  }
}
