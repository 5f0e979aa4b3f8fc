// Keys that work on the whole page.

const WRITTEN_IN = ["INPUT", "SELECT", "TEXTAREA"];
const PRESSED = ["BUTTON", "SUMMARY", "INPUT"]; // the space bar has a use there

export function listenToKeys(app) {
  const actions = {
    " ": () => app.togglePlay(),
    ".": () => app.step(1),
    ",": () => app.step(-1),
    r: () => app.rewind(),
    "]": () => app.planes.step(1),
    "[": () => app.planes.step(-1),
    "+": () => app.zoom(0.9),
    "-": () => app.zoom(1 / 0.9),
  };
  addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (WRITTEN_IN.includes(target.tagName) && target.type !== "checkbox") return;
    if (!Object.hasOwn(actions, key)) return;
    if (key === " ") {
      if (PRESSED.includes(target.tagName)) return;
      event.preventDefault();
    }
    actions[key]();
  });
}
