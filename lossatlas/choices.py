"""Words that options, Python arguments and files share, each list once. Without torch, so that `--help` is quick.

An argument of a Python function that is one of these words is annotated, say, `Norm | str`: an editor offers the words,
and a variable of type str is accepted too, because the function checks the word when it is called.
"""

from typing import Literal, get_args

Precision = Literal["float32", "float64", "tf32", "bfloat16", "float16"]
ProductPrecision = Literal["float32", "float64"]  # of Hessian-vector products
Memory = Literal["fast", "low"]  # how much of it a job may take, see `jobs.inputs.network_memory`
Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "unit"]  # of directions; '' for none
Ignore = Literal["biasbn", ""]
DirType = Literal["weights", "states"]
BatchNormMode = Literal["keep", "recalibrate"]
ActivationSite = Literal["output", "input"]
PlaneKind = Literal["pca", "river"]  # of a trajectory
LossName = Literal["crossentropy", "mse", "next_token", "multiple_choice"]
LookName = Literal["paper", "dark", "print"]  # of figures, see `figures.palette`
PlotKind = Literal["curve", "contour", "filled", "heat", "solid"]
SpectrumPart = Literal["density", "layers", "activations"]  # that is drawn
FilmKind = Literal["turn", "path", "refine"]

PRECISIONS: tuple[str, ...] = get_args(Precision)
MEMORIES: tuple[str, ...] = get_args(Memory)
NORMS: tuple[str, ...] = get_args(Norm)
LOSS_NAMES: tuple[str, ...] = get_args(LossName)
LOOKS: tuple[str, ...] = get_args(LookName)
SCHEMES = ("linear2x", "barycentric")
CURVES = ("bezier", "polygonal")
COLOURS = ("value", "blended")  # what the colours of a field follow, see `figures.colour_scale`
