"""Words inside the package are types: mypy refuses the lines that are marked. Nothing runs this file."""

from torch import nn

from lossatlas import config
from lossatlas.choices import NORMS, DirType, NormOrNone, Precision, is_word
from lossatlas.data import LOSSES
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.precision import product_precision, resolve_precision
from lossatlas.figures.plot_options import PlotOptions
from lossatlas.io import Findings
from lossatlas.jobs.inputs.make_directions import AxisRequest
from lossatlas.jobs.sweep.eigenvalue_quantity import EigenvalueQuantity, MovedMatrix
from lossatlas.jobs.sweep.grid_job import Quantity
from lossatlas.jobs.sweep.loss_quantity import LossQuantity
from lossatlas.jobs.trajectory.run_projection import PlaneChoice
from lossatlas.parameter_space import CurvePlane, Point, tensors
from lossatlas.parameter_space.normalization import normalize


def checked_texts(point: Point, text: str, norm: NormOrNone) -> Point:
    """Pass a text on after a check alone."""
    normalize(point, point, norm, "biasbn")
    normalize(point, point, "")
    normalize(point, point, text)  # type: ignore[arg-type]
    normalize(point, point, "filtr")  # type: ignore[arg-type]
    normalize(point, point, norm, "bn")  # type: ignore[arg-type]
    return normalize(point, point, text) if is_word(text, NORMS) else point


def words_of_each_kind(net: nn.Module, points: list[Point], precision: Precision, moved: DirType) -> None:
    """Pass words of each kind, and some of another kind."""
    tensors(net, moved)
    tensors(net, "buffers")  # type: ignore[arg-type]
    AxisRequest("gradient", "unit")
    AxisRequest("file")  # type: ignore[arg-type]
    PlaneChoice(kind="river", dir_type="weights")
    PlaneChoice(kind="rivr")  # type: ignore[arg-type]
    CurvePlane("bezier", points)
    CurvePlane("linear2x", points)  # type: ignore[arg-type]
    Findings({}, {}, kind="surface")  # type: ignore[arg-type]
    PlotOptions(look="neon")  # type: ignore[arg-type]
    LOSSES["mes"]  # type: ignore[index]
    resolve_precision(precision, net)
    product_precision(precision, net)  # type: ignore[arg-type]
    LossQuantity(precision="own")  # type: ignore[arg-type]
    LossQuantity(memory="small")  # type: ignore[arg-type]
    config.RunConfig(cuda=False, threads=0, batch_size=0, precision="tf32", memory="low")
    config.RunConfig(cuda=False, threads=0, batch_size=0, precision="half")  # type: ignore[arg-type]


def quantities(losses: LossQuantity, eigenvalues: EigenvalueQuantity) -> tuple[Quantity[Evaluator], object]:
    """Name what evaluates a quantity."""
    right: Quantity[MovedMatrix] = eigenvalues
    wrong: Quantity[Evaluator] = eigenvalues  # type: ignore[assignment]
    return losses, (right, wrong)
