"""Make a film of a surface, from saved surface files alone: a GIF, or an MP4 where ffmpeg is there.

lossatlas animate --surf_file FILE.h5                                      it turns: FILE.h5_train_loss_turn.gif
lossatlas animate --surf_file A.h5 B.h5 --labels A B --render --out ab.mp4
lossatlas animate --surf_file FILE.h5 --kind path --proj_file PROJECTION.h5    a training walks over it
lossatlas animate --surf_file FILE.h5 --kind refine                        it is filled, coarse cells first
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas import figures
from lossatlas.commands import options
from lossatlas.commands.open_results import check_labels, check_plane, read_plane
from lossatlas.errors import BadInput, BadUsage, exit_code, say
from lossatlas.figures import animations, rendered_plots
from lossatlas.figures.contour_plots import Panel, panel
from lossatlas.figures.style import is_share
from lossatlas.figures.trajectory_plots import beneath
from lossatlas.io import read_projection
from lossatlas.landscape import Surface

FRAMES = {"turn": 60, "path": 90, "refine": 24}
SLOWEST, FASTEST = 0.05, 50.0  # a GIF counts in hundredths of a second, and browsers slow down what is below two
RATES = {"turn": 15.0, "path": 15.0, "refine": 4.0}


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    p.add_argument("--surf_file", "-f", nargs="+", required=True, help="surface files; several share one scale")
    p.add_argument("--kind", choices=tuple(FRAMES), default="turn", help="what happens (default: %(default)s)")
    p.add_argument("--labels", nargs="+", help="a name for each file")
    p.add_argument(
        "--out", help="file to write, .gif or .mp4 (default: the first one's name, the field, the kind, .gif)"
    )
    p.add_argument("--surf_name", help="field to draw (default: train_loss)")
    p.add_argument("--proj_file", help="trajectory, of plot_trajectory.py, for --kind path")
    p.add_argument("--render", action="store_true", help="render what turns, without axes (needs pyvista)")
    options.add_contours(p)
    p.add_argument("--zlim", type=options.finite, help="top of the surface that turns")
    options.add_camera(p)
    p.add_argument("--frames", type=options.positive, help=f"how many (default: {FRAMES})".replace("'", ""))
    p.add_argument("--fps", type=rate_of_frames, help=f"frames a second (default: {RATES})".replace("'", ""))
    p.add_argument("--dpi", type=options.positive, default=90, help="of each frame (default: %(default)s)")
    p.add_argument("--log", action="store_true", help="logarithmic scale even where a linear one would do")
    return p


def rate_of_frames(text: str) -> float:
    value = options.above_zero(text)
    if not SLOWEST <= value <= FASTEST:
        raise argparse.ArgumentTypeError(f"{text} frames a second: from {SLOWEST:g} to {FASTEST:g}")
    return value


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


def run(args: argparse.Namespace) -> None:
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
