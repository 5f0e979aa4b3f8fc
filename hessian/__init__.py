"""Curvature: the Hessian of a network's mean loss, and estimators that need nothing but its products with vectors.

The estimators take any symmetric operator: a function from a vector (n,) to a vector (n,), and n. An explicit numpy
matrix becomes one with `of_matrix`.
"""

import numpy as np
import torch

from hessian.density import Spectrum, density
from hessian.effective_dimension import Dimension, effective_dimension
from hessian.hvp import Hessian
from hessian.lanczos import Matvec, Pairs, lanczos
from hessian.trace import Estimate, diagonal, hutch_plus_plus, hutchinson

__all__ = [
    "Dimension", "Estimate", "Hessian", "Matvec", "Pairs", "Spectrum", "density", "diagonal", "effective_dimension",
    "hutch_plus_plus", "hutchinson", "lanczos", "of_matrix",
]  # fmt: skip


def of_matrix(matrix: np.ndarray) -> Matvec:
    """An explicit symmetric matrix as an operator on float64 vectors."""
    held = torch.from_numpy(np.array(matrix, dtype=np.float64))
    return lambda vector: held @ vector.double()
