"""Fields of a surface as figures need them: which one to draw, its title, and the ratio of the eigenvalues."""

import numpy as np

from lossatlas.landscape.chart_cells import CHART_FOLDS, DISTORTION
from lossatlas.landscape.derived_fields import is_expression, no_field, resolved_field
from lossatlas.landscape.spectrum import MATRIX_NAMES
from lossatlas.landscape.surface import Surface, unresolved

FIELD_TITLES = {
    "train_loss": "training loss",
    "test_loss": "test loss",
    "train_acc": "training accuracy (%)",
    "test_acc": "test accuracy (%)",
    "max_eig": "largest eigenvalue of the Hessian",
    "min_eig": "smallest eigenvalue of the Hessian",
    "train_loss_se": "standard error of the training loss",
    "test_loss_se": "standard error of the test loss",
    DISTORTION: "part of a cell's displacement outside the plane of its checkpoint",
    CHART_FOLDS: "1 where the chart folds",
    **{f"{matrix}_max_eig": f"largest eigenvalue of the {name}" for matrix, name in MATRIX_NAMES.items()},
}

RATIO_TITLE = r"$|\lambda_{\min} / \lambda_{\max}|$"  # see `eigen_ratio`


def field_title(name: str) -> str:
    """Return the title of a field; a formula between $ and an expression of fields are their own titles."""
    return name if name.startswith("$") or is_expression(name) else FIELD_TITLES.get(name, name.replace("_", " "))


def mathtext(text: str) -> str:
    """Prepare text for a figure: keep formulas between $ that matplotlib understands, otherwise escape every $."""
    from matplotlib.mathtext import MathTextParser

    try:
        for line in text.split("\n"):  # as matplotlib draws them
            MathTextParser("path").parse(line)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def chosen_field(surface: Surface, name: str | None, source: object = "the surface") -> tuple[Surface, str]:
    """Choose the field to draw: the named one, an expression of fields, otherwise train_loss, or the first one.

    Args:
        surface: The surface that holds it.
        name: Name of a field, an expression such as `exp(train_loss)`, or None.
        source: Its file, for the message.

    Returns:
        A surface that holds the field, and its name.

    Raises:
        BadUsage: The surface has no field of this name, or the expression is not allowed.

    Example:
        >>> from lossatlas.io import read_surface
        >>> found, name = chosen_field(read_surface("docs/surfaces/eigen.h5"), "sqrt(max_eig)")
        >>> name, name in found.fields
        ('sqrt(max_eig)', True)
    """
    if name is None:
        return surface, default_field(surface)
    if name not in surface.fields and not is_expression(name):
        raise no_field(name, surface.fields, source)
    return resolved_field(surface, name)


def default_field(surface: Surface) -> str:
    """Name of the field that is drawn where none is named: train_loss, otherwise the first one."""
    fields = [field for field in surface.fields if not field.endswith(("_se", "_residual"))]
    return "train_loss" if "train_loss" in fields else fields[0]


def loss_names(surface: Surface) -> list[str]:
    """Return the names of the losses of a surface, in the order of its file."""
    return [name for name in surface.fields if name.endswith("_loss") and not is_expression(name)]


def row_labels(surface: Surface) -> list[str]:
    """Return the names of the rows of a surface whose rows are repeats or layers, without their common parts."""
    names = [str(each) for each in surface.request["rows"]]
    parts = [name.split(", ") for name in names]
    shared = set(parts[0]).intersection(*parts[1:]) if len(parts) > 1 else set()
    return [
        ", ".join(each for each in own if each not in shared) or name for own, name in zip(parts, names, strict=True)
    ]


def is_accuracy(name: str) -> bool:
    """Tell whether a field is an accuracy in percent, whose scale is always linear."""
    return name.endswith("_acc") and not is_expression(name)


def has_eigenvalues(surface: Surface) -> bool:
    """Tell whether a surface holds the extreme eigenvalues of the Hessian."""
    return {"min_eig", "max_eig"} <= set(surface.fields)


def extreme_eigenvalues(surface: Surface) -> dict[str, str]:
    """Return the fields of the largest and the smallest eigenvalue of a matrix, by these words, as far as they exist.

    Example:
        >>> from lossatlas.io import read_surface
        >>> extreme_eigenvalues(read_surface("docs/surfaces/eigen.h5"))
        {'largest': 'max_eig', 'smallest': 'min_eig'}
    """
    ends = (("max_eig", "largest"), ("min_eig", "smallest"))
    return {word: name for name in surface.fields for end, word in ends if name.endswith(end)}


def eigen_ratio(surface: Surface) -> np.ndarray:
    """Compute |smallest / largest| eigenvalue of the Hessian, the measure of Li et al. (arXiv 1712.09913, section 6).

    Args:
        surface: A surface with the fields min_eig and max_eig.

    Returns:
        The ratio in the shape of the fields; NaN where the largest eigenvalue is not positive or one of the two is
        not resolved.
    """
    smallest, largest = surface.fields["min_eig"], surface.fields["max_eig"]
    with np.errstate(invalid="ignore", divide="ignore"):
        loose = unresolved(surface, "max_eig") | unresolved(surface, "min_eig")
        return np.where((largest > 0) & ~loose, np.abs(smallest / largest), np.nan)
