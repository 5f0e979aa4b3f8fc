"""The page as one file: text, style, script and data, and nothing that is fetched."""

import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lossatlas.errors import BadUsage
from lossatlas.io.atomic_write import write_file
from lossatlas.viewer.built_in_story import built_in_story
from lossatlas.viewer.content import Shown, content_of
from lossatlas.viewer.linker import link
from lossatlas.viewer.page_state import Limits
from lossatlas.viewer.story import Story, read_story

ENTRY = "page.js"  # the module that starts the page
STYLES = ("page.css", "story.css")


@cache
def static(name: str) -> str:
    """Return the text of a file in static/."""
    return (files("lossatlas.viewer") / "static" / name).read_text(encoding="utf-8")


@cache
def page_script() -> str:
    """Return the modules in static/ as one script."""
    return link(ENTRY, static)


def page_of(shown: Sequence[Shown], title: str = "", story: str | Path | None = None, vmax: float | None = None) -> str:
    """Make the interactive page as text.

    Args:
        shown: The surfaces, at least one.
        title: Title; by default their names.
        story: Markdown file of a story, see `lossatlas.viewer.story`; by default the page tells what it shows.
        vmax: Top of the scale of the field that is shown first; by default the largest value, but at most 100 times the
            median.

    Returns:
        HTML that fetches nothing.

    Raises:
        BadUsage: The surfaces have no field in common, nothing of it is finite, vmax does not lie above its lowest
            value, or a volume is not alone.
        BadInput: The story cannot be read.

    Example:
        >>> import lossatlas
        >>> from lossatlas.viewer import Shown, page_of
        >>> surface = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
        >>> page_of([Shown(surface, "ResNet-56")])[:15]
        '<!doctype html>'
    """
    if not shown:
        raise BadUsage("no surface to show")
    content = content_of(shown, vmax)
    if not content["fields"]:
        raise BadUsage("the files have no field in common")
    if all(field["range"] is None for field in content["fields"]):
        raise BadUsage("there is nothing to draw: no cell is finite")
    content["story"] = story_of(shown, content["fields"], story).content()
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": html.escape(title or " and ".join(each.label for each in shown)),
        "STYLE": "".join(static(name) for name in STYLES),
        "DATA": data,
        "SCRIPT": page_script(),
    }
    return filled_template(static("page.html"), parts)


def filled_template(text: str, parts: Mapping[str, str]) -> str:
    """Replace `{{NAME}}` in a text by its parts, which are not looked at again."""
    pieces = []
    for part in text.split("{{"):
        name, end, rest = part.partition("}}")
        pieces.append(parts[name] + rest if end else part)
    return "".join(pieces)


def story_of(shown: Sequence[Shown], fields: Sequence[Mapping[str, Any]], file: str | Path | None) -> Story:
    """Return the story of a page.

    Args:
        shown: The surfaces.
        fields: The fields of the page's content.
        file: The file of a story; None for the story that tells what the page shows.

    Raises:
        BadInput: As `read_story`.
    """
    if file is not None:
        return read_story(file, [field["name"] for field in fields], len(shown), limits_of(shown, fields))
    height = next(field for field in fields if field["range"] is not None)
    return built_in_story(shown, height["name"], height["scale"])


def limits_of(shown: Sequence[Shown], fields: Sequence[Mapping[str, Any]]) -> Limits:
    """Return the numbers that the state of a page can have.

    Args:
        shown: The surfaces.
        fields: The fields of the page's content.
    """
    grid = shown[0].surface.grid
    y = (0.0,) if grid.y is None else grid.y
    paths = [len(each.trajectory.x) for each in shown if each.trajectory is not None]
    axes = {"x": grid.x, "y": y} | ({} if grid.z is None else {"z": grid.z})
    ranges = {name: (float(axis[0]), float(axis[-1])) for name, axis in axes.items()}
    finite = [field for field in fields if field["range"] is not None]
    return Limits(
        ranges={**ranges, "epoch": (0, max([1, *paths]) - 1)},
        lowest={field["name"]: field["range"][0] for field in finite},
        first=finite[0]["name"],
        planes=(0.0,) if grid.z is None else tuple(map(float, grid.z)),
    )


def write_page(
    path: str | Path,
    shown: Sequence[Shown],
    title: str = "",
    story: str | Path | None = None,
    vmax: float | None = None,
) -> None:
    """Write the interactive page.

    Args:
        path: File to write.
        shown: The surfaces, at least one.
        title: Title; by default their names.
        story: Markdown file of a story, see `lossatlas.viewer.story`; by default the page tells what it shows.
        vmax: Top of the scale of the field that is shown first, see `page_of`.

    Raises:
        BadUsage: The surfaces have no field in common, nothing of it is finite, or vmax does not lie above its lowest
            value.
        BadInput: The story cannot be read.
        CannotWrite: The file cannot be written.

    Example:
        >>> import lossatlas, tempfile
        >>> from lossatlas.viewer import Shown, write_page
        >>> surface = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
        >>> write_page(f"{tempfile.mkdtemp()}/page.html", [Shown(surface, "ResNet-56")])
    """
    write_file(Path(path), page_of(shown, title, story, vmax).encode(errors="replace"))  # names that are no text
