"""Results of the Python functions: they can be drawn, shown in a notebook, saved, and given to other functions.

Reading, drawing and saving need no torch.
"""

from lossatlas.results.coefficient import LearningCoefficient
from lossatlas.results.coefficient_path import LearningCoefficientPath
from lossatlas.results.curvature import Curvature
from lossatlas.results.landscape import Landscape, read
from lossatlas.results.sharpness_result import Sharpness
from lossatlas.results.trajectory import Trajectory

__all__ = [
    "Curvature",
    "Landscape",
    "LearningCoefficient",
    "LearningCoefficientPath",
    "Sharpness",
    "Trajectory",
    "read",
]
