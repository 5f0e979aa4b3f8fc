"""The options of the command that projects training runs, and the configuration that they describe."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lossatlas import config
from lossatlas.choices import DirType, Ignore, OwnPlaneCells, PlaneKind
from lossatlas.commands import figure_keywords, job_choices
from lossatlas.commands.checkpoint_options import SeriesOptions, folder_selection
from lossatlas.commands.plot_surface import tolerances
from lossatlas.config.option_fields import changed, natural, not_negative, option, resolved_options
from lossatlas.errors import BadUsage, named
from lossatlas.jobs.inputs.output_files import check_folder
from lossatlas.jobs.trajectory.checkpoint_series import (
    CheckpointSeries,
    series_of_files,
    series_of_folders,
)
from lossatlas.landscape import Grid

if TYPE_CHECKING:  # it imports torch, which takes seconds, and --help needs none of it
    from lossatlas.jobs.trajectory.named_trajectory import TrajectoryConfig


@dataclass(frozen=True)
class CheckpointOptions(SeriesOptions):
    """The checkpoints that belong to one or several series."""

    HEADING: ClassVar[str] = "checkpoints"

    model_folder: tuple[str, ...] = option(
        (), "folder of the checkpoints of a run; several folders for several runs", many="+", metavar="FOLDER"
    )
    max_epoch: int | None = changed(
        SeriesOptions,
        "max_epoch",
        help="last epoch, which is the origin of the plane (default: the last there is)",
    )
    lr_drops: tuple[int, ...] = option(
        (),
        "epochs at which the learning rate was lowered (default: read from the saved states of the optimizer)",
        kind=natural,
        many="+",
        metavar="EPOCH",
    )
    labels: tuple[str, ...] | None = option(
        None, "a name for each run (default: the parts in which the names of the folders differ)", many="+"
    )


@dataclass(frozen=True)
class TrajectoryPlaneOptions(config.SelectionOptions):
    """The plane that the checkpoints are projected onto."""

    HEADING: ClassVar[str] = "plane"

    plane: PlaneKind = option(
        "pca",
        "principal components (pca), the direction from the first checkpoint to the last and the top eigenvector of "
        "the Hessian at the last (river), or a chart along the path, with a plane of velocity and acceleration at each "
        "checkpoint (local)",
    )
    dir_type: DirType = option(
        "weights",
        "project the parameters (weights), or the BatchNorm statistics as well (states)",
    )
    ignore: Ignore = option("", "biasbn: leave out biases and BatchNorm parameters")
    dir_file: str | None = option(None, "project onto the plane in this direction file instead", metavar="FILE.h5")


@dataclass(frozen=True)
class UnderPathOptions:
    """The surface under the path."""

    HEADING: ClassVar[str] = "surface"

    surface: str | None = option(
        None, "compute the surface under the path, with this number of points along x (and y)", metavar="N[xM]"
    )
    margin: float = option(
        0.15, "margin around the path, as a fraction of its extent along each axis", kind=not_negative
    )
    width: float | None = option(
        None,
        "with --plane local: extent across the path, as a fraction of its length (default: 0.2)",
        kind=not_negative,
    )
    own_planes: OwnPlaneCells | None = option(
        None,
        "with --plane local: compute the loss of a few cells at the borders between planes, or of all, in the plane of "
        "their nearest checkpoint too (default: few)",
    )
    surf_file: str | None = changed(config.OutputConfig, "surf_file")
    force: bool = changed(
        config.OutputConfig, "force", help="replace the directions of other checkpoints, and start over"
    )
    verbose: bool = changed(config.OutputConfig, "verbose")


@dataclass(frozen=True)
class TrajectoryOptions(
    config.ModelOptions,
    CheckpointOptions,
    TrajectoryPlaneOptions,
    UnderPathOptions,
    config.DataOptions,
    config.EvaluationOptions,
    config.ShowOptions,
):
    """Checkpoints, their plane, the surface under the path, and the files of both."""


def check_options(args: TrajectoryOptions) -> None:
    """Check the options before hours are spent.

    Raises:
        BadUsage: Options contradict each other, or have a value that makes no sense.
        BadInput: The folder of the surface file is missing.
    """
    tolerances(args)
    if args.surface:
        nx, ny = grid_counts(args.surface)
        Grid.parse(f"0:1:{nx}", f"0:1:{ny}")
    if args.margin > config.MOST_MARGIN:
        raise BadUsage(f"{named('margin')} {args.margin:g}: at most {config.MOST_MARGIN:g} times the path's extent")
    if args.surf_file:
        check_folder("surface", Path(args.surf_file))
    if args.plane == "local":
        check_local_options(args)
    config.chart_extent(args.plane, args.width, args.own_planes)
    river = named("plane", "river")
    if args.plane == "river" and args.dir_file:
        raise BadUsage(f"{river} makes a plane, and {named('dir_file')} names one: leave one of them out")
    if args.plane == "river" and args.dir_type != "weights":
        raise BadUsage(f"{river} has no eigenvector of statistics: leave {named('dir_type', 'states')} out")


def check_local_options(args: TrajectoryOptions) -> None:
    """Raise BadUsage where options do not suit a chart along the path."""
    local = named("plane", "local")
    if args.dir_file:
        raise BadUsage(f"{local} makes planes, and {named('dir_file')} names one: leave one of them out")
    if not args.surface:
        raise BadUsage(f"{local} is a map of the loss along the path: add {named('surface', 25)}")
    if len(args.model_folder) > 1:
        raise BadUsage(f"{local} follows one training run, not {len(args.model_folder)}: give one folder")


def grid_counts(text: str) -> tuple[int, int]:
    """Parse the number of grid points along x and y.

    Args:
        text: N or NxM.

    Returns:
        The two numbers, at least 2 each.

    Raises:
        BadUsage: The text is another one.

    Example:
        >>> grid_counts("31x21")
        (31, 21)
    """
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if found is None or min(nx := int(found.group(1)), ny := int(found.group(2) or nx)) < 2:
        raise BadUsage(
            f"{named('surface', text)}: give the number of points on each axis, as in 25 or 31x21, at least 2"
        )
    return nx, ny


def read_series(args: CheckpointOptions) -> tuple[CheckpointSeries, ...]:
    """Return the series of checkpoints that the options name.

    Raises:
        BadUsage: As `series_of_folders`, or not exactly one of folders and checkpoints is given.
        BadInput: As `series_of_folders` or `series_of_files`.
    """
    if bool(args.model_folder) == bool(args.checkpoints):
        raise BadUsage(f"name a {named('model_folder')} of checkpoints, or several, or {named('checkpoints')}")
    if args.checkpoints:
        return (series_of_files(args.checkpoints, args.labels[0] if args.labels else "", args.lr_drops),)
    return series_of_folders(args.model_folder, folder_selection(args, args.lr_drops), args.labels or ())


def trajectory_config(args: TrajectoryOptions, command: str) -> "TrajectoryConfig":
    """Return the configuration that the options describe.

    Args:
        args: The options.
        command: The command line as text, which files record.

    Raises:
        BadUsage: Options contradict each other.
        BadInput: A checkpoint is missing.
    """
    from lossatlas.jobs.trajectory.named_trajectory import TrajectoryConfig
    from lossatlas.jobs.trajectory.run_files import plane_file
    from lossatlas.jobs.trajectory.run_projection import PlaneChoice
    from lossatlas.parameter_space import Selection

    check_options(args)
    run, data = job_choices.run_choice(args), job_choices.data_choice(args)
    runs = read_series(args)
    plane = PlaneChoice(
        kind=args.plane, dir_type=args.dir_type, ignore=args.ignore, selection=Selection(args.only, args.without)
    )
    width, own_planes = config.chart_extent(args.plane, args.width, args.own_planes)
    return TrajectoryConfig(
        runs=runs,
        plane=plane,
        dir_file=Path(args.dir_file) if args.dir_file else None,
        plane_file=plane_file(runs, plane, every=args.save_epoch, listed=bool(args.checkpoints)),
        model=job_choices.model_choice(args),
        data=data,
        loss=job_choices.loss_choice(args),
        run=run,
        output=config.OutputConfig(args.surf_file, force=args.force, verbose=args.verbose),
        counts=grid_counts(args.surface) if args.surface else None,
        margin=args.margin,
        width=width,
        own_planes=own_planes,
        figures=config.PlotConfig(**figure_keywords.look_keywords(args)),
        command=command,
        resolved=resolved_options(args),
    )
