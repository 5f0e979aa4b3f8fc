"""Surfaces, maps of eigenvalues, spectra and trajectories of a user's own network, each by one function.

    surface = lossatlas.surface(net, loader, x="-1:1:21", y="-1:1:21")
    surface.plot()

The network is evaluated in evaluation mode. Afterwards its tensors, modes and hooks are what they were before, bit by
bit. Data are tensors, a torch Dataset, a DataLoader or any iterable of batches, see `lossatlas.data.as_dataset`; losses
are described in `lossatlas.data.as_loss`. Arguments that several functions have are described in `surface`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lossatlas import config
from lossatlas.argument_checks import checked_word
from lossatlas.choices import (
    ACTIVATION_SITES,
    BATCH_NORM_MODES,
    DIR_TYPES,
    IGNORES,
    MATRICES,
    MEMORIES,
    NORMS,
    PRECISIONS,
    PRODUCT_PRECISIONS,
    ActivationSite,
    BatchNormMode,
    CurvatureMatrix,
    DirType,
    Ignore,
    Memory,
    Norm,
    Precision,
    ProductPrecision,
)
from lossatlas.data import DataLike, LossLike
from lossatlas.errors import BadInput
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.evaluation.reference import restoring
from lossatlas.jobs.curvature.api_coefficient_job import CoefficientArguments, run_coefficient_job
from lossatlas.jobs.curvature.api_sharpness_job import SharpnessArguments, run_sharpness_job
from lossatlas.jobs.curvature.api_spectrum_job import SpectrumArguments, run_spectrum_job
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.learning_coefficient_job import without_second_derivatives
from lossatlas.jobs.curvature.spectrum_parts import SpectrumSettings
from lossatlas.jobs.inputs.alignment import aligned
from lossatlas.jobs.inputs.api_arguments import AxisLike, check_values, numbers_given
from lossatlas.jobs.inputs.api_inputs import Direction, DirectionArguments
from lossatlas.jobs.inputs.model_folders import accepts_folder
from lossatlas.jobs.inputs.network_memory import kept_on_disk
from lossatlas.jobs.inputs.networks import Net, state_for
from lossatlas.jobs.sweep.api_grid_job import SurfaceArguments, SurfaceInputs, run_surface_job
from lossatlas.jobs.sweep.api_loss_job import LossArguments
from lossatlas.jobs.sweep.eigenvalue_quantity import EigenvalueQuantity, MovedMatrix
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.mpi.agreement import on_all, script_world
from lossatlas.mpi.communicator import Ranks
from lossatlas.parameter_space import Selection
from lossatlas.parameter_space.selection import patterns_of
from lossatlas.results import Curvature, Landscape, LearningCoefficient, Sharpness


@accepts_folder
@restoring
def surface(
    net: nn.Module,
    data: DataLike,
    *,
    x: AxisLike = "-1:1:51",
    y: AxisLike | None = None,
    z: AxisLike | None = None,
    test: DataLike | None = None,
    loss: LossLike = "crossentropy",
    norm: Norm | str | None = None,
    ignore: Ignore | str = "biasbn",
    seed: int = 123,
    directions: Direction | Sequence[Direction] | None = None,
    towards: Net | Sequence[Net] | None = None,
    dir_type: DirType | str | None = None,
    orthogonalize: bool = False,
    curvature: bool = False,
    repeat: int | None = None,
    per_layer: bool = False,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    limit: int | None = None,
    tolerance: float | tuple[float, float] | None = None,
    adaptive: float | tuple[float, float] | None = None,
    precision: Precision | str | None = None,
    bn: BatchNormMode | str = "keep",
    bn_samples: int = 1000,
    batch_size: int = 0,
    memory: Memory | str | None = None,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
    progress: bool = True,
) -> Landscape:
    """Compute the loss and the metrics of a network on a line, a plane or a volume through its parameters.

    The grid point (a, b) is the network with the parameters w + a dx + b dy, where w are those of `net`, and (a, b, c)
    in a volume the one with w + a dx + b dy + c dz. Filter normalization of random directions follows Li et al. 2018,
    "Visualizing the Loss Landscape of Neural Nets" (arXiv 1712.09913, Section 4); interpolation towards another network
    follows Goodfellow et al. 2015 (arXiv 1412.6544).

    Args:
        net: The network, of any dtype and on any device; or the local folder of a causal language model of Hugging
            Face, see `lossatlas.language_model`.
        data: Training samples, see `lossatlas.data.as_dataset`; with a folder also a list of texts, or a file of texts.
        x: Coordinates along the first direction, in units of its length: 'min:max:num', or increasing numbers.
        y: The same along the second direction; None for a line.
        z: The same along the third direction, for a volume; None for a line or a plane.
        test: Further samples, evaluated as a second split.
        loss: 'crossentropy', 'mse', 'next_token' (with a folder the default) or 'multiple_choice', an ordinary
            `loss(output, target)`, or a `loss(model, batch)` of per-sample losses.
        norm: Normalization of the directions: 'filter', 'layer', 'weight', 'dfilter', 'dlayer', 'unit' or '' for none.
            By default 'filter' for random directions, and 'unit' for gradients and eigenvectors.
        ignore: 'biasbn' sets the directions of biases and normalization layers to zero, '' does not.
        seed: Seed of random directions, which depend on nothing else; `plot_surface.py` makes the same ones.
        directions: One direction for each axis: 'random', 'gradient', 'eigenvector', 'eigenvector:K' for the K-th
            largest eigenvalue of the Hessian, 'FILE.h5:K' for the K-th vector of a spectrum or direction file, or
            tensors by parameter name. Vectors and tensors are used unchanged unless `norm` is given.
        towards: One or two networks at coordinate 1 of the axes, instead of `directions`: modules, state dicts, or
            checkpoints of any program (a file, a folder, or 'FILE:WORD' for one of several sets of weights in it, such
            as 'last.ckpt:state_dict_ema'). Their own losses are compared with those of the surface there.
        dir_type: 'weights' moves the parameters, 'states' the buffers too. By default 'weights', and 'states' towards
            networks with other BatchNorm statistics.
        orthogonalize: Make each direction orthogonal to those before it.
        curvature: Compute the second derivatives of the loss along the axes too: `about["second_derivatives"]`. They
            are always computed for gradients and eigenvectors.
        repeat: Compute this many lines, at least 2, along random directions, the first of which is the usual one;
            `plot` draws their mean with its confidence interval.
        per_layer: Compute a line for each layer, along the block of that layer in the direction.
        only: Regular expressions; parameters whose names match none of them do not move. Empty for all parameters.
        without: Regular expressions; parameters whose names match one of them do not move.
        limit: Use the first `limit` samples of each split only.
        tolerance: REL or (REL, ABS): draw as many samples as the standard error max(REL * loss, ABS) takes. By default
            all samples are used.
        adaptive: REL or (REL, ABS): interpolate grid points that their neighbours predict within max(REL * loss, ABS);
            the mask `interpolated` of the result marks them. By default every point is computed.
        precision: Precision of the forward pass, one of `lossatlas.evaluation.precision.PRECISION_TYPES`. By default
            that of the parameters.
        bn: 'keep', or 'recalibrate' to estimate the BatchNorm statistics again at every point.
        bn_samples: Training samples for `bn='recalibrate'`.
        batch_size: Samples of a batch; 0 measures the fastest, or takes 2,048 tokens with memory='low'.
        memory: 'low' moves the network itself, and keeps its weights at the origin and the directions in temporary
            files (in TMPDIR, which has to be on a disk): the process needs little more memory than inference does.
            'fast' keeps everything in memory. By default 'low' from 100 million parameters on.
        device: Where it is computed; by default on the network's device.
        file: Surface file to write, or to continue where it exists. By default nothing is written.
        force: Start over where `file` exists; the earlier file is kept under another name, which a warning gives.
        ranks: A communicator of mpi4py, such as MPI.COMM_WORLD. Every rank calls this function and gets the result.
        progress: Show a progress line.

    Returns:
        The surface. `fields` has 'train_loss', 'train_acc' and further metrics, standard errors ('train_loss_se') and
        the same for 'test', each of shape (ny, nx), (nx,) for a line, (lines, nx) for several, or (nz, ny, nx); `done`
        is the mask of computed points. After Ctrl-C the points computed so far; after SIGTERM and similar signals the
        file is saved and the process ends.

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

    world = script_world(ranks)

    def checked() -> tuple[LossArguments, SurfaceArguments[Evaluator]]:
        axes = DirectionArguments(
            directions=directions,
            towards=towards,
            norm=checked_word("norm", norm, NORMS),
            ignore=checked_word("ignore", ignore, IGNORES),
            seed=seed,
            selection=Selection(only, without),
            orthogonalize=orthogonalize,
            curvature=curvature,
            repeat=repeat,
            per_layer=per_layer,
        )
        moved = checked_word("dir_type", dir_type, DIR_TYPES)
        evaluation = LossArguments(
            tolerance=tolerance,
            adaptive=adaptive,
            precision=checked_word("precision", precision, PRECISIONS),
            bn=checked_word("bn", bn, BATCH_NORM_MODES),
            bn_samples=bn_samples,
            batch_size=batch_size,
            memory=checked_word("memory", memory, MEMORIES),
        )
        return evaluation, evaluation.checked(net, axes, x=x, y=y, z=z, device=device, limit=limit, dir_type=moved)

    evaluation, arguments = on_all(world, checked)
    with ExitStack() as stack:
        kept = on_all(world, lambda: stack.enter_context(kept_on_disk(net, low=arguments.low)))
        inputs = on_all(world, lambda: evaluation.read(arguments, net, data, loss, test=test, kept=kept))
        found = run_surface_job(world, net, arguments.quantity, inputs, file, force=force, progress=progress)
        return Landscape.of(found, inputs.points.directions)


@accepts_folder
@restoring
def eigenvalues(
    net: nn.Module,
    data: DataLike,
    *,
    x: AxisLike = "-1:1:21",
    y: AxisLike | None = None,
    z: AxisLike | None = None,
    loss: LossLike = "crossentropy",
    norm: Norm | str | None = None,
    ignore: Ignore | str = "biasbn",
    seed: int = 123,
    directions: Direction | Sequence[Direction] | None = None,
    towards: Net | Sequence[Net] | None = None,
    orthogonalize: bool = False,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    limit: int | None = None,
    parameters: str | Sequence[str] = (),
    matrices_only: bool = False,
    matrix: CurvatureMatrix | str = "hessian",
    fisher_draws: int = 1,
    tolerance: float = 1e-2,
    max_products: int = 300,
    precision: ProductPrecision | str | None = None,
    compiled: bool = False,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
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
        z: Coordinates along the third direction, for a volume; None for a line or a plane.
        seed: Seed of random directions, of the first Lanczos vector, and of drawn targets.
        parameters: Regular expressions of the names of the parameters that the Hessian is with respect to. By default
            those that move (`only`, `without`).
        matrices_only: Leave out parameters with fewer than two axes (biases, normalization layers), as the original
            code does.
        matrix: "hessian", or another matrix of second order, see `spectrum`, whose largest eigenvalue is computed.
        fisher_draws: For "mc_fisher", the number of targets that are drawn for each sample.
        tolerance: Relative residual below which an eigenvalue is resolved.
        max_products: Largest number of Hessian-vector products for each point. `lossatlas.landscape.unresolved` marks
            the points where they were too few.
        precision: 'float32' or 'float64'. By default that of the parameters, and float32 for half precision.
        compiled: Fuse the products with torch.compile, which takes about half a minute at the start.

    Returns:
        The surface. `fields` has the arrays of `lossatlas.jobs.sweep.eigenvalue_quantity.FIELDS`, each of shape (ny,
        nx) or (nx,): 'max_eig', 'min_eig', their absolute residuals, bounds that hold with probability 1 - 1e-3, and
        'products'; of another matrix only the largest one, such as 'ggn_max_eig'.

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

    def checked() -> SurfaceArguments[MovedMatrix]:
        check_values(config.BatchOptions, batch_size=batch_size)
        check_values(config.LanczosOptions, tolerance=tolerance, max_products=max_products)
        check_values(config.HessianOptions, parameters=patterns_of(parameters))
        axes = DirectionArguments(
            directions=directions,
            towards=towards,
            norm=checked_word("norm", norm, NORMS),
            ignore=checked_word("ignore", ignore, IGNORES),
            seed=seed,
            selection=Selection(only, without),
            orthogonalize=orthogonalize,
        )
        quantity = EigenvalueQuantity(
            parameters=patterns_of(parameters or only),
            without=patterns_of(without),
            matrices_only=matrices_only,
            tolerance=tolerance,
            max_products=max_products,
            precision=checked_word("precision", precision, PRODUCT_PRECISIONS),
            compiled=compiled,
            batch_size=batch_size,
            seed=seed,
            matrix=checked_word("matrix", matrix, MATRICES),
            fisher_draws=fisher_draws,
        )
        return SurfaceArguments.checked(
            net, quantity=quantity, axes=axes, x=x, y=y, z=z, device=device, limit=limit, dir_type="weights"
        )

    world = script_world(ranks)
    arguments = on_all(world, checked)

    def begin() -> SurfaceInputs:
        read = arguments.read(net, data, None, loss)
        return replace(read, problem=Problem(net, read.plane, read.splits, read.loss, arguments.device))

    inputs = on_all(world, begin)
    found = run_surface_job(world, net, arguments.quantity, inputs, file, force=force, progress=progress)
    return Landscape.of(found, inputs.points.directions)


@accepts_folder
@restoring
def spectrum(
    net: nn.Module,
    data: DataLike,
    *,
    loss: LossLike = "crossentropy",
    limit: int | None = None,
    matrix: CurvatureMatrix | str = "hessian",
    fisher_draws: int = 1,
    top: int = 10,
    bottom: int | None = None,
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
    activation_site: ActivationSite | str = "output",
    activation_error: float = 0.1,
    max_activation_probes: int = 30,
    seed: int = 0,
    precision: ProductPrecision | str | None = None,
    compiled: bool = False,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
    progress: bool = True,
) -> Curvature:
    """Compute eigenvalues, eigenvectors, trace, density and effective dimension of the Hessian of the mean loss.

    Eigenpairs come from a Lanczos iteration, the trace from Hutchinson's estimator, the density from stochastic Lanczos
    quadrature (Ghorbani et al. 2019, arXiv 1901.10159). The effective dimension is sum_i l_i / (l_i + z) over positive
    eigenvalues (Maddox et al. 2020, arXiv 2003.02139). The command hessian_spectrum.py computes the same, and continues
    the same files.

    Args:
        net: The network.
        data: The samples, see `lossatlas.data.as_dataset`.
        loss: The loss, as for `surface`.
        limit: Use the first `limit` samples only.
        matrix: "hessian"; "ggn" (the generalized Gauss-Newton matrix: the Hessian without the curvature of the
            network); "fisher" (the Fisher information matrix, for crossentropy, next_token and mse of numbers);
            "mc_fisher" (an estimate of it by targets drawn from the distribution that the loss stands for);
            "empirical_fisher" (the mean outer product of the samples' gradients).
        fisher_draws: For "mc_fisher", the number of targets that are drawn for each sample.
        top: The number of largest eigenvalues.
        bottom: The number of smallest eigenvalues; by default 1 for the Hessian, and 0 for the other matrices, which
            have no negative ones with usual losses.
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
        seed: The seed of the random vectors and of drawn targets.
        precision: 'float32' or 'float64', as for `eigenvalues`.
        compiled: Let torch.compile fuse the products, as for `eigenvalues`.
        batch_size: The number of samples in a batch; 0 for the usual one.
        device: The device, by default that of the network.
        file: The spectrum file to write or to continue, part by part.
        force: Start over where `file` exists; the earlier file is kept under another name, which a warning gives.
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

    def checked() -> SpectrumArguments:
        check_values(config.MatrixOptions, fisher_draws=fisher_draws)
        site = checked_word("activation_site", activation_site, ACTIVATION_SITES)
        hessian = HessianSettings(
            parameters=patterns_of(only),
            without=patterns_of(without),
            matrices_only=matrices_only,
            batch_size=batch_size,
            precision=checked_word("precision", precision, PRODUCT_PRECISIONS),
            compiled=compiled,
            activation_site=site,
            matrix=checked_word("matrix", matrix, MATRICES),
            fisher_draws=fisher_draws,
            target_seed=seed,
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
            activation_site=site,
            activation_error=activation_error,
            max_activation_probes=max_activation_probes,
            seed=seed,
        )
        return SpectrumArguments.checked(net, hessian, wanted, device, limit=limit)

    world = script_world(ranks)
    arguments = on_all(world, checked)
    return Curvature(run_spectrum_job(world, net, arguments, data, loss, file=file, force=force, progress=progress))


@accepts_folder
@restoring
def learning_coefficient(
    net: nn.Module,
    data: DataLike,
    *,
    loss: LossLike = "crossentropy",
    limit: int | None = None,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    chains: int = 4,
    draws: int = 400,
    burn_in: int = 400,
    steps_between: int = 1,
    minibatch: int = 128,
    localization: float = 100.0,
    inverse_temperature: float | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    precision: ProductPrecision | str | None = None,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
    progress: bool = True,
) -> LearningCoefficient:
    """Estimate the local learning coefficient of a minimum by Langevin dynamics around it.

    It is half the number of parameters at a minimum with a regular Hessian, less at a degenerate one. The estimate is n
    beta times the mean rise of the loss over draws from exp(-n beta L(w) - localization/2 |w - w*|^2) (Lau et al.,
    arXiv 2308.12108). The command lossatlas learning-coefficient computes the same, and continues the same files.

    Args:
        net: The network, with weights at a minimum.
        data: The samples, see `lossatlas.data.as_dataset`.
        loss: The loss, as for `surface`.
        limit: Use the first `limit` samples only.
        only: Regular expressions of the names of the parameters that vary; all by default.
        without: Regular expressions of the names of parameters that do not vary.
        chains: The number of chains; their spread gives the standard error.
        draws: The number of losses that are recorded in each chain.
        burn_in: The number of steps of each chain before the first of them.
        steps_between: The number of steps from one of them to the next.
        minibatch: The number of samples whose gradient is computed in a step.
        localization: The factor of half the squared distance from the weights.
        inverse_temperature: n beta, the factor of the mean loss; by default n / log n for n samples.
        learning_rate: The length of a step; by default one that the largest eigenvalue of the Hessian allows. Give it
            for a network without second derivatives, of which chains need none.
        seed: The seed of the chains.
        precision: 'float32' or 'float64', as for `eigenvalues`.
        device: The device, by default that of the network.
        file: The file to write or to continue, chain by chain.
        force: Start over where `file` exists; the earlier file is kept under another name, which a warning gives.
        ranks: A communicator of mpi4py, as for `surface`; the samples of each step are spread over the ranks.
        progress: Print the progress.

    Returns:
        The estimate, with its standard error and what speaks against it; after Ctrl-C from the finished chains.

    Raises:
        BadUsage: An argument has no meaning.
        BadInput: The data or the file do not fit, or the network is random.
        CannotWrite: The file cannot be written.

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> found = lossatlas.learning_coefficient(net, data, chains=2, draws=20, burn_in=10, progress=False)
        >>> found.chains.shape
        (2,)
    """

    def checked() -> CoefficientArguments:
        hessian = HessianSettings(
            parameters=patterns_of(only),
            without=patterns_of(without),
            matrices_only=False,
            batch_size=0,
            precision=checked_word("precision", precision, PRODUCT_PRECISIONS),
            products=learning_rate is None,
            without_products=without_second_derivatives(),
        )
        settings = config.LangevinSettings(
            chains=chains,
            draws=draws,
            burn_in=burn_in,
            steps_between=steps_between,
            minibatch=minibatch,
            localization=localization,
            inverse_temperature=inverse_temperature,
            learning_rate=learning_rate,
            seed=seed,
        )
        return CoefficientArguments.checked(net, hessian, settings, device, limit=limit)

    world = script_world(ranks)
    arguments = on_all(world, checked)
    found = run_coefficient_job(world, net, arguments, data, loss, file=file, force=force, progress=progress)
    return LearningCoefficient(found)


@accepts_folder
@restoring
def sharpness(
    net: nn.Module,
    data: DataLike,
    *,
    loss: LossLike = "crossentropy",
    limit: int | None = None,
    rho: Sequence[float] = config.PLAIN_RADII,
    adaptive_rho: Sequence[float] = config.ADAPTIVE_RADII,
    steps: int = 20,
    directions: int = 10,
    minibatch: int | None = None,
    minibatches: int = 32,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    seed: int = 0,
    precision: ProductPrecision | str | None = None,
    batch_size: int = 0,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
    progress: bool = True,
) -> Sharpness:
    """Compute the sharpness of a minimum: how far the loss rises within a distance, at worst and on average.

    At worst: the largest rise that projected gradient ascent finds in a ball (Foret et al., arXiv 2010.01412), and
    among changes of that length relative to each parameter (Kwon et al., arXiv 2102.11600). On average: the mean over
    random directions. The command lossatlas sharpness computes the same, and continues the same files.

    Args:
        net: The network, with weights at a minimum.
        data: The samples, see `lossatlas.data.as_dataset`.
        loss: The loss, as for `surface`.
        limit: Use the first `limit` samples only.
        rho: Radii of the ball; empty for none.
        adaptive_rho: Radii for changes relative to each parameter; empty for none.
        steps: The limit of the number of gradients for each radius.
        directions: The number of random directions for the average.
        minibatch: Samples of a mini-batch; compute the mean rise of the loss of mini-batches after the ascent step of
            SAM too. None for none.
        minibatches: The limit of the number of these mini-batches.
        only: Regular expressions of the names of the parameters that change; all by default.
        without: Regular expressions of the names of parameters that do not change.
        seed: The seed of the random directions, and of the mini-batches.
        precision: 'float32' or 'float64', as for `eigenvalues`.
        batch_size: The number of samples in a batch; 0 for the usual one.
        device: The device, by default that of the network.
        file: The file to write or to continue, radius by radius.
        force: Start over where `file` exists; the earlier file is kept under another name, which a warning gives.
        ranks: A communicator of mpi4py, as for `surface`; the samples are spread over the ranks.
        progress: Print the progress.

    Returns:
        The rises, and the changes with the largest of them; after Ctrl-C those of the finished radii.

    Raises:
        BadUsage: An argument has no meaning.
        BadInput: The data or the file do not fit, or the loss is not finite.
        CannotWrite: The file cannot be written.

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> found = lossatlas.sharpness(net, data, rho=[0.1, 0.2], adaptive_rho=[], progress=False)
        >>> found.worst().shape, bool((found.worst() >= found.average()[:, 0]).all())
        ((2,), True)
    """

    def checked() -> SharpnessArguments:
        hessian = HessianSettings(
            parameters=patterns_of(only),
            without=patterns_of(without),
            matrices_only=False,
            batch_size=batch_size,
            precision=checked_word("precision", precision, PRODUCT_PRECISIONS),
            products=False,
        )
        rises = config.RiseOptions(
            rho=numbers_given("rho", rho),
            adaptive_rho=numbers_given("adaptive_rho", adaptive_rho),
            steps=steps,
            directions=directions,
            seed=seed,
            minibatch=minibatch,
            minibatches=minibatches,
        )
        return SharpnessArguments.checked(net, hessian, rises, device, limit=limit)

    world = script_world(ranks)
    arguments = on_all(world, checked)
    return Sharpness(run_sharpness_job(world, net, arguments, data, loss, file=file, force=force, progress=progress))


@restoring
def align(net: nn.Module, other: Net, inputs: Tensor) -> dict[str, Tensor]:
    """Permute the hidden units of another network so that they match those of `net` best.

    Weight matching of Ainsworth et al. 2022, "Git Re-Basin" (arXiv 2209.04836, Algorithm 1). The function that the
    other network computes does not change, which is checked.

    Args:
        net: The network whose order of units is kept.
        other: A network of the same architecture, its state dict, or a checkpoint.
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
    state = state_for(net, other)
    try:
        twin = frozen_copy(net)
    except Exception as error:
        raise BadInput(f"{type(net).__name__} cannot be copied ({error}), and alignment traces a copy") from error
    return aligned(twin, twin.state_dict(), {name: value.detach() for name, value in state.items()}, inputs)[0]
