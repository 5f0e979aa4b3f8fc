// The drawer with all controls: closed at first, beside the scene on a wide screen, under it on a phone.

import { button, element } from "./elements.js";

/** groups: of controls. Returns {root, open: the button that opens and closes it}. */
export function drawerOf(app, groups) {
  const about = { "aria-controls": "drawer", "aria-expanded": "false" };
  const open = button("drawer-open", "Controls", () => show(root.hidden), about);
  const close = button("drawer-close", "Close", () => show(false));
  const head = element("div", { class: "drawer-head" }, element("h2", {}, "Controls"), close);
  const parts = [head, app.controls.complaint, ...groups];
  const root = element("aside", { id: "drawer", class: "drawer", "aria-label": "Controls", hidden: true }, ...parts);
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(false);
  });

  function show(wanted) {
    const inside = root.contains(document.activeElement);
    root.hidden = !wanted;
    open.setAttribute("aria-expanded", String(wanted));
    document.body.classList.toggle("opened", wanted);
    if (wanted) close.focus({ preventScroll: true });
    else if (inside) open.focus({ preventScroll: true });
    app.draw();
  }

  return { root, open };
}
