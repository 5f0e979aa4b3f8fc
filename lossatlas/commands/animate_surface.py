"""Animate a surface, from saved surface files alone: a GIF, or an MP4 or WebM where ffmpeg is there.

lossatlas animate --surf_file FILE.h5                                      it turns: FILE.h5_train_loss_turn.gif
lossatlas animate --surf_file A.h5 B.h5 --labels A B --render --out ab.mp4
lossatlas animate --surf_file FILE.h5 --kind path --proj_file PROJECTION.h5    a training run moves over it
lossatlas animate --surf_file FILE.h5 --kind refine                        its grid is computed, coarse cells first
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossatlas import config, figures
from lossatlas.choices import FilmKind, LookName, SurfaceLayout
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.open_results import (
    check_label_count,
    check_layout,
    check_plane,
    figure_labels,
    read_plane,
    with_common_field,
)
from lossatlas.config.option_fields import above_zero, changed, finite, option, positive
from lossatlas.errors import BadInput, BadUsage, counted, exit_code, named, say
from lossatlas.figures import animations, film_files, rendered_plots, surface_renderer, turning_films
from lossatlas.figures.animations import FASTEST, SLOWEST
from lossatlas.figures.figure_files import animation_name
from lossatlas.figures.film_frames import Subject
from lossatlas.figures.kinds import Film
from lossatlas.figures.panels import Panel, panels_scale, surface_panel
from lossatlas.figures.trajectory_plots import surface_under_path
from lossatlas.io import Projection, read_projection
from lossatlas.landscape import Surface


def rate_of_frames(text: str) -> float:
    """Parse a number of frames per second.

    Raises:
        ValueError: It is no number, or players cannot show it.
    """
    value = above_zero(text)
    if not SLOWEST <= value <= FASTEST:
        raise ValueError(f"{text} frames a second: from {SLOWEST:g} to {FASTEST:g}")
    return value


def each_of(number: Callable[[Film], float]) -> str:
    """List a default of each kind, for the help."""
    return ", ".join(f"{kind.word}: {number(kind):g}" for kind in Film)


@dataclass(frozen=True)
class FilmOptions(config.LookOptions, config.ContourOptions, config.CameraOptions):
    """Surface files, the kind of film, and its camera, frames and size."""

    HEADING: ClassVar[str] = "film"

    surf_file: tuple[str, ...] = option(
        (), "surface files; several are drawn on one scale", short="-f", many="+", required=True, metavar="FILE.h5"
    )
    kind: FilmKind = option(
        "turn",
        "the surface turns, a trajectory moves over it (path), or its cells appear in the order in which they are "
        "computed (refine)",
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    out: str | None = option(
        None,
        "file to write, .gif, .mp4 or .webm (default: the name of the first surface file, with the field and the kind, "
        "as .gif)",
        metavar="FILE",
    )
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    proj_file: str | None = option(
        None, "trajectory from plot_trajectory.py, for --kind path, or to draw on a turning surface", metavar="FILE.h5"
    )
    render: bool = option(False, "render the turning surface without axes (needs pyvista)")
    zlim: float | None = option(None, "top of the turning surface", kind=finite)
    swing: float | None = option(
        None,
        "swing to and fro by so many degrees instead of turning around, for --kind turn",
        kind=above_zero,
        metavar="DEGREES",
    )
    frames: int | None = option(
        None, f"number of frames (default: {each_of(lambda kind: kind.frames)})", kind=positive, metavar="N"
    )
    fps: float | None = option(
        None, f"frames per second (default: {each_of(lambda kind: kind.rate)})", kind=rate_of_frames, metavar="RATE"
    )
    dpi: int = option(90, "resolution of each frame", kind=positive)
    max_size: float | None = option(
        None, "largest size of a GIF in MB, which then takes fewer colours", kind=above_zero, metavar="MB"
    )
    log: bool = changed(config.DisplayOptions, "log")


def parser() -> options.Parser[FilmOptions]:
    return options.Parser(__doc__, FilmOptions)


def animate(
    files: Sequence[str | Path],
    *,
    kind: Film = Film.TURN,
    labels: Sequence[str] | None = None,
    out: str | Path | None = None,
    surf_name: str | None = None,
    proj_file: str | None = None,
    render: bool = False,
    zlim: float | None = None,
    camera: figures.Camera | None = None,
    layout: SurfaceLayout = "grid",
    swing: float | None = None,
    frames: int | None = None,
    rate: float | None = None,
    dpi: int = 90,
    max_size: float | None = None,
    look: LookName | None = None,
    cmap: str | None = None,
    **limits: Any,
) -> Path:
    """Animate surfaces.

    Args:
        files: Surface files; several share one scale.
        kind: Surfaces that turn, a training run, or a grid that is computed.
        labels: Name of each file; by default the names of the files.
        out: File to write, .gif, .mp4 or .webm; by default a GIF beside the first file.
        surf_name: Field to draw; by default train_loss, or the first one.
        proj_file: Projection file of the training run.
        render: Render surfaces that turn with pyvista.
        zlim: Value at which surfaces that turn are cut off.
        camera: Where the first frame sees them from.
        layout: "grid", or "overlay" for several surfaces in one box.
        swing: Degrees by which surfaces swing to and fro; None turns them around.
        frames: Number of frames; by default that of the kind.
        rate: Frames per second; by default that of the kind.
        dpi: Dots per inch of each frame.
        max_size: Largest size of a GIF in megabytes, which then takes fewer colours.
        look: "paper", "dark" or "print"; None for paper.
        cmap: Colour map of the field; None for that of the look.
        **limits: vmin, vmax, vlevel, colours and log, see `choose_colour_scale`.

    Returns:
        The file that was written.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finished cell.
        BadUsage: The arguments do not suit each other, or the files.
        CannotWrite: The file cannot be written.
    """
    paths = [Path(file) for file in files]
    check_label_count(labels, paths)
    _check_kind(kind, len(paths), proj_file, swing=swing, render=render)
    overlay = check_layout(layout, paths)
    if render:
        surface_renderer.require_rendering()
    surfaces, panels, name = _read_panels(paths, surf_name, labels)
    target = Path(out) if out else animation_name(paths[0], name, kind)
    film_files.check_animation_file(target)
    camera = camera or (rendered_plots.CAMERA if render else figures.Camera())
    number = frames or kind.frames
    with figures.style(look=look, cmap=cmap) as plt:
        subject = Subject(panels, panels_scale(panels, name, **limits), name)
        run = None if proj_file is None else _read_run(proj_file, surfaces, paths, subject)
        if render:
            cameras = turning_films.turning_cameras(camera, number, swing)
            pictures = turning_films.rendered_turntable_frames(
                plt, subject, cameras, dpi, overlay=overlay, paths=[] if run is None else [run[0]]
            )
        else:
            pictures = animations.frames_of(
                plt,
                kind,
                subject,
                surfaces[0],
                camera,
                count=number,
                dpi=dpi,
                run=run,
                overlay=overlay,
                zlim=zlim,
                swing=swing,
            )
        speed, hold = rate or kind.rate, kind.hold
        count = film_files.save_animation(target, pictures, speed, hold, max_size and max_size * 1e6)
    size = target.stat().st_size / 1e6
    say(f"wrote {target} ({size:.2f} MB): {counted(count, 'frame', 'frames')}, {count / speed + hold:.1f} s")
    return target


def _read_panels(
    paths: Sequence[Path], surf_name: str | None, labels: Sequence[str] | None
) -> tuple[list[Surface], list[Panel], str]:
    """Read surfaces, and return them, their panels and the name of the field that these show."""
    surfaces, name = with_common_field([read_plane(path) for path in paths], paths, surf_name)
    titles = figure_labels(labels, paths)
    panels = [surface_panel(surface, name, title) for surface, title in zip(surfaces, titles, strict=True)]
    return surfaces, panels, name


def _check_kind(kind: Film, count: int, proj_file: str | None, *, swing: float | None, render: bool) -> None:
    """Refuse arguments that do not suit the kind of the animation."""
    if kind is not Film.TURN and count > 1:
        raise BadUsage(f"{named('kind', kind.word)} shows one surface, and there are {count} files")
    path, turn, projection = named("kind", Film.PATH.word), named("kind", Film.TURN.word), named("proj_file")
    if kind is Film.PATH and proj_file is None:
        raise BadUsage(f"{path} needs a {projection}")
    if kind is Film.REFINE and proj_file is not None:
        raise BadUsage(f"{projection} belongs to {path} and {turn}, not to {kind.word}")
    if render and kind is not Film.TURN:
        raise BadUsage(f"{named('render')} belongs to {turn}, not to {kind.word}")
    if swing is not None and kind is not Film.TURN:
        raise BadUsage(f"{named('swing')} belongs to {turn}, not to {kind.word}")


def _read_run(
    proj_file: str, surfaces: Sequence[Surface], paths: Sequence[Path], subject: Subject
) -> tuple[Projection, np.ndarray]:
    """Read a training run, and the values of the surface under its checkpoints."""
    run = read_projection(proj_file).of(subject.name)
    check_plane(proj_file, surfaces, paths)
    if len(run.x) < 2:
        raise BadInput(f"{proj_file} holds {len(run.x)} checkpoint: a path needs two")
    under = surface_under_path(surfaces[0], subject.name, run, subject.scale)
    if not np.isfinite(under).any():
        raise BadInput(f"no checkpoint of {proj_file} lies on the grid of {paths[0]}")
    return run, under


def run(args: FilmOptions) -> None:
    """Make the animation that the command line names."""
    animate(
        args.surf_file,
        kind=Film.named(args.kind) or Film.TURN,
        labels=args.labels,
        out=args.out,
        surf_name=args.surf_name,
        proj_file=args.proj_file,
        render=args.render,
        zlim=args.zlim,
        camera=figure_keywords.camera_of(args, rendered_plots.CAMERA if args.render else None),
        swing=args.swing,
        layout=args.layout,
        frames=args.frames,
        rate=args.fps,
        dpi=args.dpi,
        max_size=args.max_size,
        look=args.look,
        cmap=args.cmap,
        **figure_keywords.scale_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
