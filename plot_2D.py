"""Draw a surface as contours, filled contours, a heat map and in 3-D, from saved surface files alone.

python plot_2D.py --surf_file FILE.h5                                  four figures beside the file
python plot_2D.py --surf_file A.h5 B.h5 --labels shortcuts none        the same, side by side on one scale
python plot_2D.py --surf_file FILE.h5 --vmin 0.1 --vmax 10 --vlevel 0.5
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import options
from lossatlas import figures
from lossatlas.errors import BadInput, BadUsage, exit_code, say
from lossatlas.figures import Scale
from lossatlas.landscape import Surface
from lossatlas.record import read_projection, read_surface
from lossatlas.record.trajectories import projection_plane

MAP = "viridis"
NOT_DONE, NOT_FINITE = "0.85", "#c0392b"


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    p.add_argument("--surf_file", "-f", nargs="+", help="surface files; several share one scale")
    p.add_argument("--labels", nargs="+", help="a name for each file")
    p.add_argument("--out", help="beginning of the figures' names (default: the first file's name)")
    p.add_argument("--surf_name", help="field to draw (default: train_loss)")
    p.add_argument("--dir_file", help="direction file of a trajectory, for the variance that its axes explain")
    p.add_argument("--proj_file", help="trajectory to draw on the contours (proj_xcoord, proj_ycoord)")
    options.add_contours(p)
    p.add_argument("--zlim", type=options.finite, help="top of the 3-D figure")
    options.add_looks(p)
    return p


@dataclass(frozen=True)
class Panel:
    """One surface to draw: the part of the grid that is complete for contours, all of it for the heat map."""

    label: str
    x: np.ndarray  # (nx,)
    y: np.ndarray  # (ny,)
    values: np.ndarray  # (ny, nx); NaN where not done, or where the value is not a number
    done: np.ndarray  # (ny, nx)
    rows: np.ndarray
    columns: np.ndarray

    @property
    def part(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and values of the finest complete sub-grid."""
        return self.x[self.columns], self.y[self.rows], self.values[np.ix_(self.rows, self.columns)]

    @property
    def note(self) -> str:
        return "" if self.done.all() else f"unfinished: {self.done.sum()} of {self.done.size} cells"


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    surf_name: str | None = None,
    dir_file: str | None = None,
    proj_file: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    zlim: float | None = None,
    log: bool = False,
    show: bool = False,
) -> list[Path]:
    """Draw the four figures of one field; returns the paths. Raises BadInput, BadUsage, CannotWrite."""
    paths = [Path(file) for file in files]
    if labels and len(labels) != len(paths):
        raise BadUsage(f"--labels gives {len(labels)} names for {len(paths)} files")
    surfaces = [read_square(path) for path in paths]
    names = [figures.pick(surfaces[0], surf_name, paths[0])]
    eigenvalues = surf_name is None and all(figures.has_eigenvalues(surface) for surface in surfaces)
    if eigenvalues and names[0] == "max_eig":
        names.append("min_eig")
    for surface, path in zip(surfaces[1:], paths[1:], strict=True):
        for name in names:
            figures.pick(surface, name, path)
    own_labels = labels or [p.name for p in paths]
    trajectory = read_projection(proj_file, dir_file) if proj_file else None
    if proj_file:
        check_plane(proj_file, surfaces, paths)
    drawn: list[Path] = []
    with figures.style(show) as plt:
        for name in names:
            panels = [panel(s, name, label) for s, label in zip(surfaces, own_labels, strict=True)]
            shared = figures.scale([p.values for p in panels], vmin=vmin, vmax=vmax, vlevel=vlevel, log=log)
            base = f"{out or paths[0]}{'_compare' if len(paths) > 1 and not out else ''}_{name}"
            kinds: dict[str, Callable[..., Any]] = {"2dcontour": contour, "2dcontourf": filled, "2dheat": heat}
            for kind, one in kinds.items():
                drawn += figures.save(flat_figure(plt, panels, shared, name, one, trajectory), f"{base}_{kind}")
            drawn += figures.save(solid_figure(plt, panels, shared, name, zlim), f"{base}_3dsurface")
        if eigenvalues:
            drawn += draw_ratio(plt, surfaces, own_labels, out or str(paths[0]))
    return drawn


def check_plane(proj_file: str, surfaces: Sequence[Surface], paths: Sequence[Path]) -> None:
    """Raise BadInput where a trajectory's coordinates are not those of a surface; say where that is not known."""
    plane = projection_plane(proj_file)
    for surface, path in zip(surfaces, paths, strict=True):
        for name, what in (("directions", "directions"), ("checkpoint", "checkpoint at the origin")):
            unknown = surface.foreign is not None and surface.foreign.any()  # cells of another program
            ours, theirs = plane.get(name), None if unknown else surface.request.get(name)
            if ours is None or theirs is None:
                say(f"note: {proj_file if ours is None else path} does not say which {what} it belongs to; the path may be "
                    "misplaced")  # fmt: skip
            elif ours != theirs:
                raise BadInput(
                    f"the trajectory in {proj_file} has another {what} ({ours[:12]}) than {path} ({theirs[:12]})"
                )


def draw_ratio(plt: Any, surfaces: Sequence[Surface], labels: Sequence[str], base: str) -> list[Path]:
    """Heat map of |smallest / largest| eigenvalue of the Hessian from 0 to 1; cells without a positive largest are
    marked."""
    panels = [replace(panel(surface, "min_eig", label), values=figures.eigen_ratio(surface))
              for surface, label in zip(surfaces, labels, strict=True)]  # fmt: skip
    shared = figures.Scale(0.0, 1.0, np.linspace(0, 1, 11), log=False, cut=any((p.values > 1).any() for p in panels))
    fig = flat_figure(plt, panels, shared, r"$|\lambda_{\min} / \lambda_{\max}|$", heat, None)
    return figures.save(fig, f"{base}_min_eig_max_eig_abs_ratio_heat_sns")


def read_square(path: Path) -> Surface:
    surface = read_surface(path)
    if surface.grid.y is None:
        raise BadInput(f"{path} holds a curve, not a surface: draw it with plot_1D.py")
    if min(surface.grid.shape) < 2:
        raise BadInput(f"{path} has the grid {surface.grid}: contours need at least 2 points on each axis")
    if not surface.done.any():
        raise BadInput(f"{path} has no finished cell yet")
    return surface


def panel(surface: Surface, name: str, label: str) -> Panel:
    assert surface.grid.y is not None
    rows, columns = surface.complete_part()
    return Panel(label, surface.grid.x, surface.grid.y, surface.fields[name], surface.done, rows, columns)


def flat_figure(
    plt: Any, panels: Sequence[Panel], scale: Scale, name: str, one: Callable[..., Any], trajectory: Any
) -> Any:
    """Panels side by side with one scale, and a colour bar where colours carry the value."""
    fig, axes = plt.subplots(
        1, len(panels), figsize=(3.9 * len(panels) + 0.7, 3.9), squeeze=False, sharey=True, layout="compressed"
    )
    axes[0, 0].set_ylabel("y")
    for axis, p in zip(axes[0], panels, strict=True):
        mappable = one(axis, p, scale)
        mark_cells(axis, p)
        axis.set(xlabel="x", aspect="equal", xlim=(p.x[0], p.x[-1]), ylim=(p.y[0], p.y[-1]))
        axis.set_box_aspect(1 if np.ptp(p.y) / np.ptp(p.x) > 4 or np.ptp(p.x) / np.ptp(p.y) > 4 else None)
        title = p.label if len(panels) > 1 else figures.title_of(name)
        axis.set_title(f"{title}\n{p.note}" if p.note else title)
        if trajectory is not None:
            draw_trajectory(axis, trajectory)
    bar = fig.colorbar(mappable, ax=axes[0].tolist(), extend=scale.extend, label=figures.title_of(name), pad=0.02)
    plain_ticks(bar.ax.yaxis, scale)
    return fig


def contour(axis: Any, p: Panel, scale: Scale) -> Any:
    from matplotlib import cm
    from matplotlib.colors import Normalize

    x, y, z = p.part
    lines = axis.contour(x, y, scale.height(z), levels=scale.height(scale.levels), cmap=MAP, vmin=scale.limits[0],
                         vmax=scale.limits[1], linewidths=1.1)  # fmt: skip
    axis.clabel(lines, lines.levels[::2], fontsize=7, fmt=scale.text, inline_spacing=2)
    return cm.ScalarMappable(Normalize(*scale.limits), MAP)


def filled(axis: Any, p: Panel, scale: Scale) -> Any:
    x, y, z = p.part
    bounds = np.union1d(scale.height(scale.levels), scale.limits)
    mesh = axis.contourf(x, y, scale.height(z), levels=bounds, cmap=MAP, extend=scale.extend,
                         vmin=scale.limits[0], vmax=scale.limits[1])  # fmt: skip
    axis.contour(x, y, scale.height(z), levels=scale.height(scale.levels), colors="white", linewidths=0.4, alpha=0.6)
    return mesh


def heat(axis: Any, p: Panel, scale: Scale) -> Any:
    return axis.pcolormesh(edges(p.x), edges(p.y), np.ma.masked_invalid(scale.height(p.values)), cmap=MAP,
                           vmin=scale.limits[0], vmax=scale.limits[1], rasterized=True)  # fmt: skip


def edges(centres: np.ndarray) -> np.ndarray:
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def mark_cells(axis: Any, p: Panel) -> None:
    """Grey cells where nothing is computed, red crosses where the value is not finite; never mistaken for a colour."""
    from matplotlib.colors import ListedColormap

    if not p.done.all():
        grey = np.ma.masked_where(p.done, np.ones(p.done.shape))
        axis.pcolormesh(edges(p.x), edges(p.y), grey, cmap=ListedColormap([NOT_DONE]), zorder=0.5)
    bad = p.done & ~np.isfinite(p.values)
    if bad.any():
        x, y = np.meshgrid(p.x, p.y)
        axis.plot(x[bad], y[bad], "x", color=NOT_FINITE, markersize=4, clip_on=False, label="not finite", zorder=5)
        axis.legend(loc="upper right", fontsize="small", framealpha=0.9)


def plain_ticks(axis: Any, scale: Scale) -> None:
    """Tick labels as plain numbers at the contour levels."""
    levels = scale.levels if len(scale.levels) < 12 else scale.levels[:: 1 + len(scale.levels) // 12]
    axis.set_ticks(scale.height(levels), labels=[figures.number(level) for level in levels], minor=False)
    axis.set_ticks([], minor=True)


def draw_trajectory(axis: Any, trajectory: tuple[np.ndarray, np.ndarray, Sequence[float]]) -> None:
    x, y, explained = trajectory
    axis.plot(x, y, ".-", color="black", linewidth=1, markersize=4)
    axis.plot(x[-1:], y[-1:], "*", color="black", markersize=9)
    if len(explained) >= 2:
        axis.set_xlabel(f"1st principal component: {100 * explained[0]:.2f} %")
        axis.set_ylabel(f"2nd principal component: {100 * explained[1]:.2f} %")


def draw_path(proj_file: str | Path, dir_file: str | Path | None = None, show: bool = False) -> list[Path]:
    """Draw a projected trajectory by itself, as <proj_file>.pdf and .png."""
    trajectory = read_projection(proj_file, dir_file)
    with figures.style(show) as plt:
        fig, axis = plt.subplots(figsize=(4.2, 3.8), layout="constrained")
        axis.set(xlabel="x", ylabel="y")
        axis.grid(alpha=0.25)
        draw_trajectory(axis, trajectory)
        axis.margins(0.08)
        return figures.save(fig, str(proj_file))


def solid_figure(plt: Any, panels: Sequence[Panel], scale: Scale, name: str, zlim: float | None) -> Any:
    """3-D surfaces side by side, with the same heights and colours."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    floor, ceiling = scale.limits
    if zlim is not None:
        if zlim <= scale.low:
            raise BadUsage(f"--zlim {zlim:g} is not above the lowest value, {scale.low:g}")
        ceiling = float(np.log10(zlim) if scale.log else zlim)

    fig = plt.figure(figsize=(5.2 * len(panels), 4.6))
    for k, p in enumerate(panels):
        axis = fig.add_subplot(1, len(panels), k + 1, projection="3d", computed_zorder=False)
        x, y, z = p.part
        axis.plot_surface(*np.meshgrid(x, y), np.minimum(scale.height(z), ceiling), cmap=MAP, vmin=floor,
                          vmax=scale.limits[1], rstride=1, cstride=1, linewidth=0.15, edgecolor=(1, 1, 1, 0.25),
                          antialiased=True)  # fmt: skip
        axis.set_zlim(floor, ceiling)
        axis.zaxis.set_major_locator(MaxNLocator(5, integer=scale.log and ceiling - floor > 2))
        axis.zaxis.set_major_formatter(FuncFormatter(lambda height, _: scale.text(height)))
        for flat in (axis.xaxis, axis.yaxis):
            flat.set_major_locator(MaxNLocator(5))
        axis.tick_params(labelsize="small", pad=1)
        axis.set(xlabel="x", ylabel="y", title=p.label if len(panels) > 1 else None)
        axis.set_zlabel(figures.title_of(name), labelpad=6)
        axis.view_init(elev=32, azim=-60)
        axis.set_box_aspect((1, 1, 0.75), zoom=0.88)
        for pane in (axis.xaxis, axis.yaxis, axis.zaxis):
            pane.set_pane_color((1, 1, 1, 0))
            pane._axinfo["grid"].update(color=(0, 0, 0, 0.12), linewidth=0.5)
        if p.note:
            axis.text2D(0.02, 0.02, p.note, transform=axis.transAxes, fontsize="small")
    fig.subplots_adjust(left=0, right=0.96, bottom=0.02, top=0.96, wspace=0.08)
    return fig


def run(args: argparse.Namespace) -> None:
    if not args.surf_file:
        if not args.proj_file:
            raise BadUsage("name a --surf_file to draw, or a --proj_file")
        draw_path(args.proj_file, args.dir_file, show=args.show)
        return
    draw(args.surf_file, labels=args.labels, out=args.out, surf_name=args.surf_name, dir_file=args.dir_file,
         proj_file=args.proj_file, vmin=args.vmin, vmax=args.vmax, vlevel=args.vlevel, zlim=args.zlim, log=args.log,
         show=args.show)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
