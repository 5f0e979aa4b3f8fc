"""Curvature: the Hessian of a network's mean loss, and estimators that need nothing but its products with vectors.

The estimators take any symmetric operator that knows its size, dtype and device, as `Hessian` does. An explicit numpy
matrix becomes one with `of_matrix`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossatlas.hessian.activations import Activations, Traces, traces
from lossatlas.hessian.density import Spectrum, density
from lossatlas.hessian.effective_dimension import Dimension, effective_dimension
from lossatlas.hessian.hvp import Hessian, check_deterministic, usual_batch_size
from lossatlas.hessian.lanczos import Basis, NotFinite, Operator, Pairs, lanczos
from lossatlas.hessian.trace import TraceEstimate, diagonal, hutch_plus_plus, hutchinson

__all__ = [
    "Activations",
    "Basis",
    "Dimension",
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
    """A symmetric matrix of float64 or float32 as an operator on vectors of that type."""
    return Matrix(torch.from_numpy(np.array(matrix)))
