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

const MOST = 3; // entries that are named
const NEAR = 1e-6; // of a number: an address has seven digits

/** One line about the entries of a fragment that `state` could not take; "" if it took all. initial: the usual state. */
export function misreadIn(fragment, state, initial) {
  const wrong = [...new URLSearchParams(fragment)].filter(([key, text]) => !isTaken(key, text, state, initial));
  if (!wrong.length) return "";
  const said = wrong.slice(0, MOST).map(([key, text]) => {
    if (!Object.hasOwn(state, key)) return `${shortened(key)} (unknown)`;
    return `${key}=${shortened(text)} (shown: ${shortened(shownText(key, state[key]))})`;
  });
  const more = wrong.length > MOST ? ` and ${wrong.length - MOST} more` : "";
  return `The address asks for what this page cannot show: ${said.join(", ")}${more}.`;
}

function isTaken(key, text, state, initial) {
  if (!Object.hasOwn(state, key)) return false;
  const asked = fromFragment(new URLSearchParams([[key, text]]), initial)[key];
  if (asked === undefined) return false;
  const own = state[key];
  if (!Array.isArray(own)) return isSame(asked, own);
  if (!asked.length) return !own.length;
  return own.length > 0 && own.length % asked.length === 0 && own.every((value, k) => isSame(asked[k % asked.length], value));
}

function isSame(a, b) {
  if (typeof a !== "number") return a === b;
  return Math.abs(a - b) <= NEAR * Math.max(Math.abs(a), Math.abs(b));
}

const shortened = (text) => (text.length > 24 ? `${text.slice(0, 23)}…` : text);

/** A value of the state in words. */
function shownText(key, value) {
  if (key === "vmax" && value === 0) return "the usual one";
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return Array.isArray(value) ? value.join("~") || "none" : String(value);
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
