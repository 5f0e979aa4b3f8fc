"""Make a film of a surface, from saved surface files alone: a GIF, or an MP4 where ffmpeg is there.

lossatlas animate --surf_file FILE.h5                                      it turns: FILE.h5_train_loss_turn.gif
lossatlas animate --surf_file A.h5 B.h5 --labels A B --render --out ab.mp4
lossatlas animate --surf_file FILE.h5 --kind path --proj_file PROJECTION.h5    a training walks over it
lossatlas animate --surf_file FILE.h5 --kind refine                        it is filled, coarse cells first
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossatlas import config, figures
from lossatlas.commands import options
from lossatlas.commands.open_results import check_labels, check_plane, read_plane
from lossatlas.errors import BadInput, BadUsage, exit_code, say
from lossatlas.figures import animations, rendered_plots
from lossatlas.figures.contour_plots import Panel, panel
from lossatlas.figures.style import is_share
from lossatlas.figures.trajectory_plots import beneath
from lossatlas.io import read_projection
from lossatlas.landscape import Surface
from lossatlas.option_fields import above_zero, changed, finite, option, positive

FRAMES = {"turn": 60, "path": 90, "refine": 24}
SLOWEST, FASTEST = 0.05, 50.0  # a GIF counts in hundredths of a second, and browsers slow down what is below two
RATES = {"turn": 15.0, "path": 15.0, "refine": 4.0}


def rate_of_frames(text: str) -> float:
    value = above_zero(text)
    if not SLOWEST <= value <= FASTEST:
        raise ValueError(f"{text} frames a second: from {SLOWEST:g} to {FASTEST:g}")
    return value


def each_of(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{kind}: {number:g}" for kind, number in numbers.items())


@dataclass(frozen=True)
class FilmOptions(config.ContourOptions, config.CameraOptions):
    """The options of this command."""

    HEADING: ClassVar[str] = "film"

    surf_file: tuple[str, ...] = option(
        (), "surface files; several are drawn on one scale", short="-f", many="+", required=True, metavar="FILE.h5"
    )
    kind: str = option(
        "turn",
        "the surface turns, a trajectory moves over it (path), or its cells appear in the order in which they are computed "
        "(refine)",
        choices=tuple(FRAMES),
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    out: str | None = option(
        None,
        "file to write, .gif or .mp4 (default: the name of the first surface file, with the field and the kind, as .gif)",
        metavar="FILE",
    )
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    proj_file: str | None = option(None, "trajectory from plot_trajectory.py, for --kind path", metavar="FILE.h5")
    render: bool = option(False, "render the turning surface without axes (needs pyvista)")
    zlim: float | None = option(None, "top of the turning surface", kind=finite)
    frames: int | None = option(None, f"number of frames (default: {each_of(FRAMES)})", kind=positive, metavar="N")
    fps: float | None = option(
        None, f"frames per second (default: {each_of(RATES)})", kind=rate_of_frames, metavar="RATE"
    )
    dpi: int = option(90, "resolution of each frame", kind=positive)
    log: bool = changed(config.DisplayOptions, "log")


def parser() -> options.Parser[FilmOptions]:
    return options.Parser(__doc__, FilmOptions)


def animate(
    files: Sequence[str | Path],
    *,
    kind: str = "turn",
    labels: Sequence[str] | None = None,
    out: str | Path | None = None,
    surf_name: str | None = None,
    proj_file: str | None = None,
    render: bool = False,
    zlim: float | None = None,
    camera: figures.Camera | None = None,
    layout: str = "grid",
    frames: int | None = None,
    rate: float | None = None,
    dpi: int = 90,
    **limits: Any,
) -> Path:
    """Make the film; returns its path. limits: vmin, vmax, vlevel, log. Raises BadInput, BadUsage, CannotWrite."""
    paths = [Path(file) for file in files]
    check_labels(labels, paths)
    if kind != "turn" and len(paths) > 1:
        raise BadUsage(f"--kind {kind} shows one surface, and there are {len(paths)} files")
    if (proj_file is None) == (kind == "path"):
        raise BadUsage("--kind path needs a --proj_file" if kind == "path" else "--proj_file belongs to --kind path")
    if layout == "overlay" and len(paths) < 2:
        raise BadUsage("--layout overlay needs at least two surface files")
    if render:
        if kind != "turn":
            raise BadUsage(f"--render belongs to --kind turn, not to {kind}")
        rendered_plots.need()
    surfaces = [read_plane(path) for path in paths]
    name = figures.pick(surfaces[0], surf_name, paths[0])
    for surface, path in zip(surfaces[1:], paths[1:], strict=True):
        figures.pick(surface, name, path)
    names = [figures.words(label) for label in labels or [p.name for p in paths]]
    panels = [panel(s, name, label) for s, label in zip(surfaces, names, strict=True)]
    shared = figures.scale([p.values for p in panels], linear=is_share(name), **limits)
    target = Path(out) if out else Path(f"{paths[0]}_{name}_{kind}.gif")
    animations.check_film(target)
    camera, number, overlay = camera or figures.Camera(), frames or FRAMES[kind], layout == "overlay"
    with figures.style() as plt:
        pictures: Iterator[np.ndarray]
        if kind == "path":
            assert proj_file is not None
            pictures = walk(plt, proj_file, surfaces, paths, panels[0], shared, name, number, dpi)
        elif kind == "refine":
            pictures = animations.refining(plt, surfaces[0], panels[0], shared, name, camera, number, dpi)
        elif render:
            groups = [panels] if overlay else [[p] for p in panels]
            pictures = animations.turning_rendered(groups, shared, camera, number)
        else:
            pictures = animations.turning(plt, panels, shared, name, camera, number, dpi, overlay, zlim)
        speed = rate or RATES[kind]
        count = animations.save_film(target, pictures, speed, hold=(hold := 0 if kind == "turn" else 2))
    size = target.stat().st_size / 1e6
    say(f"wrote {target} ({size:.2f} MB): {count} frame{'s' * (count > 1)}, {count / speed + hold:.1f} s")
    return target


def walk(
    plt: Any,
    proj_file: str,
    surfaces: Sequence[Surface],
    paths: Sequence[Path],
    p: Panel,
    scale: figures.Scale,
    name: str,
    frames: int,
    dpi: int,
) -> Iterator[np.ndarray]:
    path = read_projection(proj_file).of(name)
    check_plane(proj_file, surfaces, paths)
    if len(path.x) < 2:
        raise BadInput(f"{proj_file} holds {len(path.x)} checkpoint: a path needs two")
    under = beneath(surfaces[0], name, path, scale)
    if not np.isfinite(under).any():
        raise BadInput(f"no checkpoint of {proj_file} lies on the grid of {paths[0]}")
    return animations.walking(plt, p, scale, name, path, under, frames, dpi)


def run(args: FilmOptions) -> None:
    animate(
        args.surf_file,
        kind=args.kind,
        labels=args.labels,
        out=args.out,
        surf_name=args.surf_name,
        proj_file=args.proj_file,
        render=args.render,
        zlim=args.zlim,
        camera=figures.Camera(args.elev, args.azim),
        layout=args.layout,
        frames=args.frames,
        rate=args.fps,
        dpi=args.dpi,
        vmin=args.vmin,
        vmax=args.vmax,
        vlevel=args.vlevel,
        log=args.log,
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
