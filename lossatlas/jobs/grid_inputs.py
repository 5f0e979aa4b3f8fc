"""What a command that fills a grid has read on rank 0, and what of it travels to the other ranks.

setting = read_setting(task, name_of, log)      # on rank 0; raises BadUsage and BadInput, writes nothing
problem = Problem.of(setting)                   # travels to the other ranks
net, plane, data = problem.unpack()             # on every rank
"""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
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
from lossatlas.jobs.find_directions import OriginCurvature, description, find_directions, moved_by, moved_lines
from lossatlas.jobs.inputs import (
    LoadedInputs,
    PackedInputs,
    check_user_functions,
    device_of,
    function_record,
    load_inputs,
    output_path,
)
from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.communicator import World

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData
    from lossatlas.parameter_space import Plane, Point


NEAR = 1e-3  # of its distance from the origin: a network that is farther from a plane does not lie on it
KEPT = 4  # random directions that a rank remembers


@dataclass(frozen=True)
class GridInputs:
    """What rank 0 has read.

    dir_file: None along a path of checkpoints, which has no directions. used: the directions without those that the grid does
    not need. new: they are not in their file yet. record: what tells this from other work. curvature: where the second
    derivatives along the axes are wanted. lock: on the surface file, None in a dry run. first: there was no direction file.
    where: the recipe of the points, which travels to the other ranks. networks: names and coordinates of those the points go
    through, where that is known. curve: its kind, where the third of these is the bend of one between the other two.
    """

    surf_file: Path
    grid: Grid
    dir_file: Path | None
    directions: Directions
    used: Directions
    new: bool
    embed: bool
    loaded: LoadedInputs
    record: dict[str, Any]
    curvature: OriginCurvature | None
    lock: Lock | None
    first: bool
    where: "Parametrization"
    networks: Sequence[tuple[str, float, float]] = ()
    curve: str = ""

    def write_directions(self) -> None:
        if self.new and self.dir_file is not None:
            write_directions(self.dir_file, self.directions, new=self.first)
            say(f"new directions are in {self.dir_file}")


def read_grid_inputs(
    task: config.GridConfig, name_of: Callable[[Path, config.GridConfig], Path], log: Log, held: ExitStack
) -> GridInputs:
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
    surf_file = output_path(output.surf_file, name_of(dir_file, task), None)
    lock = lock_surface_file(surf_file, output.dry_run, log, held)
    check_folder("direction", dir_file)
    first = not dir_file.exists()
    loaded = load_inputs(nets, choice.dir_type, chosen, task.loss, task.recalibrated > 0)
    check_statistics(task, loaded)
    device = "cpu" if output.dry_run else device_of(task.run.cuda)
    curvature = OriginCurvature(loaded, choice.selection, device)
    found = find_directions(dir_file, loaded, nets, choice, curvature, planned=output.dry_run)
    directions, new = found or (Directions([]), True)
    if new and directions.y is not None and not choice.scheme:
        x, y = (as_point(axis, loaded.net, choice.dir_type, "a direction") for axis in (directions.x, directions.y))
        note_skewed(x, y, "the surface is sheared (--orthogonalize takes out of y its part along x)")
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"--dir_file and --surf_file are the same file, {surf_file}: give two")
    used = Directions(directions.x, directions.y if task.y else None, directions.about)
    where, grid, more = parametrization_of(task, loaded, used)
    record = record_of(task, loaded, directions=used.sha256 if found else NOT_COMPUTED, **more)
    embed = output.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file))
    wanted = curvature if choice.curvature and not output.dry_run else None
    networks = () if choice.per_layer else networks_on(nets, loaded, used)
    return GridInputs(
        surf_file,
        grid,
        dir_file,
        directions,
        used,
        new,
        embed,
        loaded,
        record,
        wanted,
        lock,
        first,
        where,
        networks,
        curve_kind_of(nets, loaded) if len(networks) > 2 else "",
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
    """What tells this work from other work. where: the points, in words or digests."""
    if task.recalibrated and loaded.training is not None:
        where["bn"] = f"recalibrated on {task.recalibrated} samples of {loaded.training.digest}"
    return {
        **loaded.record,
        "dataset": loaded.first.name,
        **function_record("loss", task.loss),
        "split": task.data.split,
        **where,
        **{f"{split}_data": data.digest for split, data in loaded.data.items()},
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
        raise BadInput(f"{about} names the bends {', '.join(bends)}, in this order: give them with --bend")
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
    task: config.GridConfig, name_of: Callable[[Path, config.GridConfig], Path], log: Log, held: ExitStack
) -> GridInputs:
    """The same where there is no direction file: each row is along a random direction of its own, which every rank draws
    itself, or a curve has bends.
    """
    from lossatlas.parameter_space import Layout

    choice, nets = task.directions, task.networks
    dir_name = file_names.direction_name(nets, choice)
    surf_file = output_path(task.output.surf_file, name_of(dir_name, task), None)
    lock = lock_surface_file(surf_file, task.output.dry_run, log, held)
    loaded = load_inputs(nets, choice.dir_type, task.data, task.loss, task.recalibrated > 0)
    check_statistics(task, loaded)
    none = Directions([])
    where: Parametrization
    if choice.curve:
        where, words = curve_parametrization(task, loaded)
        grid, record = task.grid, record_of(task, loaded, directions=words)
    else:
        where = RandomLines(choice.dir_type, choice.x, choice.seed, choice.only, choice.without)
        layout = Layout.of(loaded.net)
        rows = [description("x", choice.x, None, replace(choice, idx=k), None, layout) for k in range(choice.repeat)]
        grid = grid_of_rows(task, choice.repeat)
        record = record_of(task, loaded, directions=rows[0], rows_of="repeats", rows=rows)
    networks = [
        (Path(file).stem, at, 0.0) for file, at in ((nets.file, 0.0), (nets.file2, 1.0)) if file and choice.curve
    ]
    return GridInputs(
        surf_file, grid, None, none, none, False, False, loaded, record, None, lock, True, where, networks
    )


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
    none = Directions([])
    return GridInputs(
        surf_file, task.grid, None, none, none, False, False, loaded, record, None, lock, True, CheckpointPath(path)
    )


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


@dataclass(frozen=True)
class AffineParametrization:
    """Directions, each in one buffer: so they travel, and so a place keeps them."""

    dir_type: str
    x: np.ndarray
    y: np.ndarray | None

    @classmethod
    def of(cls, dir_type: str, used: Directions, net: "nn.Module") -> "AffineParametrization":
        """The arrays of `used` lie in the buffers from now on, so that none is there twice."""
        lists = (axis if axis is None or isinstance(axis, list) else list(axis) for axis in (used.x, used.y))
        x, y = (None if axis is None else gather_in_buffer(axis, net, dir_type) for axis in lists)
        assert x is not None
        return cls(dir_type, x, y)

    def plane(self, net: "nn.Module") -> "Plane":
        """It shares the buffers' memory."""
        import torch

        from lossatlas.evaluation.parameter_buffers import FlatLayout
        from lossatlas.parameter_space import AffinePlane, wide_tensors

        origin = wide_tensors(net, self.dir_type)
        layout = FlatLayout.of(origin, net)
        dx, dy = (None if flat is None else layout.point(torch.from_numpy(flat)) for flat in (self.x, self.y))
        assert dx is not None
        return AffinePlane(origin, dx, dy)


def gather_in_buffer(arrays: list[np.ndarray], net: "nn.Module", dir_type: str) -> np.ndarray:
    """What moves the network, in one buffer; the arrays are replaced by views of it, one after the other.

    Those of another type, as of another program, stay what they are: their digest is over their own bytes.
    """
    import torch

    from lossatlas.evaluation.parameter_buffers import FlatLayout
    from lossatlas.parameter_space import as_point, tensors
    from lossatlas.parameter_space.points import entries_of, real_view

    if not arrays:  # none is computed in a dry run
        return np.zeros(0, np.float32)
    as_point(arrays, net, dir_type, "the direction")
    layout = FlatLayout.of(tensors(net, dir_type), net)
    buffer = torch.empty(layout.total, dtype=torch.float32)
    views = layout.views(buffer)
    for k, name in enumerate(entries_of(arrays, net, dir_type)):
        if name not in views:
            continue
        views[name].copy_(
            real_view(torch.from_numpy(np.require(arrays[k], None, ["C", "W"]).astype(kind_of(arrays[k]))))
        )
        if arrays[k].dtype == np.float32:
            arrays[k] = views[name].numpy()
    return buffer.numpy()


def kind_of(array: np.ndarray) -> type:
    """The type in which a direction moves a network."""
    return np.complex64 if np.iscomplexobj(array) else np.float32


@dataclass(frozen=True)
class CheckpointPath:
    """Checkpoints, which every rank reads when it needs them: the k-th one at x = k."""

    path: tuple[tuple[str, str], ...]

    def plane(self, net: "nn.Module") -> "Plane":
        import copy

        from lossatlas.models import load_into, read_state
        from lossatlas.models.checkpoint import digest
        from lossatlas.parameter_space import MappedPlane, tensors

        other = copy.deepcopy(net)

        def point(a: float, _: float) -> "Point":
            file, wanted = self.path[round(a)]
            state = read_state(file)
            if digest(state) != wanted:
                raise BadInput(f"{file} is another one on {socket.gethostname()} than rank 0 has read")
            load_into(other, state, file)
            return tensors(other, "states")

        return MappedPlane(point)


@dataclass(frozen=True)
class RandomLines:
    """Random directions, which every rank draws when it needs them: row k along the one of --idx k."""

    dir_type: str
    axis: config.AxisConfig
    seed: int
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.parameter_space import Layout, RowLines, Selection, random_direction, wide_tensors
        from lossatlas.parameter_space.directions import seed_of

        origin, layout = wide_tensors(net, self.dir_type), Layout.of(net)
        selection = Selection(self.only, self.without).within_net(net)

        @lru_cache(maxsize=KEPT)
        def line(k: int) -> "Point":
            return random_direction(
                origin, self.axis.norm, self.axis.ignore, seed_of(self.seed, k, 0), layout, selection
            )

        return RowLines(origin, line)


@dataclass(frozen=True)
class LayerLines:
    """A direction, of which row k takes the part of the k-th layer alone."""

    dir_type: str
    x: Sequence[np.ndarray]
    layers: tuple[tuple[str, ...], ...]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.parameter_space import RowLines, as_point, wide_tensors

        x = as_point(self.x, net, self.dir_type, "the x direction")
        return RowLines(wide_tensors(net, self.dir_type), lambda k: {name: x[name] for name in self.layers[k]})


@dataclass(frozen=True)
class SchemeParametrization:
    """The network and two more, between which a scheme goes."""

    kind: str
    second: Sequence[np.ndarray]
    third: Sequence[np.ndarray]
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.parameter_space import Layout, SchemePlane, Selection, as_point, wide_tensors
        from lossatlas.parameter_space.schemes import free

        first, layout = wide_tensors(net, "weights"), Layout.of(net)
        second, third = (
            as_point(arrays, net, "weights", "a network of the scheme") for arrays in (self.second, self.third)
        )
        names = free(first, layout.norms, Selection(self.only, self.without).within_net(net))
        return SchemePlane(self.kind, first, second, third, names, layout)


@dataclass(frozen=True)
class CurveParametrization:
    """A curve from the network through bends to another one: these, by tensor name."""

    kind: str
    dir_type: str
    points: Sequence[dict[str, np.ndarray]]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.jobs.inputs import as_tensor
        from lossatlas.parameter_space import CurvePlane, wide_tensors

        others = [{name: as_tensor(array) for name, array in point.items()} for point in self.points]
        return CurvePlane(self.kind, [wide_tensors(net, self.dir_type), *others])


Parametrization = (
    AffineParametrization | CheckpointPath | RandomLines | LayerLines | SchemeParametrization | CurveParametrization
)


@dataclass(frozen=True)
class PackedProblem:
    """A network, where it is moved, and its data, in the same form."""

    trained: PackedInputs
    where: "Parametrization"

    @classmethod
    def of(cls, inputs: GridInputs) -> "PackedProblem":
        return cls(PackedInputs.of(inputs.loaded), inputs.where)

    def unpack(self) -> "tuple[nn.Module, Plane, dict[str, AnyData]]":
        """All of it shares the arrays' memory."""
        net, data = self.trained.unpack()
        return net, self.where.plane(net), data


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
