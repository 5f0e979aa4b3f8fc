"""Read what a job over a grid needs, on rank 0: networks, data, directions, and the lock on the surface file."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput, BadUsage, say
from lossatlas.io import Directions, read_surface, write_directions
from lossatlas.io.direction_files import embeds_directions
from lossatlas.io.lock import Lock, holder
from lossatlas.io.progress import Log
from lossatlas.io.resume import NOT_COMPUTED
from lossatlas.jobs import file_names
from lossatlas.jobs.find_directions import description, find_directions, moved_by, moved_lines
from lossatlas.jobs.inputs import (
    LoadedInputs,
    check_user_functions,
    device_of,
    function_record,
    load_inputs,
    output_path,
)
from lossatlas.jobs.make_directions import AxisRequest
from lossatlas.jobs.origin_curvature import OriginCurvature
from lossatlas.jobs.parametrization import (
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

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor


NEAR = 1e-3  # of its distance from the origin: a network that is farther from a plane does not lie on it


@dataclass(frozen=True)
class GridInputs:
    """What rank 0 has read for a job over a grid.

    Attributes:
        surf_file: The surface file.
        grid: The grid; its second axis numbers the rows where there are rows of curves.
        loaded: Networks and data.
        record: The fields that tell this job from others, for the file.
        points: The parametrization of the grid, which travels to the other ranks.
        lock: The lock on the surface file; None in a dry run.
        dir_file: The direction file; None where no directions are stored (a path of checkpoints, repeats, curves).
        directions: The directions in that file, or to be written into it.
        used: Those of them that the grid needs.
        new_directions: Whether they are still to be written.
        new_dir_file: Whether there was no direction file before.
        embed: Whether the surface file holds a copy of them.
        curvature: Gradient and Hessian at the origin, where second derivatives along the axes are wanted.
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


def read_grid_inputs(task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, held: ExitStack) -> GridInputs:
    """Read everything once and find the directions.

    name_of: the surface file's name when none is given. held: lets go of the lock on it in the end.
    """
    from lossatlas.parameter_space import as_point
    from lossatlas.parameter_space.directions import note_skewed

    check_user_functions(task.networks.model, task.data.dataset, task.loss)
    if task.path:
        return read_checkpoint_path(task, log, held)
    task = with_batchnorm_moved(task)
    nets, choice, chosen, output = task.networks, task.directions, task.data, task.output
    if choice.repeat or choice.curve:
        return read_without_direction_file(task, name_of, log, held)
    dir_file = output_path(choice.dir_file, file_names.direction_name(nets, choice), output.surf_file)
    surf_file = output_path(output.surf_file, name_of(dir_file), None)
    lock = lock_surface_file(surf_file, output.dry_run, log, held)
    check_folder("direction", dir_file)
    first = not dir_file.exists()
    loaded = load_inputs(nets, choice.dir_type, chosen, task.loss, task.recalibrated > 0)
    check_statistics(task, loaded)
    device = "cpu" if output.dry_run else device_of(task.run.cuda)
    curvature = OriginCurvature.of(loaded, choice.selection, device)
    found = find_directions(dir_file, loaded, nets, choice, curvature, planned=output.dry_run)
    directions, new = found or (Directions([]), True)
    if new and task.resolved:
        directions = replace(directions, about={**directions.about, "config": dict(task.resolved)})
    if new and directions.y is not None and not choice.scheme:
        x, y = (as_point(axis, loaded.net, choice.dir_type, "a direction") for axis in (directions.x, directions.y))
        note_skewed(x, y, "the surface is sheared (--orthogonalize takes out of y its part along x)")
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"--dir_file and --surf_file are the same file, {surf_file}: give two")
    used = Directions(directions.x, directions.y if task.y else None, directions.about)
    points, grid, more = parametrization_of(task, loaded, used)
    record = record_of(task, loaded, directions=used.sha256 if found else NOT_COMPUTED, **more)
    embed = output.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file))
    wanted = curvature if choice.curvature and not output.dry_run else None
    networks = () if choice.per_layer else networks_on(nets, loaded, used)
    return GridInputs(
        surf_file,
        grid,
        loaded,
        record,
        points,
        lock,
        dir_file=dir_file,
        directions=directions,
        used=used,
        new_directions=new,
        new_dir_file=first,
        embed=embed,
        curvature=wanted,
        networks=networks,
        curve=curve_kind_of(nets, loaded) if len(networks) > 2 else "",
    )


def with_batchnorm_moved(task: config.GridConfig) -> config.GridConfig:
    """The task with BatchNorm statistics moved too, where all axes lead to networks with other ones and nothing else is asked for.

    Directions that a file holds already stay what they are.
    """
    from lossatlas.models import read_state

    choice, nets = task.directions, task.networks
    ends = [file for file in (nets.file2, nets.file3) if file]
    axes = 2 if task.y and not choice.curve else 1
    if choice.dir_type == "states" or choice.scheme or not nets.file or not ends:
        return task
    first, *others = (batchnorm_statistics(read_state(file)) for file in (nets.file, *ends))
    if all(first.keys() == other.keys() and all(bool((first[n] == other[n]).all()) for n in first) for other in others):
        return task
    default = output_path(choice.dir_file, file_names.direction_name(nets, choice), task.output.surf_file)
    if choice.dir_type_given or choice.same_dir or len(ends) < axes or (default.exists() and not choice.curve):
        say(
            "note: the networks differ in BatchNorm statistics, which are not moved with --dir_type weights: the losses at the "
            "other networks' coordinates are not theirs (--dir_type states, with a direction file of its own)"
        )
        return task
    say(
        "the networks differ in BatchNorm statistics, so these are moved too (--dir_type states; otherwise --dir_type weights)"
    )
    return replace(task, directions=replace(choice, dir_type="states"))


def batchnorm_statistics(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The BatchNorm statistics of a checkpoint."""
    return {name: value for name, value in state.items() if name.rsplit(".", 1)[-1] in ("running_mean", "running_var")}


def networks_on(nets: config.NetworkConfig, loaded: LoadedInputs, used: Directions) -> list[tuple[str, float, float]]:
    """Which of the networks lie on the line or plane along these directions, and where."""
    from lossatlas.parameter_space import as_point
    from lossatlas.parameter_space.directions import inner

    found = [(Path(nets.file).stem or "network", 0.0, 0.0)]
    axes = [as_point(arrays, loaded.net, loaded.dir_type, "a direction") for arrays in (used.x, used.y) if arrays]
    gram = np.array([[inner(a, b) for b in axes] for a in axes])
    for file, target in zip((nets.file2, nets.file3), loaded.targets, strict=True):
        if not axes or not file or target is None:
            continue
        way = {name: target[name] - value for name, value in loaded.origin.items()}
        at = np.linalg.lstsq(gram, np.array([inner(a, way) for a in axes]), rcond=None)[0]
        left = {name: d - sum(float(c) * a[name] for c, a in zip(at, axes, strict=True)) for name, d in way.items()}
        if inner(left, left) <= NEAR**2 * inner(way, way):
            found.append((Path(file).stem, float(at[0]), float(at[1]) if len(at) > 1 else 0.0))
    return found


def record_of(task: config.GridConfig, loaded: LoadedInputs, **where: Any) -> dict[str, Any]:
    """Return the fields that tell this job from others, see `io.resume`. where: the points, in words or digests."""
    from lossatlas.jobs.fingerprint import data_record

    if task.recalibrated and loaded.training is not None:
        where["bn"] = f"recalibrated on {task.recalibrated} samples of {loaded.training.digest}"
    return {
        **loaded.record,
        "dataset": loaded.first.name,
        **function_record("loss", task.loss),
        "split": task.data.split,
        **where,
        **data_record(loaded.data),
    }


def read_curve_record(bends: Sequence[str]) -> tuple[Path, tuple[str, list[str], list[str]] | None]:
    """What train_curve.py wrote beside bends: the kind of the curve, its bends in order, and the digests of its ends."""
    beside = [Path(file).with_suffix(".json") for file in bends]
    about = next((file for file in beside if file.exists()), beside[0])
    try:
        found = json.loads(about.read_text())
        return about, (found["kind"], found["bends"], found["ends"])
    except (OSError, ValueError, KeyError, TypeError):
        return about, None


def curve_kind_of(nets: config.NetworkConfig, loaded: LoadedInputs) -> str:
    """The kind of the curve whose one bend the third network is, between the other two; '' where it is none."""
    _, said = read_curve_record([nets.file3]) if nets.file3 else (None, None)
    ends = [loaded.record["checkpoint"], loaded.towards.get(nets.file2 or "", "")]
    return said[0] if said is not None and len(said[1]) == 1 and said[2] == ends else ""


def check_bends(choice: config.DirectionConfig, ends: Sequence[str]) -> None:
    """Raise BadInput where what is said beside the bends is that they are of another curve."""
    about, said = read_curve_record(choice.bends)
    if said is None:
        say(f"note: there is no {about} that says between which networks these bends were trained")
        return
    kind, bends, own = said
    if [Path(file).name for file in choice.bends] != bends:
        raise BadInput(f"{about} names the bends {', '.join(bends)}, in this order: give them with --control_points")
    if kind != choice.curve:
        raise BadInput(f"{choice.bends[0]} is a bend of a {kind} curve, and --curve asks for a {choice.curve} one")
    for here, there, option in zip(ends, own, ("--model_file", "--model_file2"), strict=True):
        if here != there:
            same = here.removesuffix(", aligned") == there.removesuffix(", aligned")
            cure = f"{'leave out' if here.endswith('aligned') else 'add'} --align" if same else f"give another {option}"
            raise BadInput(
                f"{choice.bends[0]} was trained between other networks, or the same ones not in this order: {cure}"
            )


def check_statistics(task: config.GridConfig, loaded: LoadedInputs) -> None:
    from lossatlas.evaluation.precision import resolve_precision
    from lossatlas.evaluation.recalibration import check_recalibrated

    if loaded.training is not None:
        precision = resolve_precision(task.run.precision, loaded.net)
        check_recalibrated(loaded.net, loaded.training, precision, task.recalibrated)


def parametrization_of(
    task: config.GridConfig, loaded: LoadedInputs, used: Directions
) -> "tuple[Parametrization, Grid, dict[str, Any]]":
    """The points that directions lead to, their grid, and what of it is recorded."""
    from lossatlas.parameter_space import Layout, as_point, layers_of

    choice = task.directions
    if choice.per_layer and used.x:
        x = as_point(used.x, loaded.net, choice.dir_type, "the x direction")
        layers = layers_of(x)
        if len(layers) < 2:
            raise BadUsage(f"--per_layer: the direction moves {len(layers)} layer of this network, and a row needs two")
        rows = {"rows_of": "layers", "rows": list(layers)}
        return (
            LayerLines(loaded.dir_type, used.x, tuple(map(tuple, layers.values()))),
            grid_of_rows(task, len(layers)),
            rows,
        )
    if choice.scheme and used.x and used.y is not None:
        named = {"scheme": choice.scheme}
        if choice.scheme == "barycentric" and (rule := Layout.of(loaded.net).rule("filter")):
            named["scheme_filters"] = rule.strip()
        return SchemeParametrization(choice.scheme, used.x, used.y, choice.only, choice.without), task.grid, named
    return AffineParametrization.of(loaded.dir_type, used, loaded.net), task.grid, {}


def grid_of_rows(task: config.GridConfig, rows: int) -> Grid:
    """Curves beside each other."""
    return Grid(task.grid.x, np.arange(float(rows)))


def read_without_direction_file(
    task: config.GridConfig, name_of: Callable[[Path], Path], log: Log, held: ExitStack
) -> GridInputs:
    """The same where there is no direction file: each row is along a random direction of its own, which every rank draws
    itself, or a curve has bends.
    """
    from lossatlas.parameter_space import Layout

    choice, nets = task.directions, task.networks
    dir_name = file_names.direction_name(nets, choice)
    surf_file = output_path(task.output.surf_file, name_of(dir_name), None)
    lock = lock_surface_file(surf_file, task.output.dry_run, log, held)
    loaded = load_inputs(nets, choice.dir_type, task.data, task.loss, task.recalibrated > 0)
    check_statistics(task, loaded)
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
    return GridInputs(surf_file, grid, loaded, record, points, lock, networks=networks)


def curve_parametrization(task: config.GridConfig, loaded: LoadedInputs) -> "tuple[CurveParametrization, str]":
    """A curve to another network, and what of it is recorded."""
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
    check_bends(choice, [loaded.record["checkpoint"], loaded.towards[task.networks.file2 or ""]])
    arrays = [{name: value.numpy() for name, value in point.items()} for point in (*points[1:], end)]
    words = f"a {choice.curve} curve towards {loaded.towards[task.networks.file2 or '']} by {', '.join(digests)}"
    return CurveParametrization(choice.curve, choice.dir_type, arrays), words


def read_checkpoint_path(task: config.GridConfig, log: Log, held: ExitStack) -> GridInputs:
    """The same where the k-th cell is the k-th checkpoint of a path, with its own BatchNorm statistics."""
    from lossatlas.models import read_state
    from lossatlas.models.checkpoint import digest

    assert task.output.surf_file is not None
    surf_file = Path(task.output.surf_file)
    lock = lock_surface_file(surf_file, task.output.dry_run, log, held)
    loaded = load_inputs(task.networks, "states", task.data, task.loss)
    path = tuple((file, digest(read_state(file))) for file in task.path)
    record = record_of(task, loaded, path=[digest for _, digest in path])
    return GridInputs(surf_file, task.grid, loaded, record, CheckpointPath(path), lock)


def lock_surface_file(surf_file: Path, dry: bool, log: Log, held: ExitStack) -> Lock | None:
    """The lock on a surface file that is to be written. Raises BadInput where it has no folder, CannotWrite."""
    if not dry:
        log.beside(surf_file)
    check_folder("surface", surf_file)
    if dry:
        if somebody := holder(surf_file):
            say(f"note: {surf_file} is being written by {somebody}")
        return None
    lock = held.enter_context(Lock(surf_file))
    if lock.previous_run:
        log.line(lock.previous_run)
    return lock


def check_folder(what: str, path: Path) -> None:
    if not path.resolve().parent.is_dir():
        raise BadInput(f"no folder {path.parent} for the {what} file: make it first")


def print_configuration(inputs: GridInputs, surface: Surface, threads: int, world: World) -> None:
    """Print the resolved configuration; what is 0 or empty in the plan is still to be measured."""
    for name, value in {
        **surface.request,
        **surface.plan,
        "threads per rank": threads,
        "ranks": world.size,
        "direction file": inputs.dir_file,
        "surface file": inputs.surf_file,
    }.items():
        open_yet = name in surface.plan and value in (0, "") and value is not False and name != "seed"
        say(f"{name} = {'to be measured' if open_yet else value}")
    if inputs.directions.x:
        found = moved_by(inputs.loaded, inputs.used)
        for line in moved_lines([name.decode() for name in found["tensors"]], found["lengths"]):
            say(line)
    if surface.about.get("why_not_folded"):
        say(f"BatchNorm is not folded: {surface.about['why_not_folded']}")


def is_surface(path: Path) -> bool:
    """Whether a readable surface file is there."""
    if not path.exists():
        return False
    try:
        read_surface(path)
    except BadInput:
        return False
    return True
