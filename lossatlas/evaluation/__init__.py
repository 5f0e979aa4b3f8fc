"""Statistics of a network's loss at the points of a plane."""

from lossatlas.evaluation.autotuning import tune
from lossatlas.evaluation.evaluator import Evaluator, choose_path
from lossatlas.evaluation.precision import PRECISION_TYPES
from lossatlas.evaluation.sample_storage import copy_samples

__all__ = ["PRECISION_TYPES", "Evaluator", "choose_path", "copy_samples", "tune"]
