"""Surfaces in three dimensions, with light and contour lines; several of them side by side or in one box."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.figures.axis_ticks import set_few_ticks
from lossatlas.figures.camera import Camera
from lossatlas.figures.clipped_parts import clipped_in_words, ends_of
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import (
    current_look,
    line_colour_map,
    overlay_colour_map,
    run_colour,
    visible_part,
)
from lossatlas.figures.panels import Panel, same_extent
from lossatlas.figures.solid_layout import NOTES, SolidLayout
from lossatlas.figures.surface_paths import draw_surface_path, path_handles, set_path_labels
from lossatlas.figures.surface_scene import Sheet, SurfaceScene
from lossatlas.figures.surface_sheets import BOX_HEIGHT, colours_of_heights, contour_lines, overlaid_sheets, sheet_of
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

FLOOR_GAP = 0.3  # between surface and floor, relative to the height of the surface
FLOOR_DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # of the surfaces in one box
HATCH = "left out"  # marks lines of the floor
HATCHES = 40  # lines across the part of the floor below what is left out


def solid_figure(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    *,
    zlim: float | None = None,
    camera: Camera | None = None,
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
        draw_solid(axis, group, scale, name, zlim=zlim, camera=camera, paths=paths, cut_from=cut_from)
        axis.patch.set_visible(False)  # it would cover the labels of the neighbour
        axis.set_title(group[0].label if len(groups) > 1 else title)
    fig.set_layout_engine(SolidLayout(rows, columns))
    return fig


def shape_of_solids(count: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of a figure of so many panels."""
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
    *,
    zlim: float | None = None,
    camera: Camera | None = None,
    paths: Sequence[Projection] = (),
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
        _draw_floor_contours(axis, sheet, scale, lines, ends, dash=FLOOR_DASHES[k % len(FLOOR_DASHES)])
    for sheet, p in zip(sheets, panels, strict=True):
        _hatch_floor(axis, sheet, p, ends)
    scene = SurfaceScene(axis, [replace(each, lines=[*each.lines, *contour_lines(each, heights)]) for each in sheets])
    handles: list[Artist] = []
    if several:
        handles += [Patch(color=each(0.5), label=p.label) for p, each in zip(panels, maps, strict=True)]
    for p in panels:
        handles += _mark_not_finite(axis, p, ends, f"{p.label}: not finite" if several else "not finite")
    _set_axes(axis, panels[0], scale, name, ends, camera=camera)
    if paths:
        set_path_labels(axis, paths[0])
    for k, path in enumerate(paths):
        draw_surface_path(scene, heights, path, run_colour(k, len(paths)))
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
            clipped_in_words(p, ends_of(scale)[0], scale.high if zlim is None else zlim, "left out (hatched floor)"),
        ]
        if sheet.left_out.any():
            facts.append("a quarter is left out to show what lies below")
        texts += [f"{p.label}: {fact}" if len(panels) > 1 else fact for fact in facts if fact]
    return texts


def _ceiling(scale: ColourScale, zlim: float | None) -> float:
    """Return the height at which surfaces are cut off."""
    if zlim is None:
        return scale.limits[1]
    if zlim <= scale.low:
        raise BadUsage(f"{named('zlim')} {zlim:g} is not above the lowest value, {scale.low:g}")
    return float(np.log10(zlim + scale.shift) if scale.log else zlim)


def _draw_floor_contours(
    axis: "Axes3D",
    sheet: Sheet,
    scale: ColourScale,
    colour_map: "str | Colormap",
    ends: tuple[float, float],
    *,
    dash: Any,
) -> None:
    """Draw contours of a surface on the floor, in colours that stand out from the ground."""
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
    axis: "Axes3D", p: Panel, scale: ColourScale, name: str, ends: tuple[float, float], *, camera: Camera
) -> None:
    """Set limits, ticks, labels and the camera."""
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
    """Draw red crosses where a value is not finite: at the top where it is plus infinity, otherwise on the floor."""
    bad = p.not_finite
    if not bad.any():
        return []
    x, y = np.meshgrid(p.x, p.y)
    heights = np.where(np.isposinf(p.values[bad]), ends[1], ends[0])
    looks: Looks = {"color": current_look().accent, "markersize": 4, "zorder": 5}
    return [*axis.plot(x[bad], y[bad], heights, "x", label=label, **looks)]
