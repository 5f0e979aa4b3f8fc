"""Draw loss and accuracy along a line, from saved surface files alone.

python plot_1D.py --surf_file FILE.h5                      loss and accuracy of one file
python plot_1D.py --surf_file A.h5 B.h5 --labels A B       several files in one figure
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import figures
from errors import BadInput, BadUsage, exit_code
from h5_util import read_surface
from surface import Surface

BLUE, RED = "#1f5fa8", "#c0392b"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--surf_file", "-f", nargs="+", required=True, help="surface files of lines")
    p.add_argument("--labels", nargs="+", help="a name for each file (default: the file names)")
    p.add_argument("--out", help="beginning of the figures' names (default: the first file's name)")
    p.add_argument("--log", action="store_true", help="logarithmic loss axis")
    p.add_argument("--xmin", type=float, help="left end of the axis")
    p.add_argument("--xmax", type=float, help="right end of the axis")
    p.add_argument("--loss_max", type=float, help="top of the loss axis")
    p.add_argument("--show", action="store_true", help="open a window too")
    return p


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    log: bool = False,
    xmin: float | None = None,
    xmax: float | None = None,
    loss_max: float | None = None,
    show: bool = False,
) -> list[Path]:
    """Draw one file with loss and accuracy on two axes, or several files with a panel for each."""
    paths = [Path(file) for file in files]
    curves = [read_curve(path) for path in paths]
    names = list(labels or [path.name for path in paths])
    if len(names) != len(paths):
        raise BadUsage(f"--labels gives {len(names)} names for {len(paths)} files")
    base = (out or str(paths[0])) + ("_1d_loss_acc" if len(paths) == 1 else "_1d_compare")
    losses = np.concatenate([v for s in curves for k, v in s.fields.items() if k.endswith("_loss")])
    log = log or steep(losses)
    with figures.style(show) as plt:
        fig = draw_one(plt, curves[0], log) if len(curves) == 1 else draw_several(plt, curves, names, log)
        axis = fig.axes[0]
        axis.set_xlim(xmin, xmax)
        if loss_max is not None:
            axis.set_ylim(None if log else 0, loss_max)
        return figures.save(fig, base + ("_log" if log else ""))


def read_curve(path: Path) -> Surface:
    surface = read_surface(path)
    if surface.grid.y is not None:
        raise BadInput(f"{path} holds a surface, not a curve: draw it with plot_2D.py")
    if not surface.done.any():
        raise BadInput(f"{path} has no finished cell yet")
    return surface


def steep(losses: np.ndarray) -> bool:
    """Whether a linear axis would flatten everything but a few points that diverge."""
    known = losses[np.isfinite(losses)]
    return bool(known.size and known.min() > 0 and known.max() > 100 * np.median(known))


def draw_one(plt: Any, surface: Surface, log: bool) -> Any:
    fig, left = plt.subplots(figsize=(5.2, 3.6))
    right = left.twinx()
    styles = {"train": "-", "test": "--"}
    for split, line in styles.items():
        for axis, name, colour in ((left, "loss", BLUE), (right, "acc", RED)):
            if f"{split}_{name}" in surface.fields:
                curve(axis, surface, f"{split}_{name}", color=colour, linestyle=line,
                      label=f"{figures.title_of(f'{split}_{name}').replace(' (%)', '')}")  # fmt: skip
    left.set_xlabel("coordinate along the direction")
    left.set_ylabel("loss", color=BLUE)
    right.set_ylabel("accuracy (%)", color=RED)
    left.tick_params(axis="y", colors=BLUE, which="both")
    right.tick_params(axis="y", colors=RED)
    right.set_ylim(-2, 102)
    left.set_yscale("log" if log else "linear")
    handles = [h for axis in (left, right) for h in axis.get_legend_handles_labels()[0]]
    left.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    note_unfinished(left, surface)
    return fig


def draw_several(plt: Any, curves: Sequence[Surface], names: Sequence[str], log: bool) -> Any:
    import seaborn as sns

    fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 5.4), sharex=True, layout="constrained")
    for surface, name, colour in zip(curves, names, sns.color_palette("colorblind"), strict=False):
        for split, line in (("train", "-"), ("test", "--")):
            for axis, field in ((top, "loss"), (bottom, "acc")):
                if f"{split}_{field}" in surface.fields:
                    curve(axis, surface, f"{split}_{field}", color=colour, linestyle=line, label=f"{name}, {split}")
    top.set_ylabel("loss")
    top.set_yscale("log" if log else "linear")
    bottom.set_ylabel("accuracy (%)")
    bottom.set_ylim(-2, 102)
    bottom.set_xlabel("coordinate along the direction")
    top.legend(frameon=False)
    sns.despine(fig)
    return fig


def curve(axis: Any, surface: Surface, name: str, **style: Any) -> None:
    """A field over the finished cells; cells that are not finite leave a gap."""
    done = surface.done
    x, values = surface.grid.x[done], surface.fields[name][done]
    axis.plot(x, values, marker="o" if done.sum() < 40 else None, markersize=2.5, linewidth=1.4, **style)
    error = surface.fields.get(f"{name}_se")
    if error is not None and np.nanmax(error) > 0:
        axis.fill_between(x, values - 2 * error[done], values + 2 * error[done], color=style["color"], alpha=0.15)


def note_unfinished(axis: Any, surface: Surface) -> None:
    notes = []
    if not surface.done.all():
        notes.append(f"unfinished: {surface.done.sum()} of {surface.done.size} cells")
    odd = sum(int((~np.isfinite(v[surface.done])).sum()) for k, v in surface.fields.items() if k.endswith("_loss"))
    if odd:
        notes.append(f"{odd} cells not finite")
    if notes:
        axis.text(0.01, 0.01, "; ".join(notes), transform=axis.transAxes, fontsize="small", color="0.35")


def run(args: argparse.Namespace) -> None:
    draw(args.surf_file, labels=args.labels, out=args.out, log=args.log, xmin=args.xmin, xmax=args.xmax,
         loss_max=args.loss_max, show=args.show)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
