"""Write one HTML file in which a surface can be turned and read off and optimizers descend, without a network.

python view_surface.py FILE.h5                                     FILE.h5.html, to be opened in any browser
python view_surface.py a.h5 b.h5 --labels shortcuts none -o compare.html
python view_surface.py FILE.h5 --proj_file PROJECTION.h5           with the path of a training
python view_surface.py FILE.h5 --story STORY.md                    with steps that explain it, in your words
python view_surface.py VOLUME.h5                                   a volume: a slider moves through its planes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lossatlas.commands import options
from lossatlas.commands.open_results import check_label_count, check_out, check_plane, read_started
from lossatlas.config.option_fields import finite, option
from lossatlas.errors import BadInput, BadUsage, exit_code, named, say
from lossatlas.io import read_projection
from lossatlas.landscape import Surface
from lossatlas.viewer import Shown, write_page
from lossatlas.viewer.notebook import flatness_in_words
from lossatlas.viewer.volumes import check_volume_alone


@dataclass(frozen=True)
class PageOptions:
    """Surface files, a trajectory, a story, and the title and name of their page."""

    HEADING: ClassVar[str] = "page"

    files: tuple[str, ...] = option(
        (), "surface files of planes or curves, or one of a volume", many="*", metavar="FILE", positional=True
    )
    surf_file: tuple[str, ...] = option((), "surface files, as FILE", short="-f", many="+", metavar="FILE.h5")
    out: str | None = option(
        None, "file to write (default: the name of the first surface file and .html)", short="-o", metavar="FILE.html"
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    title: str = option("", "title of the page (default: the labels)", metavar="TEXT")
    proj_file: str | None = option(
        None, "trajectory from plot_trajectory.py in the plane of the first file", metavar="FILE.h5"
    )
    story: str | None = option(
        None,
        "steps that explain the page (default: a story of what it shows): headings, text, and what the page's address "
        "holds",
        metavar="FILE.md",
    )
    vmax: float | None = option(
        None,
        "top of the scale of the field that is shown first; what lies above it is drawn as a flat grey lid (default: "
        "the largest value, but at most 100 times the median)",
        kind=finite,
    )


def parser() -> options.Parser[PageOptions]:
    return options.Parser(__doc__, PageOptions)


def view(
    files: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
    proj_file: str | None = None,
    story: str | Path | None = None,
    vmax: float | None = None,
) -> Path:
    """Write a page that shows surfaces.

    Args:
        files: Surface files: planes, or curves, or one volume.
        out: File to write; by default the first file and ".html".
        labels: Name of each file; by default the names of the files.
        title: Title of the page; by default the labels.
        proj_file: Projection file of a training run in the plane of the first file.
        story: Markdown file of steps that explain the page; by default it tells what it shows.
        vmax: Top of the scale of the field that is shown first; by default the largest value, but at most 100 times the
            median.

    Returns:
        The file that was written.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finite value, or a line of the story cannot be read.
        BadUsage: The arguments do not suit the files, curves and planes are mixed, or a volume is not alone.
        CannotWrite: The file cannot be written.
    """
    paths = [Path(file) for file in files]
    shown = read_shown(paths, labels, proj_file)
    target = Path(out) if out else Path(f"{paths[0]}.html")
    check_out("out", target, [*paths, *(file for file in (proj_file, story) if file)])
    write_page(target, shown, title, story, vmax)
    say(f"wrote {target} ({target.stat().st_size / 1e6:.2f} MB): open it in a browser")
    return target


def read_shown(
    paths: Sequence[Path], labels: Sequence[str] | None = None, proj_file: str | Path | None = None
) -> list[Shown]:
    """Read the surfaces of a page.

    Args:
        paths: Surface files: planes, or curves, or one volume.
        labels: Name of each file; by default the names of the files.
        proj_file: Projection file of a training run in the plane of the first file.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finite value.
        BadUsage: The arguments do not suit the files, curves and planes are mixed, or a volume is not alone.
    """
    if not paths:
        raise BadUsage("name a surface file to show")
    check_label_count(labels, paths)
    surfaces = [_read_showable(path) for path in paths]
    check_volume_alone(surfaces, with_path=bool(proj_file), files=[str(path) for path in paths])
    if len({surface.grid.y is None for surface in surfaces}) > 1:
        raise BadUsage("a curve and a plane cannot be shown on one page: make a page of each")
    trajectory = None
    if proj_file:
        if surfaces[0].grid.y is None:
            raise BadUsage(f"{named('proj_file')} needs a plane, and this is a curve")
        check_plane(str(proj_file), surfaces[:1], paths[:1])
        trajectory = read_projection(proj_file)
    names = labels or [path.name.removesuffix(".h5") for path in paths]
    return [
        Shown(surface, name, trajectory=trajectory if k == 0 else None, flatness=flatness_in_words(surface))
        for k, (surface, name) in enumerate(zip(surfaces, names, strict=True))
    ]


def _read_showable(path: Path) -> Surface:
    surface = read_started(path, volumes=True)
    if min(surface.grid.shape) < 2:
        raise BadInput(f"{path} has the grid {surface.grid}: a page needs at least 2 points on each axis")
    if not any(np.isfinite(values).any() for values in surface.fields.values()):
        raise BadInput(f"{path} has no finite value")
    return surface


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    files = [*args.files, *args.surf_file]

    def run() -> None:
        view(
            files,
            out=args.out,
            labels=args.labels,
            title=args.title,
            proj_file=args.proj_file,
            story=args.story,
            vmax=args.vmax,
        )

    return exit_code(run)
