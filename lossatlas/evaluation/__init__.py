"""Statistics of a network's loss at the points of a plane."""

from lossatlas.evaluation.autotuning import tune
from lossatlas.evaluation.evaluator import Evaluator, choose_path
from lossatlas.evaluation.precision import PRECISIONS
from lossatlas.evaluation.sample_storage import sample_of

__all__ = ["PRECISIONS", "Evaluator", "choose_path", "sample_of", "tune"]
