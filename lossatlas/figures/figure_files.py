"""Files of figures: their names, which `kinds` ends, and how they are written."""

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.errors import note, say
from lossatlas.figures import matplotlib_style
from lossatlas.figures.kinds import COMPARED, WITH_LOG, Film, Kind
from lossatlas.figures.matplotlib_style import CURRENT_FILES, PAGE_COLUMNS
from lossatlas.figures.plotted_fields import mathtext
from lossatlas.io.atomic_write import shortened_base, write_file
from lossatlas.io.surface_files import PLANE_MARK

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

MARGIN = 0.06  # inches around the content of a figure
GAP = 0.08  # inches between axes that keep their shape and what stands above or below them
# Metadata that would make two files of the same figure differ.
WITHOUT_DATE: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


def figure_name(
    kind: Kind, files: Sequence[str | Path], out: str | None = None, *, field: str = "", log: bool = False
) -> str:
    """Name of a figure without the ending of its format.

    Args:
        kind: Kind of the figure.
        files: Files that are drawn; the first one gives the name.
        out: Beginning of the name that the user gives instead.
        field: Name of the field that is drawn.
        log: A logarithmic scale was asked for.

    Returns:
        The path without ".pdf" or ".png".

    Example:
        >>> figure_name(Kind.HEAT, ["a.h5"], field="train_loss")
        'a.h5_train_loss_2dheat'
    """
    several = "_compare" if len(files) > 1 and not out and kind in COMPARED else ""
    ending = kind.ending.format(field=field_word(field))
    first = str(files[0]).replace(PLANE_MARK, "_z=")  # a colon is no part of a file name on some systems
    return f"{out or first}{several}{ending}{'_log' if log and kind in WITH_LOG else ''}"


def field_word(field: str) -> str:
    """Return the name of a field as a part of a file's name; an expression without signs.

    Example:
        >>> field_word("train_loss"), field_word("exp(train_loss / 2)")
        ('train_loss', 'exp_train_loss_2')
    """
    return field if field.isidentifier() or not field else re.sub(r"[^A-Za-z0-9.]+", "_", field).strip("_")


def animation_name(file: str | Path, field: str, kind: Film) -> Path:
    """Name of an animation whose name the user does not give."""
    return Path(f"{str(file).replace(PLANE_MARK, '_z=')}_{field_word(field)}_{kind.word}.gif")


def save_all(
    figures: "Mapping[Kind, Figure]",
    files: Sequence[str | Path],
    out: str | None = None,
    *,
    field: str = "",
    log: bool = False,
    title: str = "",
) -> list[Path]:
    """Write the figures of one or several files.

    Args:
        figures: Figures by kind.
        files: Files that are drawn.
        out: Beginning of the figures' names that the user gives.
        field: Name of the field that is drawn.
        log: A logarithmic scale was asked for.
        title: Title above each figure; "" for none.

    Returns:
        The paths that were written.

    Raises:
        CannotWrite: A file cannot be written.
    """
    written: list[Path] = []
    for kind, figure in figures.items():
        written += save(figure, figure_name(kind, files, out, field=field, log=log), title)
    return written


def save(figure: "Figure", base: str, title: str = "") -> list[Path]:
    """Write a figure in the formats of the surrounding `style`, and print a line that names the files.

    The same figure gives the same bytes each time. A name that is too long for a file is shortened.

    Args:
        figure: The figure.
        base: Path without an ending.
        title: Title above the figure; "" for none.

    Returns:
        The paths, one for each format.

    Raises:
        CannotWrite: A file cannot be written.
    """
    base, files = shortened_base(base), CURRENT_FILES.get()
    if title:
        _set_title(figure, title, files.columns)
    box: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": MARGIN}
    if files.columns:
        box = {"bbox_inches": fit_width(figure, PAGE_COLUMNS[files.columns][0])}
    paths = [Path(f"{base}.{ending}") for ending in files.formats]
    for path, ending in zip(paths, files.formats, strict=True):
        image = io.BytesIO()
        dpi = files.dpi or matplotlib_style.DPI
        figure.savefig(image, format=ending, **box, metadata=WITHOUT_DATE[ending], dpi=dpi)
        write_file(path, image.getvalue())
    say(f"drew {' and '.join([str(paths[0]), *(path.suffix for path in paths[1:])])}")
    return paths


def _set_title(figure: "Figure", title: str, columns: int) -> None:
    letters = {0: 90, 1: 48, 2: 95}[columns]  # of a line
    figure.suptitle(
        "\n".join(mathtext(line) for line in textwrap.wrap(title, letters)),
        fontsize="large" if columns != 1 else None,
    )


def fit_width(figure: "Figure", width: float) -> "Bbox":
    """Resize a figure so that its content is `width` inches wide; letters keep their size.

    Args:
        figure: The figure, which is resized.
        width: Width with margins, in inches.

    Returns:
        The part of the figure to save, in inches.
    """
    from matplotlib.transforms import Bbox

    for _ in range(12):
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        missing = width - 2 * MARGIN - box.width
        if abs(missing) < 0.002 * width:
            break
        before = figure.get_size_inches()
        wider = max(before[0] + missing, 0.4 * width)  # labels around the panels do not grow with them
        figure.set_size_inches(wider, before[1] * wider / before[0])
    _close_gaps(figure)
    box = figure.get_tightbbox()
    if box.width + 2 * MARGIN > 1.005 * width:
        note(
            f"a figure needs {box.width + 2 * MARGIN:.2f} inches for its words, more than the {width:g} of its columns"
        )
        return box.padded(MARGIN)
    middle = (box.x0 + box.x1) / 2
    return Bbox([[middle - width / 2, box.y0 - MARGIN], [middle + width / 2, box.y1 + MARGIN]])


def _close_gaps(figure: "Figure") -> None:
    """Lower a figure whose axes keep their shape by the height that they leave empty, as above the legend."""
    engine = figure.get_layout_engine()
    if not getattr(engine, "_compress", False):
        return
    for _ in range(4):
        figure.draw_without_rendering()
        own: Any = figure
        boxes = [axis.get_tightbbox(own._get_renderer()) for axis in figure.axes if axis.get_visible()]
        low, high = min(box.y0 for box in boxes if box), max(box.y1 for box in boxes if box)
        ends = [0.0, figure.bbox.height]
        for each in figure.legends:
            ends[0] = max(ends[0], each.get_window_extent().y1)
        if figure.get_suptitle():
            ends[1] = own._suptitle.get_window_extent().y0
        empty = (low - ends[0] + ends[1] - high) / figure.dpi - 2 * GAP
        if empty < 0.02:
            return
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() - empty)
