"""Statistics of a network's loss at the points of a plane."""

from lossatlas.evaluation.evaluator import Evaluator, choose_path
from lossatlas.evaluation.precision import PRECISIONS
from lossatlas.evaluation.resident import sample_of
from lossatlas.evaluation.tuning import tune

__all__ = ["PRECISIONS", "Evaluator", "choose_path", "sample_of", "tune"]
