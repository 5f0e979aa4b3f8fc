"""Volumes that pyvista renders: the part below a level as a body with one eighth cut away, and its core inside."""

from typing import TYPE_CHECKING

import numpy as np

from lossatlas.errors import BadUsage, error_line, named
from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_bars import draw_bar_below
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks
from lossatlas.figures.palette import current_look
from lossatlas.figures.plotted_fields import field_title, is_accuracy
from lossatlas.figures.rendered_plots import CAMERA, RENDERED_NOISE
from lossatlas.figures.rendered_view import ANGLE, View, fitted_views
from lossatlas.figures.surface_renderer import MATERIAL, RENDERED_SIZE, add_lights, import_pyvista
from lossatlas.landscape import Surface
from lossatlas.landscape.interpolant import subdivided

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pyvista import DataSet, Plotter

DETAIL = 64  # points along an axis of a rendered volume, about
BODY, CORE = 0.6, 0.02  # shares of the volume within the surfaces of equal value that bound the body and its core
SHARP = 35  # degrees between faces, above which they have an edge
LIFT = 0.008  # of lines towards the camera, so that they lie on the faces
NEAR = 0.01  # lines of levels as near as this to that of the surface are not drawn
BODY_MATERIAL: Looks = {**MATERIAL, "ambient": 0.5, "diffuse": 0.7}  # of faces whose colours are to be read
CORE_MATERIAL: Looks = {**BODY_MATERIAL, "specular": 0.4}
LABEL_GAP = 0.12  # between the block and the labels of its edges


def cutaway_figure(
    plt: FigureFactory, surface: Surface, scale: ColourScale, name: str, *, camera: Camera | None = None
) -> "Figure":
    """Render the part of a volume below a level as a body, of which the eighth that faces the camera is cut away.

    The level is one below which 60 % of the volume lie. The three faces of the cut go through the cells nearest to the
    origin, or through the middle of an axis that does not reach the origin. In the opening is the core, below which 2 %
    of the volume lie. Of an accuracy both are above their levels.

    Args:
        plt: Maker of figures, see `style`.
        surface: A volume.
        scale: The colour scale.
        name: Name of the field.
        camera: Where it is seen from; None for the usual camera of rendered figures.

    Returns:
        The figure.

    Raises:
        BadUsage: No box of eight neighbouring cells is finite, or pyvista fails.
    """
    values = surface.fields[name]
    if not np.isfinite(values).any():
        raise BadUsage(f"{named('render')}: no value of '{name}' is finite")
    try:
        pixels, places, levels = _picture(surface, name, scale, camera or CAMERA)
    except BadUsage:
        raise
    except Exception as error:  # pyvista and the graphics driver raise nearly anything
        raise BadUsage(f"{named('render')}: pyvista failed ({error_line(error)}): leave it out") from error
    height, width = pixels.shape[:2]
    fig, axis = plt.subplots(figsize=(5.4, 5.4 * height / width + 0.9), layout="constrained")
    axis.imshow(pixels, interpolation="antialiased")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    missing = int((~np.isfinite(values)).sum())
    words = [field_title(name)]
    if len(levels):
        core, body = (scale.label_at(each) if np.isfinite(each) else "" for each in levels)
        outside = f"surfaces of {body} and, in the opening, of" if body else "in the opening: the surface of"
        words.append(f"{outside} {core}")
    if missing:
        words.append(f"{missing} of {values.size} cells are not finite or not computed: left out")
    axis.set_xlabel("\n".join(words), labelpad=2, fontsize="large")
    _name_edges(axis, surface, places)
    draw_bar_below(fig, [axis], scale, name)
    return fig


def _name_edges(axis: "Axes", surface: Surface, places: np.ndarray) -> None:
    """Write the name and the range of each axis beside an edge of the block, at its place in pixels."""
    middle = float(np.mean(axis.get_xlim()))
    for letter, values, place in zip("xyz", reversed(surface.grid.axes), places, strict=True):
        words = f"{letter}: {values[0]:.3g} to {values[-1]:.3g}"
        side = "right" if place[0] < middle else "left"
        looks: Looks = {"ha": side, "va": "center" if letter == "z" else "top", "annotation_clip": False}
        axis.annotate(words, place, color=current_look().ink, **looks)


def _picture(
    surface: Surface, name: str, scale: ColourScale, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render a volume.

    Returns:
        The pixels, the places (3, 2) of the labels of its edges in them, and the heights of the surfaces, see
        `_add_levels`.
    """
    pyvista = import_pyvista()
    plotter = pyvista.Plotter(off_screen=True, window_size=list(RENDERED_SIZE), lighting="none")
    plotter.set_background(current_look().ground)
    block, opening = cut_open(surface, surface.fields[name], scale, camera)
    levels = _add_levels(plotter, block, opening, scale, camera, sign=-1.0 if is_accuracy(name) else 1.0)
    _add_edges(plotter, camera)
    add_lights(plotter)
    plotter.enable_depth_peeling(8)
    plotter.enable_anti_aliasing("ssaa")
    corners = np.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    (view,) = fitted_views(corners * (1 + LABEL_GAP), [camera], RENDERED_SIZE[0] / RENDERED_SIZE[1])
    plotter.camera_position = [tuple(view.position), tuple(view.focus), tuple(view.up)]
    plotter.camera.view_angle = ANGLE
    plotter.camera.clipping_range = (max(view.distance - 5, 0.05), view.distance + 5)
    pixels = np.asarray(plotter.screenshot(return_img=True))
    plotter.close()
    return *_cropped_to_ink(pixels, _label_places(view, camera)), levels


def _add_levels(
    plotter: "Plotter", block: "DataSet", opening: "DataSet", scale: ColourScale, camera: Camera, *, sign: float
) -> np.ndarray:
    """Add the body and the core of a volume that is cut open.

    Args:
        plotter: Where they are drawn.
        block: The volume without the opening.
        opening: The eighth that is cut away.
        scale: The colour scale.
        camera: Where it is seen from.
        sign: 1 where the body is below its level, -1 where it is above it.

    Returns:
        The heights of the surfaces of the core and of the body; NaN for a body that is the whole block, because the
        scale ends at its level, and none where all cells have one value.
    """
    heights = np.concatenate([np.asarray(each["height"]) for each in (block, opening) if each.n_points])
    if not np.ptp(heights) > 0:
        _add_body(plotter, block, np.empty(0), scale, camera)
        return np.empty(0)
    core, level = sign * np.quantile(sign * heights, (CORE, BODY))
    if block.n_points:
        body, lines_at = block.clip_scalar(scalars="height", value=float(level), invert=sign > 0), _levels(scale)
        if body.n_points:
            _add_body(plotter, body, lines_at[sign * (level - lines_at) > NEAR], scale, camera)
    if opening.n_points and (shell := opening.contour([float(core)], scalars="height")).n_points:
        plotter.add_mesh(shell, smooth_shading=True, **_looks(scale), **CORE_MATERIAL)
    low, high = scale.limits
    ends = level >= 1 if sign > 0 else level <= 0
    return low + np.array([core, np.nan if ends else level]) * (high - low)


def _label_places(view: View, camera: Camera) -> np.ndarray:
    """Return the places (3, 2), from -1 to 1, of the labels of the edges x, y and z that face the camera."""
    near = np.where(camera.direction >= 0, 1.0, -1.0)
    out = 1 + LABEL_GAP
    right = view.axes[0]
    sides = [np.array([near[0], -near[1]]), np.array([-near[0], near[1]])]  # vertical edges of the outline
    left = min(sides, key=lambda side: float(right[:2] @ side))
    low = -near[2]
    return view.project(
        np.array([[0, near[1] * out, low * out], [near[0] * out, 0, low * out], [left[0] * out, left[1] * out, 0]])
    )


def _cropped_to_ink(pixels: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut off the margins of a picture, and turn places from -1 to 1 into pixels of the rest."""
    height, width = pixels.shape[:2]
    ink = (np.abs(pixels.astype(int) - pixels[0, 0].astype(int)) > RENDERED_NOISE).any(-1)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    where = np.column_stack([(places[:, 0] + 1) / 2 * width, (1 - places[:, 1]) / 2 * height])
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return pixels[part], where - [columns[0], rows[0]]


def cut_open(surface: Surface, values: np.ndarray, scale: ColourScale, camera: Camera) -> "tuple[DataSet, DataSet]":
    """Cut the eighth that faces the camera out of a volume.

    Args:
        surface: The volume.
        values: (nz, ny, nx) the field.
        scale: Its colour scale.
        camera: Where it is seen from.

    Returns:
        The rest of the block and the eighth, in a cube from -1 to 1, with the heights in [0, 1] as "height" and the
        shares of the colour map as "share", interpolated between the cells; where a cell is not finite, the boxes
        beside it are left out, and nothing is interpolated.

    Raises:
        BadUsage: No box of eight neighbouring cells is finite.
    """
    pyvista = import_pyvista()
    axes = [_in_cube(axis, axis) for axis in reversed(surface.grid.axes)]
    zeros = [
        np.abs(axis).argmin() if axis[0] < 0 < axis[-1] else len(axis) // 2 for axis in reversed(surface.grid.axes)
    ]
    middle = [float(axis[k]) for axis, k in zip(axes, zeros, strict=True)]
    low, high = scale.limits
    with np.errstate(invalid="ignore"):
        heights = np.clip((scale.height(values) - low) / (high - low), 0, 1)
    heights[~np.isfinite(values)] = np.nan
    whole = bool(np.isfinite(heights).all())
    if whole:
        axes, heights = _interpolated(axes, heights)
    grid = pyvista.RectilinearGrid(*axes)
    grid["height"] = np.nan_to_num(heights).ravel()
    grid["share"] = np.clip(np.asarray(scale.norm(low + grid["height"] * (high - low))), 0, 1)
    grid["known"] = np.isfinite(heights).ravel().astype(float)
    known = grid if whole else grid.threshold(0.5, scalars="known", all_scalars=True)
    if not known.n_cells:
        raise BadUsage(f"{named('render')}: no box of eight neighbouring cells is finite")
    centres, inside = np.asarray(known.cell_centers().points), np.ones(known.n_cells, bool)
    for k, (centre, towards) in enumerate(zip(middle, camera.direction, strict=True)):
        inside &= (centres[:, k] > centre) == (towards >= 0)
    return known.extract_cells(~inside), known.extract_cells(inside)


def _in_cube(axis: np.ndarray, values: "np.ndarray | float") -> np.ndarray:
    """Return coordinates along an axis as those of the cube from -1 to 1."""
    return np.asarray(2 * (values - axis[0]) / np.ptp(axis) - 1)


def _interpolated(axes: list[np.ndarray], heights: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Interpolate heights (nz, ny, nx) along x, y and z, whose coordinates are given."""
    finer = []
    for x in axes:  # each turn interpolates along the last axis, and puts it first
        x, heights = subdivided(x, heights, -(-DETAIL // len(x)))
        finer.append(x)
        heights = np.moveaxis(heights, -1, 0)
    return finer, np.clip(heights, 0, 1)


def _looks(scale: ColourScale) -> Looks:
    return {"scalars": "share", "clim": (0, 1), "cmap": scale.colour_map, "n_colors": 256, "show_scalar_bar": False}


def _levels(scale: ColourScale) -> np.ndarray:
    """Return the levels of a scale as heights from 0 to 1."""
    low, high = scale.limits
    levels = (scale.height(scale.levels) - low) / (high - low)
    return levels[(levels > 1e-6) & (levels < 1 - 1e-6)]


def _add_body(plotter: "Plotter", body: "DataSet", lines_at: np.ndarray, scale: ColourScale, camera: Camera) -> None:
    """Add the part of a block within a level, with thin lines at heights on the faces of the cut."""
    faces = body.extract_surface(algorithm="dataset_surface").clean()
    shading: Looks = {"smooth_shading": True, "split_sharp_edges": True, "feature_angle": SHARP}
    plotter.add_mesh(faces, interpolate_before_map=True, **shading, **_looks(scale), **BODY_MATERIAL)
    if len(lines_at) and (lines := faces.contour(lines_at.tolist(), scalars="height")).n_points:
        lines.points = np.asarray(lines.points) + LIFT * camera.direction
        plotter.add_mesh(lines, color="#ffffff", line_width=1.6, opacity=0.6, lighting=False)


def _add_edges(plotter: "Plotter", camera: Camera) -> None:
    """Add the edges of the cube, but for the three that meet in front of everything else."""
    pyvista = import_pyvista()
    near = np.where(camera.direction >= 0, 1.0, -1.0)
    corners = np.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    for start in corners:
        for k in np.flatnonzero(start < 0):
            end = start.copy()
            end[k] = 1.0
            if not ((start == near).all() or (end == near).all()):
                line = pyvista.Line(start.tolist(), end.tolist())
                plotter.add_mesh(line, color=current_look().ink, line_width=1.5, opacity=0.4, lighting=False)
