"""What all figures share: style, scales, and saving as PDF and PNG. The only module that sets up matplotlib."""

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from lossatlas.errors import BadUsage, note, say
from lossatlas.io.atomic_write import shortened_base, write_file
from lossatlas.landscape.surface import Surface, unresolved

TITLES = {
    "train_loss": "training loss",
    "test_loss": "test loss",
    "train_acc": "training accuracy (%)",
    "test_acc": "test accuracy (%)",
    "max_eig": "largest eigenvalue of the Hessian",
    "min_eig": "smallest eigenvalue of the Hessian",
    "train_loss_se": "standard error of the training loss",
    "test_loss_se": "standard error of the test loss",
}
LOG_FROM = 20.0  # a positive field that spans a larger factor gets a logarithmic scale
SOFT = 0.1  # what is added before the logarithm, as in the release of 2018, where a basin goes down to nearly nothing
LARGEST = 1e300  # what can be drawn: there is room for sums and squares of a few
SAME = 1e-12  # values that differ by less, relative to the largest, are one
MARGIN = 0.06  # inches around what is drawn
DECADES = 5.0  # a wider span is cut at the top, to keep the basin readable


def scaled_title(name: str, scale: "Scale") -> str:
    """The title of an axis or a colour bar, which says where the scale is no usual one."""
    apart = ",\n" if narrow() else ", "
    return f"{title_of(name)}{apart}scale ln(value + {scale.shift:g})" if scale.shift else title_of(name)


def title_of(name: str) -> str:
    return name if name.startswith("$") else TITLES.get(name, name.replace("_", " "))


def words(text: str) -> str:
    """A text for a figure: formulas between $ are set where matplotlib understands them, and left as they are elsewhere."""
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


class Offscreen:
    """Makes figures as pyplot does, but none that pyplot would show: they need no backend, and touch none."""

    def figure(self, **options: Any) -> Any:
        from matplotlib.figure import Figure

        return Figure(**options)

    def subplots(
        self, rows: int = 1, columns: int = 1, *, figsize: Any = None, layout: Any = None, **options: Any
    ) -> Any:
        fig = self.figure(figsize=figsize, layout=layout)
        return fig, fig.subplots(rows, columns, **options)


@contextmanager
def house_style(font_scale: float = 1.1) -> Iterator[None]:
    """What is made within has the house style."""
    import seaborn as sns

    rc = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper", font_scale=font_scale),
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "figure.dpi": 100,
        "savefig.dpi": DPI,
        "svg.hashsalt": "lossatlas",
        "axes.grid": False,
    }
    with matplotlib.rc_context(rc):
        yield


DPI = 200  # dots per inch where no other number is given
COLUMNS = {1: (3.4, 0.8), 2: (7.0, 0.9)}  # of a journal's page: inches, and the size of letters


@dataclass(frozen=True)
class FigureFiles:
    """Formats in which figures are written.

    Attributes:
        formats: Endings of the files.
        dpi: Dots per inch of raster formats; 0 for `DPI`.
        columns: Columns of a page that a figure fills; 0 leaves each figure its own width.
    """

    formats: tuple[str, ...] = ("pdf", "png")
    dpi: int = 0
    columns: int = 0


AS_USUAL = FigureFiles()
FILES: ContextVar[FigureFiles] = ContextVar("files", default=AS_USUAL)


@contextmanager
def style(show: bool = False, files: FigureFiles | None = None) -> Iterator[Any]:
    """What makes figures in the house style: pyplot where windows are asked for, which open at the end; see Offscreen.

    files: what `save` writes within.
    """
    token = FILES.set(files or FILES.get())
    try:
        with house_style(COLUMNS[FILES.get().columns][1] if FILES.get().columns else 1.1):
            if not show:
                yield Offscreen()
                return
            import matplotlib.pyplot as plt

            before = set(plt.get_fignums())
            yield plt
            plt.show()
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
    finally:
        FILES.reset(token)


def save(fig: Any, base: str, title: str = "") -> list[Path]:
    """Write <base>.pdf and <base>.png, or what FILES says, and say so; a name that is too long for a file is shortened.

    Raises CannotWrite.
    """
    base, files = shortened_base(base), FILES.get()
    if title:
        wide = {0: 90, 1: 48, 2: 95}[files.columns]
        fig.suptitle(
            "\n".join(words(line) for line in textwrap.wrap(title, wide)),
            fontsize="large" if files.columns != 1 else None,
        )
    part: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": MARGIN}
    if files.columns:
        part = {"bbox_inches": fit_width(fig, COLUMNS[files.columns][0])}
    paths = [Path(f"{base}.{ending}") for ending in files.formats]
    without = {
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
        "png": {"Software": None},
    }  # the same bytes each time
    for path, ending in zip(paths, files.formats, strict=True):
        image = io.BytesIO()
        looks = {**part, "metadata": without[ending], "dpi": files.dpi or DPI}
        fig.savefig(image, format=ending, **looks)
        write_file(path, image.getvalue())
    say(f"drew {' and '.join([str(paths[0]), *(path.suffix for path in paths[1:])])}")
    return paths


def narrow() -> bool:
    """Whether figures are made for one column, so that panels stand one below the other."""
    return FILES.get().columns == 1


def fit_width(fig: Any, width: float) -> Any:
    """Give a figure this width in inches, and return the part of it to save; letters stay as large as they are."""
    from matplotlib.transforms import Bbox

    box = None
    for _ in range(12):
        fig.draw_without_rendering()
        box = fig.get_tightbbox()
        missing = width - 2 * MARGIN - box.width
        if abs(missing) < 0.002 * width:
            break
        before = fig.get_size_inches()
        wider = max(before[0] + missing, 0.4 * width)  # what stands around the panels does not grow with them
        fig.set_size_inches(wider, before[1] * wider / before[0])
    assert box is not None
    if box.width + 2 * MARGIN > 1.005 * width:
        note(
            f"a figure needs {box.width + 2 * MARGIN:.2f} inches for its words, more than the {width:g} of its columns"
        )
        return box.padded(MARGIN)
    middle = (box.x0 + box.x1) / 2
    return Bbox([[middle - width / 2, box.y0 - MARGIN], [middle + width / 2, box.y1 + MARGIN]])


def pick(surface: Surface, name: str | None, where: Any = "the surface") -> str:
    """The field to draw: the one named, or train_loss, or the first there is. Raises BadUsage."""
    fields = [field for field in surface.fields if not field.endswith(("_se", "_residual"))]
    if name is None:
        return "train_loss" if "train_loss" in fields else fields[0]
    if name not in surface.fields:
        raise BadUsage(f"{where} has no field '{name}': choose from {', '.join(surface.fields)}")
    return name


def is_share(name: str) -> bool:
    """Whether a field is an accuracy in percent, of which nobody wants the logarithm."""
    return name.endswith("_acc")


def has_eigenvalues(surface: Surface) -> bool:
    return {"min_eig", "max_eig"} <= set(surface.fields)


def eigen_ratio(surface: Surface) -> np.ndarray:
    """|smallest / largest| eigenvalue at each cell; NaN where the largest is not positive, or one is not resolved."""
    fields = surface.fields
    smallest, largest = fields["min_eig"], fields["max_eig"]
    with np.errstate(invalid="ignore", divide="ignore"):
        loose = unresolved(surface, "max_eig") | unresolved(surface, "min_eig")
        return np.where((largest > 0) & ~loose, np.abs(smallest / largest), np.nan)


@dataclass(frozen=True)
class Scale:
    """The range and levels that several pictures share.

    cut, under: values above `high` or below `low` exist and are drawn as such. shift: what is added before the logarithm.
    """

    low: float
    high: float
    levels: np.ndarray
    log: bool
    cut: bool
    shift: float = 0.0
    under: bool = False

    @property
    def extend(self) -> str:
        return {(True, True): "both", (True, False): "max", (False, True): "min"}.get((self.cut, self.under), "neither")

    def height(self, values: Any) -> np.ndarray:
        """What is drawn for a value: its decimal logarithm on a logarithmic scale; far beyond the range, just beyond."""
        values, span = np.asarray(values, float), self.high - self.low
        if not self.log:
            return np.clip(values, self.low - span, self.high + span)
        return np.log10(np.clip(values + self.shift, (self.low + self.shift) / 10, (self.high + self.shift) * 10))

    def unbounded(self, values: Any) -> np.ndarray:
        """The height, also far beyond the range; of what has no logarithm the height that is drawn."""
        values = np.asarray(values, float)
        if not self.log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values + self.shift > 0, np.log10(values + self.shift), self.height(values))

    def values_of(self, heights: Any) -> np.ndarray:
        """The values at heights, which `unbounded` undoes."""
        heights = np.asarray(heights, float)
        return 10**heights - self.shift if self.log else heights

    @property
    def limits(self) -> tuple[float, float]:
        return float(self.height(self.low)), float(self.height(self.high))

    def text(self, height: float) -> str:
        """The value at a height, for labels."""
        return number(float(self.values_of(height)))


def number(value: float) -> str:
    """A label of a few digits, without an exponent up to a million."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def plain(value: float, _: int | None = None) -> str:
    """A tick label without digits that say nothing."""
    return f"{value:.6g}".replace("-", "\u2212")


def is_power_of_ten(value: float) -> bool:
    return value > 0 and abs(np.log10(value) - round(np.log10(value))) < 1e-9


def scale(
    fields: Iterable[np.ndarray],
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    log: bool = False,
    linear: bool = False,
) -> Scale:
    """A range and levels for fields that share one scale; what is given is kept, the rest is chosen from the data.

    log: a plain logarithm. linear: no logarithm, unless that is asked for. Otherwise a logarithm is taken where the field
    spans a factor of LOG_FROM, and SOFT is added before where a basin lies far below it, which would be drawn as a needle.

    Raises BadUsage when nothing is finite, or when the given range is empty.
    """
    values = np.concatenate([np.ravel(field) for field in fields])
    infinite = bool(np.isposinf(values).any())
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise BadUsage("there is nothing to draw: no cell of this field is finite")
    low = float(values.min()) if vmin is None else vmin
    high = float(values.max()) if vmax is None else vmax
    if high < low or (high == low and (vmin is not None or vmax is not None)):
        raise BadUsage(f"the range {low:g} to {high:g} is empty: change --vmin or --vmax")
    if not max(abs(low), abs(high)) < LARGEST:
        raise BadUsage(f"the range {low:g} to {high:g} is wider than numbers go: choose --vmin and --vmax")
    if log and low <= 0:
        note(f"values down to {low:g} have no logarithm: the scale is linear")
    given, asked = vlevel is not None, log
    if log and given:
        raise BadUsage("--vlevel is a distance on a linear scale: leave it or --log out")
    log = (log or not (given or linear)) and low > 0 and (log or high / low > LOG_FROM)
    shift = SOFT if log and not asked and low < SOFT and high > 10 * SOFT else 0.0
    if log and vmax is None and (high + shift) / (low + shift) > 10**DECADES:
        high = max((low + shift) * 10**DECADES, float(np.median(values)))
    if high - low <= SAME * max(abs(high), abs(low)):
        high, low = high + 0.5 * max(abs(high), 1e-12), low - 0.5 * max(abs(low), 1e-12)
        log = False
    if vlevel is not None and not log:
        if vlevel <= 0 or (high - low) / vlevel > 1000:
            raise BadUsage(f"--vlevel {vlevel:g} gives no sensible number of contours from {low:g} to {high:g}")
        levels: np.ndarray = np.arange(low, high + vlevel / 2, vlevel)
        levels = levels[levels <= high + 1e-9 * (high - low)]
    elif log:
        levels = soft_levels(low, high) if shift else log_levels(low, high)
    else:
        from matplotlib.ticker import MaxNLocator

        levels = np.asarray(MaxNLocator(12).tick_values(low, high))
        levels = levels[(levels >= low) & (levels <= high)]
    if len(levels) < 2:
        levels = np.geomspace(low, high, 8) if log else np.linspace(low, high, 8)
    under = bool((values < low).any())
    return Scale(low, high, levels, log, infinite or bool((values > high).any()), shift, under)


def soft_levels(low: float, high: float) -> np.ndarray:
    """Round numbers for a logarithm of value + SOFT: few of those below SOFT, which lie close together."""
    below = np.array([SOFT / 10, 3 * SOFT / 10])
    return np.concatenate([below[below > low], log_levels(SOFT, high) if high / SOFT > 2 else [SOFT]])


def log_levels(low: float, high: float) -> np.ndarray:
    """Round numbers: 1, 2, 5 in each decade, or fewer when there are many decades."""
    decades = np.log10(high / low)
    steps: Sequence[float] = (1, 1.5, 2, 3, 5, 7) if decades < 1.6 else (1, 2, 5) if decades < 4 else (1, 3)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    levels: np.ndarray = np.outer(powers, steps).ravel()
    return levels[(levels >= low * (1 - 1e-9)) & (levels <= high * (1 + 1e-9))]
