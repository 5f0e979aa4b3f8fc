"""Surfaces in three dimensions, with light and contour lines; several of them side by side or one over the other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures.contour_plots import MAP, NOT_FINITE, PATHS, Panel, alike, axis_names, short
from lossatlas.figures.style import Scale, is_power_of_ten, narrow, plain, scaled_title
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.interpolant import Interpolant

SUN = np.array([-0.45, -0.25, 0.857])  # where light comes from; the page has the same
TALL = 0.62  # of the box, against its width
BELOW = 0.4  # of the surface's height: how far below it the floor lies
OVERLAID = ("Blues_r", "Oranges_r", "Greens_r", "Purples_r")
LINE = (0.05, 0.07, 0.1, 0.55)  # colour of a contour line
NEARER = 0.012  # how far contour lines lie before their surface, as a share of the box


@dataclass(frozen=True)
class Camera:
    """Degrees."""

    elevation: float = 32
    azimuth: float = -60

    def towards(self, p: Panel, ends: tuple[float, float]) -> np.ndarray:
        """The way from a surface to the camera, as long as the box, in the units of its axes. ends: of the height."""
        elevation, azimuth = np.radians([self.elevation, self.azimuth])
        way = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation) / TALL]
        return np.array(way) * [np.ptp(p.x), np.ptp(p.y), ends[1] - ends[0]]


def solid_figure(
    plt: Any,
    panels: Sequence[Panel],
    scale: Scale,
    name: str,
    zlim: float | None,
    camera: Camera | None = None,
    overlay: bool = False,
    paths: Sequence[Projection] = (),
) -> Any:
    """3-D surfaces side by side, or one over the other, with the same heights and colours."""
    check_overlay(panels, overlay)
    count = 1 if overlay else len(panels)
    rows, columns = (count, 1) if narrow() else (1, count)
    fig = plt.figure(figsize=(5.2 * columns, 4.4 * rows))
    for k, group in enumerate([panels] if overlay else [[p] for p in panels]):
        axis = fig.add_subplot(rows, columns, k + 1, projection="3d", computed_zorder=False)
        draw_solid(axis, group, scale, name, zlim, camera, paths)
        axis.patch.set_visible(False)  # it would cover what the one beside it has written
        if not overlay and len(panels) > 1:
            axis.set_title(group[0].label, y=0.96)
            if k + 1 < columns:
                axis.set_zlabel("")
    fig.subplots_adjust(left=0, right=0.97, bottom=0.0, top=1.0, wspace=0.04)
    return fig


def check_overlay(panels: Sequence[Panel], overlay: bool) -> None:
    """Raise BadUsage where surfaces cannot lie one over the other."""
    if overlay and not alike(panels):
        raise BadUsage("--layout overlay needs surfaces over the same part of a plane: leave it out")


def draw_solid(
    axis: Any,
    panels: Sequence[Panel],
    scale: Scale,
    name: str,
    zlim: float | None,
    camera: Camera | None = None,
    paths: Sequence[Projection] = (),
    notes: bool = True,
) -> None:
    """Surfaces on an axis with three dimensions, cut off at `zlim`; paths lie on the first. Raises BadUsage where nothing
    is left."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    bottom, ceiling = scale.limits
    if zlim is not None:
        if zlim <= scale.low:
            raise BadUsage(f"--zlim {zlim:g} is not above the lowest value, {scale.low:g}")
        ceiling = float(np.log10(zlim + scale.shift) if scale.log else zlim)
    tall = (
        scale if zlim is None else replace(scale, high=max(scale.high, zlim))
    )  # heights beyond the scale of the colours
    floor = bottom - BELOW * (ceiling - bottom)
    camera = camera or Camera()
    several = len(panels) > 1
    maps = [OVERLAID[k % len(OVERLAID)] if several else MAP for k in range(len(panels))]
    faces, colours = [], []
    for p, each in zip(panels, maps, strict=True):
        on_the_floor(axis, p, scale, each, floor, ceiling)
        corners, inks = lit(p, tall, colormaps[each], bottom, ceiling, zlim is None, scale.limits[1])
        lines = contour_lines(p, tall, (floor, ceiling), camera)
        faces += [corners, lines]
        colours += [inks, np.tile(LINE, (len(lines), 1))]
    surface = Poly3DCollection(
        np.concatenate(faces),
        facecolors=np.concatenate(colours),
        edgecolors=np.concatenate(colours),  # of no other colour: gaps between faces would show
        linewidths=0.45,  # one for all: matplotlib sorts faces by depth, but not their widths
        zorder=2,
    )
    surface.set_rasterized(True)  # tens of thousands of faces would make a vector file of megabytes
    axis.add_collection3d(surface)
    handles: list[Any] = []
    if several:
        handles += [Patch(color=colormaps[each](0.35), label=p.label) for p, each in zip(panels, maps, strict=True)]
    for p in panels:
        handles += mark_in_space(axis, p, floor, ceiling, f"{p.label}: not finite" if several else "not finite")
    arrange(axis, panels[0], scale, name, (floor, ceiling), camera)
    for letter, words in zip("xy", axis_names(paths[0]), strict=True) if paths else ():
        shown = re.sub(r" \(.*", "", words)  # the shares of variance stand in the figures from above
        axis.set(**{f"{letter}label": f"{shown} principal component" if shown == "2nd" else shown})
    for k, path in enumerate(paths):
        ink = PATHS[k % len(PATHS)] if len(paths) > 1 else "black"
        handles += draw_path(axis, panels, tall, (floor, ceiling), camera, path, ink)
    if handles:
        axis.legend(handles=handles, loc="upper right", fontsize="small", framealpha=0.9)
    said = [f"{p.label}: {p.note}" if several else p.note for p in panels if p.note and notes]
    axis.text2D(0.02, 0.98, "\n".join(said), va="top", transform=axis.transAxes, fontsize="small")


def lit(
    p: Panel,
    scale: Scale,
    colours: Any,
    bottom: float,
    ceiling: float,
    plateau: bool = False,
    brightest: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The faces (n, 5, 3) of a surface below the ceiling, and their colours (n, 4) under light.

    A face that goes through the ceiling is cut there, or with a plateau bent there; corners that it does not need are the same
    one again.
    """
    x, y, z = p.fine(scale)
    with np.errstate(invalid="ignore"):
        h = np.where(np.isfinite(z), scale.height(z), np.nan)
        h = np.minimum(h, ceiling) if plateau else h
    sides = np.ptp(p.x), np.ptp(p.y), (ceiling - bottom) * (1 + BELOW) / TALL
    slope_y, slope_x = (g * side / sides[2] for g, side in zip(np.gradient(h, y, x), (sides[1], sides[0]), strict=True))
    normal = np.stack([-slope_x, -slope_y, np.ones(h.shape)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = 0.6 + 0.45 * np.clip(normal @ SUN, 0, None) - 0.12 * (1 - normal[..., 2])
    grid = np.stack([*np.meshgrid(x, y), h], -1)
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2)
    heights = corners[..., 2]
    with np.errstate(invalid="ignore"):
        low, high = heights.min(-1), heights.max(-1)
        share = np.clip(
            (heights.mean(-1) - bottom) / ((scale.limits[1] if brightest is None else brightest) - bottom), 0, 1
        )
        whole = high <= ceiling + 1e-9 * (ceiling - bottom)  # not where a corner is missing
        through = np.isfinite(high) & (low < ceiling) & ~whole
    inks = colours(np.nan_to_num(share))
    middle = np.nan_to_num((light[:-1, :-1] + light[1:, 1:] + light[:-1, 1:] + light[1:, :-1]) / 4, nan=0.7)
    inks[..., :3] = np.clip(inks[..., :3] * middle[..., None], 0, 1)
    cuts = np.array([cut_off(face, ceiling) for face in corners[through]]).reshape(-1, 5, 3)
    faces = corners[whole]
    return (
        np.concatenate([np.concatenate([faces, faces[:, -1:]], 1), cuts]),
        np.concatenate([inks[whole], inks[through]]),
    )


def cut_off(face: np.ndarray, ceiling: float) -> np.ndarray:
    """What of a face (4, 3) lies below the ceiling, with five corners."""
    kept: list[np.ndarray] = []
    for a, b in zip(np.roll(face, 1, 0), face, strict=True):
        if (a[2] <= ceiling) != (b[2] <= ceiling):
            kept.append(a + (ceiling - a[2]) / (b[2] - a[2]) * (b - a))
        if b[2] <= ceiling:
            kept.append(b)
    kept = kept[:5]  # of a face that goes up and down twice, a corner is left out
    return np.stack(kept + [kept[-1]] * (5 - len(kept)))


def contour_lines(p: Panel, scale: Scale, ends: tuple[float, float], camera: Camera) -> np.ndarray:
    """Segments (n, 5, 3) of the contour lines on a surface, a little towards the camera, as faces without a width."""
    from contourpy import contour_generator

    x, y, z = p.fine(scale)
    lines = contour_generator(x=x, y=y, z=np.ma.masked_invalid(scale.height(z)))
    lift = NEARER * camera.towards(p, ends)
    found = [np.zeros((0, 5, 3))]
    for level in scale.height(scale.levels):
        for run in lines.lines(level) if level < ends[1] else ():
            points = np.column_stack([np.asarray(run), np.full(len(run), level)]) + lift
            found.append(np.stack([points[:-1], *[points[1:]] * 3, points[:-1]], 1))
    return np.concatenate(found)


def ground_of(p: Panel, scale: Scale) -> Interpolant:
    """The drawn heights of a surface at any point."""
    x, y, z = p.fine(scale)
    with np.errstate(invalid="ignore"):
        return Interpolant.of(x, y, scale.height(z))


def draw_path(
    axis: Any,
    panels: Sequence[Panel],
    scale: Scale,
    ends: tuple[float, float],
    camera: Camera,
    path: Projection,
    ink: str,
) -> list[Any]:
    """A trajectory on the first surface, faint where one hides it; nothing of it is drawn off the surface.

    Hidden is what a ray to the camera says that is parallel to the view.
    """
    p = panels[0]
    x, y = path.x, path.y
    knots = np.arange(len(x))
    between = np.linspace(0, len(x) - 1, 24 * (len(x) - 1) + 1)
    line = np.column_stack([np.interp(between, knots, x), np.interp(between, knots, y)])
    grounds = [ground_of(each, scale) for each in panels]
    ground = grounds[0]

    def raised(places: np.ndarray) -> np.ndarray:
        heights = ground.at(places[:, 0], places[:, 1])[0]
        return np.column_stack([places, np.minimum(heights, ends[1])])

    way = camera.towards(p, ends)
    points = raised(line)
    hidden = np.zeros(len(points), bool)
    for step in np.linspace(0.02, 1.5, 75):  # is the surface above the ray to the camera?
        ray = points + step * way
        for other in grounds:
            above = other.at(ray[:, 0], ray[:, 1])[0]
            with np.errstate(invalid="ignore"):
                over = (above > ray[:, 2]) & (above <= ends[1])
            hidden |= over
    points = points + NEARER * way
    axis.plot(*np.where(hidden[:, None], points, np.nan).T, color=ink, linewidth=0.9, alpha=0.25, zorder=4)
    axis.plot(*np.where(hidden[:, None], np.nan, points).T, color=ink, linewidth=1.3, zorder=4)
    handles = []
    for where, shape, size, fill, label in ((0, "o", 4.5, "white", "first"), (-1, "*", 8, ink, "last")):
        mark = points[[0, -1][where]][:, None]
        look = {"marker": shape, "markersize": size, "markerfacecolor": fill, "color": ink, "linestyle": "none"}
        handles += axis.plot(
            *mark, label=short(path.run) if ink != "black" else f"{label} checkpoint", zorder=5, **look
        )
    return handles[1:] if ink != "black" else handles


def on_the_floor(axis: Any, p: Panel, scale: Scale, colours: str, floor: float, ceiling: float) -> None:
    x, y, z = p.fine(scale)
    levels = scale.height(scale.levels)
    levels = levels[levels <= ceiling]
    if len(levels) == 0:
        return
    axis.contour(
        *np.meshgrid(x, y),
        scale.height(z),
        levels=levels,
        zdir="z",
        offset=floor,
        cmap=colours,
        vmin=scale.limits[0],
        vmax=scale.limits[1],
        linewidths=0.8,
        linestyles="solid",
        zorder=1,
    )


def arrange(axis: Any, p: Panel, scale: Scale, name: str, ends: tuple[float, float], camera: Camera) -> None:
    """Axes, ticks and the camera."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_xlim(p.x[0], p.x[-1])
    axis.set_ylim(p.y[0], p.y[-1])
    axis.set_zlim(*ends)
    axis_ticks = [level for level in scale.levels if scale.height(level) <= ends[1] + 1e-9]
    kept: list[float] = []
    for level in sorted(axis_ticks, key=lambda v: not is_power_of_ten(v)):  # rounder ones first
        if all(abs(scale.height(level) - scale.height(other)) >= (ends[1] - ends[0]) / 8 for other in kept):
            kept.append(level)
    axis.set_zticks(
        [float(scale.height(level)) for level in kept],
        labels=[scale.text(float(scale.height(level))) for level in kept],
    )
    for flat in (axis.xaxis, axis.yaxis):
        flat.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        flat.set_major_formatter(FuncFormatter(plain))
    axis.tick_params(labelsize="small", pad=1)
    axis.set(xlabel="x", ylabel="y")
    axis.set_zlabel(scaled_title(name, scale), labelpad=4)
    if camera.elevation > 70:  # where the vertical axis is a point
        axis.set_zticks([])
        axis.set_zlabel("")
    axis.view_init(elev=camera.elevation, azim=camera.azimuth)
    axis.set_box_aspect((1, 1, TALL), zoom=1.02)
    for pane in (axis.xaxis, axis.yaxis, axis.zaxis):
        pane.set_pane_color((1, 1, 1, 0))
        pane._axinfo["grid"].update(color=(0, 0, 0, 0.0), linewidth=0.5)


def mark_in_space(axis: Any, p: Panel, floor: float, ceiling: float, label: str) -> list[Any]:
    """Red crosses where a value is not finite: at the top where it is plus infinity, otherwise at the bottom."""
    bad = p.done & ~np.isfinite(p.values)
    if not bad.any():
        return []
    x, y = np.meshgrid(p.x, p.y)
    heights = np.where(np.isposinf(p.values[bad]), ceiling, floor)
    return list(axis.plot(x[bad], y[bad], heights, "x", color=NOT_FINITE, markersize=4, label=label, zorder=5))
