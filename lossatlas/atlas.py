"""The whole of it in a few functions: surfaces, maps of eigenvalues, spectra, trajectories of a network of your own.

    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21")
    surface.plot()

The network is not touched, and evaluated in eval mode. Data are tensors, a torch Dataset, a DataLoader or any iterable of
batches; see `lossatlas.data.as_dataset` and `as_loss` for what is taken and how.
"""

import hashlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.computing import eigenvalues as eigenvalue_work
from lossatlas.computing.surfaces import Scene, cells_per_block, new_plan, refuse_tolerance, tuned, work_of
from lossatlas.data import AnyData, Loss, Losses, as_dataset, as_loss
from lossatlas.data.losses import check_loss
from lossatlas.data.structures import mapped
from lossatlas.errors import BadInput, BadUsage, Incomplete
from lossatlas.evaluation import choose_path, sample_of
from lossatlas.evaluation.lanes import copied
from lossatlas.evaluation.precision import in_float64
from lossatlas.hessian import (
    Dimension,
    Estimate,
    Hessian,
    Pairs,
    Spectrum,
    check_deterministic,
    density,
    effective_dimension,
    hutchinson,
    lanczos,
    usual_batch_size,
)
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.record import Directions, read_surface, write_surface
from lossatlas.record.continuation import compare, equal, resume
from lossatlas.record.progress import make_progress
from lossatlas.record.recorder import fill
from lossatlas.space import (
    Affine,
    Point,
    as_arrays,
    principal_components,
    project,
    random_direction,
    scale_to,
    target_direction,
    tensors,
)
from lossatlas.space.directions import is_bias, norm_parameters, seed_of

LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")
RESOLVED, MOST = 1e-3, 500  # of eigenvectors as directions
CHECKED = 64  # samples on which a loss is looked at before anything is computed
Axis = str | Sequence[float] | np.ndarray
Net = nn.Module | Mapping[str, Tensor]  # a network, or its state


@dataclass(frozen=True, repr=False)
class Landscape(Surface):
    """A surface that can be drawn and saved: `fields` by name, (ny, nx) or (nx,), on `grid`; `done` where it is computed."""

    directions: Directions | None = None

    @classmethod
    def of(cls, surface: Surface, directions: Directions | None) -> "Landscape":
        return cls(**{f.name: getattr(surface, f.name) for f in fields(Surface)}, directions=directions)

    @property
    def x(self) -> np.ndarray:
        return self.grid.x

    @property
    def y(self) -> np.ndarray | None:
        return self.grid.y

    @property
    def loss(self) -> np.ndarray:
        """The training loss."""
        return self.fields["train_loss"]

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw it with matplotlib and return the figure: a curve, or contours. See `lossatlas.figures`."""
        from lossatlas import figures

        return figures.plot(self, ax, **options)

    def __repr__(self) -> str:
        names = ", ".join(self.fields)
        return f"<Landscape on {self.grid}, {int(self.done.sum())} of {self.grid.size} cells done: {names}>"

    def save(self, file: str | Path) -> None:
        """Write a surface file, with its directions in it. Raises CannotWrite."""
        write_surface(file, self, embed=self.directions)


def surface(
    net: nn.Module,
    data: Any,
    *,
    x: Axis = "-1:1:51",
    y: Axis | None = None,
    test: Any = None,
    loss: Any = "crossentropy",
    norm: str | None = None,
    ignore: str = "biasbn",
    seed: int = 123,
    directions: Sequence[str | Mapping[str, Tensor]] | None = None,
    towards: Net | Sequence[Net] | None = None,
    dir_type: str = "weights",
    tolerance: float | tuple[float, float] | None = None,
    precision: str = "float32",
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    ranks: Any = None,
    progress: bool = True,
) -> Landscape:
    """Loss (and metrics) of a network on a line or a plane through its parameters.

    x, y: 'min:max:num', or the coordinates; y=None for a line. test: further data, as a second split. loss: a name, an
    ordinary `loss(output, target)`, or a `loss(model, batch)`. norm: 'filter', 'layer', 'weight', 'dfilter', 'dlayer',
    'unit' or '' (none); by default 'filter', and 'unit' for gradient and eigenvectors. ignore: 'biasbn' leaves biases and
    normalization layers alone, '' does not. directions: for each axis 'random', 'gradient', 'eigenvector', 'eigenvector:K',
    or a direction by tensor name; random ones depend on `seed` alone, and are those of the command plot_surface.py.
    towards: one or two networks, at coordinate 1 of the axes, instead.
    tolerance: REL or (REL, ABS): as many samples as bring the standard error below max(REL * loss, ABS). batch_size: 0 is
    found by a short measurement. device: by default that of the network. file: continue or write this surface file.
    ranks: an mpi4py communicator, such as MPI.COMM_WORLD: every rank calls this function, and all get the result.

    Ctrl-C gives what is there. Raises BadUsage, BadInput, CannotWrite.
    """
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    limit = tolerance_of(tolerance)

    def begin() -> tuple[Surface, Scene, Directions]:
        splits = {"train": as_dataset(data)} | ({} if test is None else {"test": as_dataset(test, split="test")})
        loss_function, grid = as_loss(loss), grid_of(x, y)
        found, few = looked_at(net, loss_function, splits["train"])
        if not limit.exact:
            refuse_tolerance(splits, found.spread)
        plane, kept = plane_of(
            net, grid, norm, ignore, seed, directions, towards, dir_type, splits["train"], loss_function, device
        )
        folded, _ = choose_path(still(net), loss_function, few)
        fresh = Surface.empty(
            grid,
            {split: len(d) for split, d in splits.items()},
            tuple(found.metrics),
            plan=new_plan(device.type, precision, folded, batch_size),
            request={**request_of(net, loss, splits, dir_type, found), "directions": kept.sha256},
            about={"torch": torch.__version__},
        )
        return fresh, Scene(still(net), plane, splits, loss_function, device), kept

    fresh, scene, kept = agreed(ranks, begin)
    agree_on(ranks, fresh.request)
    known = first_alone(ranks, lambda: fresh if file is None else continued(Path(file), fresh))
    pending = known.pending(limit)
    if not len(pending):
        return Landscape.of(known, kept)
    known, evaluator = agreed(ranks, lambda: tuned(scene, known, limit, len(pending), batch_size) if leads(ranks)
                              else (known, None))  # fmt: skip
    known = from_first(ranks, known)
    evaluator = agreed(ranks, lambda: evaluator or scene.evaluator(known.plan, limit))
    pending = known.pending(limit)
    block = cells_per_block(known, len(pending), size_of(ranks))
    work = work_of(known, evaluator)
    return computed(known, kept, lambda: work, pending, block, file, ranks, progress)


def eigenvalues(
    net: nn.Module,
    data: Any,
    *,
    x: Axis = "-1:1:21",
    y: Axis | None = None,
    loss: Any = "crossentropy",
    norm: str | None = None,
    ignore: str = "biasbn",
    seed: int = 123,
    directions: Sequence[str | Mapping[str, Tensor]] | None = None,
    towards: Net | Sequence[Net] | None = None,
    parameters: Sequence[str] = (),
    tolerance: float = 1e-2,
    most: int = 300,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    ranks: Any = None,
    progress: bool = True,
) -> Landscape:
    """Largest and smallest eigenvalue of the Hessian of the mean loss at each point of a line or a plane.

    parameters: regular expressions of the names of those that the Hessian is of, all by default. tolerance: relative, of
    each eigenvalue. most: products at most for each point; `lossatlas.landscape.unresolved` tells where they were too few.
    The rest as for `surface`; fields: see `lossatlas.computing.eigenvalues.FIELDS`.
    """
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device

    def begin() -> tuple[Surface, Hessian, Affine, Directions]:
        samples, loss_function, grid = as_dataset(data), as_loss(loss), grid_of(x, y)
        found, _ = looked_at(net, loss_function, samples)
        plane, kept = plane_of(
            net, grid, norm, ignore, seed, directions, towards, "weights", samples, loss_function, device
        )
        size = batch_size or usual_batch_size(len(samples), device.type, torch.get_num_threads())
        operator = Hessian(still(net), samples, loss_function, parameters=parameters, batch_size=size, device=device)
        check_deterministic(operator)
        plan = {"device": device.type, "precision": "float32", "path": "folded" if operator.folded else "unfolded",
                "batch_size": size, "most": most, "seed": 0}  # fmt: skip
        request = {**request_of(net, loss, {"train": samples}, "weights", found), "directions": kept.sha256,
                   "parameters": list(parameters) or "all", "tolerance": tolerance}  # fmt: skip
        about = {"torch": torch.__version__}
        return (
            Surface.of_values(grid, eigenvalue_work.FIELDS, plan=plan, request=request, about=about),
            operator,
            plane,
            kept,
        )

    fresh, operator, plane, kept = agreed(ranks, begin)
    agree_on(ranks, fresh.request)
    known = first_alone(ranks, lambda: fresh if file is None else continued(Path(file), fresh))
    pending = known.pending()
    if not len(pending):
        return Landscape.of(known, kept)
    work = eigenvalue_work.work_of(known.grid, operator, plane, tolerance=tolerance, most=most)
    return computed(known, kept, lambda: work, pending, 1, file, ranks, progress)


@dataclass(frozen=True, repr=False)
class Curvature:
    """What is known of the Hessian of a network's mean loss."""

    pairs: Pairs
    trace: Estimate
    density: Spectrum
    dimension: Dimension
    names: Sequence[str]

    @property
    def eigenvalues(self) -> np.ndarray:
        """The largest ones first, then the smallest ones that were asked for."""
        return self.pairs.values

    @property
    def resolved(self) -> np.ndarray:
        return self.pairs.converged

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.eigenvalues)
        return f"<Curvature: eigenvalues {shown}; trace {self.trace.value:.6g} +- {self.trace.error:.2g}>"


def spectrum(
    net: nn.Module,
    data: Any,
    *,
    loss: Any = "crossentropy",
    top: int = 10,
    bottom: int = 1,
    parameters: Sequence[str] = (),
    tolerance: float = 1e-3,
    most: int = 300,
    trace_error: float = 0.02,
    probes: int = 4,
    steps: int = 80,
    z: float = 5e-4,
    seed: int = 0,
    batch_size: int = 0,
    device: str | torch.device | None = None,
) -> Curvature:
    """Eigenvalues with vectors, trace, density and effective dimension of the Hessian of the mean loss.

    top, bottom: how many eigenvalues from either end. trace_error: relative standard error. probes, steps: of the density.
    z: regularization in the effective dimension, see `lossatlas.hessian`. Raises BadInput for a random network.
    """
    device = torch.device(device) if device is not None else next(net.parameters()).device
    samples, loss_function = as_dataset(data), as_loss(loss)
    looked_at(net, loss_function, samples)
    operator = Hessian(
        still(net), samples, loss_function, parameters=parameters, batch_size=batch_size or None, device=device
    )
    check_deterministic(operator)
    pairs = lanczos(operator, top=top, bottom=bottom, tolerance=tolerance, most=most, seed=seed)
    trace = hutchinson(operator, tolerance=trace_error, seed=seed)
    found = density(operator, probes=probes, steps=min(steps, operator.size), seed=seed)
    dimension = effective_dimension(pairs.values, z, size=operator.size, highest=pairs.bounds[1], spectrum=found)
    return Curvature(pairs, trace, found, dimension, operator.names)


@dataclass(frozen=True, repr=False)
class Trajectory:
    """Checkpoints in a plane. coordinates: (checkpoints, 2), the last one is the origin. explained: shares of the variance.

    distance: (checkpoints,) from the plane. plane: what `surface(..., directions=trajectory.plane)` takes.
    """

    coordinates: np.ndarray
    explained: np.ndarray
    distance: np.ndarray
    plane: tuple[Point, Point]

    def __repr__(self) -> str:
        shares = " + ".join(f"{100 * share:.1f} %" for share in self.explained[:2])
        return f"<Trajectory of {len(self.coordinates)} checkpoints in the plane that explains {shares}>"

    def plot(self, ax: Any = None) -> Any:
        """The path in its plane, on your axis (such as that of a surface along the plane); returns the figure."""
        from lossatlas import figures

        return figures.path(self.coordinates, self.explained, ax)


def trajectory(
    net: nn.Module, checkpoints: Sequence[Net], *, dir_type: str = "weights", ignore: str = ""
) -> Trajectory:
    """Project checkpoints of a training run on the plane of their two principal components; the last one is the origin.

    checkpoints: networks or state dicts, at least three. The components have unit length.
    """
    if len(checkpoints) < 3:
        raise BadUsage(f"{len(checkpoints)} checkpoints span no plane: give at least 3")
    points = [point_of(net, state, dir_type) for state in checkpoints]
    norms, origin = norm_parameters(net), points[-1]
    kept = {name: not (ignore == "biasbn" and is_bias(name, w, norms)) for name, w in origin.items()}
    rows = np.stack([np.concatenate([((p[name] - w) * kept[name]).flatten().cpu().numpy() for name, w in origin.items()])
                     for p in points])  # fmt: skip
    try:
        found = principal_components(rows[:-1])
        coordinates, distance = project(rows, found.vectors)
    except ValueError as error:
        raise BadInput(f"no plane through the trajectory: {error}: give more checkpoints") from error
    sizes = [w.numel() for w in origin.values()]
    plane = [{name: part.view(w.shape) for part, (name, w) in zip(torch.from_numpy(vector).float().split(sizes),
                                                                  origin.items(), strict=True)}
             for vector in found.vectors]  # fmt: skip
    return Trajectory(coordinates, found.explained_variance_ratio, distance, (plane[0], plane[1]))


def read(file: str | Path) -> Landscape:
    """A surface file of this library, of the commands, or of the original release. Raises BadInput."""
    from lossatlas.record import read_directions

    found = read_surface(file)
    try:
        directions = read_directions(file)
    except BadInput:  # they are not needed for drawing
        directions = None
    return Landscape.of(found, directions)


def grid_of(x: Axis, y: Axis | None) -> Grid:
    def axis(name: str, given: Axis) -> np.ndarray:
        if isinstance(given, str):
            return Grid.parse(given).x
        values = np.asarray(given, np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise BadUsage(f"{name}: give 'min:max:num', or increasing finite coordinates")
        return values

    return Grid(axis("x", x), None if y is None else axis("y", y))


def tolerance_of(given: float | tuple[float, float] | None) -> Tolerance:
    if given is None:
        return Tolerance()
    relative, absolute = given if isinstance(given, tuple) else (given, 0.0)
    return Tolerance.parse(f"{relative},{absolute}")


def still(net: nn.Module) -> nn.Module:
    """A copy in eval mode around the same parameters: the network keeps its mode, and its buffers."""
    return copied(net, {id(p): p for p in net.parameters()}).eval()


def looked_at(net: nn.Module, loss: Loss, data: AnyData) -> tuple[Losses, Any]:
    """The losses of the first samples, see `check_loss`, and these samples where the network is."""
    device = next(net.parameters()).device
    few = mapped(next(data.batches(CHECKED)), lambda tensor: tensor.to(device))
    model = still(net)
    model.register_forward_hook(in_float64)
    return check_loss(loss, model, few, sample_of), few


def point_of(net: nn.Module, other: Net, dir_type: str) -> Point:
    """Where another network, or a state, is, under the names of `net`. Raises BadInput where it does not fit."""
    own = tensors(net, dir_type)
    state = other.state_dict() if isinstance(other, nn.Module) else other
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            there = tuple(state[name].shape) if name in state else "nothing"
            raise BadInput(f"'{name}' has shape {tuple(value.shape)} in the network, and {there} in the other one")
    return {name: state[name].detach().to(value.device, value.dtype) for name, value in own.items()}


def plane_of(
    net: nn.Module,
    grid: Grid,
    norm: str | None,
    ignore: str,
    seed: int,
    directions: Sequence[str | Mapping[str, Tensor]] | None,
    towards: Net | Sequence[Net] | None,
    dir_type: str,
    data: AnyData,
    loss: Loss,
    device: torch.device,
) -> tuple[Affine, Directions]:
    """The plane, and its directions as they are stored."""
    axes = 1 if grid.y is None else 2
    origin = {name: value.clone() for name, value in tensors(net, dir_type).items()}
    ends = [] if towards is None else [towards] if isinstance(towards, nn.Module | Mapping) else list(towards)
    wanted: list[Any] = list(directions) if directions is not None else ["random"] * axes
    if len(ends) > axes or len(wanted) < axes:
        raise BadUsage(
            f"{axes} direction(s) are needed: there are {len(ends)} networks to go to, {len(wanted)} directions"
        )
    norms, operator = norm_parameters(net), None
    vectors = []
    for k in range(axes):
        if k < len(ends):
            vectors.append(target_direction(origin, point_of(net, ends[k], dir_type)))
            continue
        what = wanted[k]
        if isinstance(what, Mapping):
            if unknown := [name for name in what if name not in origin]:
                raise BadUsage(
                    f"a direction names '{unknown[0]}', which the network does not have: {', '.join(list(origin)[:3])}, ..."
                )
            vectors.append({name: torch.as_tensor(what[name]).to(value) if name in what else torch.zeros_like(value)
                            for name, value in origin.items()})  # fmt: skip
        elif what == "random":
            vectors.append(
                random_direction(origin, "filter" if norm is None else norm, ignore, seed_of(seed, 0, k), norms)
            )
        else:
            if dir_type == "states":
                raise BadUsage(f"{what}: the curvature belongs to the parameters alone: use dir_type='weights'")
            operator = operator or Hessian(still(net), data, loss, device=device)
            vector = operator_direction(operator, what)
            pieces = dict(zip(operator.names, operator.unflatten(vector), strict=True))
            made = {name: pieces[name].to(value) for name, value in origin.items()}
            vectors.append(scale_to(made, origin, "unit" if norm is None else norm, ignore, norms))
    arrays = [as_arrays({n: v.cpu() for n, v in vector.items()}, net, dir_type) for vector in vectors]
    about = {"dir_type": dir_type, "norm": norm or "", "ignore": ignore, "seed": seed}
    return Affine(origin, *vectors), Directions(arrays[0], arrays[1] if axes == 2 else None, about)


def operator_direction(operator: Hessian, what: str) -> Tensor:
    """The gradient, or the eigenvector with the K-th largest eigenvalue."""
    name, _, number = what.partition(":")
    if name == "gradient":
        return operator.gradient()[1]
    if name != "eigenvector" or (number and not number.isdigit()):
        raise BadUsage(
            f"a direction is 'random', 'gradient', 'eigenvector', 'eigenvector:K' or a dict of tensors, not {what!r}"
        )
    pairs = lanczos(operator, top=int(number or 1), tolerance=RESOLVED, most=MOST)
    if not pairs.converged[-1]:
        raise BadInput(f"the {what} is not resolved within {MOST} products")
    vector = pairs.vectors[-1]
    return vector * vector[vector.abs().argmax()].sign()


def request_of(
    net: nn.Module, loss: Any, splits: Mapping[str, AnyData], dir_type: str, found: Losses
) -> dict[str, Any]:
    """What tells this surface from others: the network's values, the data, and what the loss of the first samples is."""
    weights = torch.ones_like(found.per_sample) if found.weights is None else found.weights
    mean = (weights * found.per_sample).sum() / weights.sum() + (0 if found.penalty is None else found.penalty)
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    name = loss if isinstance(loss, str) else repr(loss) if isinstance(loss, nn.Module) else \
        f"{getattr(loss, '__module__', '')}.{getattr(loss, '__qualname__', type(loss).__name__)}"  # fmt: skip
    return {"model": type(net).__name__, "checkpoint": digest.hexdigest(), "dir_type": dir_type, "loss": name,
            "loss_of_first_samples": float(mean),
            **{f"{split}_data": d.digest for split, d in splits.items()}}  # fmt: skip


def continued(file: Path, fresh: Surface) -> Surface:
    if not file.resolve().parent.is_dir():
        raise BadInput(f"no folder {file.parent} for the surface file: make it first")
    found, cure = resume(file, fresh, file), "give another file"
    for name in ("precision", "most"):
        if name in fresh.plan:
            compare(file, {name: found.plan[name]}, {name: fresh.plan[name]}, cure)
    return found


def computed(
    known: Surface,
    kept: Directions,
    make_work: Callable[[], Any],
    pending: np.ndarray,
    block: int,
    file: str | Path | None,
    ranks: Any,
    progress: bool,
) -> Landscape:
    """Compute the pending cells with the ranks there are."""
    blocks = [pending[k : k + block].tolist() for k in range(0, len(pending), block)]
    if not leads(ranks):
        for _ in rounds(ranks, blocks, make_work()):
            pass
        return Landscape.of(from_first(ranks, None), kept)
    shown = make_progress(known.grid.size, known.grid.size - len(pending), quiet=not progress)
    path = None if file is None else Path(file)
    try:
        found = fill(lambda given, make: rounds(ranks, given, make()), path, known, make_work, embed=kept, pending=pending,
                     cells_per_block=block, progress=shown)  # fmt: skip
    except Incomplete as error:
        if size_of(ranks) > 1:
            end_all(ranks, error)
        warnings.warn(f"stopped with {error.partial.done.sum()} of {known.grid.size} cells", stacklevel=3)
        found = error.partial
    except BaseException as error:
        if size_of(ranks) > 1 and not isinstance(error, FailedRank):  # the others wait for the next round
            end_all(ranks, error)
        raise
    return Landscape.of(from_first(ranks, found), kept)


class FailedRank(RuntimeError):
    """A rank failed; raised on all of them."""


def agreed(ranks: Any, function: Callable[[], Any]) -> Any:
    """What a function gives on each rank; where it fails on one, it fails on all of them."""
    if size_of(ranks) == 1:
        return function()
    failure, result = None, None
    try:
        result = function()
    except BaseException as error:
        failure = error
    failures = ranks.allgather(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, line in enumerate(failures):
        if line is not None:
            raise FailedRank(f"rank {rank}: {line}")
    return result


def agree_on(ranks: Any, request: Mapping[str, Any]) -> None:
    """Raise BadInput on every rank where they are asked for different things."""
    if size_of(ranks) == 1:
        return
    everyones = ranks.allgather(dict(request))
    for rank, other in enumerate(everyones):
        for name, value in everyones[0].items():
            if not equal(other.get(name), value):
                raise BadInput(f"rank {rank} has {name} = {other.get(name)}, rank 0 {value}: give every rank the same network "
                               "and data (seed them)")  # fmt: skip


def first_alone(ranks: Any, function: Callable[[], Any]) -> Any:
    """What a function gives on rank 0, on every rank."""
    return from_first(ranks, agreed(ranks, lambda: function() if leads(ranks) else None))


def end_all(ranks: Any, error: BaseException) -> None:
    """End every rank, because the others wait for this one: a communicator of mpi4py can."""
    traceback.print_exception(error)
    sys.stderr.flush()
    time.sleep(0.3)  # the launcher loses what it has not forwarded
    ranks.Abort(1)


def rounds(ranks: Any, blocks: Sequence[Any], work: Any) -> Iterator[tuple[int, Any] | None]:
    """A block for each rank, then the next; rank 0 gets the results. An error on any rank is raised on all of them."""
    size, rank = size_of(ranks), 0 if ranks is None else ranks.rank
    for first in range(0, len(blocks), size):
        if size == 1:
            yield first, work(blocks[first])
            continue
        mine = agreed(ranks, lambda: work(blocks[first + rank]) if first + rank < len(blocks) else None)  # noqa: B023
        for k, result in enumerate(ranks.gather(mine, root=0) or ()):
            if first + k < len(blocks):
                yield first + k, result


def size_of(ranks: Any) -> int:
    return 1 if ranks is None else int(ranks.size)


def leads(ranks: Any) -> bool:
    return ranks is None or ranks.rank == 0


def from_first(ranks: Any, value: Any) -> Any:
    """What rank 0 passes in, on every rank."""
    return value if ranks is None else ranks.bcast(value, root=0)


def warn_of_launcher(ranks: Any) -> None:
    sizes = [os.environ.get(name, "") for name in LAUNCHERS]
    started = max([int(size) for size in sizes if size.isdigit()], default=1)
    if ranks is None and started > 1:
        warnings.warn(f"a launcher started {started} processes, and each of them computes everything: share the work with "
                      "ranks=MPI.COMM_WORLD (from mpi4py import MPI)", stacklevel=3)  # fmt: skip
