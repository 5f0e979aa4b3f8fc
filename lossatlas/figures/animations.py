"""Moving pictures: a surface that turns, a path that is walked, a grid that is filled coarse-first; as GIF or MP4."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage, CannotWrite
from lossatlas.figures.contour_plots import Panel, axis_names, contour, draw_flat, filled
from lossatlas.figures.style import Scale, plain, title_of
from lossatlas.figures.surface_plots import Camera, draw_solid, solid_figure
from lossatlas.io.atomic_write import write_file
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

DETAIL = 110  # points along an axis of a surface, about: a picture of a film is looked at for a moment
COLOURS = 256  # of a GIF
NEARLY_WHITE = 248
INK, GREY = "black", "0.6"


def pixels(fig: Any, dpi: int) -> np.ndarray:
    """(height, width, 3) bytes of a figure; both even, as films want them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    found = np.asarray(canvas.buffer_rgba())[..., :3]
    return np.ascontiguousarray(found[: found.shape[0] // 2 * 2, : found.shape[1] // 2 * 2])


def turning(
    plt: Any,
    panels: Sequence[Panel],
    scale: Scale,
    name: str,
    camera: Camera,
    frames: int,
    dpi: int,
    overlay: bool = False,
    zlim: float | None = None,
) -> Iterator[np.ndarray]:
    """Once around."""
    panels = [replace(p, detail=DETAIL) for p in panels]
    for azimuth in camera.azimuth + np.linspace(0, 360, frames, endpoint=False):
        fig = solid_figure(plt, panels, scale, name, zlim, Camera(camera.elevation, float(azimuth)), overlay)
        for axis in fig.axes:  # which would jump from one side to the other
            axis.set_zlabel("")
        fig.text(0.5, 0.02, title_of(name), ha="center", fontsize="small")
        yield pixels(fig, dpi)


def turning_rendered(
    groups: Sequence[Sequence[Panel]], scale: Scale, camera: Camera, frames: int
) -> Iterator[np.ndarray]:
    """The same, rendered; groups stand side by side."""
    from lossatlas.figures.rendered_plots import RenderStage

    names = ["" if len(groups) == 1 else group[0].label for group in groups]
    stages = [RenderStage(g, scale, (528, 440), soft=False, label=name) for g, name in zip(groups, names, strict=True)]
    for azimuth in camera.azimuth + np.linspace(0, 360, frames, endpoint=False):
        pictures = [stage.picture(Camera(camera.elevation, float(azimuth))) for stage in stages]
        yield np.concatenate(pictures, axis=1)
    for stage in stages:
        stage.close()


def walking(
    plt: Any, p: Panel, scale: Scale, name: str, path: Projection, beneath: np.ndarray, frames: int, dpi: int
) -> Iterator[np.ndarray]:
    """A training run, checkpoint after checkpoint, over its contours; beside them the loss against the epoch.

    beneath: the surface's values under the checkpoints, NaN off the surface.
    """
    epochs = np.arange(len(path.x)) if path.epochs is None else path.epochs
    word = "checkpoint" if path.epochs is None else "epoch"
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2), layout="constrained")
    draw_flat(fig, [left], [p], scale, name, contour, ())
    fig.axes[-1].set_ylabel("")  # the curve's axis says it
    left.set(**dict(zip(("xlabel", "ylabel"), axis_names(path), strict=True)))
    left.plot(path.x, path.y, ".", color=GREY, markersize=4, zorder=4)
    (line,) = left.plot([], [], "-", color=INK, linewidth=1.3, zorder=5)
    (ball,) = left.plot([], [], "o", color=INK, markeredgecolor="white", markersize=7, zorder=6)
    for values, style, label in ((beneath, "-", "surface under the path"), (path.loss, "--", "the checkpoint itself")):
        if values is not None and np.isfinite(values).any():
            known = np.isfinite(values)
            right.plot(epochs[known], values[known], style, color=GREY, linewidth=1.2, label=label)
    (here,) = right.plot([], [], "o", color=INK, markersize=6)
    if scale.log and np.nanmin(beneath) > 0:
        right.set_yscale("log")
        right.yaxis.set_major_formatter(lambda value, _: plain(value))
        right.yaxis.set_minor_formatter(lambda value, _: "")
    right.set(xlabel=word, ylabel=title_of(name))
    right.legend(frameon=False, fontsize="small")
    for share in np.linspace(0, len(path.x) - 1, frames):
        whole = int(share)
        x, y, e, v = (np.interp(share, np.arange(len(path.x)), each) for each in (path.x, path.y, epochs, beneath))
        line.set_data([*path.x[: whole + 1], x], [*path.y[: whole + 1], y])
        ball.set_data([x], [y])
        here.set_data([e], [v])
        right.set_title(f"{word} {e:.1f}")
        yield pixels(fig, dpi)


def refining(
    plt: Any, surface: Surface, whole: Panel, scale: Scale, name: str, camera: Camera, frames: int, dpi: int
) -> Iterator[np.ndarray]:
    """How a surface is filled: dots are cells, in the order in which they are computed; contours and surface go through the
    finest sub-grid that is whole."""
    order = surface.grid.coarse_first()
    for count in np.unique(np.geomspace(4, surface.grid.size, frames).round().astype(int)):
        there = np.zeros(surface.grid.size, bool)
        there[order[:count]] = True
        done = there.reshape(surface.grid.shape) & surface.known
        rows, columns = replace(surface, done=done).complete_part()
        if len(rows) < 2 or len(columns) < 2 or not done[np.ix_(rows, columns)].all():
            continue  # too few for a surface
        values = np.where(done, whole.values, np.nan)
        p = Panel(whole.label, whole.x, whole.y, values, done, rows, columns, DETAIL)
        fig = plt.figure(figsize=(9.6, 4.2))
        flat = fig.add_axes((0.06, 0.13, 0.36, 0.74))
        draw_flat(fig, [flat], [replace(whole, rows=rows, columns=columns)], scale, name, filled, (), bar=False)
        y, x = np.nonzero(done)
        flat.plot(whole.x[x], whole.y[y], ".", color="white", markersize=min(2.0, 40 / np.sqrt(count)), zorder=4)
        flat.set_title(f"{count} of {surface.grid.size} cells")
        solid = fig.add_axes((0.46, 0.0, 0.5, 1.0), projection="3d", computed_zorder=False)
        draw_solid(solid, [p], scale, name, None, camera, notes=False)
        yield pixels(fig, dpi)


def check_film(path: Path) -> None:
    """Raises BadUsage where no film can be written under this name."""
    if path.suffix not in WRITERS:
        raise BadUsage(f"--out {path}: the name has to end in {' or '.join(WRITERS)}")
    if path.suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise BadUsage(f"--out {path}: an MP4 needs ffmpeg, which is not there: install it, or name a .gif")


def save_film(path: Path, frames: Iterable[np.ndarray], rate: float, hold: float = 0.0) -> int:
    """Write frames as a GIF that begins again, or an MP4, and return how many.

    rate: frames a second. hold: seconds that the last one stays. Raises BadUsage, see check_film, and CannotWrite.
    """
    check_film(path)
    made = list(frames)
    if not made:
        raise BadUsage("there is nothing to show: the grid is too small, or has too few cells")
    write_file(path, WRITERS[path.suffix](made, rate, hold))
    return len(made)


def gif(frames: Sequence[np.ndarray], rate: float, hold: float) -> bytes:
    """All frames share their colours, so that nothing flickers."""
    from PIL import Image

    sample = np.concatenate([frame[::3, ::3] for frame in frames[:: max(1, len(frames) // 8)]])
    found = Image.fromarray(sample).quantize(COLOURS, method=Image.Quantize.MEDIANCUT).getpalette() or []
    colours = np.array(found, np.uint8).reshape(-1, 3)
    colours[colours.min(1) >= NEARLY_WHITE] = 255  # the ground
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.ravel().tolist())
    blend = Image.Dither.FLOYDSTEINBERG  # without, few colours would look like contours
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=blend) for frame in frames]
    ends = [10 * round(100 * (k + 1) / rate) for k in range(len(pictures))]  # in hundredths of a second
    shown = [end - start for start, end in pairwise([0, *ends])]
    shown[-1] += round(1000 * hold)
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=shown, loop=0, optimize=False)
    return out.getvalue()


def mp4(frames: Sequence[np.ndarray], rate: float, hold: float) -> bytes:
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "film.mp4"
        shape = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate:g}"]
        look = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-movflags", "+faststart"]
        command = ["ffmpeg", "-y", "-loglevel", "error", *shape, "-i", "-", *look, str(out)]
        content = [np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames]
        content += content[-1:] * round(hold * rate)
        done = subprocess.run(command, input=b"".join(content), capture_output=True, check=False)
        if done.returncode:
            line = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise CannotWrite(f"ffmpeg could not make the film: {line}")
        return out.read_bytes()


WRITERS: dict[str, Callable[..., bytes]] = {".gif": gif, ".mp4": mp4}
