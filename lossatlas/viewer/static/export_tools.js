// What can be saved: the page as a picture, the map as vectors, the race as a film.

import { button, group, hint, row } from "./elements.js";
import { Film, problemOfFilms } from "./film.js";
import { savePicture } from "./picture.js";
import { saveMap } from "./svg_map.js";

/** Returns {root, update()}. */
export function exportTools(app) {
  const film = new Film(app, (on) => {
    record.textContent = on ? "Stop and save" : "Race as WebM";
  });
  const problem = problemOfFilms();
  const record = button("film", "Race as WebM", () => film.toggle(), { disabled: Boolean(problem), title: problem });
  const root = group(
    "Save",
    { id: "exports" },
    row(
      button("picture", "Picture (PNG)", () => savePicture(app)),
      button("svg-map", app.model.flat ? "Chart (SVG)" : "Map (SVG)", () => saveMap(app)),
      record,
    ),
    hint(problem || "The picture is four times as fine as the screen. The film is recorded while the race is played.", {
      id: "about-exports",
    }),
  );
  return { root, update: () => film.update() };
}
