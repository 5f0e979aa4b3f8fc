// Arrays from base64.

export function bytesOf(text) {
  const raw = atob(text);
  return Uint8Array.from({ length: raw.length }, (_, k) => raw.charCodeAt(k));
}

/** An array of the type Kind from base64; the numbers are little-endian, as the processors of browsers are. */
export const decoded = (text, Kind) => new Kind(bytesOf(text).buffer);
