"""What a plane does not show of a training run: the checkpoints' own losses, and how far they are from the plane."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lossatlas.figures.contour_plots import DROP, DROPPED, PATHS, panel, short
from lossatlas.figures.line_plots import plain_log
from lossatlas.figures.style import Scale, narrow, title_of
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface


def beneath(surface: Surface, name: str, path: Projection, scale: Scale) -> np.ndarray:
    """A field at a path's coordinates, between the cells as it is drawn on a scale; NaN off the surface."""
    from scipy.interpolate import RegularGridInterpolator

    x, y, values = panel(surface, name, "").fine(scale)
    known = np.where(np.isfinite(values), values, np.nan)
    drawn = RegularGridInterpolator((y, x), known, bounds_error=False, fill_value=np.nan)
    return np.asarray(drawn(np.column_stack([path.y, path.x])))


def apart(path: Projection, under: np.ndarray) -> np.ndarray:
    """The surface's value under each checkpoint divided by the checkpoint's own loss; NaN where one is not known."""
    if path.loss is None:
        return np.full(len(path.x), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = under / path.loss
    return np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)


def apart_words(path: Projection, under: np.ndarray) -> str:
    """How far a path's own losses and the surface under it differ; empty where that is not known."""
    ratio = apart(path, under)
    known = np.flatnonzero(np.isfinite(ratio))
    if not len(known):
        return ""
    factors = np.exp(np.abs(np.log(ratio[known])))
    worst = known[factors.argmax()]
    where = f"epoch {path.epochs[worst]:g}" if path.epochs is not None else f"checkpoint {worst + 1}"
    return (
        f"the surface under the checkpoints and their own losses differ by a factor of {np.median(factors):.3g} (median), "
        f"{factors.max():.3g} at most ({where})"
        + f"; known of {len(known)} of {len(ratio)}"
        * (len(known) < len(ratio))
    )


def along_figure(plt: Any, runs: Sequence[tuple[Projection, np.ndarray]], name: str, log: bool) -> Any:
    """Against the epoch: the surface under each run, the checkpoints' own losses, and their distances from the plane."""
    with_distance = any(path.distance is not None for path, _ in runs)
    fig, panels = plt.subplots(
        1 + with_distance, 1, figsize=(5.4, 3.0 + 1.9 * with_distance), sharex=True, squeeze=False, layout="constrained"
    )
    top, bottom = panels[0, 0], panels[-1, 0]
    for k, (path, under) in enumerate(runs):
        ink = PATHS[k % len(PATHS)] if len(runs) > 1 else "black"
        epochs = np.arange(len(path.x)) + 1 if path.epochs is None else path.epochs
        run = f"{short(path.run)}: " if len(runs) > 1 else ""
        if path.loss is not None:
            shown = np.where(np.isfinite(path.loss), path.loss, np.nan)
            top.plot(
                epochs, shown, "o-", color=ink, markersize=3, linewidth=1.3, label=f"{run}the checkpoint's own loss"
            )
        top.plot(epochs, under, "--", color=ink, linewidth=1.2, label=f"{run}the surface under it")
        if path.distance is not None:
            bottom.plot(epochs, path.distance, "o-", color=ink, markersize=3, linewidth=1.3)
        for low in path.dropped():
            for axis in panels[:, 0]:
                known = [line.get_label() for line in axis.get_lines()]
                label = None if DROPPED in known else DROPPED
                axis.axvline(epochs[low], color=DROP, linewidth=0.8, linestyle=":", zorder=0, label=label)
    if log:
        top.set_yscale("log")
        plain_log(top)
    top.set_ylabel(title_of(name))
    if narrow() or len(runs) > 1:  # where no curve is
        fig.legend(*top.get_legend_handles_labels(), loc="outside upper center", frameon=False, fontsize="small")
    else:
        top.legend(frameon=False, fontsize="small")
    if len(runs) == 1 and (said := apart_words(*runs[0])):
        top.set_title(said.replace(" differ", "\ndiffer"), fontsize="small")
    if with_distance:
        bottom.set_ylabel("distance from the plane")
        bottom.set_ylim(0, None)
    bottom.set_xlabel("checkpoint" if runs[0][0].epochs is None else "epoch")
    return fig
