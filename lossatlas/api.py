"""The whole of it in a few functions: surfaces, maps of eigenvalues, spectra, trajectories of a network of your own.

    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21")
    surface.plot()

The network is evaluated in evaluation mode, and afterwards it is what it was: tensors, modes, hooks. Data are tensors, a torch
Dataset, a DataLoader or any iterable of batches; see `lossatlas.data.as_dataset` and `as_loss` for what is taken and how.
"""

import hashlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data import AnyData, Loss, Losses, as_dataset, as_loss
from lossatlas.errors import BadInput, BadUsage, Incomplete, note
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.evaluation.precision import PRECISIONS, product_precision, resolve_precision
from lossatlas.evaluation.recalibration import check_recalibrated
from lossatlas.evaluation.reference import bytes_of, restoring
from lossatlas.hessian import Activations, Hessian
from lossatlas.io import Directions, Findings, read_surface, write_findings
from lossatlas.io.block_queue import BlockQueue
from lossatlas.io.lock import Lock, release_all
from lossatlas.io.progress import make_progress
from lossatlas.io.recorder import fill, reporting, signals, timed
from lossatlas.io.resume import resume, resume_findings
from lossatlas.jobs import eigenvalue_map as maps
from lossatlas.jobs import loss_surface as losses
from lossatlas.jobs import spectrum_parts
from lossatlas.jobs.alignment import aligned
from lossatlas.jobs.checkpoint_projection import coordinates, differences, principal_plane
from lossatlas.jobs.input_check import check_inputs
from lossatlas.jobs.lock_step import (
    FailedRank,
    agree_on,
    agreed,
    end_all,
    first_alone,
    from_first,
    leads,
    rank_of,
    rounds,
    size_of,
    warn_of_launcher,
)
from lossatlas.jobs.problem import Problem
from lossatlas.jobs.python_directions import Ends, Net, networks_at, networks_in, plane_of, point_of, statistics_differ
from lossatlas.jobs.reference_check import check_ends
from lossatlas.jobs.settings_digest import name_of, settings_digest
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.parameter_space import Selection
from lossatlas.parameter_space.directions import patterns_of
from lossatlas.results import Curvature, Landscape, Trajectory
from lossatlas.sampling.adaptive_grid import requested

T = TypeVar("T")
CURE = "give another file"
WORDS: dict[str, Sequence[str]] = {
    "norm": ("", "filter", "layer", "weight", "dfilter", "dlayer", "unit"),
    "ignore": ("", "biasbn"),
    "dir_type": ("weights", "states"),
    "precision": tuple(PRECISIONS),
    "at": ("output", "input"),
    "bn": ("keep", "recalibrate"),
}
Axis = str | Sequence[float] | np.ndarray


@restoring
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
    directions: str | Mapping[str, Tensor] | Sequence[str | Mapping[str, Tensor]] | None = None,
    towards: Net | Sequence[Net] | None = None,
    dir_type: str | None = None,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    tolerance: float | tuple[float, float] | None = None,
    adaptive: float | tuple[float, float] | None = None,
    precision: str | None = None,
    bn: str = "keep",
    bn_samples: int = 1000,
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
    or a direction by tensor name, which is taken as it is unless `norm` says otherwise; random ones depend on `seed` alone,
    and are those of the command plot_surface.py.
    towards: one or two networks, at coordinate 1 of the axes, instead; their own losses are compared with those there.
    dir_type: 'weights' moves the parameters, 'states' the buffers too; by default 'weights', and 'states' towards networks
    with other BatchNorm statistics. precision: by default that of the network's parameters.
    only, without: regular expressions; parameters whose
    names contain none of `only`, or one of `without`, stay where they are.
    tolerance: REL or (REL, ABS): as many samples as bring the standard error below max(REL * loss, ABS). adaptive:
    REL or (REL, ABS): cells that those around them predict within max(REL * loss, ABS) are interpolated instead of computed
    (`interpolated` says which). bn: 'keep', or
    'recalibrate': the statistics of BatchNorm are estimated again at every point, from `bn_samples` training samples.
    batch_size: 0 is found by a short measurement. device: by default that of the network. file: continue or write this
    surface file.
    ranks: an mpi4py communicator, such as MPI.COMM_WORLD: every rank calls this function, and all get the result.

    Ctrl-C gives what is there; SIGTERM and the like end the program, after what is there is saved in the file. Raises
    BadUsage, BadInput, CannotWrite.
    """
    check_words(norm=norm, ignore=ignore, dir_type=dir_type, precision=precision, bn=bn)
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    limit, leave_out = tolerance_of(tolerance), None if adaptive is None else tolerance_of(adaptive, "adaptive")

    def begin() -> tuple[Surface, Problem, Directions]:
        splits = {"train": as_dataset(data)} | ({} if test is None else {"test": as_dataset(test, split="test")})
        loss_function, grid, others = as_loss(loss), grid_of(x, y), networks_in(towards)
        found = check_inputs(net, loss_function, splits["train"], type(net).__name__)
        differ = statistics_differ(net, others)
        moved = dir_type or ("states" if differ else "weights")
        if dir_type is None and differ:
            note("the networks differ in BatchNorm statistics, so these are moved too: dir_type='states'")
        request = request_of(net, loss, splits, found)
        if bn == "recalibrate":
            check_recalibrated(net, splits["train"], resolve_precision(precision, net), bn_samples)
            request["bn"] = f"recalibrated on {bn_samples} samples of {splits['train'].digest}"
        ends = Ends(directions, towards, norm, ignore, seed, Selection(only, without))
        plane, kept = plane_of(
            ends,
            net,
            grid,
            moved,
            splits["train"],
            loss_function,
            device,
        )
        fresh = losses.new_surface(
            net,
            splits,
            loss_function,
            grid,
            device=device,
            tolerance=limit,
            precision=precision,
            batch_size=batch_size,
            request={**request, "dir_type": moved, "directions": kept.sha256},
            about={**about_of(splits), **networks_at(ends)},
            recalibrated=bn_samples if bn == "recalibrate" else 0,
        )
        problem = Problem(shared_copy(net), plane, splits, loss_function, device, splits["train"], lambda: net)
        if others and not only and not without:
            check_ends(problem, others, moved, differ)
        return fresh, problem, kept

    fresh, problem, kept = agreed(ranks, begin)
    agree_on(ranks, fresh.request)

    def finish(lock: Lock | None) -> Landscape:
        known = first_alone(ranks, lambda: continued(file, fresh))
        pending = requested(known, leave_out).pending(limit)
        if not len(pending):
            return Landscape.of(known, kept)
        known, evaluator = agreed(
            ranks,
            lambda: (
                losses.finalize_plan(problem, known, limit, len(pending), leave_out) if leads(ranks) else (known, None)
            ),
        )
        known = from_first(ranks, known)
        evaluator = agreed(ranks, lambda: evaluator or losses.evaluator_of(problem, known.plan, limit))
        pending = known.pending(limit)
        work, queue = (
            losses.block_worker(known, evaluator),
            losses.make_queue(known, pending, size_of(ranks), leave_out),
        )
        return computed(known, kept, lambda: work, queue, file, ranks, progress, lock)

    return alone(file, ranks, finish)


@restoring
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
    directions: str | Mapping[str, Tensor] | Sequence[str | Mapping[str, Tensor]] | None = None,
    towards: Net | Sequence[Net] | None = None,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    parameters: str | Sequence[str] = (),
    matrices_only: bool = False,
    tolerance: float = 1e-2,
    most: int = 300,
    precision: str | None = None,
    compiled: bool = False,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    ranks: Any = None,
    progress: bool = True,
) -> Landscape:
    """Largest and smallest eigenvalue of the Hessian of the mean loss at each point of a line or a plane.

    parameters: regular expressions of the names of those that the Hessian is of, by default those that are moved (`only`,
    `without`), all if none is said; matrices_only: without biases and normalization layers. tolerance: relative, of each
    eigenvalue. most: products at most for each point; `lossatlas.landscape.unresolved` tells where they were too few.
    precision: 'float32' or 'float64', by default that of the network and
    float32 for half precision. compiled: let torch.compile fuse the products, which takes half a minute at the start.
    The rest as for `surface`; fields: see `lossatlas.jobs.eigenvalue_map.FIELDS`.
    """
    check_words(norm=norm, ignore=ignore, precision=precision)
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    kind = product_precision(precision, net)

    def begin() -> tuple[Surface, Problem, Directions]:
        samples, loss_function, grid = as_dataset(data), as_loss(loss), grid_of(x, y)
        found = check_inputs(net, loss_function, samples, type(net).__name__)
        plane, kept = plane_of(
            Ends(directions, towards, norm, ignore, seed, Selection(only, without)),
            net,
            grid,
            "weights",
            samples,
            loss_function,
            device,
        )
        splits = {"train": samples}
        fresh = maps.new_surface(
            grid,
            device=device,
            parameters=parameters or only,
            without=without,
            matrices_only=matrices_only,
            tolerance=tolerance,
            most=most,
            precision=kind,
            compiled=compiled,
            batch_size=batch_size,
            request={**request_of(net, loss, splits, found), "directions": kept.sha256},
            about=about_of(splits),
        )
        return fresh, Problem(net, plane, splits, loss_function, device), kept

    fresh, problem, kept = agreed(ranks, begin)
    agree_on(ranks, fresh.request)

    def finish(lock: Lock | None) -> Landscape:
        known = first_alone(ranks, lambda: continued(file, fresh))
        pending = known.pending()
        if not len(pending):
            return Landscape.of(known, kept)
        known, operator = agreed(ranks, lambda: maps.finalize_plan(problem, known) if leads(ranks) else (known, None))
        known = from_first(ranks, known)
        operator = agreed(ranks, lambda: operator or maps.operator_of(problem, known))
        work = maps.block_worker(known, operator)
        return computed(known, kept, lambda: work, BlockQueue.of(pending), file, ranks, progress, lock)

    return alone(file, ranks, finish)


@restoring
def spectrum(
    net: nn.Module,
    data: Any,
    *,
    loss: Any = "crossentropy",
    top: int = 10,
    bottom: int = 1,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    matrices_only: bool = False,
    tolerance: float = 1e-3,
    most: int = 300,
    trace_error: float = 0.02,
    trace_most: int = 500,
    probes: int = 1,
    steps: int = 80,
    z: float = 5e-4,
    layers: bool = False,
    activations: str | Sequence[str] | None = None,
    at: str = "output",
    activation_error: float = 0.1,
    activation_most: int = 30,
    seed: int = 0,
    precision: str | None = None,
    compiled: bool = False,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    ranks: Any = None,
    progress: bool = True,
) -> Curvature:
    """Eigenvalues with vectors, trace, density and effective dimension of the Hessian of the mean loss.

    only, without: regular expressions of the names of the parameters that vary, all by default. top, bottom: how many
    eigenvalues from either end; tolerance: their residual, relative; most: products at most.
    trace_error: relative standard error; trace_most: products at most. probes, steps: of the density; the first probe costs
    nothing. z: regularization in the effective dimension, see `lossatlas.hessian`. layers: the largest eigenvalue of each
    layer's block too. activations: traces with respect to what layers give out (at='output') or take in ('input'), for
    those whose name or type contains one of these patterns, [] for all; activation_error, activation_most: relative
    standard error, and probes at most. file: continue or write this spectrum file, part by part. ranks: as for `surface`;
    the samples are spread over them. The rest as for `eigenvalues`. Ctrl-C gives the parts that are there.

    Raises BadUsage, BadInput (also for a random network), CannotWrite.
    """
    check_words(precision=precision, at=at)
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    kind = product_precision(precision, net)

    def begin() -> tuple[Findings, AnyData, Loss]:
        samples, loss_function = as_dataset(data), as_loss(loss)
        found = check_inputs(net, loss_function, samples, type(net).__name__)
        request = {
            **request_of(net, loss, {"train": samples}, found),
            "parameters": list(patterns_of(only)) or "all",
            "without": list(patterns_of(without)),
            "matrices_only": matrices_only,
            "precision": kind,
        }
        about = {**about_of({"train": samples}), "samples": len(samples)}
        if samples.parts < size_of(ranks):
            raise BadUsage(
                f"{samples.parts} samples or batches cannot be spread over {size_of(ranks)} ranks: start fewer"
            )
        return Findings({}, request, about=about), samples.share(rank_of(ranks), size_of(ranks)), loss_function

    fresh, samples, loss_function = agreed(ranks, begin)
    agree_on(ranks, fresh.request)

    def finish(lock: Lock | None) -> Curvature:
        known = first_alone(ranks, lambda: fresh if file is None else resume_findings(placed(file), fresh, seed, CURE))
        patterns = None if activations is None else patterns_of(activations)
        common: dict[str, Any] = {"device": device, "reduce": total(ranks), "precision": kind}
        wanted = spectrum_parts.SpectrumSettings(
            top=top,
            bottom=bottom,
            tolerance=tolerance,
            most=most,
            trace_error=trace_error,
            trace_most=trace_most,
            probes=probes,
            steps=steps,
            z=z,
            layers=layers,
            activations=patterns,
            at=at,
            activation_error=activation_error,
            activation_most=activation_most,
            seed=seed,
        )

        def run(save: Callable[[Findings], None], caught: list[int]) -> Findings:
            hessian = Hessian(
                net,
                samples,
                loss_function,
                parameters=only,
                without=without,
                matrices_only=matrices_only,
                compiled=compiled,
                batch_size=batch_size or None,
                **common,
            )
            plan = {"device": device.type, "batch_size": hessian.batch_size, "ranks": size_of(ranks)}
            sampler = None
            if patterns is not None:
                own = Activations(
                    net, samples, loss_function, patterns=patterns, at=at, batch_size=hessian.batch_size, **common
                )
                sampler = spectrum_parts.ActivationProbes(
                    lambda number: own(number * size_of(ranks) + rank_of(ranks)), lambda: own.layers
                )
            return spectrum_parts.compute(
                hessian,
                wanted,
                replace(known, plan=plan),
                probes=sampler,
                save=save,
                during=lambda part: reporting(part, caught, shown=progress and leads(ranks)),
            )

        there = [known]

        def save(found: Findings) -> None:
            there[0] = found
            if file is not None and leads(ranks):
                if lock is not None:
                    lock.check()
                write_findings(file, found)

        try:
            with signals() as caught:
                run(save, caught)
        except (KeyboardInterrupt, Incomplete) as error:
            if size_of(ranks) > 1:
                end_all(ranks, Incomplete("interrupted"))
            obey(error)
            note("stopped: the parts of the spectrum that were finished are there")
        except BaseException as error:
            if size_of(ranks) > 1:  # the others wait for this one's share of the next sum
                end_all(ranks, error)
            raise
        return Curvature(there[0])

    return alone(file, ranks, finish)


def total(ranks: Any) -> Callable[[Tensor], Tensor] | None:
    """The sum of a vector over the ranks, the same on all of them to the last bit; None for one process."""
    if size_of(ranks) == 1:
        return None

    def reduce(vector: Tensor) -> Tensor:
        own = vector.detach().cpu().double().numpy()
        every = ranks.gather(own, root=0)
        result = from_first(ranks, None if every is None else np.sum(every, axis=0))
        return torch.from_numpy(result).to(vector.device, vector.dtype)

    return reduce


@restoring
def trajectory(
    net: nn.Module,
    checkpoints: Sequence[Net],
    *,
    dir_type: str = "weights",
    ignore: str = "",
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
) -> Trajectory:
    """Project checkpoints of a training run on the plane of their two principal components; the last one is the origin.

    checkpoints: networks or state dicts, at least three. The components have unit length. ignore, only, without: as for
    `surface`.
    """
    check_words(dir_type=dir_type, ignore=ignore)
    if len(checkpoints) < 3:
        raise BadUsage(f"{len(checkpoints)} checkpoints span no plane: give at least 3")
    origin = point_of(net, checkpoints[-1], dir_type)
    rows = differences(
        lambda k: point_of(net, checkpoints[k], dir_type),
        len(checkpoints),
        origin,
        net,
        ignore,
        Selection(only, without),
    )
    found, plane = principal_plane(rows, origin)
    where, distance = coordinates(rows, plane, "the trajectory")
    return Trajectory(where, found.explained_variance_ratio, distance, plane)


@restoring
def align(net: nn.Module, other: Net, inputs: Tensor) -> dict[str, Tensor]:
    """The state of another network of the same kind, its hidden units in the order that fits best to those of `net`.

    What it computes does not change, which is checked. inputs: a batch, of two samples at least. `towards=` of `surface` takes
    the result. Raises BadInput where the shapes differ, where the operations cannot be traced, or where no units can change
    places. Weight matching of Ainsworth et al. (arXiv 2209.04836).
    """
    point_of(net, other, "states")
    state = other.state_dict() if isinstance(other, nn.Module) else other
    try:
        twin = frozen_copy(net)
    except Exception as error:
        raise BadInput(f"{type(net).__name__} cannot be copied ({error}), and alignment traces a copy") from error
    return aligned(twin, twin.state_dict(), {name: value.detach() for name, value in state.items()}, inputs)[0]


def read(file: str | Path) -> Landscape:
    """A surface file of this library, of the commands, or of the original release. Raises BadInput."""
    from lossatlas.io import read_directions

    found = read_surface(file)
    try:
        directions = read_directions(file)
    except BadInput:  # they are not needed for drawing
        directions = None
    return Landscape.of(found, directions)


def check_words(**words: str | None) -> None:
    """Raise BadUsage for a word that is none of those there are."""
    for name, word in words.items():
        if word is not None and word not in WORDS[name]:
            there = ", ".join(repr(each) for each in WORDS[name])
            raise BadUsage(f"{name}={word!r}: there are {there}")


def grid_of(x: Axis, y: Axis | None) -> Grid:
    def axis(name: str, given: Axis) -> np.ndarray:
        if isinstance(given, str):
            return Grid.parse(given).x
        values = np.asarray(given, np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise BadUsage(f"{name}: give 'min:max:num', or increasing finite coordinates")
        return values

    return Grid(axis("x", x), None if y is None else axis("y", y))


def tolerance_of(given: float | tuple[float, float] | None, option: str = "tolerance") -> Tolerance:
    if given is None:
        return Tolerance()
    numbers = given if isinstance(given, tuple | list) else (given,)
    return Tolerance.parse(",".join(str(number) for number in numbers), option)


def request_of(net: nn.Module, loss: Any, splits: Mapping[str, AnyData], found: Losses) -> dict[str, Any]:
    """What tells this surface from others: the network's values, the data, and what the loss of the first samples is."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            digest.update(bytes_of(value))
    return {
        "model": type(net).__name__,
        "model_settings": settings_digest(net),
        "checkpoint": digest.hexdigest(),
        "loss": loss if isinstance(loss, str) else name_of(loss),
        "loss_settings": settings_digest(loss),
        "loss_of_some_samples": float(found.mean()),
        **{f"{split}_data": d.digest for split, d in splits.items()},
    }


def shared_copy(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode; the network itself where it cannot be copied, and so is evaluated in place."""
    try:
        return frozen_copy(net)
    except Exception:
        return net


def about_of(splits: Mapping[str, AnyData]) -> dict[str, Any]:
    sketches = {f"{split}_data": data.sketch for split, data in splits.items()}
    return {"torch": torch.__version__, "sketches": sketches}


def placed(file: str | Path) -> Path:
    """Raises BadInput where a file's folder is missing."""
    if not Path(file).resolve().parent.is_dir():
        raise BadInput(f"no folder {Path(file).parent} for the file {file}: make it first")
    return Path(file)


def continued(file: str | Path | None, fresh: Surface) -> Surface:
    return fresh if file is None else resume(placed(file), fresh, Path(file), CURE)


def alone(file: str | Path | None, ranks: Any, finish: Callable[[Lock | None], T]) -> T:
    """What `finish` gives while no other run writes this file. Raises CannotWrite where one does."""
    lock = Lock(placed(file)) if file is not None and leads(ranks) else None
    agreed(ranks, lock.acquire if lock is not None else lambda: None)
    try:
        return finish(lock)
    finally:
        if lock is not None:
            lock.release()


def obey(error: BaseException) -> None:
    """Once all is saved, let a signal do what it would have done: Ctrl-C alone asks for what there is."""
    number = getattr(error, "signal", 0)
    if number not in (0, signal.SIGINT):
        release_all()
        signal.raise_signal(number)


def computed(
    known: Surface,
    kept: Directions,
    make_work: Callable[[], Any],
    queue: BlockQueue,
    file: str | Path | None,
    ranks: Any,
    progress: bool,
    lock: Lock | None,
) -> Landscape:
    """Compute the cells of a supply with the ranks there are."""
    work = timed(make_work())
    if not leads(ranks):
        for _ in rounds(ranks, None, work):
            pass
        return Landscape.of(from_first(ranks, None), kept)
    shown = make_progress(known.grid.size, known.grid.size - queue.cells, quiet=not progress)
    path = None if file is None else Path(file)
    try:
        found = fill(
            lambda given, make: rounds(ranks, given, make()),
            path,
            known,
            lambda: work,
            embed=kept,
            queue=queue,
            progress=shown,
            lock=lock,
        )
    except Incomplete as error:
        if size_of(ranks) > 1:
            end_all(ranks, error)
        obey(error)
        note(f"stopped with {error.partial.done.sum()} of {known.grid.size} cells")
        found = error.partial
    except BaseException as error:
        if size_of(ranks) > 1 and not isinstance(error, FailedRank):  # the others wait for the next round
            end_all(ranks, error)
        raise
    return Landscape.of(from_first(ranks, found), kept)
