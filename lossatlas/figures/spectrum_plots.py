"""Spectra of a Hessian: density, layers, activations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossatlas.figures.style import narrow
from lossatlas.io.spectrum_files import Findings

BLUE, RED, GREY = "#1f5fa8", "#c0392b", "0.5"
POINTS = 4001  # 16 of them at least in half of a kernel's width


def draw_density(plt: Any, findings: Findings) -> Any:
    """The density on a logarithmic axis with the resolved eigenvalues below it, and how many eigenvalues are larger."""
    import seaborn as sns

    a = findings.arrays
    size = sum(int(np.prod(shape)) for _, shape in findings.about["parameters"])
    curves = with_known(findings, size)
    grid = curves.grid
    rows, size_of = ((2, 1), (3.4, 5.0)) if narrow() else ((1, 2), (8.2, 3.5))
    fig, (left, right) = plt.subplots(*rows, figsize=size_of, layout="constrained")
    floor = 0.25 / size / curves.width  # a quarter of the height of one eigenvalue, about
    left.fill_between(grid, floor, np.maximum(curves.density, floor), color=BLUE, alpha=0.25, linewidth=0)
    left.plot(grid, np.maximum(curves.density, floor), color=BLUE, linewidth=1.3)
    band(left, grid, curves.density, curves.density_se, floor)
    values = np.concatenate([a["eigenvalues"], a["smallest"]])
    resolved = np.zeros(len(values), bool)  # what a file of an earlier version records does not tell
    if "smallest_converged" in a:
        resolved = np.concatenate([a["converged"], a["smallest_converged"]])
    for chosen, colour, label in ((resolved, RED, "resolved eigenvalues"), (~resolved, GREY, "not resolved")):
        if chosen.any():
            left.plot(
                values[chosen],
                np.full(chosen.sum(), floor),
                "|",
                color=colour,
                markersize=11,
                markeredgewidth=1.3,
                clip_on=False,
                label=label,
            )
    left.set(yscale="log", ylim=(floor, None), xlabel="eigenvalue", ylabel="density")
    left.legend(frameon=False, loc="upper right")
    right.plot(grid, np.maximum(curves.larger, 0.1), color=BLUE, linewidth=1.3)
    band(right, grid, curves.larger, curves.larger_se, 0.1)
    right.set(yscale="log", ylim=(0.5, 1.6 * size), xlabel="eigenvalue", ylabel="number of larger eigenvalues")
    probes = len(a["density/nodes"])
    known = f"{curves.known} resolved, the rest from\n" if curves.known else ""
    right.set_title(f"{known}{probes} probe{'s; shaded: 2 standard errors' if probes > 1 else ''}", fontsize="small")
    left.set_title(
        f"Hessian of the mean loss, {size:,} parameters\nkernel \u00b1 {curves.width:.2g} around each eigenvalue",
        fontsize="small",
    )
    sns.despine(fig)
    return fig


@dataclass(frozen=True)
class Curves:
    """Over eigenvalues: the density, and how many are larger, with standard errors; known: how many are exact.

    width: half of the width of the kernel by which the density is smoothed, which is zero beyond it.
    """

    grid: np.ndarray
    density: np.ndarray
    density_se: np.ndarray
    larger: np.ndarray
    larger_se: np.ndarray
    known: int
    width: float


NARROWEST, WIDEST = (
    0.004,
    0.03,
)  # half of the kernel's width, as a share of the range: a pixel or two, and three hundredths


def kernel_width(low: float, high: float) -> float:
    """Half of the kernel's width for a spectrum from low to high.

    Most eigenvalues are near zero. So that they stay inside of the range, it is half the distance from zero to the nearer end,
    as far as this can be drawn.
    """
    nearest = min(abs(low), abs(high)) if low < 0 < high else 0.0
    extent = (high - low) or max(abs(high), 1e-12)
    return float(np.clip(nearest / 2, NARROWEST * extent, WIDEST * extent))


def bell(distance: np.ndarray) -> np.ndarray:
    """The triweight kernel 35/32 (1 - t^2)^3, of integral 1 over -1 <= t <= 1, and zero beyond."""
    return 35 / 32 * np.maximum(1 - distance**2, 0) ** 3


def with_known(findings: Findings, size: int) -> Curves:
    """The density of a file together with its resolved eigenvalues, which are counted as they are.

    A resolved eigenvalue comes with the promise that there is none beyond it but for the others. So what the probes say
    of the range beyond the innermost ones gives way to them, and the rest is scaled to the number of eigenvalues that is left.
    """
    a = findings.arrays
    top, bottom, high, low = np.zeros(0), np.zeros(0), np.inf, -np.inf
    if "smallest_converged" in a:
        top, bottom = leading(a["eigenvalues"], a["converged"]), leading(a["smallest"], a["smallest_converged"])
    if len(top) + len(bottom) >= size:
        top = top[: size - len(bottom)]
    if len(top):
        high = top[-1] - 2 * a["residuals"][len(top) - 1] - 1e-6 * abs(top[-1])
    if len(bottom):
        low = bottom[-1] + 2 * a["smallest_residuals"][len(bottom) - 1] + 1e-6 * abs(bottom[-1])
    atoms = np.concatenate([top, bottom])
    nodes, weights = a["density/nodes"], np.array(a["density/weights"])
    weights[(nodes >= high) | (nodes <= low)] = 0
    weights *= (size - len(atoms)) / size / np.maximum(weights.sum(1, keepdims=True), 1e-300)
    ends = np.concatenate([nodes.ravel(), atoms])
    width = kernel_width(ends.min(), ends.max())
    grid = np.union1d(np.linspace(ends.min() - 2 * width, ends.max() + 2 * width, POINTS), atoms)

    def of(places: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance = (grid[:, None] - places) / width
        return bell(distance) @ shares / width, (distance < 0) @ shares

    rest = [of(n, w) for n, w in zip(nodes, weights, strict=True)]
    exact = of(atoms, np.full(len(atoms), 1 / size))
    (density, density_se), (larger, larger_se) = (mean_and_error(np.array([r[k] for r in rest])) for k in (0, 1))
    return Curves(grid, density + exact[0], density_se, size * (larger + exact[1]), size * larger_se, len(atoms), width)


def leading(values: np.ndarray, resolved: np.ndarray) -> np.ndarray:
    """The first ones up to the first that is not resolved."""
    return values[: int(np.argmin(np.append(resolved, False)))]


def mean_and_error(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of probes (probes, points); the error of a single one is not known."""
    if len(curves) == 1:
        return curves[0], np.full(curves.shape[1], np.nan)
    return curves.mean(0), curves.std(0, ddof=1) / np.sqrt(len(curves))


def band(axis: Any, x: np.ndarray, values: np.ndarray, errors: np.ndarray, floor: float) -> None:
    """Two standard errors on either side, where they are known."""
    if np.isfinite(errors).any():
        axis.fill_between(
            x,
            np.maximum(values - 2 * errors, floor),
            np.maximum(values + 2 * errors, floor),
            color=BLUE,
            alpha=0.3,
            linewidth=0,
        )


def draw_layers(plt: Any, findings: Findings) -> Any:
    """The trace of each layer's diagonal block, and its largest eigenvalue where it was computed."""
    a = findings.arrays
    panels = [("trace of the block", a["layers/trace"], a["layers/trace_se"])]
    if "layers/max_eig" in a:
        panels.append(("largest eigenvalue of the block", a["layers/max_eig"], a["layers/max_eig_residual"]))
    return bars(plt, findings.about["layers"], panels)


def draw_activations(plt: Any, findings: Findings) -> Any:
    a, at = findings.arrays, findings.about["parts"]["activations"]["at"]
    names = [f"{name} ({kind})" for name, kind, _ in findings.about["activations"]]
    return bars(plt, names, [(f"trace with respect to the {at}", a["activations/trace"], a["activations/trace_se"])])


def bars(plt: Any, names: Sequence[str], panels: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Any:
    """A bar for each name, from the first layer down to the last; error bars are two standard errors, or residuals."""
    import seaborn as sns

    fig, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.4 if narrow() else 1.2 + 3.6 * len(panels), 0.9 + 0.2 * len(names)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    rows = np.arange(len(names))
    for axis, (title, values, errors) in zip(axes[0], panels, strict=True):
        axis.barh(rows, values, xerr=2 * errors, color=BLUE, alpha=0.75, error_kw={"linewidth": 0.8, "ecolor": "0.2"})
        axis.axvline(0, color="0.3", linewidth=0.7)
        axis.set_xlabel(title.replace(" of the ", "\nof the ") if narrow() else title)
        axis.margins(y=0.01)
    axes[0, 0].set_yticks(rows, labels=names, fontsize="small")
    axes[0, 0].invert_yaxis()
    sns.despine(fig)
    return fig
