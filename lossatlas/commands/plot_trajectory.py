"""Project the checkpoints of a training run onto a plane, and compute the loss surface under them.

    python plot_trajectory.py --model resnet20 --dataset fashion_mnist_mini --model_folder runs/MY_RUN

writes the plane of the two principal components, and where the checkpoints lie in it. With --surface it goes on: the loss of
every checkpoint itself, a grid that holds the path with a margin, the surface on it, and the figures:

    mpirun -n 4 python plot_trajectory.py --mpi --model resnet20 --dataset fashion_mnist_mini --limit 500 \\
        --model_folder runs/MY_RUN --surface 25

Several folders are several runs on one plane and one surface. Run the same command again to continue after an interruption.
"""

import hashlib
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lossatlas import config, programs
from lossatlas.commands import options
from lossatlas.commands.checkpoint_series import CheckpointOptions, CheckpointSeries, read_series
from lossatlas.commands.plot_surface import grid_command, loss_quantity
from lossatlas.commands.start_ranks import on_local_ranks
from lossatlas.errors import BadInput, BadUsage, say
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
from lossatlas.jobs import file_names, grid_job
from lossatlas.jobs.grid_inputs import check_folder
from lossatlas.landscape import Grid
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import run_in_compute_thread
from lossatlas.option_fields import changed, not_negative, option, resolved

if TYPE_CHECKING:
    from torch import nn

    from lossatlas.jobs.checkpoint_projection import CheckpointDifferences
    from lossatlas.jobs.inputs import LoadedInputs
    from lossatlas.parameter_space import Point

MOST_MARGIN = 100.0


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
class Plan:
    """What is there after the projection. places: the file of each run, and its coordinates."""

    runs: tuple[CheckpointSeries, ...]
    dir_file: Path
    places: tuple[Path, ...]
    ends: tuple[tuple[float, float], tuple[float, float]]  # of all paths, along x and y


def check(args: TrajectoryOptions) -> None:
    """What is wrong is said before hours are spent. Raises BadUsage, BadInput."""
    loss_quantity(args, options.run_choice(args), recalibrated=0)
    options.data_choice(args)
    if args.surface:
        nx, ny = numbers(args.surface)
        Grid.parse(f"0:1:{nx}", f"0:1:{ny}")
    if args.margin > MOST_MARGIN:
        raise BadUsage(f"--margin {args.margin:g}: at most {MOST_MARGIN:g} times the path's extent")
    if args.surf_file:
        check_folder("surface", Path(args.surf_file))
    if args.plane == "river" and args.dir_file:
        raise BadUsage("--plane river makes a plane, and --dir_file names one: leave one of them out")
    if args.plane == "river" and args.dir_type != "weights":
        raise BadUsage("--plane river has no eigenvector of statistics: leave --dir_type states out")


def plan(args: TrajectoryOptions) -> Plan:
    """Directions and projections, written. Raises BadUsage, BadInput, CannotWrite."""
    from lossatlas.datasets.registry import SOURCES
    from lossatlas.jobs.checkpoint_projection import differences
    from lossatlas.models import build, load_into, read_state
    from lossatlas.models.checkpoint import digest
    from lossatlas.parameter_space import Selection, tensors

    model = options.model_choice(args)
    runs = read_series(args)
    if isinstance(model, str) and (args.surface or args.plane == "river" or args.dataset not in SOURCES):
        net: nn.Module = network_of_data(args, model, runs)
    elif isinstance(model, str):
        source = SOURCES[args.dataset]
        net = build(model, (3, 32, 32) if len(source.mean) == 3 else (1, 28, 28), source.classes)
    else:
        net = build(model).eval()
    selection = Selection(args.only, args.without)
    files = [*runs[0].files[:-1], *(file for run in runs[1:] for file in run.files), runs[0].files[-1]]

    def point(k: int) -> "Point":
        load_into(net, read_state(files[k]), str(files[k]))
        return {name: value.clone() for name, value in tensors(net, args.dir_type).items()}

    last = point(len(files) - 1)
    rows = differences(point, len(files), last, net, args.ignore, selection)
    origin = digest(read_state(files[-1]))
    dir_file, directions = plane_of(args, runs, rows, net, last, origin)
    return projected(args, runs, rows, net, dir_file, directions, origin)


def network_of_data(args: TrajectoryOptions, model: str, runs: Sequence[CheckpointSeries]) -> "nn.Module":
    """A network of the zoo whose shape is that of the data."""
    from lossatlas.jobs.inputs import load_data, network_for
    from lossatlas.models import read_state

    data = load_data(options.data_choice(args), read_state(runs[0].files[-1]), model)
    return network_for(model, next(iter(data.values())))


def plane_of(
    args: TrajectoryOptions,
    runs: Sequence[CheckpointSeries],
    rows: "CheckpointDifferences",
    net: "nn.Module",
    origin_point: "Point",
    origin: str,
) -> tuple[Path, Directions]:
    """The directions that are named, or new ones, written where none or the same are."""

    if args.dir_file:
        directions = read_directions(args.dir_file)
        if directions.y is None:
            raise BadInput(f"{args.dir_file} holds one direction, a plane needs two")
        return Path(args.dir_file), directions
    dir_file = folder_of(args, runs) / "directions.h5"
    about = {
        "model": str(options.model_choice(args)),
        "checkpoint": origin,
        "dir_type": args.dir_type,
        "ignore": args.ignore,
        "of": "; ".join(f"{len(run.files)} checkpoints, {run.files[0].name} to {run.files[-1].name}" for run in runs)
        + "".join(f", {part}" for part in [*args.only, *(f"not {each}" for each in args.without)]),
    }
    if args.plane == "river":
        from lossatlas.jobs.inputs import function_record
        from lossatlas.models import read_state
        from lossatlas.models.checkpoint import digest

        loaded = inputs_for(args, runs[0])
        about["drift"] = f"from {digest(read_state(runs[0].files[0]))}"
        about["curvature"] = f"of {function_record('loss', options.loss_choice(args))} on {loaded.first.digest}"
        if dir_file.exists() and not args.force:  # an eigenvector is not found again to the last bit
            there = read_directions(dir_file)
            if {name: there.about.get(name) for name in about} == about:
                return dir_file, there
        directions = river(args, rows, net, origin_point, about, runs[0], loaded)
    else:
        directions = principal(rows, net, origin_point, args, about)
    atomic_write.make_folder(dir_file.parent)
    if dir_file.exists() and read_directions(dir_file).sha256 != directions.sha256:
        if not args.force:
            raise BadInput(
                f"{dir_file} holds other directions ({read_directions(dir_file).about.get('of', 'unknown')}), "
                "on which surfaces may rest: use them with --dir_file, or replace them with --force"
            )
        say(f"note: the directions that were there are now in {set_aside(dir_file)}")
    write_directions(dir_file, replace(directions, about={**directions.about, "config": resolved(args)}))
    return dir_file, directions


def folder_of(args: TrajectoryOptions, runs: Sequence[CheckpointSeries]) -> Path:
    """Where the plane of these runs and everything on it goes."""
    from lossatlas.parameter_space import Selection

    selection = Selection(args.only, args.without)
    ignore = f"_ignore={args.ignore}" if args.ignore else ""
    chosen = "".join(f"_{file_names.plain(part)}" for part in str(selection).split(", ") if part)
    epochs = runs[0].epochs
    every = args.save_epoch or (epochs[1] - epochs[0] if epochs is not None and len(epochs) > 1 else 1)
    which = f"save_epoch={every}"
    if args.checkpoints:  # beside what is there of the whole run
        names = "\n".join(str(file.resolve()) for file in runs[0].files)
        which = f"of_{len(runs[0].files)}_{hashlib.sha256(os.fsencode(names)).hexdigest()[:8]}"
    others = "".join(f"_with_{run.slug}" for run in runs[1:])
    kind = "PCA" if args.plane == "pca" else "river"
    name = f"{kind}_{args.dir_type}{ignore}{chosen}_{which}{others}"
    return file_names.shortened(runs[0].files[0].parent / f"{name}.h5").with_suffix("")


def principal(
    rows: "CheckpointDifferences", net: "nn.Module", origin: "Point", args: TrajectoryOptions, about: dict[str, str]
) -> Directions:
    from lossatlas.jobs.checkpoint_projection import principal_plane
    from lossatlas.parameter_space import as_arrays, lengths

    found, plane = principal_plane(rows, origin)
    x, y = (as_arrays(point, net, args.dir_type) for point in plane)
    extra = {
        EXPLAINED: found.explained_variance_ratio,
        "singular_values_": found.singular_values,
        "explained_variance_": found.explained_variance,
        "tensors": np.array([name.encode() for name in origin]),
        "lengths": lengths(origin, plane),
    }
    return Directions(x, y, {**about, "x": "1st principal component", "y": "2nd principal component"}, extra)


def inputs_for(args: TrajectoryOptions, run: CheckpointSeries) -> "LoadedInputs":
    """The network at the end of a run, and the data."""
    from lossatlas.jobs.inputs import load_inputs

    nets = config.NetworkConfig(options.model_choice(args), str(run.files[-1]), None, None)
    return load_inputs(nets, "weights", options.data_choice(args), options.loss_choice(args))


def river(
    args: TrajectoryOptions,
    rows: "CheckpointDifferences",
    net: "nn.Module",
    origin: "Point",
    about: dict[str, str],
    run: CheckpointSeries,
    loaded: "LoadedInputs",
) -> Directions:
    """The way the first run has drifted, and what is steepest across it, both of unit length and at right angles."""
    from lossatlas.jobs.checkpoint_projection import unflattened
    from lossatlas.jobs.inputs import device_of
    from lossatlas.jobs.origin_curvature import OriginCurvature
    from lossatlas.parameter_space import Layout, Selection, as_arrays, lengths, orthogonal, scale_to

    selection = Selection(args.only, args.without)
    drift = unflattened(-rows[0], origin)
    if not rows[0].any():
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


def projected(
    args: TrajectoryOptions,
    runs: tuple[CheckpointSeries, ...],
    rows: "CheckpointDifferences",
    net: "nn.Module",
    dir_file: Path,
    directions: Directions,
    origin: str,
) -> Plan:
    """Write where each run is in the plane, and say how much of it the plane shows."""
    from lossatlas.jobs.checkpoint_projection import coordinates
    from lossatlas.parameter_space import as_point
    from lossatlas.parameter_space.projection import inner

    assert directions.y is not None
    plane = [as_point(axis, net, args.dir_type, f"a direction in {dir_file}") for axis in (directions.x, directions.y)]
    found, distances = coordinates(rows, plane, str(dir_file))
    shares = directions.extra.get(EXPLAINED, ()) if not args.dir_file else ()
    explained = tuple(float(share) for share in shares)
    if explained:
        say(
            f"the plane explains {100 * explained[0]:.2f} % + {100 * explained[1]:.2f} % of the variance about the mean"
        )
    axes = np.stack([np.concatenate([value.numpy().ravel() for value in point.values()]) for point in plane])
    inside = ((found @ inner(axes, axes)) * found).sum()
    whole = max(float(inside + (distances**2).sum()), 1e-300)
    say(f"of the squared distances from the origin, the last checkpoint, {100 * inside / whole:.2f} % lie in the plane")
    numbers_of, start = [], 0  # of each run's rows; the origin, the end of the first, is the last of all
    for k, run in enumerate(runs):
        own = len(run.files) - (k == 0)
        numbers_of.append([*range(start, start + own), *([len(rows) - 1] if k == 0 else [])])
        start += own
    places = []
    for run, chosen in zip(runs, numbers_of, strict=True):
        where, off = found[chosen], distances[chosen]
        own = not args.dir_file or run.files[0].resolve().parent in dir_file.resolve().parents
        another = "" if run is runs[0] and own else f"_{run.slug}"  # another's plane may have a projection already
        place = dir_file.with_name(f"{dir_file.name}{another}_proj_cos.h5")
        epochs = None if run.epochs is None else np.array(run.epochs, float)
        names = tuple(str(directions.about.get(letter, letter)) for letter in "xy")
        path = Projection(where[:, 0], where[:, 1], epochs, None, off, explained, run.drops, run.name, names)
        write_projection(place, path, directions.sha256, origin)
        places.append(place)
        of = f"{run.name}: " if len(runs) > 1 else ""
        say(
            f"{of}farthest from the plane: {run.at(int(off.argmax()))}, by {off.max():.4g} "
            f"(the path begins {float(np.hypot(*where[0])):.4g} away from the origin, in the plane)"
        )
    (x0, y0), (x1, y1) = found.min(0), found.max(0)
    say(f"x from {x0:.4g} to {x1:.4g}, y from {y0:.4g} to {y1:.4g}")
    say(f"wrote {'' if args.dir_file else f'{dir_file} and '}{', '.join(map(str, places))}")
    return Plan(runs, dir_file, tuple(places), ((float(x0), float(x1)), (float(y0), float(y1))))


def numbers(text: str) -> tuple[int, int]:
    """Points along x and y, from N or NxM. Raises BadUsage."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if found is None or min(nx := int(found.group(1)), ny := int(found.group(2) or nx)) < 2:
        raise BadUsage(f"--surface {text}: give the number of points on each axis, as in 25 or 31x21, at least 2")
    return nx, ny


def grid_around(ends: Sequence[tuple[float, float]], margin: float, counts: Sequence[int]) -> tuple[str, str]:
    """Axes that hold what lies between the ends, with a margin, at round places. A path along one axis gets a square's share."""
    widest = max(high - low for low, high in ends)
    axes = []
    for (low, high), count in zip(ends, counts, strict=True):
        extent = max(high - low, 0.1 * widest)
        room = margin * extent + (extent - (high - low)) / 2
        unit = 10.0 ** (math.floor(math.log10(extent)) - 1) if extent > 0 else 1.0
        a, b = math.floor((low - room) / unit) * unit, math.ceil((high + room) / unit) * unit
        axes.append(f"{a:.6g}:{b:.6g}:{count}")
    return axes[0], axes[1]


def checkpoint_task(args: TrajectoryOptions, found: Plan, command: str) -> config.GridConfig:
    """The losses of the checkpoints themselves."""
    files = tuple(str(file) for run in found.runs for file in run.files)
    task = surface_task(args, found, command)
    task = replace(task, path=files, x=f"0:{len(files) - 1}:{len(files)}", y=None)
    name = beside(surface_file(found, surface_task(args, found, command)), "checkpoints")
    return replace(task, output=replace(task.output, surf_file=str(name)))


def surface_file(found: Plan, task: config.GridConfig) -> Path:
    return Path(task.output.surf_file or file_names.surface_name(found.dir_file, task))


def beside(surf_file: Path, what: str) -> Path:
    """A file that belongs to a surface."""
    return surf_file.with_name(f"{surf_file.name.removesuffix('.h5')}_{what}.h5")


def surface_task(args: TrajectoryOptions, found: Plan, command: str) -> config.GridConfig:
    nets = config.NetworkConfig(options.model_choice(args), str(found.runs[0].files[-1]), None, None)
    axis = config.AxisConfig("", "")
    choice = config.DirectionConfig(args.dir_type, axis, axis, False, config.SEED, 0, str(found.dir_file))
    x, y = grid_around(found.ends, args.margin, numbers(args.surface or ""))
    output = config.OutputConfig(args.surf_file, force=args.force, verbose=args.verbose)
    looks = config.PlotConfig(show=args.show)
    return config.GridConfig(
        nets,
        choice,
        options.data_choice(args),
        options.loss_choice(args),
        x,
        y,
        options.run_choice(args),
        output,
        looks,
        command,
        resolved=resolved(args),
    )


def finish(args: TrajectoryOptions, found: Plan, surf_file: Path, loss_file: Path) -> None:
    """Bring the checkpoints' own losses into the projections, say how far they are from the surface's, and draw."""
    from lossatlas.commands import plot_2D
    from lossatlas.figures import scale
    from lossatlas.figures.trajectory_plots import apart_words
    from lossatlas.figures.trajectory_plots import beneath as under_path
    from lossatlas.io.trajectory_files import loss_key, projection_plane

    surface, own = read_surface(surf_file), read_surface(loss_file)
    name = next(field for field in surface.fields if field.endswith("_loss"))
    drawn = scale([surface.fields[name]])
    start, files = 0, []
    for run, place in zip(found.runs, found.places, strict=True):
        losses = own.fields[name][start : start + len(run.files)]
        start += len(run.files)
        path = replace(read_projection(place), loss=losses, field=name, losses_of=loss_key(surface.request))
        plane = projection_plane(place)
        files.append(str(beside(surf_file, "path" if run is found.runs[0] else f"path_{run.slug}")))
        write_projection(files[-1], path, plane["directions"], plane["checkpoint"])
        if words := apart_words(path, under_path(surface, name, path, drawn)):
            say(f"{run.name}: {words}" if len(found.runs) > 1 else words)
    say(f"wrote {', '.join(files)}")
    plot_2D.draw([surf_file], proj_file=files, show=args.show)
    say(f"again: {programs.shell('plot_2D')} --surf_file {shlex.quote(str(surf_file))} --proj_file {shlex.join(files)}")
    of = f" (of {found.runs[0].name})" if len(files) > 1 else ""
    say(
        f"a page{of}: {programs.shell('view_surface')} {shlex.quote(str(surf_file))} --proj_file {shlex.quote(files[0])}"
    )


def body(world: World, args: TrajectoryOptions, command: Sequence[str], log: Log) -> int:
    line = programs.command_line("plot_trajectory", command)
    found: list[Plan] = []

    def order(task: Callable[[TrajectoryOptions, Plan, str], config.GridConfig]) -> grid_job.GridCommand:
        return grid_command(args, task(args, found[0], line))

    if world.root:
        check(args)
        found.append(run_in_compute_thread(world, lambda: plan(args)))
    if not args.surface:
        if world.root:
            from lossatlas.commands import plot_2D

            plot_2D.draw_path([str(place) for place in found[0].places], show=args.show)
            say("the loss of the checkpoints, and the surface under them: the same command with --surface 25")
        return 0
    grid_job.run_grid_job(world, lambda: order(checkpoint_task), log)
    grid_job.run_grid_job(world, lambda: order(surface_task), log)
    if world.root:
        task = surface_task(args, found[0], line)
        surf_file = surface_file(found[0], task)
        loss_file = checkpoint_task(args, found[0], line).output.surf_file
        assert loss_file is not None
        finish(args, found[0], surf_file, Path(loss_file))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    code, args = on_local_ranks("plot_trajectory", args, command)
    if code is not None:
        return code
    log = Log(args.surf_file)
    return launch.launch(args.mpi, lambda world: body(world, args, command, log), log.line)
