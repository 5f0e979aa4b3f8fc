"""Figures of saved surfaces, curves and spectra."""

from lossatlas.figures.style import (
    Scale,
    eigen_ratio,
    has_eigenvalues,
    number,
    pick,
    save,
    scale,
    style,
    title_of,
)

__all__ = ["Scale", "eigen_ratio", "has_eigenvalues", "number", "pick", "save", "scale", "style", "title_of"]
