// Links to the present view: its address, and a frame that shows it in another page.

import { button, element, hint, row } from "./elements.js";

const WITHOUT_ADDRESS = "This page lies within another one and has no address of its own: save it as a file to link to it.";
const AS_A_FILE = "This page is a file on this computer: put it beside your own page, or on a web server, before you share it.";

/** Returns {open: the button that opens it, root: the dialog}. */
export function shareTools(app) {
  const link = element("input", { type: "text", id: "share-link", readonly: true });
  const code = element("textarea", { id: "share-code", rows: 4, readonly: true });
  const said = element("output", { id: "share-said" });
  const note = hint("");
  const root = element(
    "dialog",
    { id: "share", "aria-labelledby": "share-title" },
    element("h2", { id: "share-title" }, "Share this view"),
    note,
    ...field(link, "Link", said),
    ...field(code, "Embed code", said),
    row(
      said,
      button("share-close", "Close", () => root.close()),
    ),
  );
  const open = button("share-open", "Share", () => {
    app.remember();
    note.textContent = noteOn(location);
    said.textContent = "";
    link.value = hasAddress(location) ? location.href : "";
    code.value = embedCode(location, document.title);
    root.showModal();
  });
  return { open, root };
}

const hasAddress = ({ protocol }) => protocol !== "about:";

function noteOn({ protocol }) {
  if (protocol === "about:") return WITHOUT_ADDRESS;
  return protocol === "file:" ? AS_A_FILE : "";
}

function field(input, words, said) {
  const copy = button(`${input.id}-copy`, "Copy", async () => {
    said.textContent = (await copied(input)) ? `${words} copied.` : "Press Ctrl+C to copy what is selected.";
  });
  return [element("label", { for: input.id, class: "above" }, words), row(input, copy)];
}

/** Select a field and copy it; false if the browser refuses. */
async function copied(input) {
  input.focus();
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}

/** A frame that shows this view; from a file, it names the file alone, which has to lie beside the page. */
function embedCode(place, title) {
  if (!hasAddress(place)) return "";
  const source = place.protocol === "file:" ? place.href.split("#")[0].split("/").pop() + place.hash : place.href;
  const about = { title, width: "100%", height: "700", style: "border:0", loading: "lazy", allow: "fullscreen" };
  return element("iframe", { ...about, src: source }).outerHTML;
}
