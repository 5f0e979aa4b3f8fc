"""The loss landscape of a neural network: surfaces, curvature and paths of training.

    import lossatlas
    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21", norm="filter", ignore="biasbn")
    surface.plot()

`surface`, `eigenvalues`, `spectrum`, `trajectory` compute; `Recorder` records a training run in its own loop; `align` puts
the hidden units of one network into the order of another; `read` reads a file. torch is imported when they are first used,
so that files can be read and drawn without it (`lossatlas.io`, `lossatlas.figures`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossatlas.api import align, eigenvalues, read, spectrum, surface
    from lossatlas.data import Losses
    from lossatlas.results import Curvature, Landscape, Trajectory
    from lossatlas.run_recorder import Recorder
    from lossatlas.trajectories import trajectory

__version__ = "0.2.0"

__all__ = [
    "Curvature",
    "Landscape",
    "Losses",
    "Recorder",
    "Trajectory",
    "align",
    "eigenvalues",
    "read",
    "spectrum",
    "surface",
    "trajectory",
]

OWNERS = {"Losses": "data", "Recorder": "run_recorder", "trajectory": "trajectories"}  # of names that are not in `api`
PACKAGES = ("data", "evaluation", "figures", "hessian", "io", "jobs", "landscape", "parameter_space")


def __dir__() -> list[str]:
    return [*__all__, "__version__", *PACKAGES]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"lossatlas.{OWNERS.get(name, 'api')}"), name)
    if name in PACKAGES:
        return import_module(f"lossatlas.{name}")
    raise AttributeError(f"module 'lossatlas' has no attribute '{name}'")
