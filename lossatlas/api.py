"""The whole of it in a few functions: surfaces, maps of eigenvalues, spectra, trajectories of a network of your own.

    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21")
    surface.plot()

The network is evaluated in evaluation mode, and afterwards it is what it was: tensors, modes, hooks. Data are tensors, a torch
Dataset, a DataLoader or any iterable of batches; see `lossatlas.data.as_dataset` and `as_loss` for what is taken and how.
"""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data import AnyData, Loss, as_dataset, as_loss
from lossatlas.errors import BadInput, BadUsage, Incomplete, note
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.evaluation.precision import PRECISIONS, product_precision, resolve_precision
from lossatlas.evaluation.recalibration import check_recalibrated
from lossatlas.evaluation.reference import restoring
from lossatlas.hessian import Activations, Hessian
from lossatlas.io import Directions, Findings, read_surface, write_findings
from lossatlas.io.lock import Lock
from lossatlas.io.recorder import reporting, signals
from lossatlas.io.resume import resume_findings
from lossatlas.jobs import spectrum_parts
from lossatlas.jobs.alignment import aligned
from lossatlas.jobs.checkpoint_projection import coordinates, differences, principal_plane
from lossatlas.jobs.eigenvalue_quantity import EigenvalueQuantity
from lossatlas.jobs.grid_job import Quantity, SurfaceOutput, continued, obey_signal, run_in_script
from lossatlas.jobs.input_check import check_inputs
from lossatlas.jobs.loss_quantity import LossQuantity
from lossatlas.jobs.problem import Problem
from lossatlas.jobs.reference_check import check_ends
from lossatlas.jobs.script_inputs import (
    Direction,
    DirectionArguments,
    Net,
    about_of,
    loss_name,
    plane_of,
    point_of,
    request_of,
    shared_copy,
    statistics_differ,
)
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.mpi.agreement import (
    check_same_request,
    from_first,
    on_all,
    on_first,
    rank_of,
    size_of,
    warn_of_launcher,
)
from lossatlas.parameter_space import Selection
from lossatlas.parameter_space.directions import patterns_of
from lossatlas.results import Curvature, Landscape, Trajectory

T = TypeVar("T")
WORDS: dict[str, Sequence[str]] = {
    "norm": ("", "filter", "layer", "weight", "dfilter", "dlayer", "unit"),
    "ignore": ("", "biasbn"),
    "dir_type": ("weights", "states"),
    "precision": tuple(PRECISIONS),
    "activation_site": ("output", "input"),
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
    directions: Direction | Sequence[Direction] | None = None,
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
    quantity = LossQuantity(
        tolerance_of(tolerance),
        None if adaptive is None else tolerance_of(adaptive, "adaptive"),
        precision,
        batch_size,
        bn_samples if bn == "recalibrate" else 0,
    )
    arguments = DirectionArguments(directions, towards, norm, ignore, seed, Selection(only, without))

    def begin() -> tuple[Surface, Problem, Directions]:
        splits = {"train": as_dataset(data)} | ({} if test is None else {"test": as_dataset(test, split="test")})
        loss_function, grid, others = as_loss(loss), grid_of(x, y), arguments.others
        found = check_inputs(net, loss_function, splits["train"], type(net).__name__)
        differ = statistics_differ(net, others)
        moved = dir_type or ("states" if differ else "weights")
        if dir_type is None and differ:
            note("the networks differ in BatchNorm statistics, so these are moved too: dir_type='states'")
        request = request_of(net, loss, splits, found)
        if bn == "recalibrate":
            check_recalibrated(net, splits["train"], resolve_precision(precision, net), bn_samples)
            request["bn"] = f"recalibrated on {bn_samples} samples of {splits['train'].digest}"
        plane, kept = plane_of(arguments, net, grid, moved, splits["train"], loss_function, loss_name(loss), device)
        fresh = quantity.new_surface(
            net,
            splits,
            loss_function,
            grid,
            device=str(device),
            request={**request, "dir_type": moved, "directions": kept.sha256},
            about={**about_of(splits), **arguments.networks()},
        )
        problem = Problem(shared_copy(net), plane, splits, loss_function, device, splits["train"], lambda: net)
        if others and not only and not without:
            check_ends(problem, others, moved, differ)
        return fresh, problem, kept

    fresh, problem, kept = on_all(ranks, begin)
    return landscape_of(ranks, quantity, problem, fresh, kept, file, progress=progress)


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
    directions: Direction | Sequence[Direction] | None = None,
    towards: Net | Sequence[Net] | None = None,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    parameters: str | Sequence[str] = (),
    matrices_only: bool = False,
    tolerance: float = 1e-2,
    max_products: int = 300,
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
    eigenvalue. max_products: largest number of products for each point; `lossatlas.landscape.unresolved` tells where they
    were too few.
    precision: 'float32' or 'float64', by default that of the network and
    float32 for half precision. compiled: let torch.compile fuse the products, which takes half a minute at the start.
    The rest as for `surface`; fields: see `lossatlas.jobs.eigenvalue_quantity.FIELDS`.
    """
    check_words(norm=norm, ignore=ignore, precision=precision)
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    quantity = EigenvalueQuantity(
        patterns_of(parameters or only),
        patterns_of(without),
        matrices_only,
        tolerance,
        max_products,
        precision,
        compiled,
        batch_size,
        seed,
    )
    arguments = DirectionArguments(directions, towards, norm, ignore, seed, Selection(only, without))

    def begin() -> tuple[Surface, Problem, Directions]:
        splits = {"train": as_dataset(data)}
        loss_function, grid = as_loss(loss), grid_of(x, y)
        found = check_inputs(net, loss_function, splits["train"], type(net).__name__)
        plane, kept = plane_of(arguments, net, grid, "weights", splits["train"], loss_function, loss_name(loss), device)
        fresh = quantity.new_surface(
            net,
            splits,
            loss_function,
            grid,
            device=str(device),
            request={**request_of(net, loss, splits, found), "dir_type": "weights", "directions": kept.sha256},
            about=about_of(splits),
        )
        return fresh, Problem(net, plane, splits, loss_function, device), kept

    fresh, problem, kept = on_all(ranks, begin)
    return landscape_of(ranks, quantity, problem, fresh, kept, file, progress=progress)


def landscape_of(
    ranks: Any,
    quantity: Quantity,
    problem: Problem,
    fresh: Surface,
    directions: Directions,
    file: str | Path | None,
    *,
    progress: bool,
) -> Landscape:
    """Compute what a file lacks, with all ranks, while no other run writes it. Raises as `grid_job.run_in_script`."""
    check_same_request(ranks, fresh.request)

    def finish(lock: Lock | None) -> Landscape:
        known = continued(ranks, file, fresh)
        output = SurfaceOutput(None if file is None else Path(file), embed=directions, lock=lock)
        return Landscape.of(run_in_script(ranks, quantity, problem, known, output, progress=progress), directions)

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
    max_products: int = 300,
    trace_error: float = 0.02,
    max_trace_products: int = 500,
    probes: int = 1,
    steps: int = 80,
    damping: float = 5e-4,
    layers: bool = False,
    activations: str | Sequence[str] | None = None,
    activation_site: str = "output",
    activation_error: float = 0.1,
    max_activation_probes: int = 30,
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
    eigenvalues from either end; tolerance: their residual, relative; max_products: largest number of products.
    trace_error: relative standard error; max_trace_products: largest number of products. probes, steps: of the density; the
    first probe costs nothing. damping: regularization z in the effective dimension, see `lossatlas.hessian`. layers: the
    largest eigenvalue of each layer's block too. activations: traces with respect to what layers give out
    (activation_site='output') or take in ('input'), for those whose name or type contains one of these patterns, [] for
    all; activation_error, max_activation_probes: relative standard error, and largest number of probes. file: continue or
    write this spectrum file, part by part. ranks: as for `surface`;
    the samples are spread over them. The rest as for `eigenvalues`. Ctrl-C gives the parts that are there.

    Raises BadUsage, BadInput (also for a random network), CannotWrite.
    """
    check_words(precision=precision, activation_site=activation_site)
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

    fresh, samples, loss_function = on_all(ranks, begin)
    check_same_request(ranks, fresh.request)

    def finish(lock: Lock | None) -> Curvature:
        known = on_first(ranks, lambda: fresh if file is None else resume_findings(placed(file), fresh, seed))
        patterns = None if activations is None else patterns_of(activations)
        common: dict[str, Any] = {"device": device, "reduce": total(ranks), "precision": kind}
        wanted = spectrum_parts.SpectrumSettings(
            top=top,
            bottom=bottom,
            tolerance=tolerance,
            max_products=max_products,
            trace_error=trace_error,
            max_trace_products=max_trace_products,
            probes=probes,
            steps=steps,
            damping=damping,
            layers=layers,
            activations=patterns,
            activation_site=activation_site,
            activation_error=activation_error,
            max_activation_probes=max_activation_probes,
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
                    net,
                    samples,
                    loss_function,
                    patterns=patterns,
                    at=activation_site,
                    batch_size=hessian.batch_size,
                    **common,
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
                during=lambda part: reporting(part, caught, shown=progress and rank_of(ranks) == 0),
            )

        there = [known]

        def save(found: Findings) -> None:
            there[0] = found
            if file is not None and rank_of(ranks) == 0:
                if lock is not None:
                    lock.check()
                write_findings(file, found)

        try:
            with signals() as caught:
                run(save, caught)
        except (KeyboardInterrupt, Incomplete) as error:
            if size_of(ranks) > 1:
                end_all(ranks, Incomplete("interrupted"))
            obey_signal(error) if isinstance(error, Incomplete) else None
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


def placed(file: str | Path) -> Path:
    """Raises BadInput where a file's folder is missing."""
    if not Path(file).resolve().parent.is_dir():
        raise BadInput(f"no folder {Path(file).parent} for the file {file}: make it first")
    return Path(file)


def alone(file: str | Path | None, ranks: Any, finish: Callable[[Lock | None], T]) -> T:
    """What `finish` gives while no other run writes this file. Raises CannotWrite where one does."""
    lock = Lock(placed(file)) if file is not None and rank_of(ranks) == 0 else None
    on_all(ranks, lock.take if lock is not None else lambda: None)
    try:
        return finish(lock)
    finally:
        if lock is not None:
            lock.release()


def end_all(ranks: Any, error: BaseException) -> None:
    """End every rank, because the others wait for this one: a communicator of mpi4py can."""
    traceback.print_exception(error)
    sys.stderr.flush()
    time.sleep(0.3)  # the launcher loses what it has not forwarded
    ranks.Abort(1)
