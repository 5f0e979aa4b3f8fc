"""Figures of saved surfaces, curves and spectra.

`contour`, `curve` and the other drawing functions take an axis of yours. `style` and `save` make and write figures in
the house style. The colour scale of a figure is decided in `colour_scale`, the names of files in `figure_files`.
"""

from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_scale import ColourScale, choose_colour_scale, format_value
from lossatlas.figures.figure_files import save, save_all
from lossatlas.figures.matplotlib_style import FigureFiles, style
from lossatlas.figures.plot_functions import (
    chains,
    coefficients,
    contour,
    curve,
    filled,
    heat,
    path,
    path_on,
    paths,
    plot,
    rises,
    slices,
    solid,
    spectra,
    spectrum,
)
from lossatlas.figures.plotted_fields import (
    RATIO_TITLE,
    chosen_field,
    eigen_ratio,
    extreme_eigenvalues,
    field_title,
    has_eigenvalues,
    mathtext,
)

__all__ = [
    "RATIO_TITLE",
    "Camera",
    "ColourScale",
    "FigureFiles",
    "chains",
    "choose_colour_scale",
    "chosen_field",
    "coefficients",
    "contour",
    "curve",
    "eigen_ratio",
    "extreme_eigenvalues",
    "field_title",
    "filled",
    "format_value",
    "has_eigenvalues",
    "heat",
    "mathtext",
    "path",
    "path_on",
    "paths",
    "plot",
    "rises",
    "save",
    "save_all",
    "slices",
    "solid",
    "spectra",
    "spectrum",
    "style",
]
