"""Surfaces in three dimensions as pyvista renders them: smooth, with light and shadow in the hollows, without axes.

pyvista comes with the extra `render`. A library that it needs may be missing in a way that ends the process, so it is tried
in another one first.
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage, error_line
from lossatlas.figures.contour_plots import PATHS, Panel, short
from lossatlas.figures.style import Scale, narrow, scaled_title
from lossatlas.figures.style import title_of as title
from lossatlas.figures.surface_plots import BELOW, OVERLAID, TALL, Camera, check_overlay, ground_of
from lossatlas.figures.vtk_meshes import points, quadrilaterals
from lossatlas.io.trajectory_files import Projection

MAP = "coolwarm"  # blue, grey, red
SIZE = (1600, 1200)
PROBE = """
import pyvista
plotter = pyvista.Plotter(off_screen=True, window_size=(64, 48))
plotter.add_mesh(pyvista.Sphere())
assert plotter.screenshot().std() > 0, "the picture is empty"
print("it renders")
"""


@cache
def missing() -> str:
    """Why nothing can be rendered here; empty where it can."""
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return "it does not end within five minutes"
    if done.returncode == 0 and "it renders" in done.stdout:
        return ""
    if done.returncode < 0:
        return f"it ends with signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["it fails"])[-1][:200]


def need() -> None:
    """Raises BadUsage where nothing can be rendered."""
    if why := missing():
        raise BadUsage(
            f"--render needs pyvista, and that does not work here ({why}): pip install pyvista, or leave it out"
        )


class RenderStage:
    """Surfaces over one plane, lit; pictures of them from any side."""

    def __init__(
        self,
        panels: Sequence[Panel],
        scale: Scale,
        size: tuple[int, int] = SIZE,
        paths: Sequence[Projection] = (),
        soft: bool = True,
        label: str = "",
    ) -> None:
        """soft: shadows in hollows and smooth edges, which take seconds for each picture."""
        pyvista = quiet_pyvista()
        self.shown = False
        self.plotter = pyvista.Plotter(off_screen=True, window_size=list(size), lighting="none")
        self.plotter.set_background("white")
        for k, p in enumerate(panels):
            several = len(panels) > 1
            colours = OVERLAID[k % len(OVERLAID)] if several else MAP
            self.plotter.add_mesh(
                mesh(pyvista, p, scale),
                scalars="height",
                clim=(0, 1),
                cmap=colours,
                show_scalar_bar=False,
                smooth_shading=True,
                opacity=0.8 if several else 1.0,
                ambient=0.28,
                diffuse=0.72,
                specular=0.25,
                specular_power=25,
            )
        for place, strength in (((-3, -2, 6), 0.9), ((4, -3, 2), 0.25)):
            self.plotter.add_light(
                pyvista.Light(position=place, focal_point=(0, 0, 0), intensity=strength, light_type="scene light")
            )
        if label:
            self.plotter.add_text(label, position="upper_edge", font_size=9, color="black")
        for k, path in enumerate(paths):
            self.add_path(pyvista, panels[0], scale, path, PATHS[k % len(PATHS)] if len(paths) > 1 else "black")
        if len(panels) > 1:
            self.plotter.enable_depth_peeling(8)
        elif soft:
            self.plotter.enable_ssao(radius=0.25, bias=0.005, kernel_size=128)
        if soft:
            self.plotter.enable_anti_aliasing("ssaa")

    def add_path(self, pyvista: Any, p: Panel, scale: Scale, path: Projection, ink: str) -> None:
        x, y = path.x, path.y
        between = np.linspace(0, len(x) - 1, 24 * (len(x) - 1) + 1)
        line = np.column_stack([np.interp(between, np.arange(len(x)), each) for each in (x, y)])
        heights = (ground_of(p, scale).at(*line.T)[0] - scale.limits[0]) / (scale.limits[1] - scale.limits[0])
        there = np.column_stack([*unit(p, *line.T), 2 * TALL / (1 + BELOW) * heights])
        there[:, 2] = np.minimum(there[:, 2], 2 * TALL / (1 + BELOW))
        there = there[np.isfinite(heights)]
        if len(there) > 1 and np.ptp(there, 0).max() > 0:
            self.plotter.add_mesh(pyvista.lines_from_points(there).tube(radius=0.009), color=ink)
            self.plotter.add_mesh(pyvista.Sphere(radius=0.028, center=there[0]), color="white")
            self.plotter.add_mesh(pyvista.Sphere(radius=0.028, center=there[-1]), color=ink)

    def picture(self, camera: Camera) -> np.ndarray:
        """(height, width, 3) bytes, the plane always at the same distance."""
        elevation, azimuth = np.radians([camera.elevation, camera.azimuth])
        way = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        middle = np.array([0, 0, TALL / (1 + BELOW)])
        up = (0, 0, 1) if abs(camera.elevation) < 89 else (0, 1, 0)
        self.plotter.camera_position = [tuple(middle + 5.6 * way), tuple(middle), up]
        self.plotter.camera.clipping_range = (1, 12)
        if self.plotter.render_window is not None and self.shown:  # otherwise it is the picture of before
            self.plotter.render()
        self.shown = True
        return np.asarray(self.plotter.screenshot(return_img=True))

    def close(self) -> None:
        self.plotter.close()


def quiet_pyvista() -> Any:
    """pyvista, without its notes on what displays there are."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    return pyvista


def unit(p: Panel, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plane as a square from -1 to 1."""
    return 2 * (x - p.x[0]) / np.ptp(p.x) - 1, 2 * (y - p.y[0]) / np.ptp(p.y) - 1


def mesh(pyvista: Any, p: Panel, scale: Scale) -> Any:
    """Values above the scale are a plateau at its top."""
    x, y, z = p.fine(scale)
    with np.errstate(invalid="ignore"):
        heights = (scale.height(z) - scale.limits[0]) / (scale.limits[1] - scale.limits[0])
    heights = np.where(np.isfinite(z), np.clip(heights, 0, 1), np.nan)  # what is not finite is a hole
    places = points(*unit(p, x, y), heights)
    places[:, 2] *= 2 * TALL / (1 + BELOW)
    corners = quadrilaterals(heights)
    if not len(corners):
        raise BadUsage(f"--render: no four neighbouring cells of {p.label} are finite")
    found = pyvista.PolyData(places, np.column_stack([np.full(len(corners), 4), corners]).ravel())
    found["height"] = np.nan_to_num(heights).ravel()
    return found.compute_normals(split_vertices=False, consistent_normals=True)


def rendered_figure(
    plt: Any,
    panels: Sequence[Panel],
    scale: Scale,
    name: str,
    camera: Camera | None = None,
    overlay: bool = False,
    paths: Sequence[Projection] = (),
) -> Any:
    """Rendered surfaces side by side or one over the other, with their names and a slim colour bar."""
    from matplotlib import cm
    from matplotlib.colors import Normalize
    from matplotlib.patches import Patch

    check_overlay(panels, overlay)
    groups = [list(panels)] if overlay else [[p] for p in panels]
    pictures = []
    for group in groups:
        try:
            stage = RenderStage(group, scale, paths=paths)
            pictures.append(stage.picture(camera or Camera()))
            stage.close()
        except BadUsage:
            raise
        except Exception as error:  # of a library that tried well
            raise BadUsage(f"--render: pyvista failed ({error_line(error)}): leave it out") from error
    pictures = cropped(pictures)
    shape = pictures[0].shape
    rows, columns = (len(pictures), 1) if narrow() else (1, len(pictures))
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.6 * columns, (4.6 * shape[0] / shape[1] + 0.3) * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis, picture, group in zip(axes.ravel(), pictures, groups, strict=True):
        axis.imshow(picture, interpolation="antialiased")
        axis.set_axis_off()
        notes = [p.note for p in group if p.note]
        if odd := sum(int((p.done & ~np.isfinite(p.values)).sum()) for p in group):
            notes.append(f"{odd} cells not finite: holes")
        label = group[0].label if len(panels) > 1 and not overlay else title(name)
        axis.set_title("\n".join([label, *notes]) if not overlay else "\n".join(notes))
        handles = []
        if overlay:
            from matplotlib import colormaps

            handles = [
                Patch(color=colormaps[OVERLAID[k % len(OVERLAID)]](0.35), label=p.label) for k, p in enumerate(group)
            ]
        if len(paths) > 1:
            handles += [Patch(color=PATHS[k % len(PATHS)], label=short(path.run)) for k, path in enumerate(paths)]
        if handles:
            axis.legend(handles=handles, loc="upper right", fontsize="small", framealpha=0.9)
    if not overlay:
        from lossatlas.figures.contour_plots import plain_ticks

        colours = cm.ScalarMappable(Normalize(*scale.limits), MAP)
        bar = fig.colorbar(
            colours,
            ax=axes.ravel().tolist(),
            extend=scale.extend,
            shrink=0.6,
            aspect=30,
            label=scaled_title(name, scale),
        )
        plain_ticks(bar.ax.yaxis, scale, 8)
        bar.outline.set_visible(False)
    return fig


def cropped(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same part of each, without what is white in all of them."""
    ink = np.any([(picture < 250).any(-1) for picture in pictures], 0)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [picture[part] for picture in pictures]
