"""Layers that carry the loss: a heat map of layer and distance, beside the trace of each layer's Hessian block."""

from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.axis_ticks import set_few_ticks, set_scale_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.contour_plots import draw_cells
from lossatlas.figures.matplotlib_style import FigureFactory, is_single_column, letters
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import cell_edges
from lossatlas.figures.plotted_fields import field_title, mathtext
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.spectrum import matrix_name
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X_LABELS = {
    False: "distance along the layer's part of the direction",
    True: "distance along its part\nof the direction",
}
ROW_HEIGHT = 0.17  # of a layer, in inches


def layer_map_figure(
    plt: FigureFactory, surface: Surface, name: str, scale: ColourScale, findings: Findings | None = None
) -> "Figure":
    """Draw a field over the distance along each layer's part of a direction, from the input at the top to the output.

    Args:
        plt: Maker of figures, see `style`.
        surface: A surface whose rows are layers.
        name: Name of the field.
        scale: Its colour scale.
        findings: A spectrum with the trace of each layer's Hessian block, which is drawn beside the map.

    Returns:
        The figure.
    """
    layers = [mathtext(str(layer)) for layer in surface.request["rows"]]
    with_traces = findings is not None
    width = 3.3 - 0.8 * with_traces if is_single_column() else 6.4
    fig, axes = plt.subplots(
        1,
        1 + with_traces,
        figsize=(width + (0.8 if is_single_column() else 1.8) * with_traces, max(2.2, 1.1 + ROW_HEIGHT * len(layers))),
        sharey=True,
        layout="constrained",
        width_ratios=[3, 1] if with_traces else [1],
        squeeze=False,
    )
    left = axes[0, 0]
    rows = np.arange(len(layers) + 1) - 0.5
    values = np.where(surface.known, surface.fields[name], np.nan)
    mesh = draw_cells(left, cell_edges(surface.grid.x), rows, values, scale)
    left.set(xlabel=X_LABELS[is_single_column()], ylim=(len(layers) - 0.5, -0.5))
    left.set_yticks(range(len(layers)), labels=layers, fontsize=letters(6) if is_single_column() else "x-small")
    left.tick_params(axis="y", length=0)
    set_few_ticks(left.xaxis, most=3 if is_single_column() else 5)
    unfinished = "" if surface.known.all() else f"\nunfinished: {surface.known.sum()} of {surface.known.size} cells"
    title = field_title(name) if is_single_column() else f"{field_title(name)}, one layer moved at a time"
    left.set_title(f"{title}{unfinished}", fontsize="small")
    bar = fig.colorbar(mesh, ax=left, extend=scale.extend, label=scale.bar_title(name), pad=0.02, aspect=25)
    set_scale_ticks(bar.ax.yaxis, scale)
    if findings is not None:
        _draw_traces(axes[0, 1], list(surface.request["rows"]), findings)
    return fig


def _draw_traces(axis: "Axes", layers: list[str], findings: Findings) -> None:
    """Draw bars of the trace of each layer's block of the Hessian, with two standard errors."""
    index = {str(name): k for k, name in enumerate(findings.about["layers"])}
    found = [(row, index[layer]) for row, layer in enumerate(layers) if layer in index]
    rows = [row for row, _ in found]
    traces, errors = (findings.arrays[each][[k for _, k in found]] for each in ("layers/trace", "layers/trace_se"))
    look = current_look()
    axis.barh(
        rows, traces, xerr=2 * errors, height=0.7, color=look.main, error_kw={"linewidth": 0.8, "ecolor": look.ink}
    )
    axis.axvline(0, color=look.muted, linewidth=0.8)
    set_few_ticks(axis.xaxis, most=3)
    axis.tick_params(axis="y", length=0)
    words = (
        "trace\n(\u00b1 2 SE)"
        if is_single_column()
        else f"trace of the layer's {matrix_name(findings.request)}\nblock (\u00b1 2 standard errors)"
    )
    axis.set_title(words, fontsize="small")
    axis.grid(axis="y", visible=False)
