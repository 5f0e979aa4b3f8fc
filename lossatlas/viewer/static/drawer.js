// The drawer with all controls: closed at first, beside the scene on a wide screen, over its lower part on a phone.

import { button, element } from "./elements.js";

/** groups: of controls. Returns {root, open: the button that opens and closes it, update()}. */
export function drawerOf(app, groups) {
  const { controls, model } = app;
  const open = button("drawer-open", "Controls", () => toggle(!model.state.drawer), { "aria-controls": "drawer" });
  const close = button("drawer-close", "Close", () => toggle(false));
  const head = element("div", { class: "drawer-head" }, element("h2", {}, "Controls"), close);
  const root = element("aside", { id: "drawer", class: "drawer", "aria-label": "Controls" }, head, controls.complaint, ...groups);
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") toggle(false);
  });

  function toggle(wanted) {
    const inside = root.contains(document.activeElement);
    controls.set("drawer", wanted, update);
    if (inside && !wanted) open.focus();
    if (wanted) close.focus({ preventScroll: true });
    app.draw();
  }

  function update() {
    const { drawer } = model.state;
    if (root.hidden !== drawer && open.hasAttribute("aria-expanded")) return;
    root.hidden = !drawer;
    open.setAttribute("aria-expanded", String(drawer));
    document.body.classList.toggle("opened", drawer);
  }

  return { root, open, update };
}
