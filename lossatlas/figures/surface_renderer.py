"""Surfaces that pyvista renders from any side, with light and shadow, contours, paths and a pin at the best cell.

pyvista comes with the extra `render`. A system library that it needs may be missing in a way that ends the process, so
rendering is tried in another process first.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.matplotlib_style import Looks
from lossatlas.figures.palette import current_look, is_bright, overlay_colour_map, run_colour
from lossatlas.figures.panels import Panel
from lossatlas.figures.rendered_view import ANGLE, View
from lossatlas.figures.surface_paths import POINTS_PER_STEP, dense_path
from lossatlas.figures.surface_sheets import colours_of_heights, height_interpolant
from lossatlas.figures.vtk_meshes import points, quadrilaterals
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from pyvista import Plotter, PolyData


RENDERED_SIZE = (1600, 1200)  # of a picture, in pixels


DETAIL = 400  # points along an axis of a surface, about


RELIEF = 1.15  # height of the surfaces above a plane of side 2


# The sum of the lights stays below what would make a slope white; the first one casts the shading.
LIGHTS = (((-3, -1.5, 2.2), 0.58), ((2.5, -3, 3.5), 0.34), ((0, 3, 2), 0.13))


MATERIAL = {"ambient": 0.42, "diffuse": 0.8, "specular": 0.08, "specular_power": 25}


LINE_LIFT, LINE_WIDTH = 0.004, 1.6  # of contours on a surface


DARK_LINE, BRIGHT_LINE = ("#10131c", 0.45), ("#ffffff", 0.4)  # colour and opacity, on bright and on dark colours


PIN_COLOUR = "#ffffff"  # minima are dark in all looks


DOT = 0.017  # radius of the spheres of checkpoints


PIN_SURROUNDINGS, PIN_ABOVE = 0.3, 0.12  # a pin is higher than what is around it


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
            f"{named('render')} needs pyvista, and that does not work here ({reason}): "
            'pip install ".[render]", or leave it out'
        )


class SurfaceRenderer:
    """Surfaces over one plane under light, of which pictures are taken from any side.

    Args:
        panels: Surfaces to render.
        scale: Their colour scale.
        size: Width and height of a picture, in pixels.
        paths: Training runs, which lie on the first surface.
        detail: Points along an axis of a surface, about.

    Raises:
        BadUsage: A surface has no face.
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        scale: ColourScale,
        size: tuple[int, int] = RENDERED_SIZE,
        paths: Sequence[Projection] = (),
        *,
        detail: int = DETAIL,
    ) -> None:
        pyvista = import_pyvista()
        self.has_picture = False
        self.scale, self.size = scale, size
        self.plotter = pyvista.Plotter(off_screen=True, window_size=list(size), lighting="none")
        self.plotter.set_background(current_look().ground)
        self.panels = [replace(p, detail=detail) for p in panels]
        self.meshes = [surface_mesh(p, scale) for p in self.panels]
        several = len(panels) > 1
        for k, mesh in enumerate(self.meshes):
            colour_map = overlay_colour_map(k) if several else scale.colour_map
            self._add_surface(mesh, colour_map, opacity=0.8 if several else 1)
            self._add_contours(mesh, colour_map)
        add_lights(self.plotter)
        self.lines: list[tuple[np.ndarray, str]] = []  # points (n, 3) along each path, and its colour
        for k, path in enumerate(paths):
            self._add_path(self.panels[0], path, run_colour(k, len(paths)))
        self.has_pin = not several and not paths
        if self.has_pin:
            self._add_pin()
        if several:
            self.plotter.enable_depth_peeling(8)
        else:
            self.plotter.enable_ssao(radius=0.10, bias=0.003, kernel_size=128)
        self.plotter.enable_anti_aliasing("ssaa")

    @property
    def points(self) -> np.ndarray:
        """(n, 3) points that have to be seen: the points of all surfaces, and the top of the pin."""
        pins = [self.pin] if self.has_pin and self.pin is not None else []
        return np.concatenate([*(np.asarray(mesh.points) for mesh in self.meshes), *pins])

    @cached_property
    def pin(self) -> np.ndarray | None:
        """(2, 3) foot and top of the pin at the best cell of the first surface; None where there is none."""
        p, mesh = self.panels[0], self.meshes[0]
        best = p.best_cell()
        if best is None:
            return None
        x, y = _unit_square(p, p.x[best[1]], p.y[best[0]])
        points = np.asarray(mesh.points)
        distance = np.hypot(points[:, 0] - x, points[:, 1] - y)
        foot = points[np.argmin(distance), 2]
        top = min(max(points[distance < PIN_SURROUNDINGS, 2].max() + PIN_ABOVE, foot + 3 * PIN_ABOVE), foot + 0.8)
        return np.array([[x, y, foot], [x, y, top]])

    def _add_surface(self, mesh: "PolyData", colour_map: "str | Colormap", opacity: float) -> None:
        self.plotter.add_mesh(
            mesh,
            scalars="share",
            clim=(0, 1),
            cmap=colour_map,
            n_colors=256,
            show_scalar_bar=False,
            smooth_shading=True,
            opacity=opacity,
            **MATERIAL,
        )

    def _add_contours(self, mesh: "PolyData", colour_map: "str | Colormap") -> None:
        """Add thin lines at the levels of the scale, just above the surface."""
        low, high = self.scale.limits
        levels = (self.scale.height(self.scale.levels) - low) / (high - low)
        levels = levels[(levels > 1e-6) & (levels < 1 - 1e-6)]
        bright = np.array([is_bright(colour_map, float(self.scale.norm(low + (high - low) * each))) for each in levels])
        for chosen, (colour, opacity) in ((bright, DARK_LINE), (~bright, BRIGHT_LINE)):
            if not chosen.any() or not np.ptp(mesh["height"]) > 0:
                continue
            lines = mesh.contour(levels[chosen].tolist(), scalars="height")
            if lines.n_points:
                lines.points[:, 2] += LINE_LIFT
                width = LINE_WIDTH * self.size[0] / RENDERED_SIZE[0]
                self.plotter.add_mesh(lines, color=colour, line_width=width, opacity=opacity, lighting=False)

    def _add_pin(self) -> None:
        """Add a pin that stands in the best cell, so that the cell is seen from any side."""
        pyvista = import_pyvista()
        if self.pin is None:
            return
        looks: Looks = {"color": PIN_COLOUR, "lighting": False}
        self.plotter.add_mesh(pyvista.lines_from_points(self.pin).tube(radius=0.005), **looks)
        for place, radius in zip(self.pin, (0.022, 0.016), strict=True):
            self.plotter.add_mesh(pyvista.Sphere(radius=radius, center=place), **looks)

    def _add_path(self, p: Panel, path: Projection, colour: str) -> None:
        pyvista, (low, high) = import_pyvista(), self.scale.limits
        line = dense_path(path)
        heights = (height_interpolant(p, self.scale).at(*line.T)[0] - low) / (high - low)
        tube = np.column_stack([*_unit_square(p, *line.T), RELIEF * heights])
        tube[:, 2] = np.minimum(tube[:, 2], RELIEF)
        tube = np.where(np.isfinite(heights)[:, None], tube, np.nan)
        known = tube[np.isfinite(heights)]
        if len(known) > 1 and np.ptp(known, 0).max() > 0:
            self.lines.append((tube, colour))
            self.plotter.add_mesh(pyvista.lines_from_points(known).tube(radius=0.009), color=colour)
            self.plotter.add_mesh(pyvista.Sphere(radius=0.028, center=known[0]), color=current_look().ground)
            self._add_checkpoints(path, tube[::POINTS_PER_STEP])

    def _add_checkpoints(self, path: Projection, places: np.ndarray) -> None:
        """Add spheres at the places (checkpoints, 3) after the first, in the colours of the checkpoints' own losses."""
        from matplotlib import colormaps
        from matplotlib.colors import to_rgb

        pyvista, scale = import_pyvista(), self.scale
        colours = np.tile((*to_rgb(current_look().ground), 1.0), (len(places), 1))
        if path.loss is not None:
            colours = colours_of_heights(scale, colormaps.get_cmap(scale.colour_map))(scale.height(path.loss))
        for place, colour in zip(places[1:], colours[1:], strict=True):
            if np.isfinite(place).all():
                self.plotter.add_mesh(pyvista.Sphere(radius=DOT, center=place), color=colour[:3], ambient=0.5)

    def hides(self, place: np.ndarray, view: View) -> bool:
        """Tell whether a surface lies between a point on a surface and the camera."""
        towards = view.position - place
        start = place + 3 * DOT * towards / np.linalg.norm(towards)
        return any(len(mesh.ray_trace(start, view.position)[0]) > 0 for mesh in self.meshes)

    def picture(self, view: View) -> np.ndarray:
        """Take a picture.

        Args:
            view: Where the surfaces are seen from, see `fitted_views`.

        Returns:
            (height, width, 3) bytes.
        """
        self.plotter.camera_position = [tuple(view.position), tuple(view.focus), tuple(view.up)]
        self.plotter.camera.view_angle = ANGLE
        self.plotter.camera.clipping_range = (max(view.distance - 4, 0.05), view.distance + 4)
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


def add_lights(plotter: "Plotter") -> None:
    """Add the lights of all rendered figures."""
    pyvista = import_pyvista()
    for position, strength in LIGHTS:
        light = {"position": position, "focal_point": (0, 0, 0), "intensity": strength}
        plotter.add_light(pyvista.Light(**light, light_type="scene light"))


def _unit_square(p: Panel, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates of the plane as a square from -1 to 1."""
    return 2 * (x - p.x[0]) / np.ptp(p.x) - 1, 2 * (y - p.y[0]) / np.ptp(p.y) - 1


def surface_mesh(p: Panel, scale: ColourScale) -> "PolyData":
    """Make the mesh of a surface over a square from -1 to 1; values above the scale become a plateau at its top.

    Args:
        p: The surface; what is not finite is a hole.
        scale: Its colour scale.

    Returns:
        The mesh, with its heights in [0, 1] as the array "height", and the shares of the colour map as "share".

    Raises:
        BadUsage: No four neighbouring cells are finite.
    """
    pyvista = import_pyvista()
    x, y, z = p.refined(scale)
    with np.errstate(invalid="ignore"):
        heights = (scale.height(z) - scale.limits[0]) / (scale.limits[1] - scale.limits[0])
    heights = np.where(np.isfinite(z), np.clip(heights, 0, 1), np.nan)
    vertices = points(*_unit_square(p, x, y), heights)
    vertices[:, 2] *= RELIEF
    corners = quadrilaterals(heights)
    if not len(corners):
        raise BadUsage(f"{named('render')}: no four neighbouring cells of {p.label} are finite")
    mesh = pyvista.PolyData(vertices, np.column_stack([np.full(len(corners), 4), corners]).ravel())
    mesh["height"] = np.nan_to_num(heights).ravel()
    shares = np.asarray(scale.norm(scale.limits[0] + mesh["height"] * (scale.limits[1] - scale.limits[0])))
    mesh["share"] = np.clip(shares, 0, 1)
    return mesh.compute_normals(split_vertices=False, consistent_normals=True)
