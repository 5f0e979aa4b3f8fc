"""Project the checkpoints of a training run onto a plane, and compute the loss surface under them.

    python plot_trajectory.py --model resnet20 --dataset fashion_mnist_mini --model_folder runs/MY_RUN

writes the plane of the two principal components, and where the checkpoints lie in it. With --surface it goes on: the loss of
every checkpoint itself, a grid that holds the path with a margin, the surface on it, and the figures:

    mpirun -n 4 python plot_trajectory.py --mpi --model resnet20 --dataset fashion_mnist_mini --limit 500 \\
        --model_folder runs/MY_RUN --surface 25

Several folders are several runs on one plane and one surface. Run the same command again to continue after an interruption.
"""

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lossatlas import config, programs
from lossatlas.commands import options
from lossatlas.commands.checkpoint_series import CheckpointOptions, CheckpointSeries, read_series
from lossatlas.commands.plot_surface import grid_command, tolerances
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.errors import BadInput, BadUsage, named, say
from lossatlas.io import (
    Directions,
    Projection,
    atomic_write,
    read_directions,
    read_projection,
    read_surface,
    write_directions,
    write_projection,
)
from lossatlas.io.atomic_write import set_aside
from lossatlas.io.progress import Log
from lossatlas.io.trajectory_files import EXPLAINED
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.output_files import check_folder
from lossatlas.jobs.sweep import grid_job
from lossatlas.landscape import Grid
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import run_in_compute_thread
from lossatlas.option_fields import changed, not_negative, option, resolved

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lossatlas.jobs.inputs.named_inputs import LoadedInputs
    from lossatlas.jobs.trajectory.checkpoint_projection import CheckpointDifferences
    from lossatlas.parameter_space import Point, Selection

    Configure = Callable[["TrajectoryOptions", "ProjectedRuns", str], config.GridConfig]


@dataclass(frozen=True)
class TrajectoryPlaneOptions(config.SelectionOptions):
    """The plane that the checkpoints are projected onto."""

    HEADING: ClassVar[str] = "plane"

    plane: str = option(
        "pca",
        "principal components (pca), or the direction from the first checkpoint to the last and the top eigenvector of the "
        "Hessian at the last (river)",
        choices=("pca", "river"),
    )
    dir_type: str = option(
        "weights",
        "project the parameters (weights), or the BatchNorm statistics as well (states)",
        choices=("weights", "states"),
    )
    ignore: str = option("", "biasbn: leave out biases and BatchNorm parameters", choices=("", "biasbn"))
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
    """The options of this command."""


def parser() -> options.Parser[TrajectoryOptions]:
    return options.Parser(__doc__, TrajectoryOptions)


@dataclass(frozen=True)
class ProjectedRuns:
    """Training runs in one plane, with the files that hold plane and coordinates.

    Attributes:
        runs: Checkpoints of each run.
        dir_file: Direction file of the plane.
        proj_files: Projection file of each run.
        extent: Lowest and highest coordinate of all runs along x and along y.
    """

    runs: tuple[CheckpointSeries, ...]
    dir_file: Path
    proj_files: tuple[Path, ...]
    extent: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class RunDifferences:
    """Differences of all checkpoints from the last one of the first run, which is the origin.

    Attributes:
        rows: (checkpoints, numbers) differences: the first run without its last checkpoint, the other runs, the origin.
        net: A network of this architecture.
        origin: Tensors of the origin by name.
        origin_hash: Hash of the origin's checkpoint.
    """

    rows: "CheckpointDifferences"
    net: "nn.Module"
    origin: "Point"
    origin_hash: str

    def numbers_of(self, runs: Sequence[CheckpointSeries]) -> list[list[int]]:
        """Numbers of the rows of each run, in the order of its checkpoints."""
        numbers, start = [], 0
        for k, run in enumerate(runs):
            count = len(run.files) - (k == 0)
            numbers.append([*range(start, start + count), *([len(self.rows) - 1] if k == 0 else [])])
            start += count
        return numbers


def check(args: TrajectoryOptions) -> None:
    """Check the options before hours are spent.

    Raises:
        BadUsage: Options contradict each other, or have a value that makes no sense.
        BadInput: The folder of the surface file is missing.
    """
    tolerances(args)
    options.run_choice(args)
    options.data_choice(args)
    if args.surface:
        nx, ny = grid_counts(args.surface)
        Grid.parse(f"0:1:{nx}", f"0:1:{ny}")
    if args.margin > config.MOST_MARGIN:
        raise BadUsage(f"{named('margin')} {args.margin:g}: at most {config.MOST_MARGIN:g} times the path's extent")
    if args.surf_file:
        check_folder("surface", Path(args.surf_file))
    river = named("plane", "river")
    if args.plane == "river" and args.dir_file:
        raise BadUsage(f"{river} makes a plane, and {named('dir_file')} names one: leave one of them out")
    if args.plane == "river" and args.dir_type != "weights":
        raise BadUsage(f"{river} has no eigenvector of statistics: leave {named('dir_type', 'states')} out")


def project_runs(args: TrajectoryOptions) -> ProjectedRuns:
    """Find the plane of the runs, project them onto it, and write both.

    Args:
        args: Command line.

    Returns:
        The runs in their plane.

    Raises:
        BadUsage: Options do not suit the runs.
        BadInput: A checkpoint is missing, damaged or of another architecture.
        CannotWrite: A file cannot be written.
    """
    runs = read_series(args)
    differences = _run_differences(args, runs)
    dir_file, directions = _find_directions(args, runs, differences)
    return _write_projections(args, runs, differences, dir_file, directions)


def _run_differences(args: TrajectoryOptions, runs: Sequence[CheckpointSeries]) -> RunDifferences:
    from lossatlas.jobs.trajectory.checkpoint_projection import differences
    from lossatlas.models import load_into, read_state
    from lossatlas.models.checkpoint import digest
    from lossatlas.parameter_space import tensors

    net = _make_network(args, runs)
    files = [*runs[0].files[:-1], *(file for run in runs[1:] for file in run.files), runs[0].files[-1]]

    def point(k: int) -> "Point":
        load_into(net, read_state(files[k]), str(files[k]))
        return {name: value.clone() for name, value in tensors(net, args.dir_type).items()}

    origin = point(len(files) - 1)
    rows = differences(point, len(files), origin, net, args.ignore, _selection(args))
    return RunDifferences(rows, net, origin, digest(read_state(files[-1])))


def _make_network(args: TrajectoryOptions, runs: Sequence[CheckpointSeries]) -> "nn.Module":
    """A network of the checkpoints' architecture; data are read only where its shape, or a surface, needs them."""
    from lossatlas.datasets.registry import SOURCES
    from lossatlas.jobs.inputs.named_inputs import load_data, network_for
    from lossatlas.models import build, read_state

    model = options.model_choice(args)
    if not isinstance(model, str):
        return build(model).eval()
    if args.surface or args.plane == "river" or args.dataset not in SOURCES:
        data = load_data(options.data_choice(args), read_state(runs[0].files[-1]), model)
        return network_for(model, next(iter(data.values())))
    source = SOURCES[args.dataset]
    return build(model, (3, 32, 32) if len(source.mean) == 3 else (1, 28, 28), source.classes)


def _selection(args: TrajectoryOptions) -> "Selection":
    from lossatlas.parameter_space import Selection

    return Selection(args.only, args.without)


def _find_directions(
    args: TrajectoryOptions, runs: Sequence[CheckpointSeries], differences: RunDifferences
) -> tuple[Path, Directions]:
    """The directions that are named, or new ones, written where none or the same are."""
    if args.dir_file:
        directions = read_directions(args.dir_file)
        if directions.y is None:
            raise BadInput(f"{args.dir_file} holds one direction, a plane needs two")
        return Path(args.dir_file), directions
    dir_file = _plane_folder(args, runs) / "directions.h5"
    about = {
        "model": str(options.model_choice(args)),
        "checkpoint": differences.origin_hash,
        "dir_type": args.dir_type,
        "ignore": args.ignore,
        "of": "; ".join(f"{len(run.files)} checkpoints, {run.files[0].name} to {run.files[-1].name}" for run in runs)
        + "".join(f", {part}" for part in [*args.only, *(f"not {each}" for each in args.without)]),
    }
    if args.plane == "river":
        loaded = _load_inputs_at_end(args, runs[0])
        about |= _river_metadata(args, runs[0], loaded)
        if dir_file.exists() and not args.force:  # an eigenvector does not come out the same to the last bit
            previous = read_directions(dir_file)
            if {name: previous.about.get(name) for name in about} == about:
                return dir_file, previous
        directions = _river_directions(args, differences, about, runs[0], loaded)
    else:
        directions = _principal_directions(args, differences, about)
    _write_directions(dir_file, directions, resolved(args), force=args.force)
    return dir_file, directions


def _write_directions(dir_file: Path, directions: Directions, configuration: object, *, force: bool) -> None:
    """Write directions; others that are there are set aside with `force`, otherwise kept."""
    atomic_write.make_folder(dir_file.parent)
    if dir_file.exists() and (previous := read_directions(dir_file)).sha256 != directions.sha256:
        if not force:
            raise BadInput(
                f"{dir_file} holds other directions ({previous.about.get('of', 'unknown')}), "
                f"on which surfaces may rest: use them with {named('dir_file')}, or replace them with {named('force')}"
            )
        say(f"note: the directions that were there are now in {set_aside(dir_file)}")
    write_directions(dir_file, replace(directions, about={**directions.about, "config": configuration}))


def _plane_folder(args: TrajectoryOptions, runs: Sequence[CheckpointSeries]) -> Path:
    """Folder of the plane of these runs and of everything on it."""
    ignore = f"_ignore={args.ignore}" if args.ignore else ""
    chosen = "".join(f"_{file_names.plain(part)}" for part in str(_selection(args)).split(", ") if part)
    epochs = runs[0].epochs
    every = args.save_epoch or (epochs[1] - epochs[0] if epochs is not None and len(epochs) > 1 else 1)
    which = f"save_epoch={every}"
    if args.checkpoints:  # another name than that of the whole run, whose plane may lie in the same folder
        names = "\n".join(str(file.resolve()) for file in runs[0].files)
        which = f"of_{len(runs[0].files)}_{hashlib.sha256(os.fsencode(names)).hexdigest()[:8]}"
    others = "".join(f"_with_{run.slug}" for run in runs[1:])
    kind = "PCA" if args.plane == "pca" else "river"
    name = f"{kind}_{args.dir_type}{ignore}{chosen}_{which}{others}"
    return file_names.shortened(runs[0].files[0].parent / f"{name}.h5").with_suffix("")


def _principal_directions(args: TrajectoryOptions, differences: RunDifferences, about: dict[str, str]) -> Directions:
    """The two principal components of the checkpoints, as Li et al. (arXiv 1712.09913, section 7) take them."""
    from lossatlas.jobs.trajectory.checkpoint_projection import principal_plane
    from lossatlas.parameter_space import as_arrays, lengths

    components, plane = principal_plane(differences.rows, differences.origin)
    x, y = (as_arrays(point, differences.net, args.dir_type) for point in plane)
    extra = {
        EXPLAINED: components.explained_variance_ratio,
        "singular_values_": components.singular_values,
        "explained_variance_": components.explained_variance,
        "tensors": np.array([name.encode() for name in differences.origin]),
        "lengths": lengths(differences.origin, plane),
    }
    return Directions(x, y, {**about, "x": "1st principal component", "y": "2nd principal component"}, extra)


def _load_inputs_at_end(args: TrajectoryOptions, run: CheckpointSeries) -> "LoadedInputs":
    """The network at the end of a run, and the data."""
    from lossatlas.jobs.inputs.named_inputs import load_inputs

    nets = config.NetworkConfig(options.model_choice(args), str(run.files[-1]), None, None)
    return load_inputs(nets, "weights", options.data_choice(args), options.loss_choice(args))


def _river_metadata(args: TrajectoryOptions, run: CheckpointSeries, loaded: "LoadedInputs") -> dict[str, str]:
    """Facts that decide the directions beside those of every plane."""
    from lossatlas.jobs.inputs.named_inputs import function_record
    from lossatlas.models import read_state
    from lossatlas.models.checkpoint import digest

    return {
        "drift": f"from {digest(read_state(run.files[0]))}",
        "curvature": f"of {function_record('loss', options.loss_choice(args))} on {loaded.first.digest}",
    }


def _river_directions(
    args: TrajectoryOptions,
    differences: RunDifferences,
    about: dict[str, str],
    run: CheckpointSeries,
    loaded: "LoadedInputs",
) -> Directions:
    """The drift of the first run, and the top eigenvector of the Hessian at its end orthogonal to it, of unit length."""
    from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
    from lossatlas.jobs.trajectory.checkpoint_projection import unflattened
    from lossatlas.mpi.rank_resources import device_of
    from lossatlas.parameter_space import Layout, as_arrays, lengths, orthogonal, scale_to

    origin, net, selection = differences.origin, differences.net, _selection(args)
    drift = unflattened(-differences.rows[0], origin)
    if not differences.rows[0].any():
        raise BadInput(f"{run.files[0]} and {run.files[-1]} are the same network: there is no drift")
    steepest = OriginCurvature.of(loaded, selection, device_of(args.cuda)).eigenvector(1)
    layout = Layout.of(net)
    x = scale_to(drift, origin, "unit", args.ignore, layout, selection)
    y = scale_to(orthogonal(steepest, x), origin, "unit", args.ignore, layout, selection)
    of = f" {run.name}" if run.name and len(args.model_folder) > 1 else ""
    say(f"x is the drift of the run{of}, y the top eigenvector of the Hessian at its end, at a right angle to x")
    extra = {"tensors": np.array([name.encode() for name in origin]), "lengths": lengths(origin, (x, y))}
    names = {"x": f"drift from {run.files[0].name} to {run.files[-1].name}", "y": "top eigenvector, at a right angle"}
    return Directions(as_arrays(x, net, "weights"), as_arrays(y, net, "weights"), {**about, **names}, extra)


def _write_projections(
    args: TrajectoryOptions,
    runs: tuple[CheckpointSeries, ...],
    differences: RunDifferences,
    dir_file: Path,
    directions: Directions,
) -> ProjectedRuns:
    """Write the coordinates of each run in the plane, and print how much of it the plane shows."""
    from lossatlas.jobs.trajectory.checkpoint_projection import coordinates
    from lossatlas.parameter_space import as_point

    assert directions.y is not None
    source = f"a direction in {dir_file}"
    plane = [as_point(axis, differences.net, args.dir_type, source) for axis in (directions.x, directions.y)]
    places, distances = coordinates(differences.rows, plane, str(dir_file))
    shares = directions.extra.get(EXPLAINED, ()) if not args.dir_file else ()
    explained = tuple(float(share) for share in shares)
    _say_shares(explained, places, distances, plane)
    proj_files = []
    for run, rows in zip(runs, differences.numbers_of(runs), strict=True):
        own = not args.dir_file or run.files[0].resolve().parent in dir_file.resolve().parents
        suffix = "" if run is runs[0] and own else f"_{run.slug}"  # the plane's own run may have a projection already
        proj_file = dir_file.with_name(f"{dir_file.name}{suffix}_proj_cos.h5")
        x, y = places[rows].T
        epochs = None if run.epochs is None else np.array(run.epochs, float)
        names = tuple(str(directions.about.get(letter, letter)) for letter in "xy")
        path = Projection(
            x=x,
            y=y,
            epochs=epochs,
            loss=None,
            distance=distances[rows],
            explained=explained,
            drops=run.drops,
            run=run.name,
            axes=names,
        )
        write_projection(proj_file, path, directions.sha256, differences.origin_hash)
        proj_files.append(proj_file)
        _say_farthest(run, path, of=f"{run.name}: " if len(runs) > 1 else "")
    (x0, y0), (x1, y1) = places.min(0), places.max(0)
    say(f"x from {x0:.4g} to {x1:.4g}, y from {y0:.4g} to {y1:.4g}")
    say(f"wrote {'' if args.dir_file else f'{dir_file} and '}{', '.join(map(str, proj_files))}")
    extent = (float(x0), float(x1)), (float(y0), float(y1))
    return ProjectedRuns(runs, dir_file, tuple(proj_files), extent)


def _say_shares(
    explained: Sequence[float], places: np.ndarray, distances: np.ndarray, plane: Sequence[Mapping[str, "Tensor"]]
) -> None:
    """Print the shares of the variance and of the squared distances that a plane shows."""
    from lossatlas.parameter_space.projection import inner

    if explained:
        say(
            f"the plane explains {100 * explained[0]:.2f} % + {100 * explained[1]:.2f} % of the variance about the mean"
        )
    axes = np.stack([np.concatenate([value.numpy().ravel() for value in point.values()]) for point in plane])
    inside = ((places @ inner(axes, axes)) * places).sum()
    whole = max(float(inside + (distances**2).sum()), 1e-300)
    say(f"of the squared distances from the origin, the last checkpoint, {100 * inside / whole:.2f} % lie in the plane")


def _say_farthest(run: CheckpointSeries, path: Projection, *, of: str) -> None:
    """Print the checkpoint that is farthest from the plane, and the length of the path in it."""
    assert path.distance is not None
    farthest = int(path.distance.argmax())
    say(
        f"{of}farthest from the plane: {run.at(farthest)}, by {path.distance.max():.4g} "
        f"(the path begins {float(np.hypot(path.x[0], path.y[0])):.4g} away from the origin, in the plane)"
    )


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


def surface_config(args: TrajectoryOptions, projected: ProjectedRuns, command: str) -> config.GridConfig:
    """Configure the surface under the runs.

    Args:
        args: Command line.
        projected: The runs in their plane.
        command: Command line as text, which the file records.

    Returns:
        Configuration of a grid job.
    """
    from lossatlas.jobs.trajectory.checkpoint_projection import grid_around

    nets = config.NetworkConfig(options.model_choice(args), str(projected.runs[0].files[-1]), None, None)
    axis = config.AxisConfig("", "")
    choice = config.DirectionConfig(
        dir_type=args.dir_type,
        x=axis,
        y=axis,
        same_dir=False,
        seed=config.SEED,
        idx=0,
        dir_file=str(projected.dir_file),
    )
    x, y = grid_around(projected.extent, args.margin, grid_counts(args.surface or ""))
    output = config.OutputConfig(args.surf_file, force=args.force, verbose=args.verbose)
    figures = config.PlotConfig(**options.look_keywords(args))
    return config.GridConfig(
        networks=nets,
        directions=choice,
        data=options.data_choice(args),
        loss=options.loss_choice(args),
        x=x,
        y=y,
        run=options.run_choice(args),
        output=output,
        figures=figures,
        command=command,
        resolved=resolved(args),
    )


def checkpoint_config(args: TrajectoryOptions, projected: ProjectedRuns, command: str) -> config.GridConfig:
    """Configure the losses of the checkpoints themselves; arguments and result as for `surface_config`."""
    files = tuple(str(file) for run in projected.runs for file in run.files)
    surface = surface_config(args, projected, command)
    own = replace(surface, path=files, x=f"0:{len(files) - 1}:{len(files)}", y=None)
    name = _beside(_surface_file(projected, surface), "checkpoints")
    return replace(own, output=replace(own.output, surf_file=str(name)))


def _surface_file(projected: ProjectedRuns, surface: config.GridConfig) -> Path:
    return Path(surface.output.surf_file or file_names.surface_name(projected.dir_file, surface))


def _beside(surf_file: Path, suffix: str) -> Path:
    """A file that belongs to a surface."""
    return surf_file.with_name(f"{surf_file.name.removesuffix('.h5')}_{suffix}.h5")


def draw_results(args: TrajectoryOptions, projected: ProjectedRuns, surf_file: Path, loss_file: Path) -> None:
    """Write projections with the checkpoints' own losses, compare these with the surface, and draw.

    Args:
        args: Command line.
        projected: The runs in their plane.
        surf_file: Surface under the runs.
        loss_file: Losses of the checkpoints themselves.

    Raises:
        CannotWrite: A file cannot be written.
    """
    from lossatlas.commands import plot_2D
    from lossatlas.figures import choose_colour_scale
    from lossatlas.figures.plotted_fields import loss_names
    from lossatlas.figures.trajectory_plots import describe_loss_ratio, surface_under_path
    from lossatlas.io.trajectory_files import loss_key, projection_plane

    surface, own = read_surface(surf_file), read_surface(loss_file)
    name = loss_names(surface)[0]
    scale = choose_colour_scale([surface.fields[name]])
    start, files = 0, []
    for run, proj_file in zip(projected.runs, projected.proj_files, strict=True):
        losses = own.fields[name][start : start + len(run.files)]
        start += len(run.files)
        path = replace(read_projection(proj_file), loss=losses, field=name, losses_of=loss_key(surface.request))
        plane = projection_plane(proj_file)
        files.append(str(_beside(surf_file, "path" if run is projected.runs[0] else f"path_{run.slug}")))
        write_projection(files[-1], path, plane["directions"], plane["checkpoint"])
        if words := describe_loss_ratio(path, surface_under_path(surface, name, path, scale)):
            say(f"{run.name}: {words}" if len(projected.runs) > 1 else words)
    say(f"wrote {', '.join(files)}")
    plot_2D.draw([surf_file], proj_file=files, **options.look_keywords(args))
    say(f"again: {programs.shell('plot_2D')} --surf_file {shlex.quote(str(surf_file))} --proj_file {shlex.join(files)}")
    of = f" (of {projected.runs[0].name})" if len(files) > 1 else ""
    say(
        f"a page{of}: {programs.shell('view_surface')} {shlex.quote(str(surf_file))} --proj_file {shlex.quote(files[0])}"
    )


def run_on_rank(world: World, args: TrajectoryOptions, command: Sequence[str], log: Log) -> int:
    """Run the command on one rank; the others take part in the grid jobs alone.

    Args:
        world: Communicator.
        args: Command line.
        command: Its words.
        log: Log beside the output.

    Returns:
        The exit code.

    Raises:
        BadUsage: Options contradict each other.
        BadInput: A file is missing, damaged or of another kind.
        CannotWrite: A file cannot be written.
    """
    line = programs.command_line("plot_trajectory", command)
    projected: ProjectedRuns | None = None
    if world.root:
        check(args)
        projected = run_in_compute_thread(world, lambda: project_runs(args))
    if not args.surface:
        if projected is not None:
            from lossatlas.commands import plot_2D

            plot_2D.draw_path([str(file) for file in projected.proj_files], **options.look_keywords(args))
            say("the loss of the checkpoints, and the surface under them: the same command with --surface 25")
        return 0

    def job(configure: "Configure") -> grid_job.GridCommand:
        assert projected is not None  # rank 0 alone asks for the job
        return grid_command(args, configure(args, projected, line))

    grid_job.run_grid_job(world, lambda: job(checkpoint_config), log)
    grid_job.run_grid_job(world, lambda: job(surface_config), log)
    if projected is not None:
        surf_file = _surface_file(projected, surface_config(args, projected, line))
        draw_results(args, projected, surf_file, _beside(surf_file, "checkpoints"))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("plot_trajectory", args, command)
    if code is not None:
        return code
    log = Log(args.surf_file)
    return launch.launch(args.mpi, lambda world: run_on_rank(world, args, command, log), log.line)
