"""Which layers carry the loss: a heat map of layer and distance, with what the curvature of each layer is beside it."""

from typing import Any

import numpy as np

from lossatlas.figures.contour_plots import MAP, edges, plain_ticks
from lossatlas.figures.style import Scale, narrow, plain, scaled_title, title_of, words
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.surface import Surface

ROW = 0.17  # inches


def draw_by_layer(plt: Any, surface: Surface, name: str, scale: Scale, findings: Findings | None) -> Any:
    """Layers from the input at the top to the output. findings: a spectrum with the trace of each layer's block."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    layers = [words(str(layer)) for layer in surface.request["rows"]]
    wide, beside = 5.2 if narrow() else 6.4, findings is not None
    fig, axes = plt.subplots(
        1,
        1 + beside,
        figsize=(wide + 1.8 * beside, max(2.2, 1.1 + ROW * len(layers))),
        sharey=True,
        layout="constrained",
        width_ratios=[3, 1] if beside else [1],
        squeeze=False,
    )
    left = axes[0, 0]
    rows = np.arange(len(layers) + 1) - 0.5
    values = np.ma.masked_invalid(scale.height(np.where(surface.known, surface.fields[name], np.nan)))
    mesh = left.pcolormesh(
        edges(surface.grid.x), rows, values, cmap=MAP, vmin=scale.limits[0], vmax=scale.limits[1], rasterized=True
    )
    left.set(xlabel="distance along the layer's part of the direction", ylim=(len(layers) - 0.5, -0.5))
    left.set_yticks(range(len(layers)), labels=layers, fontsize="x-small")
    left.tick_params(axis="y", length=0)
    left.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    left.xaxis.set_major_formatter(FuncFormatter(plain))
    unfinished = "" if surface.known.all() else f"\nunfinished: {surface.known.sum()} of {surface.known.size} cells"
    what = title_of(name) if narrow() else f"{title_of(name)}, one layer moved at a time"
    left.set_title(f"{what}{unfinished}", fontsize="small")
    bar = fig.colorbar(
        mesh, ax=list(axes[0]), extend=scale.extend, label=scaled_title(name, scale), pad=0.02, aspect=25
    )
    plain_ticks(bar.ax.yaxis, scale)
    if findings is not None:
        draw_traces(axes[0, 1], list(surface.request["rows"]), findings)
    return fig


def draw_traces(axis: Any, layers: list[str], findings: Findings) -> None:
    """Bars of the trace of each layer's block of the Hessian, with their standard errors."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    own = {str(name): k for k, name in enumerate(findings.about["layers"])}
    there = [(row, own[layer]) for row, layer in enumerate(layers) if layer in own]
    rows = [row for row, _ in there]
    traces, errors = (findings.arrays[each][[k for _, k in there]] for each in ("layers/trace", "layers/trace_se"))
    axis.barh(rows, traces, xerr=errors, height=0.7, color="#1f5fa8", error_kw={"linewidth": 0.8, "ecolor": "0.3"})
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(plain))
    axis.tick_params(axis="y", length=0)
    axis.set_title("trace" if narrow() else "trace of the layer's\nHessian block", fontsize="small")
    axis.tick_params(axis="x", labelsize="x-small")
    axis.grid(axis="y", visible=False)
