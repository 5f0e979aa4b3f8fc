"""Surfaces in three dimensions as pyvista renders them: smooth, with light and shadow in the hollows, without axes.

pyvista comes with the extra `render`. A system library that it needs may be missing in a way that ends the process, so
rendering is tried in another process first.
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import BadUsage, error_line, named
from lossatlas.figures.axis_ticks import set_scale_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import current_look, overlay_colour_map, run_colour
from lossatlas.figures.panels import Panel, legend_name
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.surface_plots import BOX_HEIGHT, FLOOR_GAP, Camera, check_overlay, dense_path, height_interpolant
from lossatlas.figures.vtk_meshes import points, quadrilaterals
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from pyvista import PolyData

SIZE = (1600, 1200)  # of a picture, in pixels
SURFACE_HEIGHT = 2 * BOX_HEIGHT / (1 + FLOOR_GAP)  # above a plane of side 2
PROBE = """
import pyvista
plotter = pyvista.Plotter(off_screen=True, window_size=(64, 48))
plotter.add_mesh(pyvista.Sphere())
assert plotter.screenshot().std() > 0, "the picture is empty"
print("it renders")
"""


@cache
def rendering_problem() -> str:
    """Find out why nothing can be rendered on this machine.

    Returns:
        The reason; "" where rendering works.
    """
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return "it does not end within five minutes"
    if done.returncode == 0 and "it renders" in done.stdout:
        return ""
    if done.returncode < 0:
        return f"it ends with signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["it fails"])[-1][:200]


def require_rendering() -> None:
    """Check that surfaces can be rendered.

    Raises:
        BadUsage: pyvista is not there, or does not work.
    """
    if reason := rendering_problem():
        raise BadUsage(
            f"{named('render')} needs pyvista, and that does not work here ({reason}): pip install pyvista, or leave it out"
        )


class SurfaceRenderer:
    """Surfaces over one plane under light, of which pictures are taken from any side.

    Args:
        panels: Surfaces to render.
        scale: Their colour scale.
        size: Width and height of a picture, in pixels.
        paths: Training runs, which lie on the first surface.
        soft: Render shadows in hollows and smooth edges, which takes seconds for each picture.
        label: Text at the upper edge of the pictures.

    Raises:
        BadUsage: A surface has no face.
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        scale: ColourScale,
        size: tuple[int, int] = SIZE,
        paths: Sequence[Projection] = (),
        *,
        soft: bool = True,
        label: str = "",
    ) -> None:
        pyvista = import_pyvista()
        self.has_picture = False
        self.plotter = pyvista.Plotter(off_screen=True, window_size=list(size), lighting="none")
        self.plotter.set_background("white")
        several = len(panels) > 1
        for k, p in enumerate(panels):
            if several:
                self._add_surface(p, scale, overlay_colour_map(k), opacity=0.8)
            else:
                self._add_surface(p, scale, current_look().rendered_colour_map)
        for position, strength in (((-3, -2, 6), 0.9), ((4, -3, 2), 0.25)):
            light = {"position": position, "focal_point": (0, 0, 0), "intensity": strength}
            self.plotter.add_light(pyvista.Light(**light, light_type="scene light"))
        if label:
            self.plotter.add_text(label, position="upper_edge", font_size=9, color="black")
        for k, path in enumerate(paths):
            self._add_path(panels[0], scale, path, run_colour(k, len(paths)))
        if several:
            self.plotter.enable_depth_peeling(8)
        elif soft:
            self.plotter.enable_ssao(radius=0.25, bias=0.005, kernel_size=128)
        if soft:
            self.plotter.enable_anti_aliasing("ssaa")

    def _add_surface(self, p: Panel, scale: ColourScale, colour_map: "str | Colormap", opacity: float = 1.0) -> None:
        self.plotter.add_mesh(
            surface_mesh(p, scale),
            scalars="height",
            clim=(0, 1),
            cmap=colour_map,
            show_scalar_bar=False,
            smooth_shading=True,
            opacity=opacity,
            ambient=0.28,
            diffuse=0.72,
            specular=0.25,
            specular_power=25,
        )

    def _add_path(self, p: Panel, scale: ColourScale, path: Projection, colour: str) -> None:
        pyvista = import_pyvista()
        line = dense_path(path)
        heights = (height_interpolant(p, scale).at(*line.T)[0] - scale.limits[0]) / (scale.limits[1] - scale.limits[0])
        tube = np.column_stack([*_unit_square(p, *line.T), SURFACE_HEIGHT * heights])
        tube[:, 2] = np.minimum(tube[:, 2], SURFACE_HEIGHT)
        tube = tube[np.isfinite(heights)]
        if len(tube) > 1 and np.ptp(tube, 0).max() > 0:
            self.plotter.add_mesh(pyvista.lines_from_points(tube).tube(radius=0.009), color=colour)
            self.plotter.add_mesh(pyvista.Sphere(radius=0.028, center=tube[0]), color="white")
            self.plotter.add_mesh(pyvista.Sphere(radius=0.028, center=tube[-1]), color=colour)

    def picture(self, camera: Camera) -> np.ndarray:
        """Take a picture, with the plane always at the same distance.

        Args:
            camera: Where the surfaces are seen from.

        Returns:
            (height, width, 3) bytes.
        """
        middle = np.array([0, 0, BOX_HEIGHT / (1 + FLOOR_GAP)])
        up = (0, 0, 1) if abs(camera.elevation) < 89 else (0, 1, 0)
        self.plotter.camera_position = [tuple(middle + 5.6 * camera.direction), tuple(middle), up]
        self.plotter.camera.clipping_range = (1, 12)
        if self.plotter.render_window is not None and self.has_picture:  # otherwise the previous picture comes again
            self.plotter.render()
        self.has_picture = True
        return np.asarray(self.plotter.screenshot(return_img=True))

    def close(self) -> None:
        """Free the window and its memory."""
        self.plotter.close()


def import_pyvista() -> Any:
    """Import pyvista, and silence its notes about missing displays."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    return pyvista


def _unit_square(p: Panel, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the plane as a square from -1 to 1."""
    return 2 * (x - p.x[0]) / np.ptp(p.x) - 1, 2 * (y - p.y[0]) / np.ptp(p.y) - 1


def surface_mesh(p: Panel, scale: ColourScale) -> "PolyData":
    """Make the mesh of a surface over a square from -1 to 1; values above the scale become a plateau at its top.

    Args:
        p: The surface; what is not finite is a hole.
        scale: Its colour scale.

    Returns:
        The mesh, with its heights in [0, 1] as the array "height".

    Raises:
        BadUsage: No four neighbouring cells are finite.
    """
    pyvista = import_pyvista()
    x, y, z = p.refined(scale)
    with np.errstate(invalid="ignore"):
        heights = (scale.height(z) - scale.limits[0]) / (scale.limits[1] - scale.limits[0])
    heights = np.where(np.isfinite(z), np.clip(heights, 0, 1), np.nan)
    vertices = points(*_unit_square(p, x, y), heights)
    vertices[:, 2] *= SURFACE_HEIGHT
    corners = quadrilaterals(heights)
    if not len(corners):
        raise BadUsage(f"{named('render')}: no four neighbouring cells of {p.label} are finite")
    mesh = pyvista.PolyData(vertices, np.column_stack([np.full(len(corners), 4), corners]).ravel())
    mesh["height"] = np.nan_to_num(heights).ravel()
    return mesh.compute_normals(split_vertices=False, consistent_normals=True)


def rendered_figure(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    camera: Camera | None = None,
    *,
    overlay: bool = False,
    paths: Sequence[Projection] = (),
) -> "Figure":
    """Render surfaces side by side or in one box, with their names and a slim colour bar.

    Arguments and result are those of `solid_figure`.

    Raises:
        BadUsage: The surfaces do not cover the same part of a plane, or pyvista fails.
    """
    check_overlay(panels, overlay=overlay)
    groups = [list(panels)] if overlay else [[p] for p in panels]
    pictures = _cropped([_render(group, scale, paths, camera or Camera()) for group in groups])
    shape = pictures[0].shape
    rows, columns = (len(pictures), 1) if is_single_column() else (1, len(pictures))
    size = 4.6 * columns, (4.6 * shape[0] / shape[1] + 0.3) * rows
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, picture, group in zip(axes.ravel(), pictures, groups, strict=True):
        axis.imshow(picture, interpolation="antialiased")
        axis.set_axis_off()
        label = group[0].label if len(panels) > 1 else field_title(name)
        axis.set_title("\n".join(([] if overlay else [label]) + _notes(group)))
        if handles := _legend_handles(group if overlay else [], paths):
            axis.legend(handles=handles, loc="upper right", fontsize="small", framealpha=0.9)
    if not overlay:
        _draw_slim_colour_bar(fig, axes.ravel().tolist(), scale, name)
    return fig


def _render(group: Sequence[Panel], scale: ColourScale, paths: Sequence[Projection], camera: Camera) -> np.ndarray:
    try:
        renderer = SurfaceRenderer(group, scale, paths=paths)
        picture = renderer.picture(camera)
        renderer.close()
    except BadUsage:
        raise
    except Exception as error:  # pyvista and the graphics driver raise nearly anything
        raise BadUsage(f"{named('render')}: pyvista failed ({error_line(error)}): leave it out") from error
    return picture


def _notes(group: Sequence[Panel]) -> list[str]:
    notes = [p.note for p in group if p.note]
    if holes := sum(int(p.not_finite.sum()) for p in group):
        notes.append(f"{holes} cells not finite: holes")
    return notes


def _legend_handles(overlaid: Sequence[Panel], paths: Sequence[Projection]) -> "list[Artist]":
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Patch(color=colormaps[overlay_colour_map(k)](0.35), label=p.label) for k, p in enumerate(overlaid)
    ]
    if len(paths) > 1:
        handles += [Patch(color=run_colour(k, len(paths)), label=legend_name(p.run)) for k, p in enumerate(paths)]
    return handles


def _draw_slim_colour_bar(fig: "Figure", axes: "Sequence[Axes]", scale: ColourScale, name: str) -> None:
    from matplotlib import cm
    from matplotlib.colors import Normalize

    colours = cm.ScalarMappable(Normalize(*scale.limits), current_look().rendered_colour_map)
    looks: Looks = {"extend": scale.extend, "shrink": 0.6, "aspect": 30}
    bar = fig.colorbar(colours, ax=axes, label=scale.title(name), **looks)
    set_scale_ticks(bar.ax.yaxis, scale, 8)
    bar.outline.set_visible(False)


def _cropped(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same part of each picture, without margins that are white in all of them."""
    ink = np.any([(picture < 250).any(-1) for picture in pictures], 0)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [picture[part] for picture in pictures]
