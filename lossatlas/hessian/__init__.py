"""Curvature: the Hessian of a network's mean loss, and estimators from its products with vectors.

The estimators take any symmetric operator with a size, a dtype and a device, such as `Hessian`; `of_matrix` makes one
of an explicit numpy matrix.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossatlas.hessian.activations import Activations, Traces, traces
from lossatlas.hessian.batching import usual_batch_size
from lossatlas.hessian.density import density
from lossatlas.hessian.effective_dimension import effective_dimension
from lossatlas.hessian.gauss_newton import GaussNewton
from lossatlas.hessian.hvp import Hessian
from lossatlas.hessian.lanczos import Basis, NotFinite, Operator, Pairs, lanczos
from lossatlas.hessian.operator_checks import check_deterministic
from lossatlas.hessian.trace import diagonal, hutch_plus_plus, hutchinson
from lossatlas.landscape.spectrum import Dimension, Spectrum, TraceEstimate

__all__ = [
    "Activations",
    "Basis",
    "Dimension",
    "GaussNewton",
    "Hessian",
    "NotFinite",
    "Operator",
    "Pairs",
    "Spectrum",
    "TraceEstimate",
    "Traces",
    "check_deterministic",
    "density",
    "diagonal",
    "effective_dimension",
    "hutch_plus_plus",
    "hutchinson",
    "lanczos",
    "of_matrix",
    "traces",
    "usual_batch_size",
]


@dataclass(frozen=True)
class Matrix:
    """An explicit matrix (n, n) as an operator."""

    entries: Tensor

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def dtype(self) -> torch.dtype:
        return self.entries.dtype

    @property
    def device(self) -> torch.device:
        return self.entries.device

    def __call__(self, vector: Tensor) -> Tensor:
        return self.entries @ vector


def of_matrix(matrix: np.ndarray) -> Matrix:
    """Make an operator of a symmetric matrix.

    Args:
        matrix: (n, n) float64 or float32, which is copied.

    Returns:
        The operator on vectors (n,) of that type.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> of_matrix(np.diag([5.0, 2.0]))(torch.ones(2, dtype=torch.float64)).tolist()
        [5.0, 2.0]
    """
    return Matrix(torch.from_numpy(np.array(matrix)))
