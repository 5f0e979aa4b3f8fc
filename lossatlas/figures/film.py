"""Films of one surface in memory, see `animations`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from lossatlas.argument_checks import checked_word
from lossatlas.choices import Colours, FilmKind, LookName
from lossatlas.errors import BadUsage, named
from lossatlas.figures import animations, film_files
from lossatlas.figures.animations import FASTEST, SLOWEST
from lossatlas.figures.film_frames import Subject
from lossatlas.figures.kinds import Film, Kind, words_of
from lossatlas.figures.matplotlib_style import style
from lossatlas.figures.plot_functions import plane_panel
from lossatlas.figures.plot_options import PlotOptions
from lossatlas.figures.trajectory_plots import surface_under_path
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.derived_fields import Field
from lossatlas.landscape.surface import Surface


class FilmKeywords(TypedDict, total=False):
    """Keywords of a film, as of `Landscape.plot`."""

    cmap: str | None
    colours: Colours | str | None
    look: LookName | str | None
    levels: int | Sequence[float] | None
    vmin: float | None
    vmax: float | None
    vlevel: float | None
    log: bool | None
    elev: float | None
    azim: float | None
    zlim: float | None


def write_film(
    path: Path,
    surface: Surface,
    kind: FilmKind | str,
    *,
    field: Field | None,
    run: Projection | None,
    frames: int | None,
    fps: float | None,
    dpi: int,
    keywords: FilmKeywords,
) -> Path:
    """Write a film of a plane, see `Landscape.film`.

    Args:
        path: File to write; its ending chooses the format.
        surface: A surface over a plane.
        kind: Kind of the film, a word of `Film`.
        field: Field to show; None for train_loss, or the first field.
        run: Training run of kind "path", or one to draw on a turning surface; its plane is the plane of the surface.
        frames: Number of frames, from 1 to 10000; None for the usual number of the kind.
        fps: Frames per second; None for the usual rate of the kind.
        dpi: Dots per inch of each frame.
        keywords: Options of a surface in three dimensions and its colour scale.

    Returns:
        The file.

    Raises:
        BadUsage: The surface is no plane, or an argument cannot be used.
        CannotWrite: The file cannot be written.
    """
    film = _checked_film(kind, run, frames, fps, dpi)
    film_files.check_animation_file(path)
    options = PlotOptions.of(Kind.SOLID, {**keywords, "field": field})
    name, panel = plane_panel(surface, options, "a film shows a plane, and this is a line")
    surface, _ = options.find(surface)
    with style(look=options.look) as plt:
        subject = Subject([panel], options.scale([panel], name), name)
        moving = None if run is None else (run.of(name), _under(surface, subject, run))
        pictures = animations.frames_of(
            plt,
            film,
            subject,
            surface,
            options.camera,
            count=frames or film.frames,
            dpi=dpi,
            run=moving,
            zlim=options.zlim,
        )
        film_files.save_animation(path, pictures, fps or film.rate, film.hold)
    return path


def _checked_film(
    kind: FilmKind | str, run: Projection | None, frames: int | None, fps: float | None, dpi: int
) -> Film:
    film = Film.named(checked_word("kind", kind, words_of(Film)))
    assert film is not None
    if film is Film.PATH and run is None:
        raise BadUsage("kind='path' needs a trajectory")
    if film is Film.REFINE and run is not None:
        raise BadUsage(f"{named('trajectory')} belongs to kind='path' and kind='turn'")
    for name, count in (("frames", frames), ("dpi", dpi)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 10_000):
            raise BadUsage(f"{named(name, count)}: give a whole number from 1 to 10000")
    if fps is not None and not (isinstance(fps, int | float) and SLOWEST <= fps <= FASTEST):
        raise BadUsage(f"{named('fps', fps)}: give frames per second from {SLOWEST:g} to {FASTEST:g}")
    return film


def _under(surface: Surface, subject: Subject, run: Projection) -> np.ndarray:
    """Return the values of the surface under the checkpoints of a run."""
    if len(run.x) < 2:
        raise BadUsage(f"a path needs two checkpoints, and the trajectory has {len(run.x)}")
    under = surface_under_path(surface, subject.name, run, subject.scale)
    if not np.isfinite(under).any():
        raise BadUsage("no checkpoint of the trajectory lies on the grid of the surface")
    return under
