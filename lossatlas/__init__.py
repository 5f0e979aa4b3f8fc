"""The loss landscape of a neural network: surfaces, curvature and paths of training.

    import lossatlas
    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21", norm="filter", ignore="biasbn")
    surface.plot()

`surface`, `eigenvalues`, `spectrum`, `trajectory` compute; `align` puts the hidden units of one network into the order of
another; `read` reads a file, and `compare` puts several landscapes side by side. torch is imported when the first five are
used: files are read, drawn and compared without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossatlas.api import align, eigenvalues, spectrum, surface, trajectory
    from lossatlas.comparison import Comparison, compare
    from lossatlas.data import Losses
    from lossatlas.results import Curvature, Landscape, Trajectory, read

__version__ = "0.2.0"

__all__ = [
    "Comparison",
    "Curvature",
    "Landscape",
    "Losses",
    "Trajectory",
    "align",
    "compare",
    "eigenvalues",
    "read",
    "spectrum",
    "surface",
    "trajectory",
]

HOMES = {  # modules of the names that are not in `lossatlas.api`
    "Comparison": "comparison",
    "compare": "comparison",
    "Losses": "data",
    "Curvature": "results",
    "Landscape": "results",
    "Trajectory": "results",
    "read": "results",
}
FLOORS = ("data", "evaluation", "figures", "hessian", "io", "jobs", "landscape", "parameter_space")


def __dir__() -> list[str]:
    return [*__all__, "__version__", *FLOORS]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"lossatlas.{HOMES.get(name, 'api')}"), name)
    if name in FLOORS:
        return import_module(f"lossatlas.{name}")
    raise AttributeError(f"module 'lossatlas' has no attribute '{name}'")
