"""Options of the points at which a loss is computed: the grid, its directions, lines and curves, BatchNorm on them."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from lossatlas.choices import BatchNormMode, CurveKind, DirType, Ignore, NormOrNone, OwnPlaneCells, PlaneKind, Scheme
from lossatlas.config.option_fields import natural, option, pattern, positive
from lossatlas.errors import BadUsage, named

DIRECTION_SEED = 123  # of the random directions, as in the original release
BN_SAMPLES = 1000  # training samples for the statistics of BatchNorm at every point
MOST_MARGIN = 100.0  # around a path, as a share of its extent
CHART_WIDTH = 0.2  # across a path, as a share of its length


@dataclass(frozen=True)
class GridOptions:
    """The coordinates of the grid points."""

    HEADING: ClassVar[str] = "grid"

    x: str = option("-1:1:51", "first and last coordinate along x, and the number of points", metavar="MIN:MAX:NUM")
    y: str | None = option(None, "the same along y; leave it out for a line", metavar="MIN:MAX:NUM")
    z: str | None = option(None, "the same along a third axis, for a volume", metavar="MIN:MAX:NUM")


@dataclass(frozen=True)
class SelectionOptions:
    """The parameters that a command applies to, by name."""

    HEADING: ClassVar[str] = "parameters"

    only: tuple[str, ...] = option(
        (),
        "take only parameters whose names match one of these regular expressions, such as lora_ or layer3; the others "
        "stay as they are",
        kind=pattern,
        many="+",
        metavar="PATTERN",
    )
    without: tuple[str, ...] = option(
        (),
        "leave out parameters whose names match one of these regular expressions",
        name="except",
        kind=pattern,
        many="+",
        metavar="PATTERN",
    )


IGNORE = (
    "biasbn: zero for biases and BatchNorm parameters; otherwise, as in the original code, the direction of these "
    "parameters is the parameters themselves"
)


DIRECTION = (
    "the {} direction: random, gradient, eigenvector:K (the K-th largest of the Hessian), or FILE.h5:K (the K-th "
    "vector of a spectrum or direction file); gradient and eigenvectors have unit length unless a norm is given"
)


@dataclass(frozen=True)
class DirectionOptions(SelectionOptions):
    """The directions of the axes, and how they are normalized."""

    HEADING: ClassVar[str] = "directions"

    dir_type: DirType | None = option(
        None,
        "move the parameters (weights), or the BatchNorm statistics as well (states) (default: weights, and states "
        "between networks with different statistics)",
    )
    xnorm: NormOrNone = option("", "normalization of the x direction (default: none)")
    xignore: Ignore = option("", IGNORE)
    ynorm: NormOrNone = option("", "normalization of the y direction (default: none)")
    yignore: Ignore = option("", "as --xignore, for the y direction")
    znorm: NormOrNone = option("", "normalization of the z direction of a volume (default: none)")
    zignore: Ignore = option("", "as --xignore, for the z direction")
    xdirection: str = option("random", DIRECTION.format("x"), metavar="DIRECTION")
    ydirection: str = option("random", "the y direction, as --xdirection", metavar="DIRECTION")
    zdirection: str = option("random", "the z direction of a volume, as --xdirection", metavar="DIRECTION")
    orthogonalize: bool = option(False, "make each direction orthogonal to those before it: y to x, z to x and y")
    curvature: bool = option(
        False,
        "print and store the second derivatives of the loss along the axes (always done for gradients, eigenvectors "
        "and directions from files)",
    )
    same_dir: bool = option(False, "use the x direction for y as well")
    store_directions: bool = option(
        False,
        "write the vectors of random directions of a large network (--memory low) into the direction file, which holds "
        "their seed and normalization otherwise",
    )
    seed: int = option(DIRECTION_SEED, "seed of the random directions", kind=natural)
    idx: int = option(0, "number of a repeat: other random directions, other file names", kind=natural, metavar="N")
    dir_file: str | None = option(None, "direction file to use; if it does not exist, it is written", metavar="FILE.h5")


@dataclass(frozen=True)
class SchemeOptions:
    """Points that do not form a plane."""

    HEADING: ClassVar[str] = "lines and curves"

    repeat: int | None = option(
        None,
        "losses along N random directions, those of --idx 0 to N-1, in one file, which plot_1D.py draws with the "
        "confidence interval of their mean",
        kind=positive,
        metavar="N",
    )
    per_layer: bool = option(
        False, "one line for each layer, along the block of that layer in the x direction; plot_layers.py draws them"
    )
    scheme: Scheme | None = option(
        None,
        "interpolate between the network and two random networks, scaled to its size: the two schemes of the Julia "
        "notebook 'Visualizing the loss landscape'",
    )
    curve: CurveKind | None = option(
        None,
        "from the network to --model_file2 along a curve of low loss that train_curve.py has found; x is the position "
        "on it",
    )
    control_points: tuple[str, ...] = option(
        (), "the control points of the curve, in order", old=("bend",), many="+", metavar="FILE"
    )


@dataclass(frozen=True)
class BatchNormOptions:
    """Statistics of BatchNorm away from the centre."""

    HEADING: ClassVar[str] = "BatchNorm"

    bn: BatchNormMode = option(
        "keep",
        "keep the running statistics of the checkpoint, or estimate them again at every point (recalibrate); with the "
        "kept ones, barriers between networks are partly an artefact",
    )
    bn_samples: int | None = option(
        None,
        f"number of training samples for --bn recalibrate, the same at every point (default: {BN_SAMPLES})",
        kind=positive,
        metavar="N",
    )


def chart_extent(
    plane: PlaneKind, width: float | None, own_planes: OwnPlaneCells | None
) -> tuple[float, OwnPlaneCells]:
    """Return the settings of a chart of local planes, checked.

    Args:
        plane: The kind of plane.
        width: Extent across the path, as a share of its length; None for the usual one.
        own_planes: Cells whose losses are computed in their own planes too; None for a few.

    Raises:
        BadUsage: The width makes no sense, or one of them is given for another kind of plane.

    Example:
        >>> chart_extent("local", None, "all"), chart_extent("pca", None, None)
        ((0.2, 'all'), (0.2, 'few'))
    """
    for name, value in (("width", width), ("own_planes", own_planes)):
        if value is not None and plane != "local":
            raise BadUsage(f"{named(name, value)} is for {named('plane', 'local')}: leave it out, or choose that plane")
    if width is None:
        width = CHART_WIDTH
    if not isinstance(width, Real) or not 0 < width <= MOST_MARGIN:
        allowed = f"above 0 and at most {MOST_MARGIN:g}"
        raise BadUsage(f"{named('width', width)}: give a part of the path's length, {allowed}")
    return float(width), own_planes or "few"
