"""Surfaces in three dimensions, with light and contour lines; several of them side by side or in one box."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.figures.axis_ticks import set_few_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look, overlay_colour_map, run_colour
from lossatlas.figures.panels import Panel, legend_name, same_extent
from lossatlas.figures.trajectory_plots import axis_names
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.interpolant import Interpolant

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

LIGHT_DIRECTION = np.array([-0.45, -0.25, 0.857])  # towards the light; the interactive page has the same
BOX_HEIGHT = 0.62  # of the box, relative to its width
FLOOR_GAP = 0.4  # between surface and floor, relative to the height of the surface
LINE_OFFSET = 0.012  # of lines towards the camera, relative to the box, so that their surface does not hide them
LINE_COLOUR = (0.05, 0.07, 0.1, 0.55)  # RGBA of a contour line
LABEL_MARGIN = 0.06  # inches between the labels of a new figure and its edge
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

    def direction_in_axes(self, p: Panel, ends: tuple[float, float]) -> np.ndarray:
        """Vector to the camera in the units of the axes, as long as the box.

        Args:
            p: Panel whose extent the box has.
            ends: Lowest and highest height of the box.

        Returns:
            (3,) vector.
        """
        return self.direction / [1, 1, BOX_HEIGHT] * [np.ptp(p.x), np.ptp(p.y), ends[1] - ends[0]]


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

    Returns:
        The figure.

    Raises:
        BadUsage: The surfaces do not cover the same part of a plane, or zlim leaves nothing of them.
    """
    check_overlay(panels, overlay=overlay)
    groups: list[Sequence[Panel]] = [panels] if overlay else [[p] for p in panels]
    rows, columns = (len(groups), 1) if is_single_column() else (1, len(groups))
    fig = plt.figure(figsize=(5.2 * columns, 4.4 * rows))
    for k, group in enumerate(groups):
        axis = fig.add_subplot(rows, columns, k + 1, projection="3d", computed_zorder=False)
        draw_solid(axis, group, scale, name, zlim, camera, paths)
        axis.patch.set_visible(False)  # it would cover the labels of the neighbour
        if not overlay and len(panels) > 1:
            axis.set_title(group[0].label, y=0.96)
            if k + 1 < columns:
                axis.set_zlabel("")
    fig.subplots_adjust(left=0, right=0.97, bottom=0.0, top=1.0, wspace=0.04)
    return fig


def keep_labels_inside(fig: "Figure", axis: "Axes3D", slot: tuple[float, float, float, float] = (0, 0, 1, 1)) -> None:
    """Place an axis with three dimensions so that all its labels are inside a part of the figure, and as large as it can be.

    Args:
        fig: The figure, without a layout engine.
        axis: The axis, with everything drawn.
        slot: Left, bottom, right and top end of the part, as shares of the figure.
    """
    shown = [each for each in axis.collections if each.get_visible()]
    for each in shown:  # the surface itself is never outside of the box, and takes long to draw
        each.set_visible(False)
    margin = LABEL_MARGIN * fig.dpi / np.array([fig.bbox.width, fig.bbox.height])
    low, high = np.array(slot[:2]) + margin, np.array(slot[2:]) - margin
    axis.set_position((*low, *(high - low)))
    _shorten_height_label(fig, axis, float(high[1] - low[1]))
    for _ in range(15):
        fig.draw_without_rendering()
        box, inked = _box_and_labels(fig, axis)
        labels = np.ptp(inked, 0) - np.ptp(box, 0)  # they keep their size where the box gets smaller
        factor = np.clip(((high - low - labels) / np.ptp(box, 0)).min(), 0.5, 1.5)
        inside = (inked[0] >= low - 1e-3).all() and (inked[1] <= high + 1e-3).all()
        if inside and abs(factor - 1) < 0.01:
            break
        place = np.array([axis.get_position().min, axis.get_position().max])
        half = np.maximum(np.ptp(place, 0) * factor, 0.2 * (high - low)) / 2
        middle = place.mean(0) + (low + high) / 2 - inked.mean(0)
        axis.set_position((*(middle - half), *(2 * half)))
    for each in shown:
        each.set_visible(True)


def _shorten_height_label(fig: "Figure", axis: "Axes3D", height: float) -> None:
    """Break the label of the vertical axis, and make its letters smaller, where it is longer than a share of the figure."""
    label, room = axis.zaxis.label, height * fig.bbox.height

    def length() -> float:
        return float(label.get_window_extent().height)

    fig.draw_without_rendering()
    if length() > 0.85 * room and ", " in label.get_text():
        label.set_text(label.get_text().replace(", ", ",\n"))
    if length() > room:
        label.set_fontsize(label.get_fontsize() * room / length())


def _box_and_labels(fig: "Figure", axis: "Axes3D") -> tuple[np.ndarray, np.ndarray]:
    """Ends of the box alone, and of the box with its texts, as shares of the figure, (2, 2) each."""
    from mpl_toolkits.mplot3d.proj3d import proj_transform

    texts = [axis.title, *axis.texts, axis.xaxis.label, axis.yaxis.label, axis.zaxis.label]
    boxes = [text.get_window_extent() for text in texts if text.get_visible() and text.get_text()]
    own: Any = fig
    ticks = [each.get_tightbbox(own._get_renderer()) for each in (axis.xaxis, axis.yaxis, axis.zaxis)]
    boxes += [each for each in ticks if each is not None]
    if (legend := axis.get_legend()) is not None:
        boxes.append(legend.get_window_extent())
    ends = np.array(list(itertools.product(axis.get_xlim(), axis.get_ylim(), axis.get_zlim())))
    corners = axis.transData.transform(np.column_stack(proj_transform(*ends.T, axis.get_proj())[:2]))
    size = np.array([fig.bbox.width, fig.bbox.height])
    points = np.concatenate([corners, *(box.get_points() for box in boxes)])
    return tuple(np.array([each.min(0), each.max(0)]) / size for each in (corners, points))


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
    maps = [overlay_colour_map(k) if several else scale.colour_map for k in range(len(panels))]
    faces, colours = [], []
    for p, colour_map in zip(panels, maps, strict=True):
        _draw_floor_contours(axis, p, scale, colour_map, ends)
        corners, shades = shaded_faces(
            p, heights, colormaps.get_cmap(colour_map), bottom, ceiling, plateau=zlim is None, norm=scale.norm
        )
        lines = _contour_faces(p, heights, ends, camera)
        faces += [corners, lines]
        colours += [shades, np.tile(LINE_COLOUR, (len(lines), 1))]
    _add_faces(axis, np.concatenate(faces), np.concatenate(colours))
    handles: list[Artist] = []
    if several:
        handles += [
            Patch(color=colormaps.get_cmap(each)(0.35), label=p.label) for p, each in zip(panels, maps, strict=True)
        ]
    for p in panels:
        handles += _mark_not_finite(axis, p, ends, f"{p.label}: not finite" if several else "not finite")
    _set_axes(axis, panels[0], scale, name, ends, camera)
    if paths:
        _set_path_labels(axis, paths[0])
    for k, path in enumerate(paths):
        handles += _draw_path(axis, panels, heights, ends, camera, path, run_colour(k, len(paths)))
    if handles:
        axis.legend(handles=handles, loc="upper right", fontsize="small", framealpha=0.9)
    texts = [f"{p.label}: {p.note}" if several else p.note for p in panels if p.note and notes]
    axis.text2D(0.02, 0.98, "\n".join(texts), va="top", transform=axis.transAxes, fontsize="small")


def _ceiling(scale: ColourScale, zlim: float | None) -> float:
    """Height at which surfaces are cut off."""
    if zlim is None:
        return scale.limits[1]
    if zlim <= scale.low:
        raise BadUsage(f"{named('zlim')} {zlim:g} is not above the lowest value, {scale.low:g}")
    return float(np.log10(zlim + scale.shift) if scale.log else zlim)


def _add_faces(axis: "Axes3D", faces: np.ndarray, colours: np.ndarray) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    surface = Poly3DCollection(
        faces,
        facecolors=colours,
        edgecolors=colours,  # edges of another colour would show gaps between faces
        linewidths=0.45,  # the same for all: matplotlib sorts faces by depth, but not their widths
        zorder=2,
    )
    surface.set_rasterized(True)  # tens of thousands of faces would make a vector file of megabytes
    axis.add_collection3d(surface)


def shaded_faces(
    p: Panel,
    scale: ColourScale,
    colours: Callable[[np.ndarray], np.ndarray],
    bottom: float,
    ceiling: float,
    *,
    plateau: bool = False,
    norm: "Normalize | None" = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the faces of a surface below a ceiling, and their colours under light.

    Args:
        p: The surface.
        scale: Scale of its heights.
        colours: Colour map, from shares in [0, 1] to RGBA.
        bottom: Height of the darkest colour.
        ceiling: Height at which a face is cut.
        plateau: Bend faces at the ceiling instead of cutting them.
        norm: Map of heights to shares of the colour map; None for that of the scale.

    Returns:
        Corners (n, 5, 3) in the units of the axes and colours (n, 4). Five corners allow for a cut; those that a face
        does not need repeat its last one.
    """
    x, y, z = p.refined(scale)
    with np.errstate(invalid="ignore"):
        h = np.where(np.isfinite(z), scale.height(z), np.nan)
        h = np.minimum(h, ceiling) if plateau else h
    light = _light(p, x, y, h, (ceiling - bottom) * (1 + FLOOR_GAP) / BOX_HEIGHT)
    grid = np.stack([*np.meshgrid(x, y), h], -1)
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2)
    heights = corners[..., 2]
    with np.errstate(invalid="ignore"):
        low, high = heights.min(-1), heights.max(-1)
        share = np.clip((norm or scale.norm)(np.nan_to_num(heights.mean(-1), nan=bottom)), 0, 1)
        whole = high <= ceiling + 1e-9 * (ceiling - bottom)  # False where a corner is missing
        cut = np.isfinite(high) & (low < ceiling) & ~whole
    shades = colours(np.asarray(share))
    middle = np.nan_to_num((light[:-1, :-1] + light[1:, 1:] + light[:-1, 1:] + light[1:, :-1]) / 4, nan=0.7)
    shades[..., :3] = np.clip(shades[..., :3] * middle[..., None], 0, 1)
    clipped = np.array([_clip_face(face, ceiling) for face in corners[cut]]).reshape(-1, 5, 3)
    faces = corners[whole]
    return (
        np.concatenate([np.concatenate([faces, faces[:, -1:]], 1), clipped]),
        np.concatenate([shades[whole], shades[cut]]),
    )


def _light(p: Panel, x: np.ndarray, y: np.ndarray, heights: np.ndarray, box_height: float) -> np.ndarray:
    """Brightness (ny, nx) of a surface: diffuse light, and less on slopes."""
    sides = np.ptp(p.x), np.ptp(p.y)
    gradients = zip(np.gradient(heights, y, x), (sides[1], sides[0]), strict=True)
    slope_y, slope_x = (gradient * side / box_height for gradient, side in gradients)
    normal = np.stack([-slope_x, -slope_y, np.ones(heights.shape)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return 0.6 + 0.45 * np.clip(normal @ LIGHT_DIRECTION, 0, None) - 0.12 * (1 - normal[..., 2])


def _clip_face(face: np.ndarray, ceiling: float) -> np.ndarray:
    """The part of a face (4, 3) below a ceiling, with five corners."""
    kept: list[np.ndarray] = []
    for a, b in zip(np.roll(face, 1, 0), face, strict=True):
        if (a[2] <= ceiling) != (b[2] <= ceiling):
            kept.append(a + (ceiling - a[2]) / (b[2] - a[2]) * (b - a))
        if b[2] <= ceiling:
            kept.append(b)
    kept = kept[:5]  # of a face that crosses the ceiling four times, a corner is left out
    return np.stack(kept + [kept[-1]] * (5 - len(kept)))


def _contour_faces(p: Panel, scale: ColourScale, ends: tuple[float, float], camera: Camera) -> np.ndarray:
    """Segments (n, 5, 3) of the contour lines on a surface, as faces without a width, moved towards the camera."""
    from contourpy import contour_generator

    x, y, z = p.refined(scale)
    lines = contour_generator(x=x, y=y, z=np.ma.masked_invalid(scale.height(z)))
    offset = LINE_OFFSET * camera.direction_in_axes(p, ends)
    segments = [np.zeros((0, 5, 3))]
    for level in scale.height(scale.levels):
        for run in lines.lines(level) if level < ends[1] else ():
            points = np.column_stack([np.asarray(run), np.full(len(run), level)]) + offset
            segments.append(np.stack([points[:-1], *[points[1:]] * 3, points[:-1]], 1))
    return np.concatenate(segments)


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


def _draw_path(
    axis: "Axes3D",
    panels: Sequence[Panel],
    scale: ColourScale,
    ends: tuple[float, float],
    camera: Camera,
    path: Projection,
    colour: str,
) -> "list[Artist]":
    """A trajectory on the first surface, faint where a surface hides it; handles for the legend.

    A point is hidden if the ray from it to the camera passes below a surface. Points off the surface are not drawn.
    """
    line = dense_path(path)
    surfaces = [height_interpolant(each, scale) for each in panels]
    heights = surfaces[0].at(line[:, 0], line[:, 1])[0]
    points = np.column_stack([line, np.minimum(heights, ends[1])])
    to_camera = camera.direction_in_axes(panels[0], ends)
    hidden = np.zeros(len(points), bool)
    for step in np.linspace(0.02, 1.5, 75):
        ray = points + step * to_camera
        for surface in surfaces:
            above = surface.at(ray[:, 0], ray[:, 1])[0]
            with np.errstate(invalid="ignore"):
                hidden |= (above > ray[:, 2]) & (above <= ends[1])
    points = points + LINE_OFFSET * to_camera
    axis.plot(*np.where(hidden[:, None], points, np.nan).T, color=colour, linewidth=0.9, alpha=0.25, zorder=4)
    axis.plot(*np.where(hidden[:, None], np.nan, points).T, color=colour, linewidth=1.3, zorder=4)
    several = colour != current_look().ink
    handles: list[Artist] = []
    for point, shape, size, fill, label in (
        (points[0], "o", 4.5, current_look().ground, "first"),
        (points[-1], "*", 8, colour, "last"),
    ):
        look: Looks = {
            "marker": shape,
            "markersize": size,
            "markerfacecolor": fill,
            "color": colour,
            "linestyle": "none",
        }
        text = legend_name(path.run) if several else f"{label} checkpoint"
        handles += axis.plot(*point[:, None], label=text, zorder=5, **look)
    return handles[1:] if several else handles


def _set_path_labels(axis: "Axes3D", path: Projection) -> None:
    """Names of the axes of a path's plane, without the shares of variance, which the figures from above give."""
    for letter, name in zip("xy", axis_names(path), strict=True):
        shown = re.sub(r" \(.*", "", name)
        axis.set(**{f"{letter}label": f"{shown} principal component" if shown == "2nd" else shown})


def _draw_floor_contours(
    axis: "Axes3D", p: Panel, scale: ColourScale, colour_map: "str | Colormap", ends: tuple[float, float]
) -> None:
    x, y, z = p.refined(scale)
    levels = scale.height(scale.levels)
    levels = levels[levels <= ends[1]]
    if len(levels) == 0:
        return
    looks: Looks = {"linewidths": 0.8, "linestyles": "solid", "zorder": 1, "cmap": colour_map}
    axis.contour(*np.meshgrid(x, y), scale.height(z), levels=levels, zdir="z", offset=ends[0], norm=scale.norm, **looks)


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
