// Files that the reader saves.

import { element } from "./elements.js";

/** A file name from the title of the page. */
export function fileName(ending) {
  const words = document.title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_");
  return `${words.replace(/^_+|_+$/g, "").slice(0, 80) || "surface"}.${ending}`;
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
