"""Volumes that pyvista renders with one eighth cut away, and surfaces of equal value in the opening."""

from typing import TYPE_CHECKING

import numpy as np

from lossatlas.errors import BadUsage, error_line, named
from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_bars import draw_bar_below
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks
from lossatlas.figures.palette import current_look
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.rendered_plots import CAMERA, RENDERED_NOISE
from lossatlas.figures.rendered_view import ANGLE, View, fitted_views
from lossatlas.figures.surface_renderer import LIGHTS, MATERIAL, RENDERED_SIZE, import_pyvista
from lossatlas.landscape import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pyvista import DataSet, Plotter

SHELLS = (0.03, 0.12, 0.3)  # shares of the opening inside the surfaces of equal value that are drawn in it
SHELL_OPACITY = 0.5
LIFT = 0.008  # of lines towards the camera, so that they lie on the faces
FLAT_MATERIAL: Looks = {**MATERIAL, "ambient": 0.6, "diffuse": 0.6}  # of faces whose colours are to be read
SHELL_MATERIAL: Looks = dict(MATERIAL)
LABEL_GAP = 0.12  # between the block and the labels of its edges


def cutaway_figure(
    plt: FigureFactory, surface: Surface, scale: ColourScale, name: str, *, camera: Camera | None = None
) -> "Figure":
    """Render a volume as a block of which the eighth that faces the camera is cut away.

    The three faces of the cut go through the cells nearest to the origin, or through the middle of an axis that does
    not reach the origin. In the opening are surfaces of equal value.

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
        pixels, places, shells = _picture(surface, values, scale, camera or CAMERA)
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
    if len(shells):
        words.append(f"in the opening: surfaces of {', '.join(map(scale.label_at, shells))}")
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
    surface: Surface, values: np.ndarray, scale: ColourScale, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render a volume.

    Returns:
        The pixels, the places (3, 2) of the labels of its edges in them, and the heights of the surfaces of equal
        value.
    """
    pyvista = import_pyvista()
    plotter = pyvista.Plotter(off_screen=True, window_size=list(RENDERED_SIZE), lighting="none")
    plotter.set_background(current_look().ground)
    block, opening = cut_open(surface, values, scale, camera)
    _add_block(plotter, block, scale, camera)
    shells = _add_shells(plotter, opening, scale)
    for position, strength in LIGHTS:
        light = {"position": position, "focal_point": (0, 0, 0), "intensity": strength}
        plotter.add_light(pyvista.Light(**light, light_type="scene light"))
    plotter.enable_depth_peeling(8)
    plotter.enable_anti_aliasing("ssaa")
    corners = np.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    (view,) = fitted_views(corners * (1 + LABEL_GAP), [camera], RENDERED_SIZE[0] / RENDERED_SIZE[1])
    plotter.camera_position = [tuple(view.position), tuple(view.focus), tuple(view.up)]
    plotter.camera.view_angle = ANGLE
    plotter.camera.clipping_range = (max(view.distance - 5, 0.05), view.distance + 5)
    pixels = np.asarray(plotter.screenshot(return_img=True))
    plotter.close()
    return *_cropped_to_ink(pixels, _label_places(view, camera)), shells


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
        shares of the colour map as "share"; cells with a corner that is not finite are left out.

    Raises:
        BadUsage: No box of eight neighbouring cells is finite.
    """
    pyvista = import_pyvista()
    axes = [2 * (axis - axis[0]) / np.ptp(axis) - 1 for axis in reversed(surface.grid.axes)]
    zeros = [
        np.abs(axis).argmin() if axis[0] < 0 < axis[-1] else len(axis) // 2 for axis in reversed(surface.grid.axes)
    ]
    middle = [float(axis[k]) for axis, k in zip(axes, zeros, strict=True)]
    low, high = scale.limits
    with np.errstate(invalid="ignore"):
        heights = np.clip((scale.height(values) - low) / (high - low), 0, 1)
    grid = pyvista.RectilinearGrid(*axes)
    grid["height"] = np.nan_to_num(heights).ravel()
    grid["share"] = np.clip(np.asarray(scale.norm(low + grid["height"] * (high - low))), 0, 1)
    grid["known"] = np.isfinite(values).ravel().astype(float)
    known = grid.threshold(0.5, scalars="known", all_scalars=True) if not np.isfinite(values).all() else grid
    if not known.n_cells:
        raise BadUsage(f"{named('render')}: no box of eight neighbouring cells is finite")
    centres, inside = np.asarray(known.cell_centers().points), np.ones(known.n_cells, bool)
    for k, (centre, towards) in enumerate(zip(middle, camera.direction, strict=True)):
        inside &= (centres[:, k] > centre) == (towards >= 0)
    return known.extract_cells(~inside), known.extract_cells(inside)


def _looks(scale: ColourScale) -> Looks:
    return {"scalars": "share", "clim": (0, 1), "cmap": scale.colour_map, "n_colors": 256, "show_scalar_bar": False}


def _levels(scale: ColourScale) -> np.ndarray:
    """Return the levels of a scale as heights from 0 to 1."""
    low, high = scale.limits
    levels = (scale.height(scale.levels) - low) / (high - low)
    return levels[(levels > 1e-6) & (levels < 1 - 1e-6)]


def _add_block(plotter: "Plotter", block: "DataSet", scale: ColourScale, camera: Camera) -> None:
    """Add the faces of the block, with thin lines of equal value and its edges."""
    faces = block.extract_surface(algorithm="dataset_surface").clean()
    plotter.add_mesh(faces, interpolate_before_map=True, **_looks(scale), **FLAT_MATERIAL)
    lines = faces.contour(_levels(scale).tolist(), scalars="height")
    edges = faces.extract_feature_edges(30, boundary_edges=False, non_manifold_edges=False, manifold_edges=False)
    for each, colour, width in ((lines, "#ffffff", 1.6), (edges, "#10131c", 2.0)):
        if each.n_points:
            each.points = np.asarray(each.points) + LIFT * camera.direction
            plotter.add_mesh(each, color=colour, line_width=width, opacity=0.6, lighting=False)


def _add_shells(plotter: "Plotter", opening: "DataSet", scale: ColourScale) -> np.ndarray:
    """Add surfaces of equal value in the opening, each around the lowest part of it; returns their heights."""
    low, high = scale.limits
    heights = np.asarray(opening["height"]) if opening.n_points else np.empty(0)
    if not heights.size or not np.ptp(heights) > 0:
        return np.empty(0)
    drawn = []
    for level in np.unique(np.quantile(heights, SHELLS)):
        shell = opening.contour([float(level)], scalars="height")
        if shell.n_points:
            plotter.add_mesh(shell, opacity=SHELL_OPACITY, smooth_shading=True, **_looks(scale), **SHELL_MATERIAL)
            drawn.append(low + float(level) * (high - low))
    return np.array(drawn)
