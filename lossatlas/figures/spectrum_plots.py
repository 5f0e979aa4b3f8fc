"""Spectra of a Hessian: its density, and the traces of layers and activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossatlas.figures.axis_ticks import set_few_ticks
from lossatlas.figures.kinds import Kind
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.spectrum import matrix_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TWO_ERRORS = "\n(\u00b1 2 standard errors)"
MANY_NAMES = 24  # more bars than these are narrower
POINTS = 4001  # of a curve: at least 16 of them in half of a kernel's width
# Half of the kernel's width as a share of the range: from a pixel or two to three hundredths.
NARROWEST, WIDEST = 0.004, 0.03


@dataclass(frozen=True)
class SpectrumCurves:
    """Density of a spectrum, and the number of eigenvalues above each place.

    Attributes:
        grid: (points,) eigenvalues.
        density: (points,) density, of integral 1.
        density_se: (points,) its standard error; NaN from a single probe.
        larger: (points,) number of larger eigenvalues.
        larger_se: (points,) its standard error; NaN from a single probe.
        known: Number of eigenvalues that are counted exactly.
        width: Half of the width of the smoothing kernel, which is zero beyond it.
    """

    grid: np.ndarray
    density: np.ndarray
    density_se: np.ndarray
    larger: np.ndarray
    larger_se: np.ndarray
    known: int
    width: float


def density_figure(plt: FigureFactory, findings: Findings) -> "Figure":
    """Draw the density of the spectrum above its eigenvalues, and the number of larger eigenvalues.

    Args:
        plt: Maker of figures, see `style`.
        findings: Content of a spectrum file with a density.

    Returns:
        The figure.
    """
    import seaborn as sns

    size = parameter_count(findings)
    curves = spectrum_curves(findings, size)
    rows, figsize = ((2, 1), (3.4, 5.0)) if is_single_column() else ((1, 2), (8.2, 3.5))
    fig, (left, right) = plt.subplots(*rows, figsize=figsize, layout="constrained")
    floor = 0.25 / size / curves.width  # about a quarter of the peak of a single eigenvalue
    density = np.maximum(curves.density, floor)
    left.fill_between(curves.grid, floor, density, color=current_look().main, alpha=0.25, linewidth=0)
    left.plot(curves.grid, density, color=current_look().main, linewidth=1.3)
    _draw_error_band(left, curves.grid, curves.density, curves.density_se, floor)
    _mark_eigenvalues(left, findings, floor)
    left.set(yscale="log", ylim=(floor, None), xlabel="eigenvalue", ylabel="density")
    left.legend(frameon=False, loc="upper right")
    right.plot(curves.grid, np.maximum(curves.larger, 0.1), color=current_look().main, linewidth=1.3)
    _draw_error_band(right, curves.grid, curves.larger, curves.larger_se, 0.1)
    right.set(yscale="log", ylim=(0.5, 1.6 * size), xlabel="eigenvalue", ylabel="number of larger eigenvalues")
    probes = len(findings.arrays["density/nodes"])
    known = f"{curves.known} eigenvalues counted exactly,\nthe rest " if curves.known else ""
    shaded = "s (shaded: \u00b1 2 standard errors)" if probes > 1 else ""
    right.set_title(f"{known}estimated from {probes} probe{shaded}", fontsize="small")
    left.set_title(
        f"{matrix_name(findings.request)} of the mean loss, {size:,} parameters\n"
        f"kernel \u00b1 {curves.width:.2g} around each eigenvalue",
        fontsize="small",
    )
    sns.despine(fig)
    return fig


def parameter_count(findings: Findings) -> int:
    """Return the number of parameters that a spectrum belongs to."""
    return sum(int(np.prod(shape)) for _, shape in findings.about["parameters"])


def _mark_eigenvalues(axis: "Axes", findings: Findings, height: float) -> None:
    """Draw short lines inside the frame at the computed eigenvalues, in two colours by whether they are resolved."""
    from matplotlib.transforms import ScaledTranslation

    a = findings.arrays
    values = np.concatenate([a["eigenvalues"], a["smallest"]])
    resolved = np.zeros(len(values), bool)  # a file of an earlier version does not record it
    if "smallest_converged" in a:
        resolved = np.concatenate([a["converged"], a["smallest_converged"]])
    looks: Looks = {"markersize": 9, "markeredgewidth": 1.3, "linestyle": "none", "zorder": 4}
    assert axis.figure is not None
    up = axis.transData + ScaledTranslation(0, 5.5 / 72, axis.figure.dpi_scale_trans)
    look = current_look()
    kinds = ((resolved, look.accent, "resolved eigenvalues"), (~resolved, look.muted, "not resolved"))
    for chosen, colour, label in kinds:
        if chosen.any():
            heights = np.full(chosen.sum(), height)
            axis.plot(values[chosen], heights, "|", color=colour, label=label, transform=up, **looks)


def kernel_width(low: float, high: float) -> float:
    """Choose half of the smoothing kernel's width.

    Most eigenvalues are near zero. To keep them inside the range, it is half the distance from zero to the nearer end,
    within `NARROWEST` and `WIDEST` of the range.

    Args:
        low: Smallest eigenvalue.
        high: Largest eigenvalue.

    Returns:
        Half of the width, in units of the eigenvalues.
    """
    nearest = min(abs(low), abs(high)) if low < 0 < high else 0.0
    extent = (high - low) or max(abs(high), 1e-12)
    return float(np.clip(nearest / 2, NARROWEST * extent, WIDEST * extent))


def triweight_kernel(distance: np.ndarray) -> np.ndarray:
    """Return the triweight kernel 35/32 (1 - t^2)^3, of integral 1 over -1 <= t <= 1, and zero beyond."""
    return 35 / 32 * np.maximum(1 - distance**2, 0) ** 3


def spectrum_curves(findings: Findings, size: int, width: float | None = None) -> SpectrumCurves:
    """Combine the density from stochastic Lanczos quadrature with the resolved eigenvalues, which are counted exactly.

    No eigenvalue other than the computed ones lies beyond a resolved one. So nodes of the quadrature beyond the
    innermost resolved eigenvalues are left out, and the weights of the others are scaled to the number of eigenvalues
    that remains.

    Args:
        findings: Content of a spectrum file with a density.
        size: Number of parameters.
        width: Half of the smoothing kernel's width; by default it is chosen from the eigenvalues.

    Returns:
        The curves, with standard errors over the probes.
    """
    a = findings.arrays
    ends = _resolved_ends(findings, size)
    atoms = np.concatenate([ends.top, ends.bottom])
    nodes, weights = a["density/nodes"], np.array(a["density/weights"])
    weights[(nodes >= ends.highest) | (nodes <= ends.lowest)] = 0
    weights *= (size - len(atoms)) / size / np.maximum(weights.sum(1, keepdims=True), 1e-300)
    places = np.concatenate([nodes.ravel(), atoms])
    width = width or kernel_width(places.min(), places.max())
    grid = np.union1d(np.linspace(places.min() - 2 * width, places.max() + 2 * width, POINTS), atoms)

    def smooth(at: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance = (grid[:, None] - at) / width
        return triweight_kernel(distance) @ shares / width, (distance < 0) @ shares

    rest = [smooth(n, w) for n, w in zip(nodes, weights, strict=True)]
    exact = smooth(atoms, np.full(len(atoms), 1 / size))
    (density, density_se), (larger, larger_se) = (_mean_and_error(np.array([r[k] for r in rest])) for k in (0, 1))
    return SpectrumCurves(
        grid, density + exact[0], density_se, size * (larger + exact[1]), size * larger_se, len(atoms), width
    )


class ResolvedEnds(NamedTuple):
    """The resolved eigenvalues at both ends of a spectrum, and the open interval between them.

    Attributes:
        top: (n,) eigenvalues from the largest one down.
        bottom: (m,) eigenvalues from the smallest one up.
        lowest: Lower end of the interval; -inf where no eigenvalue is resolved below.
        highest: Upper end of the interval; inf where no eigenvalue is resolved above.
    """

    top: np.ndarray
    bottom: np.ndarray
    lowest: float
    highest: float


def _resolved_ends(findings: Findings, size: int) -> ResolvedEnds:
    """Return the resolved eigenvalues from the top and from the bottom, and the open interval between them."""
    a = findings.arrays
    top, bottom, lowest, highest = np.zeros(0), np.zeros(0), -np.inf, np.inf
    if "smallest_converged" in a:
        top = _leading_resolved(a["eigenvalues"], a["converged"])
        bottom = _leading_resolved(a["smallest"], a["smallest_converged"])
    if len(top) + len(bottom) >= size:
        top = top[: size - len(bottom)]
    if len(top):
        highest = top[-1] - 2 * a["residuals"][len(top) - 1] - 1e-6 * abs(top[-1])
    if len(bottom):
        lowest = bottom[-1] + 2 * a["smallest_residuals"][len(bottom) - 1] + 1e-6 * abs(bottom[-1])
    return ResolvedEnds(top, bottom, lowest, highest)


def _leading_resolved(values: np.ndarray, resolved: np.ndarray) -> np.ndarray:
    """Return the values up to the first one that is not resolved."""
    return values[: int(np.argmin(np.append(resolved, False)))]


def _mean_and_error(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of probes (probes, points) and its standard error; NaN from a single one."""
    if len(curves) == 1:
        return curves[0], np.full(curves.shape[1], np.nan)
    return curves.mean(0), curves.std(0, ddof=1) / np.sqrt(len(curves))


def _draw_error_band(axis: "Axes", x: np.ndarray, values: np.ndarray, errors: np.ndarray, floor: float) -> None:
    """Draw two standard errors on either side, where they are known."""
    if np.isfinite(errors).any():
        low, high = np.maximum(values - 2 * errors, floor), np.maximum(values + 2 * errors, floor)
        axis.fill_between(x, low, high, color=current_look().main, alpha=0.3, linewidth=0)


def layers_figure(plt: FigureFactory, findings: Findings) -> "Figure":
    """Draw the trace of each layer's diagonal block, and its largest eigenvalue where it is computed.

    Args:
        plt: Maker of figures, see `style`.
        findings: Content of a spectrum file with the traces of layers.

    Returns:
        The figure.
    """
    a = findings.arrays
    panels = [BarPanel(f"trace of the block{TWO_ERRORS}", a["layers/trace"], a["layers/trace_se"])]
    if "layers/max_eig" in a:
        title = "largest eigenvalue of the block\n(\u00b1 2 residuals)"
        panels.append(BarPanel(title, a["layers/max_eig"], a["layers/max_eig_residual"]))
    return _bars_figure(plt, findings.about["layers"], panels)


def activations_figure(plt: FigureFactory, findings: Findings) -> "Figure":
    """Draw the trace of the matrix with respect to activations; arguments and result as for `layers_figure`."""
    a, at = findings.arrays, findings.about["parts"]["activations"]["at"]
    names = [f"{name} ({kind})" for name, kind, _ in findings.about["activations"]]
    title = f"trace with respect to the {at}{TWO_ERRORS}"
    return _bars_figure(plt, names, [BarPanel(title, a["activations/trace"], a["activations/trace_se"])])


class BarPanel(NamedTuple):
    """A panel of bars.

    Attributes:
        title: Name of the axis.
        values: (n,) lengths of the bars.
        errors: (n,) standard errors, or residuals.
    """

    title: str
    values: np.ndarray
    errors: np.ndarray


def _bars_figure(plt: FigureFactory, names: Sequence[str], panels: Sequence[BarPanel]) -> "Figure":
    """Draw a bar for each name, from the first layer down to the last; error bars are twice the given errors."""
    import seaborn as sns

    width = 3.4 if is_single_column() else 1.2 + 3.6 * len(panels)
    size = width, 1.0 + (0.2 if len(names) <= MANY_NAMES else 0.15) * len(names)
    fig, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    rows = np.arange(len(names))
    for axis, (title, values, errors) in zip(axes[0], panels, strict=True):
        axis.barh(
            rows,
            values,
            xerr=2 * errors,
            color=current_look().main,
            alpha=0.75,
            error_kw={"linewidth": 0.8, "ecolor": current_look().ink},
        )
        axis.axvline(0, color=current_look().ink, linewidth=0.7)
        axis.set_xlabel(title.replace(" of the ", "\nof the ") if is_single_column() else title)
        axis.margins(y=0.01)
        set_few_ticks(axis.xaxis, most=4 if is_single_column() else 6)
    axes[0, 0].set_yticks(rows, labels=names, fontsize="small" if len(names) <= MANY_NAMES else "x-small")
    axes[0, 0].tick_params(axis="y", length=0)
    axes[0, 0].invert_yaxis()
    sns.despine(fig)
    return fig


@dataclass(frozen=True)
class SpectrumFigure:
    """A figure of a spectrum file.

    Attributes:
        needs: The name of the array without which there is no figure.
        draw: The function that makes the figure.
    """

    needs: str
    draw: Callable[[FigureFactory, Findings], "Figure"]


DRAW_SPECTRUM: dict[Kind, SpectrumFigure] = {
    Kind.DENSITY: SpectrumFigure("density/grid", density_figure),
    Kind.LAYERS: SpectrumFigure("layers/trace", layers_figure),
    Kind.ACTIVATIONS: SpectrumFigure("activations/trace", activations_figure),
}


def held_kinds(findings: Findings) -> list[Kind]:
    """List the kinds of figures for which a spectrum file holds what they need."""
    return [kind for kind, figure in DRAW_SPECTRUM.items() if figure.needs in findings.arrays]
