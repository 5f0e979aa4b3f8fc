"""The loss landscape of a neural network: surfaces, curvature and paths of training.

    import lossatlas
    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21", norm="filter", ignore="biasbn")
    surface.plot()

`surface`, `eigenvalues`, `spectrum`, `sharpness`, `learning_coefficient`, `learning_coefficients`, `trajectory`
compute; `Recorder` records a training run in its own loop; `align` puts the hidden units of one network into the order
of another; `language_model` reads a folder of Hugging Face; `read` reads a file, and `compare` puts several landscapes
side by side. torch is imported when one of the others is first used: files are read, drawn and compared without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossatlas.api import align, eigenvalues, learning_coefficient, sharpness, spectrum, surface
    from lossatlas.coefficient_paths import learning_coefficients
    from lossatlas.data import Losses
    from lossatlas.data.task_scores import with_scores
    from lossatlas.datasets.questions import question_data
    from lossatlas.models.hugging_face import language_model
    from lossatlas.results import (
        Curvature,
        Landscape,
        LearningCoefficient,
        LearningCoefficientPath,
        Sharpness,
        Trajectory,
        read,
    )
    from lossatlas.results.comparison import Comparison, compare
    from lossatlas.run_recorder import Recorder
    from lossatlas.trajectories import trajectory

__version__ = "0.2.0"

__all__ = [
    "Comparison",
    "Curvature",
    "Landscape",
    "LearningCoefficient",
    "LearningCoefficientPath",
    "Losses",
    "Recorder",
    "Sharpness",
    "Trajectory",
    "align",
    "compare",
    "eigenvalues",
    "language_model",
    "learning_coefficient",
    "learning_coefficients",
    "question_data",
    "read",
    "sharpness",
    "spectrum",
    "surface",
    "trajectory",
    "with_scores",
]

MODULES = {  # of the names that are not in `lossatlas.api`
    "Comparison": "results.comparison",
    "compare": "results.comparison",
    "Losses": "data",
    "Curvature": "results",
    "Landscape": "results",
    "LearningCoefficient": "results",
    "LearningCoefficientPath": "results",
    "Recorder": "run_recorder",
    "Sharpness": "results",
    "Trajectory": "results",
    "language_model": "models.hugging_face",
    "question_data": "datasets.questions",
    "with_scores": "data.task_scores",
    "learning_coefficients": "coefficient_paths",
    "read": "results",
    "trajectory": "trajectories",
}
PACKAGES = ("data", "evaluation", "figures", "hessian", "io", "jobs", "landscape", "parameter_space")


def __dir__() -> list[str]:
    return [*__all__, "__version__", *PACKAGES]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"lossatlas.{MODULES.get(name, 'api')}"), name)
    if name in PACKAGES:
        return import_module(f"lossatlas.{name}")
    raise AttributeError(f"module 'lossatlas' has no attribute '{name}'")
