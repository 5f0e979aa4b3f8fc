"""Surfaces, maps of eigenvalues, spectra and trajectories of a user's own network, each by one function.

    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21")
    surface.plot()

The network is evaluated in evaluation mode. Afterwards its tensors, modes and hooks are what they were before, bit by bit.
Data are tensors, a torch Dataset, a DataLoader or any iterable of batches, see `lossatlas.data.as_dataset`; losses are
described in `lossatlas.data.as_loss`. Arguments that several functions have are described in `surface`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas import config
from lossatlas.data import as_dataset, as_loss
from lossatlas.errors import BadInput, BadUsage, Incomplete, named, note
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.evaluation.precision import PRECISIONS, resolve_precision
from lossatlas.evaluation.recalibration import check_recalibrated
from lossatlas.evaluation.reference import restoring
from lossatlas.io import Directions
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
from lossatlas.option_fields import definitions
from lossatlas.parameter_space import Selection
from lossatlas.parameter_space.selection import patterns_of
from lossatlas.results import Curvature, Landscape, Trajectory

if TYPE_CHECKING:
    from lossatlas.mpi.agreement import Ranks

T = TypeVar("T")
WORDS: dict[str, Sequence[str]] = {
    "norm": ("", "filter", "layer", "weight", "dfilter", "dlayer", "unit"),
    "ignore": ("", "biasbn"),
    "dir_type": ("weights", "states"),
    "precision": tuple(PRECISIONS),
    "product_precision": ("float32", "float64"),
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
    ranks: "Ranks" = None,
    progress: bool = True,
) -> Landscape:
    """Compute the loss and the metrics of a network on a line or a plane through its parameters.

    The grid point (a, b) is the network with the parameters w + a dx + b dy, where w are those of `net`. Filter
    normalization of random directions follows Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets"
    (arXiv 1712.09913, Section 4); interpolation towards another network follows Goodfellow et al. 2015
    (arXiv 1412.6544).

    Args:
        net: The network, of any dtype and on any device.
        data: Training samples, see `lossatlas.data.as_dataset`.
        x: Coordinates along the first direction, in units of its length: 'min:max:num', or increasing numbers.
        y: The same along the second direction; None for a line.
        test: Further samples, evaluated as a second split.
        loss: 'crossentropy' or 'mse', an ordinary `loss(output, target)`, or a `loss(model, batch)` of per-sample losses.
        norm: Normalization of the directions: 'filter', 'layer', 'weight', 'dfilter', 'dlayer', 'unit' or '' for none.
            By default 'filter' for random directions, and 'unit' for gradients and eigenvectors.
        ignore: 'biasbn' sets the directions of biases and normalization layers to zero, '' does not.
        seed: Seed of random directions, which depend on nothing else; `plot_surface.py` makes the same ones.
        directions: One direction for each axis: 'random', 'gradient', 'eigenvector', 'eigenvector:K' for the K-th largest
            eigenvalue of the Hessian, or tensors by parameter name, which are used unchanged unless `norm` is given.
        towards: One or two networks (or their state dicts) at coordinate 1 of the axes, instead of `directions`. Their own
            losses are compared with those of the surface there.
        dir_type: 'weights' moves the parameters, 'states' the buffers too. By default 'weights', and 'states' towards
            networks with other BatchNorm statistics.
        only: Regular expressions; parameters whose names match none of them do not move. Empty for all parameters.
        without: Regular expressions; parameters whose names match one of them do not move.
        tolerance: REL or (REL, ABS): draw as many samples as the standard error max(REL * loss, ABS) takes. By default all
            samples are used.
        adaptive: REL or (REL, ABS): interpolate grid points that their neighbours predict within max(REL * loss, ABS); the
            mask `interpolated` of the result marks them. By default every point is computed.
        precision: Precision of the forward pass, one of `lossatlas.evaluation.precision.PRECISIONS`. By default that of the
            parameters.
        bn: 'keep', or 'recalibrate' to estimate the BatchNorm statistics again at every point.
        bn_samples: Training samples for `bn='recalibrate'`.
        batch_size: Samples of a batch; 0 measures the fastest.
        device: Where it is computed; by default on the network's device.
        file: Surface file to write, or to continue where it exists. By default nothing is written.
        ranks: A communicator of mpi4py, such as MPI.COMM_WORLD. Every rank calls this function and gets the result.
        progress: Show a progress line.

    Returns:
        The surface. `fields` has 'train_loss', 'train_acc' and further metrics, standard errors ('train_loss_se') and the
        same for 'test', each of shape (ny, nx), or (nx,) for a line; `done` is the mask of computed points. After Ctrl-C
        the points computed so far; after SIGTERM and similar signals the file is saved and the process ends.

    Raises:
        BadUsage: Arguments are wrong or contradict each other.
        BadInput: Network, data and loss do not fit each other, or `file` belongs to another job.
        CannotWrite: `file` cannot be written, or another run writes it.

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> surface = lossatlas.surface(net, data, x="-1:1:5", y="-1:1:3", progress=False)
        >>> surface.loss.shape
        (3, 5)
        >>> bool(surface.done.all())
        True
    """

    def checked() -> tuple[LossQuantity, DirectionArguments, torch.device]:
        check_words(norm=norm, ignore=ignore, dir_type=dir_type, precision=precision, bn=bn)
        check_values(config.BatchOptions, batch_size=batch_size)
        check_values(config.BatchNormOptions, bn_samples=bn_samples)
        check_values(config.PlaneOptions, seed=seed, only=patterns_of(only), without=patterns_of(without))
        quantity = LossQuantity(
            tolerance_of(tolerance),
            None if adaptive is None else tolerance_of(adaptive, "adaptive"),
            precision,
            batch_size,
            bn_samples if bn == "recalibrate" else 0,
        )
        arguments = DirectionArguments(directions, towards, norm, ignore, seed, Selection(only, without))
        return quantity, arguments, device_for(device, net)

    warn_of_launcher(ranks)
    quantity, arguments, place = on_all(ranks, checked)

    def begin() -> tuple[Surface, Problem, Directions]:
        splits = {"train": as_dataset(data)} | ({} if test is None else {"test": as_dataset(test, split="test")})
        loss_function, grid, others = as_loss(loss), grid_of(x, y), arguments.others
        some_losses = check_inputs(net, loss_function, splits["train"], type(net).__name__)
        differ = statistics_differ(net, others)
        moved = dir_type_of(dir_type, states_differ=differ)
        request = request_of(net, loss, splits, some_losses)
        if bn == "recalibrate":
            check_recalibrated(net, splits["train"], resolve_precision(precision, net), bn_samples)
            request["bn"] = f"recalibrated on {bn_samples} samples of {splits['train'].digest}"
        plane, kept = plane_of(arguments, net, grid, moved, splits["train"], loss_function, loss_name(loss), place)
        fresh = quantity.new_surface(
            net,
            splits,
            loss_function,
            grid,
            device=str(place),
            request={**request, "dir_type": moved, "directions": kept.sha256},
            about={**about_of(splits), **arguments.networks()},
        )
        problem = Problem(shared_copy(net), plane, splits, loss_function, place, splits["train"], lambda: net)
        if others and not only and not without:
            check_ends(problem, others, moved, states_differ=differ)
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
    ranks: "Ranks" = None,
    progress: bool = True,
) -> Landscape:
    """Compute the largest and the smallest eigenvalue of the Hessian of the mean loss on a line or a plane.

    The eigenvalues come from a Lanczos iteration with Hessian-vector products (Pearlmutter 1994), see
    `lossatlas.hessian.lanczos`. Arguments that are not listed are those of `surface`.

    Args:
        net: The network.
        data: The samples of the mean loss.
        x: Coordinates along the first direction.
        y: Coordinates along the second direction; None for a line.
        seed: Seed of random directions and of the first Lanczos vector.
        parameters: Regular expressions of the names of the parameters that the Hessian is with respect to. By default
            those that move (`only`, `without`).
        matrices_only: Leave out parameters with fewer than two axes (biases, normalization layers), as the original code
            does.
        tolerance: Relative residual below which an eigenvalue is resolved.
        max_products: Largest number of Hessian-vector products for each point. `lossatlas.landscape.unresolved` marks the points
            where they were too few.
        precision: 'float32' or 'float64'. By default that of the parameters, and float32 for half precision.
        compiled: Fuse the products with torch.compile, which takes about half a minute at the start.

    Returns:
        The surface. `fields` has the arrays of `lossatlas.jobs.eigenvalue_quantity.FIELDS`, each of shape (ny, nx) or
        (nx,): 'max_eig', 'min_eig', their absolute residuals, bounds that hold with probability 1 - 1e-3, and 'products'.

    Raises:
        BadUsage: Arguments are wrong or contradict each other.
        BadInput: As for `surface`; also for a random network, or a loss without second derivatives.
        CannotWrite: `file` cannot be written, or another run writes it.

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> surface = lossatlas.eigenvalues(net, data, x="-1:1:3", progress=False)
        >>> bool((surface.fields["max_eig"] >= surface.fields["min_eig"]).all())
        True
    """

    def checked() -> tuple[EigenvalueQuantity, DirectionArguments, torch.device]:
        check_words(norm=norm, ignore=ignore, product_precision=precision)
        check_values(config.BatchOptions, batch_size=batch_size)
        check_values(config.LanczosOptions, tolerance=tolerance, max_products=max_products)
        check_values(config.HessianOptions, parameters=patterns_of(parameters))
        check_values(config.PlaneOptions, seed=seed, only=patterns_of(only), without=patterns_of(without))
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
        return quantity, arguments, device_for(device, net)

    warn_of_launcher(ranks)
    quantity, arguments, place = on_all(ranks, checked)

    def begin() -> tuple[Surface, Problem, Directions]:
        splits = {"train": as_dataset(data)}
        loss_function, grid = as_loss(loss), grid_of(x, y)
        some_losses = check_inputs(net, loss_function, splits["train"], type(net).__name__)
        plane, kept = plane_of(arguments, net, grid, "weights", splits["train"], loss_function, loss_name(loss), place)
        fresh = quantity.new_surface(
            net,
            splits,
            loss_function,
            grid,
            device=str(place),
            request={**request_of(net, loss, splits, some_losses), "dir_type": "weights", "directions": kept.sha256},
            about=about_of(splits),
        )
        return fresh, Problem(net, plane, splits, loss_function, place), kept

    fresh, problem, kept = on_all(ranks, begin)
    return landscape_of(ranks, quantity, problem, fresh, kept, file, progress=progress)


def landscape_of(
    ranks: "Ranks",
    quantity: Quantity,
    problem: Problem,
    fresh: Surface,
    directions: Directions,
    file: str | Path | None,
    *,
    progress: bool,
) -> Landscape:
    """Compute the missing cells of a surface, under the lock of its file; see `grid_job.run_in_script`."""
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
    ranks: "Ranks" = None,
    progress: bool = True,
) -> Curvature:
    """Compute eigenvalues, eigenvectors, trace, density and effective dimension of the Hessian of the mean loss.

    Eigenpairs come from a Lanczos iteration, the trace from Hutchinson's estimator, the density from stochastic Lanczos
    quadrature (Ghorbani et al. 2019, arXiv 1901.10159). The effective dimension is sum_i l_i / (l_i + z) over positive
    eigenvalues (Maddox et al. 2020, arXiv 2003.02139). The command hessian_spectrum.py computes the same, and continues the
    same files.

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

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> curvature = lossatlas.spectrum(net, data, top=2, bottom=1, progress=False)
        >>> len(curvature.eigenvalues)
        3
    """

    def checked() -> tuple[SpectrumSettings, HessianSettings, torch.device]:
        check_words(product_precision=precision, activation_site=activation_site)
        check_values(config.BatchOptions, batch_size=batch_size)
        check_values(config.SelectionOptions, only=patterns_of(only), without=patterns_of(without))
        check_values(
            config.SpectrumSettings,
            top=top,
            bottom=bottom,
            tolerance=tolerance,
            max_products=max_products,
            trace_error=trace_error,
            max_trace_products=max_trace_products,
            probes=probes,
            steps=steps,
            damping=damping,
            activations=() if activations is None else patterns_of(activations),
            activation_error=activation_error,
            max_activation_probes=max_activation_probes,
            seed=seed,
        )
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
        return wanted, chosen, device_for(device, net)

    warn_of_launcher(ranks)
    wanted, chosen, place = on_all(ranks, checked)
    world = World.of_script(ranks)
    command = "lossatlas.spectrum"
    job = on_all(ranks, lambda: hessian_job.of_objects(world, net, data, loss, chosen, place, command, seed))
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
    """Project checkpoints of a training run onto the plane of their first two principal components.

    The components are those of the differences from the last checkpoint, which is the origin, as in Li et al. 2018
    (arXiv 1712.09913, Section 7).

    Args:
        net: The network; it says which tensors are compared.
        checkpoints: Networks or state dicts in the order of training, at least three.
        dir_type: 'weights' for parameters, 'states' for buffers too.
        ignore: 'biasbn' leaves out biases and normalization layers, '' does not.
        only: Regular expressions; tensors whose names match none of them are left out. Empty for all.
        without: Regular expressions; tensors whose names match one of them are left out.

    Returns:
        The trajectory: `coordinates` of shape (checkpoints, 2) and `distance` from the plane of shape (checkpoints,), both
        in units of the parameters, `explained` shares of the variance (2,), and the `plane` of two unit vectors by tensor
        name, which `surface(directions=...)` accepts.

    Raises:
        BadUsage: There are fewer than three checkpoints.
        BadInput: A checkpoint does not fit the network, or the checkpoints span no plane.

    Example:
        >>> import torch, lossatlas
        >>> nets = [torch.nn.Linear(2, 2) for _ in range(4)]
        >>> lossatlas.trajectory(nets[-1], nets).coordinates.shape
        (4, 2)
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
    components, plane = principal_plane(rows, origin)
    where, distance = coordinates(rows, plane, "the trajectory")
    return Trajectory(where, components.explained_variance_ratio, distance, plane)


@restoring
def align(net: nn.Module, other: Net, inputs: Tensor) -> dict[str, Tensor]:
    """Permute the hidden units of another network so that they match those of `net` best.

    Weight matching of Ainsworth et al. 2022, "Git Re-Basin" (arXiv 2209.04836, Algorithm 1). The function that the other
    network computes does not change, which is checked.

    Args:
        net: The network whose order of units is kept.
        other: A network of the same architecture, or its state dict.
        inputs: A batch of at least two samples, with which `net` is called.

    Returns:
        The state dict of `other` with permuted units, which `surface(towards=...)` accepts.

    Raises:
        BadInput: Shapes differ, the operations of the network cannot be traced, or no units can be permuted.

    Example:
        >>> import torch, lossatlas
        >>> def make():
        ...     return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> net, other, inputs = make(), make(), torch.randn(4, 2)
        >>> state = lossatlas.align(net, other, inputs)
        >>> twin = make()
        >>> twin.load_state_dict(state)
        <All keys matched successfully>
        >>> torch.allclose(twin(inputs), other(inputs), atol=1e-5)
        True
    """
    point_of(net, other, "states")
    state = other.state_dict() if isinstance(other, nn.Module) else other
    try:
        twin = frozen_copy(net)
    except Exception as error:
        raise BadInput(f"{type(net).__name__} cannot be copied ({error}), and alignment traces a copy") from error
    return aligned(twin, twin.state_dict(), {name: value.detach() for name, value in state.items()}, inputs)[0]


def device_for(device: str | torch.device | None, net: nn.Module) -> torch.device:
    """Return a device, by default that of the network. Raises BadUsage for one that torch does not know."""
    try:
        return torch.device(device) if device is not None else next(net.parameters()).device
    except RuntimeError as error:
        raise BadUsage(f"{named('device', device)}: {str(error).splitlines()[0][:120]}") from error


def check_words(**words: str | None) -> None:
    """Raise BadUsage where an argument is none of its allowed words; None is always allowed."""
    for name, word in words.items():
        if word is not None and word not in WORDS[name]:
            allowed = ", ".join(repr(each) for each in WORDS[name])
            raise BadUsage(f"{named(name.removeprefix('product_'), word)}: there are {allowed}")


def check_values(options: type, **values: object) -> None:
    """Check arguments as the options of the same names are checked, which define them. Raises BadUsage.

    Args:
        options: The dataclass of the options.
        values: The arguments by name; None, and several patterns, are checked one by one.
    """
    known = {each.field: each for each in definitions(options)}
    for name, value in values.items():
        each = known[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is None:
                continue
            try:
                each.kind(str(one))
            except ValueError as error:
                raise BadUsage(f"{named(name)}: {error}") from error


def grid_of(x: Axis, y: Axis | None) -> Grid:
    """Return the grid of two axes, each as 'min:max:num' or as coordinates. Raises BadUsage."""

    def axis(name: str, coordinates: Axis) -> np.ndarray:
        if isinstance(coordinates, str):
            return Grid.parse(coordinates).x
        values = np.asarray(coordinates, np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise BadUsage(f"{name}: give 'min:max:num', or increasing finite coordinates")
        return values

    return Grid(axis("x", x), None if y is None else axis("y", y))


def dir_type_of(dir_type: str | None, *, states_differ: bool) -> str:
    """Return the kind of tensors that move: by default 'states' where BatchNorm statistics differ, which is noted."""
    if dir_type is None and states_differ:
        note(f"the networks differ in BatchNorm statistics, so these are moved too: {named('dir_type', 'states')}")
    return dir_type or ("states" if states_differ else "weights")


def tolerance_of(value: float | tuple[float, float] | None, option: str = "tolerance") -> Tolerance:
    """Return REL or (REL, ABS) as a tolerance, None as the one that asks for all samples. Raises BadUsage."""
    if value is None:
        return Tolerance()
    numbers = value if isinstance(value, tuple | list) else (value,)
    return Tolerance.parse(",".join(str(number) for number in numbers), option)


def placed(file: str | Path) -> Path:
    """Return the path of an output. Raises BadInput where its folder is missing."""
    if not Path(file).resolve().parent.is_dir():
        raise BadInput(f"no folder {Path(file).parent} for the file {file}: make it first")
    return Path(file)


def alone(file: str | Path | None, ranks: "Ranks", finish: Callable[[Lock | None], T]) -> T:
    """Call `finish` with the lock on a file, and return its result. Raises CannotWrite where another run writes the file."""

    def acquired() -> Lock | None:
        if file is None or rank_of(ranks) != 0:
            return None
        lock = Lock(placed(file))
        lock.acquire()
        return lock

    lock = on_all(ranks, acquired)
    try:
        return finish(lock)
    finally:
        if lock is not None:
            lock.release()
