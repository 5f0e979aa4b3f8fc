"""Write a folder of interactive pages with an index of pictures, ready for any static web host.

lossatlas gallery A.h5 B.h5 --out FOLDER                           a page of each file
lossatlas gallery A.h5+B.h5 C.h5 --out FOLDER                      A and B on one page
lossatlas gallery PATH.h5+PROJECTION.h5 --out FOLDER               with the path of a training
lossatlas gallery A.h5 B.h5 --vmax 10 usual --out FOLDER           the scale of A ends at 10, the scale of B as usual
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossatlas.commands import options
from lossatlas.commands.open_results import check_label_count
from lossatlas.commands.view_surface import read_shown
from lossatlas.config.option_fields import finite, option
from lossatlas.errors import BadUsage, counted, exit_code, named, say
from lossatlas.io.contents import kind_of
from lossatlas.viewer import GalleryPage, write_gallery

JOINT = "+"  # between the files of a page
USUAL = "usual"  # in place of the top of a scale


def top_or_usual(text: str) -> float | None:
    return None if text == USUAL else finite(text)


@dataclass(frozen=True)
class GalleryOptions:
    """Surface files, and the folder and titles of their pages."""

    HEADING: ClassVar[str] = "gallery"

    files: tuple[str, ...] = option(
        (),
        "surface files, a page of each; those of one page are joined by +",
        many="*",
        metavar="FILE",
        positional=True,
    )
    out: str | None = option(None, "folder to write", short="-o", metavar="FOLDER")
    titles: tuple[str, ...] | None = option(None, "a title for each page (default: the names of its files)", many="+")
    title: str = option("Loss landscapes", "title of the index", metavar="TEXT")
    vmax: tuple[float | None, ...] | None = option(
        None,
        "top of the scale of the field that is shown first, as `view --vmax`: one value for all pages, or one for "
        f"each, of which '{USUAL}' leaves a page as it is (default: the largest value, but at most 100 times the "
        "median)",
        kind=top_or_usual,
        many="+",
        metavar="VALUE",
    )


def parser() -> options.Parser[GalleryOptions]:
    return options.Parser(__doc__, GalleryOptions)


def gallery(
    files: Sequence[str],
    out: str | Path | None,
    titles: Sequence[str] | None = None,
    title: str = "Loss landscapes",
    vmax: Sequence[float | None] | None = None,
) -> Path:
    """Write a gallery of surface files.

    Args:
        files: One text for each page: surface files joined by `+`, and at most one projection file of a training run.
        out: The folder.
        titles: Title of each page; by default the names of its files.
        title: Title of the index.
        vmax: Top of the scale of all pages, or of each; None stands for the usual one.

    Returns:
        The index.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finite value.
        BadUsage: The arguments do not suit the files, or no folder is named.
        CannotWrite: A file cannot be written.
    """
    if not files:
        raise BadUsage("name the surface files to show")
    if not out:
        raise BadUsage(f"name the folder to write: {named('out')}")
    check_label_count(titles, files, "titles", "page")
    tops = tops_of(vmax, len(files))
    pages = [page_of_files(text, titles[k] if titles else "", tops[k]) for k, text in enumerate(files)]
    written = write_gallery(out, pages, title)
    size = sum(file.stat().st_size for file in written)
    say(f"wrote {counted(len(pages), 'page', 'pages')} ({size / 1e6:.1f} MB): open {written[0]} in a browser")
    return written[0]


def tops_of(vmax: Sequence[float | None] | None, count: int) -> list[float | None]:
    """Return the top of the scale of each page.

    Args:
        vmax: The given tops; None for the usual ones.
        count: The number of pages.

    Raises:
        BadUsage: There is neither one top nor one for each page.
    """
    tops = list(vmax or [None])
    if len(tops) not in (1, count):
        raise BadUsage(
            f"{named('vmax')} gives {len(tops)} values for {counted(count, 'page', 'pages')}: give one, or one for each"
        )
    return tops if len(tops) == count else tops * count


def page_of_files(text: str, title: str = "", vmax: float | None = None) -> GalleryPage:
    """Read the files of one page.

    Args:
        text: Surface files joined by `+`, and at most one projection file; or one file that has this name.
        title: Title of the page; by default the names of the surfaces.
        vmax: Top of the scale; by default the usual one.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finite value.
        BadUsage: There is no surface file, or more than one trajectory.
    """
    words = [text] if Path(text).exists() else text.split(JOINT)
    if not all(words):
        raise BadUsage(f"'{text}': name a file before and after each '{JOINT}'")
    parts = [Path(word) for word in words]
    runs = [path for path in parts if path.exists() and kind_of(path) == "trajectory"]
    surfaces = [path for path in parts if path not in runs]
    if not surfaces or len(runs) > 1:
        raise BadUsage(f"'{text}': a page has surface files, and at most one trajectory")
    shown = read_shown(surfaces, proj_file=runs[0] if runs else None)
    name = JOINT.join(each.stem for each in surfaces)
    return GalleryPage(name, title or " and ".join(each.label for each in shown), shown, vmax=vmax)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)

    def run() -> None:
        gallery(args.files, args.out, args.titles, args.title, args.vmax)

    return exit_code(run)
