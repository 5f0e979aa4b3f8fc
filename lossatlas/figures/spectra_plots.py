"""Spectra of several matrices in one figure, such as a Hessian's beside that of its Gauss-Newton matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossatlas.errors import BadInput
from lossatlas.figures.line_plots import curve_looks
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look
from lossatlas.figures.spectrum_plots import SpectrumCurves, kernel_width, parameter_count, spectrum_curves
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.spectrum import matrix_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS_OF_HESSIAN = ("ggn", "fisher")  # matrices that are the Hessian without the curvature of the network
CONVEX_LOSSES = ("crossentropy", "next_token")  # whose Gauss-Newton matrix has no negative eigenvalues


class ExplainedPart(NamedTuple):
    """The part of a Hessian's largest eigenvalues that comes from a Gauss-Newton matrix.

    The Hessian is the sum of the Gauss-Newton matrix G and of the curvature of the network, so that an eigenvalue is
    v^T G v plus the rest, v being its eigenvector. With eigenvectors u of G, their eigenvalues m and a lower bound l of
    the others, v^T G v >= sum m (u^T v)^2 + l (1 - sum (u^T v)^2). The bound is 0 for losses that are convex in the
    output, otherwise that in the file, which holds with probability 1 - 1e-3.

    Attributes:
        eigenvalues: (n,) resolved eigenvalues of the Hessian, from the largest one down.
        least: (n,) the sum above, over the resolved eigenvectors of G.
        vectors: The number of these.
        name: The name of G.
    """

    eigenvalues: np.ndarray
    least: np.ndarray
    vectors: int
    name: str


def explained_part(findings: Sequence[Findings]) -> ExplainedPart | None:
    """Compute how much of a Hessian's eigenvalues comes from the Gauss-Newton matrix.

    Args:
        findings: Contents of spectrum files.

    Returns:
        The part; None unless there are two files, of the Hessian and of a Gauss-Newton or Fisher matrix at the same
        parameters of the same network with the same data, and both hold resolved eigenvectors.
    """
    kinds = [each.request.get("matrix", "hessian") for each in findings]
    if len(kinds) != 2 or kinds.count("hessian") != 1 or not set(kinds) & set(PARTS_OF_HESSIAN):
        return None
    hessian, other = findings[kinds.index("hessian")], findings[1 - kinds.index("hessian")]
    if not is_same_but_for_the_matrix(hessian, other):
        return None
    (values, vectors), (parts, axes) = (resolved_pairs(each) for each in (hessian, other))
    if not len(values) or not len(parts) or (lowest := lower_bound(other)) is None:
        return None
    along = np.stack([axes @ vector for vector in vectors]) ** 2
    least = along @ parts + lowest * np.maximum(1 - along.sum(axis=1), 0)
    return ExplainedPart(values, least, len(parts), matrix_name(other.request))


def lower_bound(findings: Findings) -> float | None:
    """Return a lower bound of zero or less for all eigenvalues of a Gauss-Newton matrix; None where none is known."""
    if findings.request["matrix"] == "fisher" or findings.request["loss"] in CONVEX_LOSSES:
        return 0.0
    return min(0.0, float(findings.arrays["bounds"][0])) if "bounds" in findings.arrays else None


def is_same_but_for_the_matrix(one: Findings, other: Findings) -> bool:
    """Return whether two spectra belong to the same parameters, weights, samples and loss."""
    without = [{k: v for k, v in each.request.items() if k not in ("matrix", "precision")} for each in (one, other)]
    return without[0] == without[1] and one.about["parameters"] == other.about["parameters"]


def resolved_pairs(findings: Findings) -> tuple[np.ndarray, np.ndarray]:
    """Return the resolved positive eigenvalues (n,), from the largest one down, and their eigenvectors (n, size)."""
    a = findings.arrays
    if "eigenvectors" not in a or "converged" not in a:
        return np.zeros(0), np.zeros((0, 0))
    chosen = np.flatnonzero(a["converged"].astype(bool) & (a["eigenvalues"] > 0))
    vectors = np.asarray(a["eigenvectors"][chosen], np.float64)
    return np.asarray(a["eigenvalues"][chosen]), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def spectra_figure(plt: FigureFactory, findings: Sequence[Findings], labels: Sequence[str]) -> "Figure":
    """Draw the densities of several spectra above the same axis, and the numbers of larger eigenvalues.

    Where one is a Hessian's and the other that of its Gauss-Newton matrix, bars show the eigenvalues of the Hessian,
    and the part of each that comes from the other matrix.

    Args:
        plt: Maker of figures, see `style`.
        findings: Contents of spectrum files.
        labels: A name for each.

    Returns:
        The figure.

    Raises:
        BadInput: A file holds no density.
    """
    import seaborn as sns

    for each, label in zip(findings, labels, strict=True):
        if "density/grid" not in each.arrays:
            raise BadInput(f"{label} holds no density yet: continue hessian_spectrum.py for it")
    part = explained_part(findings)
    count = 2 + (part is not None)
    rows, figsize = ((count, 1), (3.4, 2.6 * count)) if is_single_column() else ((1, count), (4.1 * count, 3.5))
    fig, axes = plt.subplots(*rows, figsize=figsize, layout="constrained")
    looks = curve_looks(len(findings))
    width = common_width(findings)
    curves = [spectrum_curves(each, parameter_count(each), width) for each in findings]
    draw_densities(axes[0], findings, curves, labels, looks)
    draw_counts(axes[1], findings, curves, looks)
    if part is not None:
        draw_part(axes[2], part)
    axes[0].set_title(f"kernel \u00b1 {width:.2g} around each eigenvalue", fontsize="small")
    sns.despine(fig)
    return fig


def common_width(findings: Sequence[Findings]) -> float:
    """Choose one kernel for all spectra, see `kernel_width`."""
    places = [
        np.concatenate([a["density/nodes"].ravel(), a["eigenvalues"], a.get("smallest", np.zeros(0))])
        for a in (each.arrays for each in findings)
    ]
    return kernel_width(min(each.min() for each in places), max(each.max() for each in places))


def draw_densities(
    axis: "Axes",
    findings: Sequence[Findings],
    curves: Sequence[SpectrumCurves],
    labels: Sequence[str],
    looks: Sequence[Looks],
) -> None:
    """Draw the densities, and below them a row of marks at the eigenvalues of each spectrum.

    Args:
        axis: Where to draw.
        findings: Contents of spectrum files.
        curves: Their curves.
        labels: Their names.
        looks: Colours and dashes of their lines.
    """
    floor = min(0.25 / parameter_count(each) / c.width for each, c in zip(findings, curves, strict=True))
    row = 2.5  # of marks, as a factor
    for k, (each, c, label, look) in enumerate(zip(findings, curves, labels, looks, strict=True)):
        colour = look["color"]
        density = np.maximum(c.density, floor)
        axis.fill_between(c.grid, floor, density, color=colour, alpha=0.15, linewidth=0)
        axis.plot(c.grid, density, linewidth=1.3, label=label, **look)
        values = np.concatenate([each.arrays["eigenvalues"], each.arrays.get("smallest", np.zeros(0))])
        heights = np.full(len(values), floor / row ** (k + 0.5))
        axis.plot(values, heights, "|", color=colour, markersize=7, markeredgewidth=1.3)
    axis.set(yscale="log", ylim=(floor / row ** len(findings), None), xlabel="eigenvalue", ylabel="density")
    axis.axhline(floor, color=current_look().grid, linewidth=0.7, zorder=0)
    axis.legend(frameon=False, loc="upper right")


def draw_counts(
    axis: "Axes", findings: Sequence[Findings], curves: Sequence[SpectrumCurves], looks: Sequence[Looks]
) -> None:
    """Draw the number of larger eigenvalues of each spectrum.

    Args:
        axis: Where to draw.
        findings: Contents of spectrum files.
        curves: Their curves.
        looks: Colours and dashes of their lines.
    """
    for c, look in zip(curves, looks, strict=True):
        axis.plot(c.grid, np.maximum(c.larger, 0.1), linewidth=1.3, **look)
    most = max(parameter_count(each) for each in findings)
    axis.set(yscale="log", ylim=(0.5, 1.6 * most), xlabel="eigenvalue", ylabel="number of larger eigenvalues")
    probes = sorted({len(each.arrays["density/nodes"]) for each in findings})
    axis.set_title(f"estimated from {' and '.join(map(str, probes))} probes each", fontsize="small")


def draw_part(axis: "Axes", part: ExplainedPart) -> None:
    """Draw bars of the Hessian's eigenvalues, filled as far as they come from the Gauss-Newton matrix."""
    look, places = current_look(), np.arange(1, len(part.eigenvalues) + 1)
    axis.bar(places, part.eigenvalues, color=look.grid, edgecolor=look.muted, label="eigenvalue of the Hessian")
    axis.bar(
        places,
        part.least,
        color=look.accent,
        edgecolor=look.ground,
        width=0.5,
        label=f"of it in the {part.name}, at least",
    )
    for place, value, least in zip(places, part.eigenvalues, part.least, strict=True):
        axis.text(float(place), max(value, least), f"{least / value:.0%}", ha="center", va="bottom", fontsize="x-small")
    axis.set(xlabel="number of the eigenvalue", ylabel="eigenvalue")
    axis.margins(y=0.25)
    axis.set_xticks(places[:: 1 + len(places) // 10])
    axis.legend(frameon=False, loc="upper right", fontsize="small")
    axis.set_title(f"lower bounds from {part.vectors} eigenvectors", fontsize="small")
