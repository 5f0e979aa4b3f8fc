"""Read the inputs of a grid command on rank 0: networks, data and directions, and take the lock on the surface file."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossatlas import config
from lossatlas.errors import BadInput, BadUsage, named, say
from lossatlas.io import Directions, read_surface
from lossatlas.io.direction_files import embeds_directions
from lossatlas.io.progress import Log
from lossatlas.jobs.curves.curve_record import check_control_points, curve_kind_of
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.jobs.inputs.make_directions import AxisRequest, DirectionRequest, Origin, note_sheared
from lossatlas.jobs.inputs.named_directions import direction_request, find_directions, moved_lines
from lossatlas.jobs.inputs.named_inputs import check_checkpoints, check_model, check_user_functions, load_inputs
from lossatlas.jobs.inputs.network_memory import memory_record
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.output_files import check_folder, lock_output, output_path
from lossatlas.jobs.sweep.grid_inputs import GridInputs
from lossatlas.jobs.sweep.grid_points import (
    GridPoints,
    checkpoint_path,
    networks_on,
    points_along,
    points_of_chart,
    points_on_curve,
    random_lines,
)
from lossatlas.landscape import Surface
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of
from lossatlas.user_code import function_record


def read_grid_inputs(
    task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, releases: ExitStack
) -> GridInputs:
    """Load networks and data, find the directions, and take the lock on the surface file.

    Args:
        task: The configuration.
        name_of: Gives the name of the surface file, where the user names none, for a direction file.
        log: The log beside the surface file.
        releases: Releases the lock when it is closed.

    Returns:
        The inputs. Nothing is written yet but the lock.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: A file is missing, or does not fit the others.
        CannotWrite: Another run writes the surface file.
    """
    check_user_functions(task.networks.model, task.data.dataset, task.loss)
    check_model(task.networks.model)
    check_checkpoints(task.networks.file, task.networks.file2, task.networks.file3)
    if task.path:
        return read_checkpoint_path(task, log, releases)
    task = with_batchnorm_moved(task)
    if task.directions.repeat or task.directions.curve:
        return read_without_direction_file(task, name_of, log, releases)
    return read_with_direction_file(task, name_of, log, releases)


def read_with_direction_file(
    task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, releases: ExitStack
) -> GridInputs:
    """Read the inputs of a line or a plane along the directions of a file.

    Args:
        task: The configuration.
        name_of: Gives the name of the surface file, where the user names none, for a direction file.
        log: The log beside the surface file.
        releases: Releases the lock when it is closed.

    Raises:
        BadUsage: Direction file and surface file are the same, new file.
        BadInput: A file is missing, or does not fit the others.
        CannotWrite: Another run writes the surface file.
    """
    nets, choice, output = task.networks, task.directions, task.output
    dir_file = output_path(choice.dir_file, file_names.direction_name(nets, choice), output.surf_file)
    surf_file = output_path(output.surf_file, name_of(dir_file), None)
    lock = lock_output("surface", surf_file, log, releases, dry_run=output.dry_run)
    check_folder("direction", dir_file)
    new_dir_file = not dir_file.exists()
    loaded = load_networks(task)
    device = "cpu" if output.dry_run else device_of(task.run.cuda)
    curvature = OriginCurvature.of(loaded, choice.selection, device)
    request = direction_request(loaded, nets, choice, curvature)
    found = find_directions(dir_file, request, loaded.record, choice, planned=output.dry_run)
    directions, new = found or (Directions([]), True)
    if new and task.resolved:
        directions = replace(directions, about={**directions.about, "config": dict(task.resolved)})
    if new and not choice.scheme:
        note_sheared(request.origin, directions)
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"{named('dir_file')} and {named('surf_file')} are the same file, {surf_file}: give two")
    points = points_of(task, loaded, request.origin, directions)
    return GridInputs(
        surf_file=surf_file,
        loaded=loaded,
        record=job_record(task, loaded, points),
        points=points,
        lock=lock,
        origin=request.origin,
        dir_file=dir_file,
        directions=directions,
        new_directions=new,
        new_dir_file=new_dir_file,
        embed=output.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file)),
        curvature=curvature if choice.curvature and not output.dry_run else None,
    )


def points_of(task: config.GridConfig, loaded: LoadedInputs, origin: Origin, directions: Directions) -> GridPoints:
    """Return the points along the directions of a file, with the networks on their line or plane.

    Args:
        task: The configuration, with the grid.
        loaded: The networks and the data.
        origin: The network at the centre.
        directions: The directions, as the file stores them; the first ones are used, one for each axis.
    """
    choice, nets = task.directions, task.networks
    used = replace(directions.first(len(choice.axes)), extra={})
    points = points_along(origin, used, task.grid, per_layer=choice.per_layer, scheme=choice.scheme)
    if choice.per_layer:
        return points
    ends = zip((nets.file2, nets.file3), loaded.targets, strict=True)
    others = [(Path(file).stem, target) for file, target in ends if file and target is not None]
    networks = networks_on(origin, origin.vectors(used), Path(nets.file).stem or "network", others)
    curve = curve_kind_of(nets, loaded) if len(networks) > 2 else ""
    return replace(points, networks=networks, curve=curve)


def load_networks(task: config.GridConfig) -> LoadedInputs:
    """Load the networks and the data; check that BatchNorm statistics can be recalibrated where that is asked for."""
    loaded = load_inputs(
        task.networks,
        task.directions.dir_type,
        task.data,
        task.loss,
        train_too=task.recalibrated > 0,
        memory=task.memory,
    )
    check_statistics(task, loaded)
    return loaded


def with_batchnorm_moved(task: config.GridConfig) -> config.GridConfig:
    """Return the task with BatchNorm statistics moved too, where all axes lead to networks with other statistics.

    Directions in an existing file, and a `dir_type` that the user gives, are not changed; a note says so.
    """
    from lossatlas.models import read_state
    from lossatlas.models.adapters import is_adapter
    from lossatlas.models.checkpoint import have_same_statistics

    choice, nets = task.directions, task.networks
    ends = [file for file in (nets.file2, nets.file3) if file and not is_adapter(file)]  # these change no statistics
    axes = 1 if choice.curve else len(choice.axes)
    if choice.dir_type == "states" or choice.scheme or not nets.file or is_adapter(nets.file) or not ends:
        return task
    if have_same_statistics(read_state(nets.file), map(read_state, ends)):
        return task
    default = output_path(choice.dir_file, file_names.direction_name(nets, choice), task.output.surf_file)
    if choice.dir_type_given or choice.same_dir or len(ends) < axes or (default.exists() and not choice.curve):
        say(
            "note: the networks differ in BatchNorm statistics, which are not moved with "
            f"{named('dir_type', 'weights')}: the losses at the other networks' coordinates are not theirs "
            f"({named('dir_type', 'states')}, with a direction file of its own)"
        )
        return task
    say(
        f"the networks differ in BatchNorm statistics, so these are moved too ({named('dir_type', 'states')}; "
        f"otherwise {named('dir_type', 'weights')})"
    )
    return replace(task, directions=replace(choice, dir_type="states"))


def job_record(task: config.GridConfig, loaded: LoadedInputs, points: GridPoints) -> dict[str, Any]:
    """Return the fields that identify the job, see `io.resume`."""
    from lossatlas.jobs.inputs.fingerprint import data_record, recalibration_record

    bn = {}
    if task.recalibrated and loaded.training is not None:
        bn["bn"] = recalibration_record(task.recalibrated, loaded.training)
    return {
        **loaded.record,
        "dataset": loaded.first.name,
        **function_record("loss", task.loss),
        "split": task.data.split,
        **points.record,
        **bn,
        **memory_record(low=loaded.kept is not None),
        **data_record(loaded.data),
    }


def check_statistics(task: config.GridConfig, loaded: LoadedInputs) -> None:
    """Raise BadInput where the BatchNorm statistics cannot be recalibrated as the task asks."""
    from lossatlas.evaluation.precision import resolve_precision
    from lossatlas.evaluation.recalibration import check_recalibrated

    if loaded.training is not None:
        precision = resolve_precision(task.run.precision, loaded.net)
        check_recalibrated(loaded.net, loaded.training, precision, task.recalibrated)


def read_without_direction_file(
    task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, releases: ExitStack
) -> GridInputs:
    """Read the inputs of random lines, which every rank draws itself, or of a curve.

    Args:
        task: The configuration.
        name_of: Gives the name of the surface file, where the user names none, for a direction file.
        log: The log beside the surface file.
        releases: Releases the lock when it is closed.

    Raises:
        BadUsage: No parameter moves.
        BadInput: A file is missing, or does not fit the others.
        CannotWrite: Another run writes the surface file.
    """
    choice, nets = task.directions, task.networks
    dir_name = file_names.direction_name(nets, choice)
    surf_file = output_path(task.output.surf_file, name_of(dir_name), None)
    lock = lock_output("surface", surf_file, log, releases, dry_run=task.output.dry_run)
    loaded = load_networks(task)
    if choice.curve:
        points = curve_of(task, loaded)
    else:
        origin = Origin.checked(loaded.net, loaded.dir_type, loaded.origin, choice.selection)
        axis = AxisRequest("random", choice.x.norm, choice.x.ignore)
        request = DirectionRequest(origin=origin, axes=[axis], seed=choice.seed)
        points = random_lines(request, task.grid, choice.repeat)
    return GridInputs(
        surf_file=surf_file, loaded=loaded, record=job_record(task, loaded, points), points=points, lock=lock
    )


def curve_of(task: config.GridConfig, loaded: LoadedInputs) -> GridPoints:
    """Return the points of the curve to another network.

    Raises:
        BadInput: As `check_control_points`, or a control point does not fit the network.
    """
    from lossatlas.models import load_into, read_state
    from lossatlas.models.checkpoint import state_digest
    from lossatlas.parameter_space import position

    choice, nets, end = task.directions, task.networks, loaded.targets[0]
    assert end is not None
    assert nets.file2 is not None
    assert choice.curve
    control_points = []
    before = {name: value.clone() for name, value in loaded.net.state_dict().items()}
    for file in choice.control_points:
        state = read_state(file)
        load_into(loaded.net, state, file)
        control_points.append((state_digest(state), position(loaded.net, choice.dir_type)))
    loaded.net.load_state_dict(before)
    towards = loaded.towards[nets.file2]
    check_control_points(choice, [loaded.record["checkpoint"], towards])
    points = points_on_curve(choice.curve, choice.dir_type, control_points, (towards, end), task.grid)
    networks = [(Path(file).stem, at, 0.0) for file, at in ((nets.file, 0.0), (nets.file2, 1.0)) if file]
    return replace(points, networks=networks)


def read_checkpoint_path(task: config.GridConfig, log: Log, releases: ExitStack) -> GridInputs:
    """Read the inputs of a path of checkpoints, or of a chart along it.

    The k-th cell of a path is the k-th checkpoint, with its own BatchNorm statistics.
    """
    assert task.output.surf_file is not None
    surf_file = Path(task.output.surf_file)
    lock = lock_output("surface", surf_file, log, releases, dry_run=task.output.dry_run)
    loaded = load_inputs(task.networks, "states", task.data, task.loss)
    if task.chart is None:
        points = checkpoint_path(task.path, task.grid, "states")
    else:
        points = points_of_chart(task.path, task.chart, task.grid)
    return GridInputs(
        surf_file=surf_file, loaded=loaded, record=job_record(task, loaded, points), points=points, lock=lock
    )


def is_surface(path: Path) -> bool:
    """Return whether a file is a readable surface file."""
    if not path.exists():
        return False
    try:
        read_surface(path)
    except BadInput:
        return False
    return True


def print_configuration(inputs: GridInputs, surface: Surface, threads: int, world: World) -> None:
    """Print the resolved configuration; entries of the plan that are 0 or empty are measured later.

    Args:
        inputs: The inputs of the job, with the names of its files.
        surface: The surface so far, with request and plan.
        threads: CPU threads of each rank.
        world: The ranks.
    """
    for name, value in {
        **surface.request,
        **surface.plan,
        "threads per rank": threads,
        "ranks": world.size,
        "direction file": inputs.dir_file,
        "surface file": inputs.surf_file,
    }.items():
        unmeasured = name in surface.plan and value in (0, "") and value is not False and name != "seed"
        say(f"{name} = {'to be measured' if unmeasured else value}")
    if inputs.origin is not None and inputs.points.directions is not None and inputs.points.directions.x:
        moved = inputs.origin.moved_by(inputs.origin.vectors(inputs.points.directions))
        for line in moved_lines([name.decode() for name in moved["tensors"]], moved["lengths"]):
            say(line)
    if surface.about.get("why_not_folded"):
        say(f"BatchNorm is not folded: {surface.about['why_not_folded']}")
