"""Read the inputs of a grid job on rank 0: networks, data and directions, and take the lock on the surface file."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput, BadUsage, named, say
from lossatlas.io import Directions, read_surface, write_directions
from lossatlas.io.direction_files import embeds_directions
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Log
from lossatlas.io.resume import NOT_COMPUTED
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.find_directions import description, find_directions, moved_by, moved_lines
from lossatlas.jobs.inputs.make_directions import AxisRequest
from lossatlas.jobs.inputs.named_inputs import (
    LoadedInputs,
    check_checkpoints,
    check_model,
    check_user_functions,
    function_record,
    load_inputs,
    output_path,
)
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.output_files import check_folder, lock_output
from lossatlas.jobs.sweep.parametrization import (
    AffineParametrization,
    CheckpointPath,
    CurveParametrization,
    LayerLines,
    Parametrization,
    RandomLines,
    SchemeParametrization,
)
from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    pass


NEAR = 1e-3  # a network lies on a plane if its distance from the plane is at most this part of that from the origin


@dataclass(frozen=True, kw_only=True)
class GridInputs:
    """Inputs of a grid job, as rank 0 has read them.

    Attributes:
        surf_file: The surface file.
        grid: The grid; its second axis numbers the rows where the surface is a set of curves.
        loaded: Networks and data.
        record: The fields that identify the job, for the file.
        points: The parametrization of the grid, which is sent to the other ranks.
        lock: The lock on the surface file; None in a dry run.
        dir_file: The direction file; None where no directions are stored (a path of checkpoints, repeats, curves).
        directions: The directions in that file, or to be written into it.
        used: The directions that the grid needs.
        new_directions: The directions are not written yet.
        new_dir_file: The direction file did not exist before.
        embed: The surface file holds a copy of the directions.
        curvature: Gradient and Hessian at the origin, where second derivatives along the axes are asked for.
        networks: (name, x, y) of the networks on the plane, where that is known.
        curve: The kind of the curve through three networks, of which the third is its control point; '' for none.
    """

    surf_file: Path
    grid: Grid
    loaded: LoadedInputs
    record: dict[str, Any]
    points: Parametrization
    lock: Lock | None
    dir_file: Path | None = None
    directions: Directions = field(default_factory=lambda: Directions([]))
    used: Directions = field(default_factory=lambda: Directions([]))
    new_directions: bool = False
    new_dir_file: bool = True
    embed: bool = False
    curvature: OriginCurvature | None = None
    networks: Sequence[tuple[str, float, float]] = ()
    curve: str = ""

    def write_directions(self) -> None:
        """Write the direction file where it is new. Raises CannotWrite."""
        if self.new_directions and self.dir_file is not None:
            write_directions(self.dir_file, self.directions, new=self.new_dir_file)
            say(f"new directions are in {self.dir_file}")


def read_grid_inputs(
    task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, releases: ExitStack
) -> GridInputs:
    """Load networks and data, find the directions, and take the lock on the surface file.

    Args:
        task: The configuration.
        name_of: Gives the name of the surface file from that of the direction file, where the user names none.
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
    """Read the inputs of a line or a plane along the directions of a file, see `read_grid_inputs`."""
    nets, choice, output = task.networks, task.directions, task.output
    dir_file = output_path(choice.dir_file, file_names.direction_name(nets, choice), output.surf_file)
    surf_file = output_path(output.surf_file, name_of(dir_file), None)
    lock = lock_output("surface", surf_file, log, releases, dry_run=output.dry_run)
    check_folder("direction", dir_file)
    new_dir_file = not dir_file.exists()
    loaded = load_networks(task)
    device = "cpu" if output.dry_run else device_of(task.run.cuda)
    curvature = OriginCurvature.of(loaded, choice.selection, device)
    found = find_directions(dir_file, loaded, nets, choice, curvature, planned=output.dry_run)
    directions, new = found or (Directions([]), True)
    if new and task.resolved:
        directions = replace(directions, about={**directions.about, "config": dict(task.resolved)})
    if new and not choice.scheme:
        note_sheared(directions, loaded)
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"{named('dir_file')} and {named('surf_file')} are the same file, {surf_file}: give two")
    used = Directions(directions.x, directions.y if task.y else None, directions.about)
    points, grid, more = parametrization_of(task, loaded, used)
    networks = () if choice.per_layer else networks_on(nets, loaded, used)
    return GridInputs(
        surf_file=surf_file,
        grid=grid,
        loaded=loaded,
        record=record_of(task, loaded, directions=used.sha256 if found else NOT_COMPUTED, **more),
        points=points,
        lock=lock,
        dir_file=dir_file,
        directions=directions,
        used=used,
        new_directions=new,
        new_dir_file=new_dir_file,
        embed=output.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file)),
        curvature=curvature if choice.curvature and not output.dry_run else None,
        networks=networks,
        curve=curve_kind_of(nets, loaded) if len(networks) > 2 else "",
    )


def load_networks(task: config.GridConfig) -> LoadedInputs:
    """Load the networks and the data, and check that BatchNorm statistics can be recalibrated where that is asked for."""
    loaded = load_inputs(task.networks, task.directions.dir_type, task.data, task.loss, train_too=task.recalibrated > 0)
    check_statistics(task, loaded)
    return loaded


def note_sheared(directions: Directions, loaded: LoadedInputs) -> None:
    """Warn where two directions are far from orthogonal."""
    from lossatlas.parameter_space import as_point
    from lossatlas.parameter_space.directions import note_skewed

    if directions.y is None:
        return
    x, y = (as_point(axis, loaded.net, loaded.dir_type, "a direction") for axis in (directions.x, directions.y))
    note_skewed(x, y, f"the surface is sheared ({named('orthogonalize')} takes out of y its part along x)")


def with_batchnorm_moved(task: config.GridConfig) -> config.GridConfig:
    """Return the task with BatchNorm statistics moved too, where all axes lead to networks with other statistics.

    Directions in an existing file, and a `dir_type` that the user gives, are not changed; a note says so.
    """
    from lossatlas.models import read_state
    from lossatlas.models.checkpoint import have_same_statistics

    choice, nets = task.directions, task.networks
    ends = [file for file in (nets.file2, nets.file3) if file]
    axes = 2 if task.y and not choice.curve else 1
    if choice.dir_type == "states" or choice.scheme or not nets.file or not ends:
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
        f"the networks differ in BatchNorm statistics, so these are moved too ({named('dir_type', 'states')}; otherwise "
        f"{named('dir_type', 'weights')})"
    )
    return replace(task, directions=replace(choice, dir_type="states"))


def networks_on(nets: config.NetworkConfig, loaded: LoadedInputs, used: Directions) -> list[tuple[str, float, float]]:
    """Return (name, x, y) of the networks on the line or plane along these directions: least-squares coordinates."""
    from lossatlas.parameter_space import as_point
    from lossatlas.parameter_space.normalization import inner

    networks = [(Path(nets.file).stem or "network", 0.0, 0.0)]
    axes = [as_point(arrays, loaded.net, loaded.dir_type, "a direction") for arrays in (used.x, used.y) if arrays]
    gram = np.array([[inner(a, b) for b in axes] for a in axes])
    for file, target in zip((nets.file2, nets.file3), loaded.targets, strict=True):
        if not axes or not file or target is None:
            continue
        shift = {name: target[name] - value for name, value in loaded.origin.items()}
        at = np.linalg.lstsq(gram, np.array([inner(a, shift) for a in axes]), rcond=None)[0]
        rest = {n: d - sum(float(c) * a[n] for c, a in zip(at, axes, strict=True)) for n, d in shift.items()}
        if inner(rest, rest) <= NEAR**2 * inner(shift, shift):
            networks.append((Path(file).stem, float(at[0]), float(at[1]) if len(at) > 1 else 0.0))
    return networks


def record_of(task: config.GridConfig, loaded: LoadedInputs, **where: Any) -> dict[str, Any]:
    """Return the fields that identify the job, see `io.resume`; where: those of its points."""
    from lossatlas.jobs.inputs.fingerprint import data_record, recalibration_record

    if task.recalibrated and loaded.training is not None:
        where["bn"] = recalibration_record(task.recalibrated, loaded.training)
    return {
        **loaded.record,
        "dataset": loaded.first.name,
        **function_record("loss", task.loss),
        "split": task.data.split,
        **where,
        **data_record(loaded.data),
    }


class CurveRecord(NamedTuple):
    """A record of `train_curve.py` beside the control points of a curve.

    Attributes:
        kind: 'bezier' or 'polygonal'.
        control_points: The names of their files in order.
        ends: The digests of the networks at both ends.
    """

    kind: str
    control_points: list[str]
    ends: list[str]


def read_curve_record(control_points: Sequence[str]) -> tuple[Path, CurveRecord | None]:
    """Return the file of a curve's record and its contents, None where it is missing or unreadable."""
    candidates = [Path(file).with_suffix(".json") for file in control_points]
    path = next((file for file in candidates if file.exists()), candidates[0])
    try:
        found = json.loads(path.read_text())
        return path, CurveRecord(found["kind"], found["bends"], found["ends"])
    except (OSError, ValueError, KeyError, TypeError):
        return path, None


def curve_kind_of(nets: config.NetworkConfig, loaded: LoadedInputs) -> str:
    """Return the kind of the curve between the first two networks whose one control point is the third; '' for none."""
    _, record = read_curve_record([nets.file3]) if nets.file3 else (None, None)
    ends = [loaded.record["checkpoint"], loaded.towards.get(nets.file2 or "", "")]
    return record.kind if record is not None and len(record.control_points) == 1 and record.ends == ends else ""


def check_control_points(choice: config.DirectionConfig, ends: Sequence[str]) -> None:
    """Raise BadInput where the record beside the control points is that of another curve; ends: digests of its networks."""
    path, record = read_curve_record(choice.bends)
    if record is None:
        say(f"note: there is no {path} that says between which networks these control points were trained")
        return
    if [Path(file).name for file in choice.bends] != record.control_points:
        names = ", ".join(record.control_points)
        raise BadInput(
            f"{path} names the control points {names}, in this order: give them with {named('control_points')}"
        )
    if record.kind != choice.curve:
        raise BadInput(
            f"{choice.bends[0]} is a control point of a {record.kind} curve, and {named('curve')} asks for a "
            f"{choice.curve} one"
        )
    for end, recorded, option in zip(ends, record.ends, ("model_file", "model_file2"), strict=True):
        if end == recorded:
            continue
        if end.removesuffix(", aligned") == recorded.removesuffix(", aligned"):
            advice = f"{'leave out' if end.endswith('aligned') else 'add'} {named('align')}"
        else:
            advice = f"give another {named(option)}"
        raise BadInput(
            f"{choice.bends[0]} was trained between other networks, or the same ones not in this order: {advice}"
        )


def check_statistics(task: config.GridConfig, loaded: LoadedInputs) -> None:
    """Raise BadInput where the BatchNorm statistics cannot be recalibrated as the task asks."""
    from lossatlas.evaluation.precision import resolve_precision
    from lossatlas.evaluation.recalibration import check_recalibrated

    if loaded.training is not None:
        precision = resolve_precision(task.run.precision, loaded.net)
        check_recalibrated(loaded.net, loaded.training, precision, task.recalibrated)


def parametrization_of(
    task: config.GridConfig, loaded: LoadedInputs, used: Directions
) -> "tuple[Parametrization, Grid, dict[str, Any]]":
    """Return the parametrization along directions, its grid, and the fields that identify it."""
    from lossatlas.parameter_space import Layout, as_point, layers_of

    choice = task.directions
    if choice.per_layer and used.x:
        x = as_point(used.x, loaded.net, choice.dir_type, "the x direction")
        layers = layers_of(x)
        if len(layers) < 2:
            raise BadUsage(
                f"{named('per_layer')}: the direction moves {len(layers)} layer of this network, and it needs two"
            )
        rows = {"rows_of": "layers", "rows": list(layers)}
        return (
            LayerLines(loaded.dir_type, used.x, tuple(map(tuple, layers.values()))),
            grid_of_rows(task, len(layers)),
            rows,
        )
    if choice.scheme and used.x and used.y is not None:
        scheme = {"scheme": choice.scheme}
        if choice.scheme == "barycentric" and (rule := Layout.of(loaded.net).rule("filter")):
            scheme["scheme_filters"] = rule.strip()
        return SchemeParametrization(choice.scheme, used.x, used.y, choice.only, choice.without), task.grid, scheme
    return AffineParametrization.of(loaded.dir_type, used, loaded.net), task.grid, {}


def grid_of_rows(task: config.GridConfig, rows: int) -> Grid:
    """Return the grid of several curves, whose y numbers the rows."""
    return Grid(task.grid.x, np.arange(float(rows)))


def read_without_direction_file(
    task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, releases: ExitStack
) -> GridInputs:
    """Read the inputs of random lines, whose directions every rank draws itself, or of a curve, see `read_grid_inputs`."""
    from lossatlas.parameter_space import Layout

    choice, nets = task.directions, task.networks
    dir_name = file_names.direction_name(nets, choice)
    surf_file = output_path(task.output.surf_file, name_of(dir_name), None)
    lock = lock_output("surface", surf_file, log, releases, dry_run=task.output.dry_run)
    loaded = load_networks(task)
    points: Parametrization
    if choice.curve:
        points, words = curve_parametrization(task, loaded)
        grid, record = task.grid, record_of(task, loaded, directions=words)
    else:
        points = RandomLines(choice.dir_type, choice.x, choice.seed, choice.only, choice.without)
        layout = Layout.of(loaded.net)
        axis = AxisRequest("random", choice.x.norm, choice.x.ignore)
        rows = [description("x", axis, replace(choice, idx=k), layout, None) for k in range(choice.repeat)]
        grid = grid_of_rows(task, choice.repeat)
        record = record_of(task, loaded, directions=rows[0], rows_of="repeats", rows=rows)
    networks = [
        (Path(file).stem, at, 0.0) for file, at in ((nets.file, 0.0), (nets.file2, 1.0)) if file and choice.curve
    ]
    return GridInputs(
        surf_file=surf_file, grid=grid, loaded=loaded, record=record, points=points, lock=lock, networks=networks
    )


def curve_parametrization(task: config.GridConfig, loaded: LoadedInputs) -> "tuple[CurveParametrization, str]":
    """Return the curve to another network, and the text that identifies it."""
    from lossatlas.models import load_into, read_state
    from lossatlas.models.checkpoint import digest
    from lossatlas.parameter_space import position

    choice, end = task.directions, loaded.targets[0]
    assert end is not None
    points, digests = [loaded.origin], []
    before = {name: value.clone() for name, value in loaded.net.state_dict().items()}
    for file in choice.bends:
        state = read_state(file)
        load_into(loaded.net, state, file)
        points.append(position(loaded.net, choice.dir_type))
        digests.append(digest(state))
    loaded.net.load_state_dict(before)
    check_control_points(choice, [loaded.record["checkpoint"], loaded.towards[task.networks.file2 or ""]])
    arrays = [{name: value.numpy() for name, value in point.items()} for point in (*points[1:], end)]
    words = f"a {choice.curve} curve towards {loaded.towards[task.networks.file2 or '']} by {', '.join(digests)}"
    return CurveParametrization(choice.curve, choice.dir_type, arrays), words


def read_checkpoint_path(task: config.GridConfig, log: Log, releases: ExitStack) -> GridInputs:
    """Read the inputs of a path of checkpoints: the k-th cell is the k-th one, with its own BatchNorm statistics."""
    from lossatlas.models import read_state
    from lossatlas.models.checkpoint import digest

    assert task.output.surf_file is not None
    surf_file = Path(task.output.surf_file)
    lock = lock_output("surface", surf_file, log, releases, dry_run=task.output.dry_run)
    loaded = load_inputs(task.networks, "states", task.data, task.loss)
    path = tuple((file, digest(read_state(file))) for file in task.path)
    record = record_of(task, loaded, path=[digest for _, digest in path])
    return GridInputs(
        surf_file=surf_file, grid=task.grid, loaded=loaded, record=record, points=CheckpointPath(path), lock=lock
    )


def print_configuration(inputs: GridInputs, surface: Surface, threads: int, world: World) -> None:
    """Print the resolved configuration; entries of the plan that are 0 or empty are measured later."""
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
    if inputs.directions.x:
        moved = moved_by(inputs.loaded, inputs.used)
        for line in moved_lines([name.decode() for name in moved["tensors"]], moved["lengths"]):
            say(line)
    if surface.about.get("why_not_folded"):
        say(f"BatchNorm is not folded: {surface.about['why_not_folded']}")


def is_surface(path: Path) -> bool:
    """Return whether a file is a readable surface file."""
    if not path.exists():
        return False
    try:
        read_surface(path)
    except BadInput:
        return False
    return True
