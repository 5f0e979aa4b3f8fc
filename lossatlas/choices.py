"""Words that options, Python arguments and files share, each list once. Without torch, so that `--help` is quick.

An argument of a Python function that is one of these words is annotated, say, `Norm | str`: an editor offers the words,
and a variable of type str is accepted too, because the function checks the word when it is called. Inside the package
the words alone are accepted: a text becomes one by `is_word`. An option lists them by the type of its field.
"""

from typing import Literal, TypeGuard, TypeVar, get_args

Precision = Literal["float32", "float64", "tf32", "bfloat16", "float16"]
EvaluationPrecision = Literal[Precision, "own"]  # own: each tensor in its own type
ProductPrecision = Literal["float32", "float64"]  # of Hessian-vector products
Memory = Literal["fast", "low"]  # how much of it a job may take, see `jobs.inputs.network_memory`
Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "unit"]  # of directions
NormOrNone = Literal["", Norm]
Ignore = Literal["", "biasbn"]
DirType = Literal["weights", "states"]
BatchNormMode = Literal["keep", "recalibrate"]
ActivationSite = Literal["output", "input"]
CurvatureMatrix = Literal["hessian", "ggn", "fisher", "mc_fisher", "empirical_fisher"]  # see `hessian.gauss_newton`
PlaneKind = Literal["pca", "river", "local"]  # of a trajectory
OwnPlaneCells = Literal["few", "all"]  # of a chart, whose losses are computed in their own planes too
LossName = Literal["crossentropy", "mse", "next_token", "multiple_choice"]
LookName = Literal["paper", "dark", "print"]  # of figures, see `figures.palette`
PlotKind = Literal["curve", "contour", "filled", "heat", "solid", "slices"]
SpectrumPart = Literal["density", "layers", "activations"]  # that is drawn
FilmKind = Literal["turn", "path", "refine"]
SurfaceLayout = Literal["grid", "overlay"]  # of several surfaces in 3-D
InfiniteValues = Literal["hole", "largest"]  # how they are drawn
OptimizerName = Literal["sgd", "adam"]
Schedule = Literal["cosine", "step", "constant"]  # of the learning rate
StreamMode = Literal["auto", "always", "never"]  # of samples, read when they are needed
DirectionWord = Literal["random", "gradient", "eigenvector"]  # of an axis
DirectionKind = Literal[DirectionWord, "file"]
Scheme = Literal["linear2x", "barycentric"]  # of points between three networks
SchemeOrNone = Literal["", Scheme]
CurveKind = Literal["bezier", "polygonal"]
CurveOrNone = Literal["", CurveKind]
Colours = Literal["value", "blended"]  # what the colours of a field follow, see `figures.colour_scale`

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRODUCT_PRECISIONS: tuple[ProductPrecision, ...] = get_args(ProductPrecision)
MEMORIES: tuple[Memory, ...] = get_args(Memory)
NORMS: tuple[NormOrNone, ...] = get_args(NormOrNone)
IGNORES: tuple[Ignore, ...] = get_args(Ignore)
DIR_TYPES: tuple[DirType, ...] = get_args(DirType)
BATCH_NORM_MODES: tuple[BatchNormMode, ...] = get_args(BatchNormMode)
ACTIVATION_SITES: tuple[ActivationSite, ...] = get_args(ActivationSite)
MATRICES: tuple[CurvatureMatrix, ...] = get_args(CurvatureMatrix)
PLANE_KINDS: tuple[PlaneKind, ...] = get_args(PlaneKind)
OWN_PLANE_CELLS: tuple[OwnPlaneCells, ...] = get_args(OwnPlaneCells)
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)
LOOKS: tuple[LookName, ...] = get_args(LookName)
DIRECTION_WORDS: tuple[DirectionWord, ...] = get_args(DirectionWord)
CURVES: tuple[CurveKind, ...] = get_args(CurveKind)
COLOURS: tuple[Colours, ...] = get_args(Colours)

Word = TypeVar("Word", bound=str)


def is_word(text: object, words: tuple[Word, ...]) -> TypeGuard[Word]:
    """Return whether a text is one of some words: where a text comes from outside, this makes it one of their type.

    Example:
        >>> is_word("filter", NORMS), is_word("filters", NORMS)
        (True, False)
    """
    return isinstance(text, str) and text in words
