// Light or dark, and the colours of the style sheet for what is drawn.

const darkSystem = () => matchMedia("(prefers-color-scheme: dark)");

/** Set the theme "auto", "light" or "dark"; return its colours as {ground, text, strong, frame, accent}. */
export function applyTheme(theme) {
  const dark = theme === "dark" || (theme === "auto" && darkSystem().matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "text", "strong", "frame", "accent"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export function onSystemTheme(changed) {
  darkSystem().addEventListener("change", changed);
}
