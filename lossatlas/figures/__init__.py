"""Figures of saved surfaces, curves and spectra."""

from lossatlas.figures.plot_functions import contour, curve, filled, heat, path, plot, solid, spectrum
from lossatlas.figures.style import (
    FigureFiles,
    Scale,
    eigen_ratio,
    has_eigenvalues,
    number,
    pick,
    save,
    scale,
    style,
    title_of,
    words,
)
from lossatlas.figures.surface_plots import Camera

__all__ = [
    "Camera",
    "FigureFiles",
    "Scale",
    "contour",
    "curve",
    "eigen_ratio",
    "filled",
    "has_eigenvalues",
    "heat",
    "number",
    "path",
    "pick",
    "plot",
    "save",
    "scale",
    "solid",
    "spectrum",
    "style",
    "title_of",
    "words",
]
