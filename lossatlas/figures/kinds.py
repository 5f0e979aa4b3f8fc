"""Kinds of figures and films, each once: its word in Python and on the command line, and the end of its file's name.

A kind's word is also the name of the function of `lossatlas.figures` that draws it, where there is one.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Self

from lossatlas.errors import did_you_mean


class Kind(Enum):
    """A kind of figure. File names follow the release of Li et al. where it has such a figure.

    Attributes:
        word: Its name, as in `plot(kind="contour")` and `figures.contour`.
        ending: End of the file's name; {field} is the field that is drawn.
        others: Other names of it, for which a message proposes `word`.

    Example:
        >>> Kind.FILLED.word, Kind.FILLED.ending, Kind.meant_by("contourf", Kind)
        ('filled', '_{field}_2dcontourf', ' (did you mean filled?)')
    """

    # of a surface in memory
    CURVE = "curve", "_1d_loss_acc", "line"
    CONTOUR = "contour", "_{field}_2dcontour", "contours"
    FILLED = "filled", "_{field}_2dcontourf", "contourf"
    HEAT = "heat", "_{field}_2dheat", "heatmap", "heat_map"
    SOLID = "solid", "_{field}_3dsurface", "3d", "surface"
    SLICES = "slices", "_{field}_slices", "planes", "volume"
    # of the Hessian's spectrum
    DENSITY = "density", "_density"
    LAYERS = "layers", "_layers"
    ACTIVATIONS = "activations", "_activations"
    SPECTRA = "spectra", "_spectra"
    # of files alone
    CURVE_LOSS = "curve_loss", "_1d_train_loss"
    CURVE_ERROR = "curve_error", "_1d_train_err"
    CURVE_FIELD = "curve_field", "_1d_field_{field}"
    CURVE_EIGENVALUES = "curve_eigenvalues", "_1d_eig"
    CURVE_RATIO = "curve_ratio", "_1d_eig_ratio"
    CURVES = "curves", "_1d_compare"
    REPEATS = "repeats", "_1d_loss_err_repeat"
    RATIO = "ratio", "_min_eig_max_eig_abs_ratio_heat_sns"
    RENDERED = "rendered", "_{field}_3drender"
    CUTAWAY = "cutaway", "_{field}_cutaway"
    PATH = "path", ""
    PATH_LOSSES = "path_losses", "_{field}_along_path"
    LAYER_MAP = "layer_map", "_{field}_layers"
    MINIMA = "minima", "_{field}_minima"
    MERGE_TREE = "merge_tree", "_{field}_merge_tree"
    RISES = "rises", "_rises"
    CHAINS = "chains", "_chains"
    COEFFICIENTS = "coefficients", "_coefficients"

    def __init__(self, word: str, ending: str, *others: str) -> None:
        self.word = word
        self.ending = ending
        self.others = others

    @staticmethod
    def named(word: str, among: "Iterable[Kind]") -> "Kind | None":
        """Return the kind of a word among some of them; None where there is none."""
        return next((each for each in among if each.word == word), None)

    @staticmethod
    def meant_by(word: str, among: "Iterable[Kind]") -> str:
        """Return a question about the kind nearest to an unknown word, to append to a message; "" if none is near."""
        kinds = list(among)
        other = next((each.word for each in kinds if word.lower() in each.others), word)
        return did_you_mean(other, [each.word for each in kinds])


FLAT = (Kind.CONTOUR, Kind.FILLED, Kind.HEAT)  # a plane seen from above
OF_SURFACE = (Kind.CURVE, *FLAT, Kind.SOLID, Kind.SLICES)  # what `plot` draws
WITH_LOG = (
    Kind.CURVES,
    Kind.CURVE,
    Kind.CURVE_LOSS,
    Kind.CURVE_ERROR,
    Kind.REPEATS,
)  # the name says that it was asked for
COMPARED = (*FLAT, Kind.SOLID, Kind.RENDERED, Kind.PATH_LOSSES)  # the name says that several files are drawn


class Film(Enum):
    """A kind of film, whose word also ends its file's name.

    Attributes:
        word: Its name.
        frames: Number of frames where none is asked for.
        rate: Frames per second where none are asked for.
        hold: Seconds for which the last frame stays.
    """

    TURN = "turn", 60, 15.0, 0.0
    PATH = "path", 90, 15.0, 2.0
    REFINE = "refine", 24, 4.0, 2.0

    def __init__(self, word: str, frames: int, rate: float, hold: float) -> None:
        self.word = word
        self.frames = frames
        self.rate = rate
        self.hold = hold

    @classmethod
    def named(cls, word: str) -> Self | None:
        """Return the kind of film of a word; None where there is none."""
        return next((each for each in cls if each.word == word), None)


def words_of(kinds: "Iterable[Kind | Film]") -> tuple[str, ...]:
    """List the words of kinds.

    Example:
        >>> words_of(FLAT)
        ('contour', 'filled', 'heat')
    """
    return tuple(each.word for each in kinds)
