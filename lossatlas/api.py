"""The whole of it in a few functions: surfaces, maps of eigenvalues, spectra, trajectories of a network of your own.

    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21")
    surface.plot()

The network is evaluated in evaluation mode, and afterwards it is what it was: tensors, modes, hooks. Data are tensors, a torch
Dataset, a DataLoader or any iterable of batches; see `lossatlas.data.as_dataset` and `as_loss` for what is taken and how.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data import as_dataset, as_loss
from lossatlas.errors import BadInput, BadUsage, Incomplete, note
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.evaluation.precision import PRECISIONS, resolve_precision
from lossatlas.evaluation.recalibration import check_recalibrated
from lossatlas.evaluation.reference import restoring
from lossatlas.io import Directions, read_surface
from lossatlas.io.lock import Lock
from lossatlas.io.resume import resume_findings
from lossatlas.jobs import hessian_job
from lossatlas.jobs.alignment import aligned
from lossatlas.jobs.checkpoint_projection import coordinates, differences, principal_plane
from lossatlas.jobs.distributed_hessian import HessianSettings
from lossatlas.jobs.eigenvalue_quantity import EigenvalueQuantity
from lossatlas.jobs.grid_job import Quantity, SurfaceOutput, continued, obey_signal, run_in_script
from lossatlas.jobs.hessian_job import FindingsOutput
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
from lossatlas.jobs.spectrum_job import compute_spectrum
from lossatlas.jobs.spectrum_parts import SpectrumSettings
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.mpi.agreement import (
    check_same_request,
    on_all,
    on_first,
    rank_of,
    warn_of_launcher,
)
from lossatlas.mpi.communicator import World
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
    """Compute eigenvalues with vectors, trace, density and effective dimension of the Hessian of the mean loss.

    The command hessian_spectrum.py computes the same, and continues the same files.

    Args:
        net: The network.
        data: The samples, see `lossatlas.data.as_dataset`.
        loss: The loss, as for `surface`.
        top: The number of largest eigenvalues.
        bottom: The number of smallest eigenvalues.
        only: Regular expressions of the names of the parameters that vary; all by default.
        without: Regular expressions of the names of parameters that do not vary.
        matrices_only: Leave out biases and normalization layers.
        tolerance: The residual of a resolved eigenvalue, relative to it.
        max_products: The limit of the number of products for the eigenvalues.
        trace_error: The standard error of the trace, relative to it.
        max_trace_products: The limit of the number of products for the trace.
        probes: The number of random vectors for the density; the first takes no further product.
        steps: The number of products for each of the other vectors.
        damping: The regularization of the effective dimension, see `lossatlas.hessian`.
        layers: Compute the largest eigenvalue of each layer's block too.
        activations: Patterns of names or types of layers; compute the traces with respect to the activations of these
            layers, [] for all of them.
        activation_site: Take the activations of a layer's 'output' or 'input'.
        activation_error: The standard error of each of these traces, relative to it.
        max_activation_probes: The limit of the number of probes for them.
        seed: The seed of the random vectors.
        precision: 'float32' or 'float64', as for `eigenvalues`.
        compiled: Let torch.compile fuse the products, as for `eigenvalues`.
        batch_size: The number of samples in a batch; 0 for the usual one.
        device: The device, by default that of the network.
        file: The spectrum file to write or to continue, part by part.
        ranks: A communicator of mpi4py, as for `surface`; the samples are spread over the ranks.
        progress: Print the progress.

    Returns:
        The spectrum; after Ctrl-C the parts that are finished.

    Raises:
        BadUsage: An argument has no meaning.
        BadInput: The data or the file do not fit, or the network is random.
        CannotWrite: The file cannot be written.
    """
    check_words(precision=precision, activation_site=activation_site)
    warn_of_launcher(ranks)
    device = torch.device(device) if device is not None else next(net.parameters()).device
    wanted = SpectrumSettings(
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
        activations=None if activations is None else patterns_of(activations),
        activation_site=activation_site,
        activation_error=activation_error,
        max_activation_probes=max_activation_probes,
        seed=seed,
    )
    chosen = HessianSettings(
        parameters=patterns_of(only),
        without=patterns_of(without),
        matrices_only=matrices_only,
        batch_size=batch_size,
        precision=precision,
        compiled=compiled,
        activations=wanted.activations,
        activation_site=activation_site,
    )
    world = World.of_script(ranks)
    command = "lossatlas.spectrum"
    job = on_all(ranks, lambda: hessian_job.of_objects(world, net, data, loss, chosen, device, command, seed))
    check_same_request(ranks, job.fresh.request)

    def finish(lock: Lock | None) -> Curvature:
        known = on_first(ranks, lambda: job.fresh if file is None else resume_findings(placed(file), job.fresh, seed))
        output = FindingsOutput(known, None if file is None else Path(file).absolute(), lock)
        try:
            found = hessian_job.run_in_script(
                world, job, lambda operator: compute_spectrum(operator, wanted, output, shown=progress), output
            )
        except (KeyboardInterrupt, Incomplete) as error:
            if isinstance(error, Incomplete):
                obey_signal(error)
            note("stopped: the parts of the spectrum that were finished are there")
            found = output.findings
        return Curvature(found)

    return alone(file, ranks, finish)


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
    on_all(ranks, lock.acquire if lock is not None else lambda: None)
    try:
        return finish(lock)
    finally:
        if lock is not None:
            lock.release()
