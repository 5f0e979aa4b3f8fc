// Arrays from base64.

export function bytesOf(text) {
  const raw = atob(text);
  return Uint8Array.from({ length: raw.length }, (_, k) => raw.charCodeAt(k));
}

/** Little-endian numbers of a kind from base64, as every processor of today has them. */
export const decoded = (text, Kind) => new Kind(bytesOf(text).buffer);
