"""Surfaces in three dimensions, with light and contour lines; several of them side by side or in one box."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.figures.axis_ticks import set_few_ticks
from lossatlas.figures.clipped_parts import left_out_in_words
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import (
    current_look,
    line_colour_map,
    luminance,
    overlay_colour_map,
    run_colour,
    visible_part,
)
from lossatlas.figures.panels import Panel, legend_name, same_extent
from lossatlas.figures.solid_layout import NOTES, SolidLayout
from lossatlas.figures.surface_light import brightness
from lossatlas.figures.surface_scene import Sheet, SurfaceLine, SurfaceScene
from lossatlas.figures.trajectory_plots import axis_names, halo
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.interpolant import Interpolant

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

BOX_HEIGHT = 0.72  # of the box, relative to its width
FLOOR_GAP = 0.3  # between surface and floor, relative to the height of the surface
CONTOUR_WIDTH, EDGE_WIDTH, CROSSING_WIDTH = 0.5, 1.3, 1.0  # points
FLOOR_DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # of the surfaces in one box
LINE_OPACITY = 0.75  # of a contour line
DARK = 0.1  # luminance below which a contour line is lighter than its surface
ROUNDING = 1e-6  # relative to the height of a surface, which is cut above its ceiling
HIDDEN_OPACITY = 0.3  # of the part of a path that a surface hides
HATCH = "left out"  # marks lines of the floor
HATCHES = 40  # lines across the part of the floor below what is left out
POINTS_PER_STEP = 24  # of a path between two checkpoints


@dataclass(frozen=True)
class Camera:
    """Direction from which a surface is seen.

    Attributes:
        elevation: Angle above the plane, in degrees.
        azimuth: Angle around the vertical axis, in degrees.
    """

    elevation: float = 32
    azimuth: float = -60

    @property
    def direction(self) -> np.ndarray:
        """(3,) unit vector from the centre to the camera."""
        elevation, azimuth = np.radians([self.elevation, self.azimuth])
        return np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])


def solid_figure(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    zlim: float | None = None,
    camera: Camera | None = None,
    *,
    overlay: bool = False,
    paths: Sequence[Projection] = (),
    cut_from: Camera | None = None,
    title: str = "",
) -> "Figure":
    """Draw surfaces in three dimensions with the same heights and colours.

    Args:
        plt: Maker of figures, see `style`.
        panels: Surfaces to draw.
        scale: Their colour scale.
        name: Name of the field.
        zlim: Value at which the surfaces are cut off; None cuts at the top of the scale, as a plateau.
        camera: Where they are seen from.
        overlay: Draw them in one box instead of side by side.
        paths: Training runs, which lie on the first surface.
        cut_from: Side from which a quarter is cut out of an overlay; None for the camera's.
        title: Title of a single box; several have the labels of their surfaces.

    Returns:
        The figure.

    Raises:
        BadUsage: The surfaces do not cover the same part of a plane, or zlim leaves nothing of them.
    """
    check_overlay(panels, overlay=overlay)
    groups: list[Sequence[Panel]] = [panels] if overlay else [[p] for p in panels]
    rows, columns = shape_of_solids(len(groups))
    fig = plt.figure(figsize=(5.2 * columns, 4.4 * rows))
    for k, group in enumerate(groups):
        axis = fig.add_subplot(rows, columns, k + 1, projection="3d", computed_zorder=False)
        draw_solid(axis, group, scale, name, zlim, camera, paths, cut_from=cut_from)
        axis.patch.set_visible(False)  # it would cover the labels of the neighbour
        axis.set_title(group[0].label if len(groups) > 1 else title)
    fig.set_layout_engine(SolidLayout(rows, columns))
    return fig


def shape_of_solids(count: int) -> tuple[int, int]:
    """Rows and columns of a number of panels."""
    return (count, 1) if is_single_column() else (1, count)


def check_overlay(panels: Sequence[Panel], *, overlay: bool) -> None:
    """Check that surfaces can be drawn in one box.

    Raises:
        BadUsage: An overlay is asked for, and they do not cover the same part of a plane.
    """
    if overlay and not same_extent(panels):
        raise BadUsage(f"{named('layout', 'overlay')} needs surfaces over the same part of a plane: leave it out")


def draw_solid(
    axis: "Axes3D",
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    zlim: float | None = None,
    camera: Camera | None = None,
    paths: Sequence[Projection] = (),
    *,
    notes: bool = True,
    cut_from: Camera | None = None,
) -> None:
    """Draw surfaces on one axis with three dimensions.

    Args:
        axis: Axis, made with projection="3d".
        panels: Surfaces to draw.
        scale: Their colour scale.
        name: Name of the field.
        zlim: Value at which the surfaces are cut off; None cuts at the top of the scale, as a plateau.
        camera: Where they are seen from.
        paths: Training runs, which lie on the first surface.
        notes: Write the notes of the panels beside them.
        cut_from: Side from which a quarter is cut out where there are several surfaces; None for the camera's.

    Raises:
        BadUsage: zlim leaves nothing of the surfaces.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    bottom, ceiling = scale.limits[0], _ceiling(scale, zlim)
    # Heights may lie beyond the range of the colours.
    heights = scale if zlim is None else replace(scale, high=max(scale.high, zlim))
    ends = bottom - FLOOR_GAP * (ceiling - bottom), ceiling
    camera = camera or Camera()
    several = len(panels) > 1
    maps = [colormaps.get_cmap(overlay_colour_map(k) if several else scale.colour_map) for k in range(len(panels))]
    colours = [colours_of_heights(scale, each) for each in maps]
    sheets = [sheet_of(p, heights, each, ends) for p, each in zip(panels, colours, strict=True)]
    sheets = overlaid_sheets(sheets, cut_from or camera)
    for k, (sheet, colour_map) in enumerate(zip(sheets, maps, strict=True)):
        lines = visible_part(colour_map) if several else line_colour_map(scale.colour_map)
        _draw_floor_contours(axis, sheet, scale, lines, ends, FLOOR_DASHES[k % len(FLOOR_DASHES)])
    for sheet, p in zip(sheets, panels, strict=True):
        _hatch_floor(axis, sheet, p, ends)
    scene = SurfaceScene(axis, [replace(each, lines=[*each.lines, *_contour_lines(each, heights)]) for each in sheets])
    handles: list[Artist] = []
    if several:
        handles += [Patch(color=each(0.5), label=p.label) for p, each in zip(panels, maps, strict=True)]
    for p in panels:
        handles += _mark_not_finite(axis, p, ends, f"{p.label}: not finite" if several else "not finite")
    _set_axes(axis, panels[0], scale, name, ends, camera)
    if paths:
        _set_path_labels(axis, paths[0])
    for k, path in enumerate(paths):
        _draw_path(scene, heights, path, run_colour(k, len(paths)))
    if paths:
        handles += path_handles(paths, heights)
    if handles:
        axis.legend(handles=handles, loc="upper right", fontsize="small", frameon=False, ncols=len(handles))
    texts = solid_notes(panels, sheets, scale, zlim)
    if notes and texts:
        axis.text2D(0.02, 0.98, "\n".join(texts), va="top", transform=axis.transAxes, fontsize="small", gid=NOTES)


def solid_notes(panels: Sequence[Panel], sheets: Sequence[Sheet], scale: ColourScale, zlim: float | None) -> list[str]:
    """List facts that a reader of a figure in three dimensions has to know.

    Args:
        panels: The surfaces.
        sheets: What is drawn of each.
        scale: Their colour scale.
        zlim: Value at which they are cut off; None for the top of the scale.

    Returns:
        One text for each fact, with the name of the surface where there are several.
    """
    texts = []
    for p, sheet in zip(panels, sheets, strict=True):
        facts = [
            p.note,
            left_out_in_words(
                p,
                scale.low if scale.below else -np.inf,
                scale.high if zlim is None else zlim,
                "left out (hatched floor)",
            ),
        ]
        if sheet.left_out.any():
            facts.append("a quarter is left out to show what lies below")
        texts += [f"{p.label}: {fact}" if len(panels) > 1 else fact for fact in facts if fact]
    return texts


def _ceiling(scale: ColourScale, zlim: float | None) -> float:
    """Height at which surfaces are cut off."""
    if zlim is None:
        return scale.limits[1]
    if zlim <= scale.low:
        raise BadUsage(f"{named('zlim')} {zlim:g} is not above the lowest value, {scale.low:g}")
    return float(np.log10(zlim + scale.shift) if scale.log else zlim)


def colours_of_heights(scale: ColourScale, colour_map: "Colormap") -> Callable[[Any], Any]:
    """Return the function from heights to RGBA colours of a scale and a colour map."""
    norm = scale.norm
    return lambda heights: colour_map(np.clip(norm(np.nan_to_num(heights)), 0, 1))


def sheet_of(p: Panel, scale: ColourScale, colours: Callable[[Any], Any], ends: tuple[float, float]) -> Sheet:
    """Prepare a surface for a scene; what lies above the box or below the scale is left out.

    Args:
        p: The surface.
        scale: Scale of its heights.
        colours: Colours of heights, RGBA in [0, 1].
        ends: Heights of the floor and of the top of the box.

    Returns:
        The surface, without lines.
    """
    x, y, z = p.refined(scale)
    bottom, ceiling = scale.limits[0], ends[1]
    with np.errstate(invalid="ignore"):
        heights = np.where(np.isfinite(z), scale.height(z), np.nan)
    if not scale.above and ceiling >= scale.limits[1]:  # an interpolant overshoots
        heights = np.minimum(heights, scale.limits[1])
    if not scale.below:
        heights = np.maximum(heights, bottom)
    light = brightness(x, y, np.clip(heights, bottom, ceiling), (ends[1] - ends[0]) / BOX_HEIGHT)
    edge = ROUNDING * (ceiling - bottom)
    left_out = np.zeros((len(y) - 1, len(x) - 1), bool)
    return Sheet(x, y, heights, light, colours, (bottom - edge, ceiling + edge), left_out)


def overlaid_sheets(sheets: Sequence[Sheet], camera: Camera) -> list[Sheet]:
    """Put surfaces over one grid, draw where they intersect, and cut a quarter out of those that hide another one.

    The quarter is the one next to the camera. There only the lowest surface is left (seen from below the highest), with
    the others' edges along the cut.

    Args:
        sheets: Surfaces over the same part of a plane.
        camera: Where they are seen from.

    Returns:
        The surfaces; a single one is unchanged.
    """
    if len(sheets) == 1:
        return list(sheets)
    x, y = (_union([getattr(each, letter) for each in sheets]) for letter in "xy")
    common = [_resampled(each, x, y) for each in sheets]
    i, j = len(x) // 2, len(y) // 2
    near = np.ix_(
        *(
            np.arange(len(a) - 1) >= k if d >= 0 else np.arange(len(a) - 1) < k
            for a, k, d in ((y, j, camera.direction[1]), (x, i, camera.direction[0]))
        )
    )
    quarter = np.zeros((len(y) - 1, len(x) - 1), bool)
    quarter[near] = True
    sign = 1 if camera.elevation >= 0 else -1
    kept = int(np.argmin([_mean_height(each.heights[1:, 1:][quarter], sign) for each in common]))
    found = []
    for k, each in enumerate(common):
        lines = [line for other in common[k + 1 :] for line in _crossing_lines(each, other, quarter)]
        if k != kept:
            lines += _cut_edges(each, quarter, i, j)
        found.append(replace(each, lines=lines, left_out=each.left_out | (quarter if k != kept else False)))
    return found


def _mean_height(heights: np.ndarray, sign: int) -> float:
    """The mean of finite heights times a sign; infinite where none is finite, since nothing is to be seen there."""
    finite = heights[np.isfinite(heights)]
    return sign * float(finite.mean()) if finite.size else np.inf


def _union(axes: Sequence[np.ndarray]) -> np.ndarray:
    """Coordinates of all axes, without those that rounding has doubled."""
    every = np.sort(np.concatenate(axes))
    return every[np.append(True, np.diff(every) > 1e-9 * np.ptp(every))]


def _resampled(sheet: Sheet, x: np.ndarray, y: np.ndarray) -> Sheet:
    """A surface on other coordinates, with straight lines between its own."""
    if len(x) == len(sheet.x) and len(y) == len(sheet.y):
        return sheet

    def on_grid(values: np.ndarray) -> np.ndarray:
        rows = np.stack([np.interp(x, sheet.x, row) for row in values])
        return np.stack([np.interp(y, sheet.y, column) for column in rows.T], axis=1)

    none = np.zeros((len(y) - 1, len(x) - 1), bool)
    return replace(sheet, x=x, y=y, heights=on_grid(sheet.heights), light=on_grid(sheet.light), left_out=none)


def _crossing_lines(sheet: Sheet, other: Sheet, quarter: np.ndarray) -> list[SurfaceLine]:
    """Lines in which two surfaces over one grid intersect, outside of a quarter (ny - 1, nx - 1) of it."""
    from contourpy import contour_generator

    within = np.zeros(sheet.heights.shape, bool)
    within[1:-1, 1:-1] = quarter[:-1, :-1] & quarter[1:, 1:]
    difference = np.ma.masked_invalid(np.where(within, np.nan, sheet.heights - other.heights))
    colour = (*(0.25 * np.asarray(sheet.colours(sheet.ends[0]))[:3]), 1.0)
    found = contour_generator(x=sheet.x, y=sheet.y, z=difference).lines(0.0)
    return [SurfaceLine(_lifted(np.asarray(run), sheet), colour, CROSSING_WIDTH) for run in found]


def _lifted(points: np.ndarray, sheet: Sheet) -> np.ndarray:
    """Points (n, 3) on a surface above points (n, 2) of its plane."""
    from scipy.interpolate import RegularGridInterpolator

    heights = RegularGridInterpolator((sheet.y, sheet.x), sheet.heights, bounds_error=False, fill_value=np.nan)
    return np.column_stack([points, heights(points[:, ::-1])])


def _cut_edges(sheet: Sheet, quarter: np.ndarray, i: int, j: int) -> list[SurfaceLine]:
    """The two edges of a surface along a quarter that is cut out at its column `i` and row `j`."""
    points = sheet.corners.reshape(*sheet.heights.shape, 3)
    rows, columns = (np.flatnonzero(quarter.any(axis)) for axis in (1, 0))
    colour = (*(0.45 * np.asarray(sheet.colours(sheet.ends[0]))[:3]), 1.0)
    edges = points[rows[0] : rows[-1] + 2, i], points[j, columns[0] : columns[-1] + 2]
    return [SurfaceLine(edge, colour, EDGE_WIDTH) for edge in edges]


def _contour_lines(sheet: Sheet, scale: ColourScale) -> list[SurfaceLine]:
    """Contour lines on a surface, darker than it, or lighter where it is dark."""
    from contourpy import contour_generator

    lines = contour_generator(x=sheet.x, y=sheet.y, z=np.ma.masked_invalid(sheet.heights))
    found = []
    for level in scale.height(scale.levels):
        if not sheet.ends[0] < level < sheet.ends[1]:
            continue
        colour = np.asarray(sheet.colours(level))[:3]
        dark = luminance(colour.tolist()) < DARK
        ink = tuple(colour + 0.6 * (1 - colour) if dark else 0.3 * colour)
        for run in lines.lines(level):
            points = np.column_stack([np.asarray(run), np.full(len(run), level)])
            found.append(SurfaceLine(points, (*ink, LINE_OPACITY), CONTOUR_WIDTH))
    return found


def height_interpolant(p: Panel, scale: ColourScale) -> Interpolant:
    """Interpolant of the drawn heights of a surface."""
    x, y, z = p.refined(scale)
    with np.errstate(invalid="ignore"):
        return Interpolant.of(x, y, scale.height(z))


def dense_path(path: Projection) -> np.ndarray:
    """Points (n, 2) along a path in its plane, `POINTS_PER_STEP` from each checkpoint to the next."""
    knots = np.arange(len(path.x))
    between = np.linspace(0, len(path.x) - 1, POINTS_PER_STEP * (len(path.x) - 1) + 1)
    return np.column_stack([np.interp(between, knots, path.x), np.interp(between, knots, path.y)])


def _draw_path(scene: SurfaceScene, scale: ColourScale, path: Projection, colour: str) -> None:
    """A trajectory on the first surface, faint where a surface hides it.

    Points off the surface, or where it is cut off, are not drawn.
    """
    axis: Any = scene.axes
    points = _lifted(dense_path(path), scene.sheets[0])
    bottom, top = scene.sheets[0].ends
    with np.errstate(invalid="ignore"):
        points[~((points[:, 2] >= bottom) & (points[:, 2] <= top))] = np.nan
    hidden = ~scene.seen(points)
    axis.plot(*np.where(hidden[:, None], points, np.nan).T, color=colour, linewidth=0.9, alpha=HIDDEN_OPACITY, zorder=4)
    seen = np.where(hidden[:, None], np.nan, points)
    axis.plot(*seen.T, color=colour, linewidth=1.3, zorder=4, path_effects=halo(1.3))
    _mark_checkpoints(axis, path, seen[::POINTS_PER_STEP], points[[0, -1]], scale, colour)


def _mark_checkpoints(
    axis: "Axes3D", path: Projection, seen: np.ndarray, ends: np.ndarray, scale: ColourScale, colour: str
) -> None:
    """Marks of the checkpoints that no surface hides, with the colour of their own loss.

    Args:
        axis: Axis to draw on.
        path: Checkpoints in the plane.
        seen: (checkpoints, 3) places; NaN where hidden or off the surface.
        ends: (2, 3) places of the first and the last one, which are always marked.
        scale: Scale of the losses.
        colour: Colour of the run.
    """
    from matplotlib import colormaps

    shown = np.flatnonzero(np.isfinite(seen).all(1))
    fill: Any = current_look().ground
    if path.loss is not None:
        fill = colours_of_heights(scale, colormaps.get_cmap(scale.colour_map))(scale.height(path.loss[shown]))
    looks: Looks = {"c": fill, "edgecolors": colour, "linewidths": 0.8, "path_effects": halo(0.8)}
    axis.scatter(*seen[shown].T, s=13, depthshade=False, zorder=5, **looks)
    for point, k, shape in (ends[0], 0, "o"), (ends[1], -1, "*"):
        look = end_look(shape, colour)
        if not np.isfinite(seen[k]).all():
            look |= {"alpha": HIDDEN_OPACITY, "path_effects": None}  # a halo would be opaque
        axis.plot(*point[:, None], zorder=6, **look)


def end_look(shape: str, colour: str) -> "Looks":
    """Look of the mark of the first checkpoint, a circle "o", or of the last one, a star "*"."""
    ground = current_look().ground
    size, inside, edge = (8.5, colour, ground) if shape == "*" else (5.5, ground, colour)
    look: Looks = {"marker": shape, "markersize": size, "markerfacecolor": inside, "linestyle": "none"}
    look |= {"color": colour, "markeredgecolor": edge, "markeredgewidth": 0.7}
    return look | {"path_effects": halo(0.7)}


def path_handles(paths: Sequence[Projection], scale: ColourScale) -> "list[Artist]":
    """Handles of the legend: the line of each of several runs, and the marks that all of them share."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    ink, count = current_look().ink, len(paths)
    runs = [
        Line2D([], [], color=run_colour(k, count), linewidth=1.3, label=legend_name(path.run))
        for k, path in enumerate(paths)
    ]
    coloured = any(path.loss is not None for path in paths)
    fill = colormaps.get_cmap(scale.colour_map)(0.5) if coloured else current_look().ground
    dot: Looks = {
        "marker": "o",
        "markersize": 3.6,
        "markerfacecolor": fill,
        "markeredgecolor": ink,
        "markeredgewidth": 0.8,
    }
    words = "checkpoint, coloured by its own loss" if coloured else "checkpoint"
    first, last = (end_look(shape, ink) for shape in "o*")
    marks = [(first, "first checkpoint"), (dot | {"linestyle": "none"}, words), (last, "last checkpoint")]
    return [*(runs if count > 1 else []), *(Line2D([], [], label=label, **look) for look, label in marks)]


def _set_path_labels(axis: "Axes3D", path: Projection) -> None:
    """Names of the axes of a path's plane, without the shares of variance, which the figures from above give."""
    for letter, name in zip("xy", axis_names(path), strict=True):
        shown = re.sub(r" \(.*", "", name)
        axis.set(**{f"{letter}label": f"{shown} principal component" if shown == "2nd" else shown})


def _draw_floor_contours(
    axis: "Axes3D", sheet: Sheet, scale: ColourScale, colour_map: "str | Colormap", ends: tuple[float, float], dash: Any
) -> None:
    """Contours of a surface on the floor, in colours that stand out from the ground."""
    levels = scale.height(scale.levels)
    levels = levels[(levels <= ends[1]) & (levels >= scale.limits[0])]
    if len(levels) == 0:
        return
    looks: Looks = {"linewidths": 0.8, "linestyles": [dash], "zorder": 1, "cmap": colour_map, "norm": scale.norm}
    axis.contour(*np.meshgrid(sheet.x, sheet.y), sheet.heights, levels=levels, zdir="z", offset=ends[0], **looks)


def _hatch_floor(axis: "Axes3D", sheet: Sheet, p: Panel, ends: tuple[float, float]) -> None:
    """Hatch the floor where a surface is left out because its values are beyond the range."""
    from scipy.interpolate import RegularGridInterpolator

    with np.errstate(invalid="ignore"):
        beyond = (sheet.heights > sheet.ends[1]) | (sheet.heights < sheet.ends[0])
    if not beyond.any():
        return
    outside = RegularGridInterpolator((sheet.y, sheet.x), beyond.astype(float), bounds_error=False, fill_value=0.0)
    along = np.linspace(0, 1, 8 * HATCHES)
    for offset in np.linspace(-1, 1, 2 * HATCHES + 1)[1:-1]:
        x, y = p.x[0] + along * np.ptp(p.x), p.y[0] + (along + offset) * np.ptp(p.y)
        drawn = outside(np.column_stack([y, x])) >= 0.5
        if drawn.any():
            shown = np.where(drawn[:, None], np.column_stack([x, y]), np.nan)
            axis.plot(*shown.T, ends[0], color=current_look().muted, linewidth=0.4, zorder=0.9, gid=HATCH)


def _set_axes(
    axis: "Axes3D", p: Panel, scale: ColourScale, name: str, ends: tuple[float, float], camera: Camera
) -> None:
    """Limits, ticks, labels and the camera."""
    axis.set_xlim(p.x[0], p.x[-1])
    axis.set_ylim(p.y[0], p.y[-1])
    axis.set_zlim(*ends)
    heights = [float(scale.height(level)) for level in scale.ticks((ends[1] - ends[0]) / 8, ends[1] + 1e-9)]
    axis.set_zticks(heights, labels=[scale.label_at(height) for height in heights])
    set_few_ticks(axis.xaxis, axis.yaxis, most=4)
    axis.tick_params(labelsize="small", pad=1)
    axis.set(xlabel="x", ylabel="y")
    axis.set_zlabel(scale.title(name), labelpad=4)
    if camera.elevation > 70:  # the vertical axis is nearly a point
        axis.set_zticks([])
        axis.set_zlabel("")
    axis.view_init(elev=camera.elevation, azim=camera.azimuth)
    axis.set_box_aspect((1, 1, BOX_HEIGHT), zoom=1.02)
    for pane in (axis.xaxis, axis.yaxis, axis.zaxis):
        pane.set_pane_color((1, 1, 1, 0))
        pane._axinfo["grid"].update(color=(0, 0, 0, 0.0), linewidth=0.5)


def _mark_not_finite(axis: "Axes3D", p: Panel, ends: tuple[float, float], label: str) -> "list[Artist]":
    """Red crosses where a value is not finite: at the top where it is plus infinity, otherwise on the floor."""
    bad = p.not_finite
    if not bad.any():
        return []
    x, y = np.meshgrid(p.x, p.y)
    heights = np.where(np.isposinf(p.values[bad]), ends[1], ends[0])
    looks: Looks = {"color": current_look().accent, "markersize": 4, "zorder": 5}
    return [*axis.plot(x[bad], y[bad], heights, "x", label=label, **looks)]
