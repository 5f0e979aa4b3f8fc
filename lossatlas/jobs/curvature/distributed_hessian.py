"""The Hessian of a mean loss whose samples are spread over the ranks: one operator for the commands and for Python.

Rank 0 leads: every product, loss and gradient that it asks for is computed by all ranks, each with its part of the
samples.

    def job(operator):                                # on rank 0
        return lanczos(operator, top=5)

    run_on_ranks(world, lambda: HessianShare(world, inputs, settings, device), job)     # on every rank
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from lossatlas.choices import ActivationSite, CurvatureMatrix, ProductPrecision
from lossatlas.config.matrix_choice import check_matrix, matrix_request
from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.mpi.communicator import World, raise_reported
from lossatlas.mpi.scheduler import answer, lead
from lossatlas.process import how_to_continue, stopped_by

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import numpy as np
    import torch
    from torch import Tensor, nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.data.drawn_targets import TargetDraws
    from lossatlas.hessian.activations import Layer
    from lossatlas.hessian.curvature_operator import CurvatureOperator
    from lossatlas.hessian.langevin import ChainSettings
    from lossatlas.jobs.curvature.spectrum_parts import ActivationProbes

    Vector = Tensor | np.ndarray

T = TypeVar("T")


@dataclass(frozen=True)
class HessianInputs:
    """A network in evaluation mode, all samples, and the loss, as objects of one rank."""

    net: "nn.Module"
    samples: "AnyData"
    loss: "Loss"


@dataclass(frozen=True)
class HessianSettings:
    """The settings of a distributed Hessian, or another matrix of second order, which are the same on every rank.

    Attributes:
        parameters: Regular expressions of the names of the parameters that vary; none for all.
        without: Regular expressions of the names of those that do not.
        matrices_only: Leave out parameters with fewer than two axes.
        batch_size: The number of samples in a batch, see `hessian_job.with_batch_size`.
        precision: 'float32' or 'float64'; None for that of the network.
        compiled: Let torch.compile fuse the products.
        activations: Patterns of the layers whose activations are probed, () for every layer; None for no probes.
        activation_site: Probe the 'output' or the 'input' of these layers.
        matrix: The matrix, see `hessian.gauss_newton`.
        fisher_draws: For 'mc_fisher', the number of targets that are drawn for each sample.
        target_seed: Their seed.
        products: Products are needed; otherwise losses and gradients alone, which need no second derivatives.
        without_products: What to do for a network without second derivatives, which ends the message of the error.

    Raises:
        BadUsage: Products of another matrix than the Hessian are to be compiled.
    """

    parameters: Sequence[str]
    without: Sequence[str]
    matrices_only: bool
    batch_size: int
    precision: ProductPrecision | None
    compiled: bool = False
    activations: Sequence[str] | None = None
    activation_site: ActivationSite = "output"
    matrix: CurvatureMatrix = "hessian"
    fisher_draws: int = 1
    target_seed: int = 0
    products: bool = True
    without_products: str = ""

    def __post_init__(self) -> None:
        check_matrix(self.matrix, self.fisher_draws, compiled=self.compiled)

    def request(self, inputs: HessianInputs) -> dict[str, Any]:
        """Return the fields that tell this Hessian from others of the same network: data, selection and precision."""
        from lossatlas.evaluation.precision import product_precision
        from lossatlas.jobs.inputs.fingerprint import without_classes

        return {
            "data": inputs.samples.digest,
            "samples": without_classes(inputs.samples).digest,
            "parameters": list(self.parameters) or "all",
            **({"without": list(self.without)} if self.without else {}),
            "matrices_only": self.matrices_only,
            **matrix_request(self.matrix, self.fisher_draws, self.target_seed),
            "precision": product_precision(self.precision, inputs.net),
        }


class HessianShare:
    """One rank's part of a Hessian: products, losses and gradients of its samples, summed onto rank 0.

    Every rank makes its part, and calls its methods, at the same time.
    """

    def __init__(
        self, world: World, inputs: HessianInputs, settings: HessianSettings, device: "torch.device | str"
    ) -> None:
        """Take this rank's samples.

        Args:
            world: The ranks.
            inputs: The network, all samples and the loss.
            settings: The same on every rank.
            device: The device of this rank.

        Raises:
            BadUsage: No parameter or layer is chosen, or a batch does not fit into memory.
            BadInput: The loss lacks derivatives that are needed, see `lossatlas.hessian.Hessian`.
        """
        from lossatlas.hessian import Activations

        self.world, self.inputs, self.settings, self.device = world, inputs, settings, device
        self.part_count = inputs.samples.parts
        self.each_step: Callable[[int], None] = lambda step: None  # of a whole chain
        samples = inputs.samples.share(world.rank, world.size)
        common: dict[str, Any] = {
            "batch_size": settings.batch_size,
            "device": device,
            "reduce": self.sum_on_root,  # after the set-up rank 0 alone uses the sums
            "reduce_setup": self.sum_everywhere,
            "precision": settings.precision,
        }
        chosen = {"parameters": settings.parameters, "without": settings.without, **common}
        chosen["matrices_only"] = settings.matrices_only
        try:
            self.hessian = self.fitting(self.operator_class(inputs), inputs.net, samples, inputs.loss, **chosen)
        except BadInput as error:
            if settings.without_products and self.has_gradients(inputs, samples, chosen):
                raise BadInput(f"{error}; {settings.without_products}") from error
            raise
        self.activations: Activations | None = None
        if settings.activations is not None:
            self.activations = self.fitting(
                Activations,
                inputs.net,
                samples,
                inputs.loss,
                patterns=settings.activations,
                at=settings.activation_site,
                matrix=settings.matrix,
                draws=self.target_draws(inputs),
                **common,
            )

    def has_gradients(self, inputs: HessianInputs, samples: "AnyData", chosen: Mapping[str, Any]) -> bool:
        """Return whether losses and gradients can be computed, where the operator cannot; without other ranks."""
        from lossatlas.hessian.first_derivatives import FirstDerivatives

        alone = {**chosen, "reduce": None, "reduce_setup": None}
        try:
            FirstDerivatives(inputs.net, samples, inputs.loss, **alone)
        except BadInput:
            return False
        return True

    def operator_class(self, inputs: HessianInputs) -> "Callable[..., CurvatureOperator]":
        """Return what makes the operator of the settings from a network and this rank's samples."""
        from lossatlas.hessian import GaussNewton, Hessian
        from lossatlas.hessian.first_derivatives import FirstDerivatives

        settings = self.settings
        if not settings.products:
            return FirstDerivatives
        if settings.matrix == "hessian":
            return partial(Hessian, compiled=settings.compiled)
        return partial(GaussNewton, matrix=settings.matrix, draws=self.target_draws(inputs))

    def target_draws(self, inputs: HessianInputs) -> "TargetDraws":
        """Return the random numbers of the targets of this rank's samples."""
        from lossatlas.data.drawn_targets import TargetDraws

        before = sum(len(inputs.samples.share(k, self.world.size)) for k in range(self.world.rank))
        return TargetDraws(self.settings.fisher_draws, self.settings.target_seed, before)

    def sum_on_root(self, vector: "Tensor") -> "Tensor":
        """Return on rank 0 the sum of every rank's vector, in float64; elsewhere the result has no meaning."""
        if self.world.size == 1:
            return vector
        return as_vector(self.world.total(vector.detach().cpu().numpy())).to(vector.device, vector.dtype)

    def sum_everywhere(self, vector: "Tensor") -> "Tensor":
        """Return the sum of every rank's vector, with the same bits on every rank."""
        if self.world.size == 1:
            return vector
        total = self.world.share(self.world.total(vector.detach().cpu().numpy()))
        return as_vector(total).to(vector.device, vector.dtype)

    def fitting(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function that computes batches on the device.

        Raises:
            BadUsage: A batch does not fit into the memory of the device.
        """
        import torch

        try:
            return function(*arguments, **options)
        except torch.cuda.OutOfMemoryError as error:
            raise BadUsage(
                f"a batch of {self.settings.batch_size} does not fit into the memory of {self.device}: "
                f"use a smaller {named('batch_size')}"
            ) from error

    def product(self, vector: "Vector", names: Sequence[str] | None) -> "Tensor":
        """Return the product with a vector (size,), or with the block of the parameters `names`."""
        return self.fitting(self.hessian, as_vector(vector), names)

    def loss_at(self, change: "Vector | None") -> float:
        """Return the mean loss at changed parameters."""
        return self.fitting(self.hessian.loss_at, None if change is None else as_vector(change))

    def gradient_at(self, change: "Vector | None") -> "tuple[float, Tensor]":
        """Return the mean loss and its gradient (size,) at changed parameters."""
        return self.fitting(self.hessian.gradient_at, None if change is None else as_vector(change))

    def gradient_of_parts(self, change: "Vector | None", numbers: Sequence[int]) -> "tuple[float, Tensor]":
        """Return an estimate of the mean loss and of its gradient (size,) by some parts of all samples."""
        return self.fitting(self.hessian.gradient_of_parts, *self.own_parts(change, numbers))

    def loss_of_parts(self, change: "Vector | None", numbers: Sequence[int]) -> float:
        """Return an estimate of the mean loss by some parts of all samples."""
        return self.fitting(self.hessian.loss_of_parts, *self.own_parts(change, numbers))

    def own_parts(self, change: "Vector | None", numbers: Sequence[int]) -> "tuple[Tensor | None, list[int], float]":
        """Return the change, the numbers of this rank's parts among some, and the share of all that these are."""
        first, last = (self.part_count * k // self.world.size for k in (self.world.rank, self.world.rank + 1))
        own = [number - first for number in numbers if first <= number < last]
        return None if change is None else as_vector(change), own, len(numbers) / self.part_count

    def probe(self, number: int) -> "Tensor":
        """Return one sample of each trace with respect to activations; each rank draws its own random vectors."""
        assert self.activations is not None
        return self.fitting(self.activations, number * self.world.size + self.world.rank)

    @cached_property
    def alone(self) -> "DistributedHessian":
        """The same operator of all samples, which this rank computes alone."""
        settings = replace(self.settings, activations=None)
        share = HessianShare(World(local_rank=self.world.local_rank), self.inputs, settings, self.device)
        return DistributedHessian(share, lead(share.world, share.calls([])))

    def whole_chains(self, settings: "ChainSettings", numbers: Sequence[int], start_gradient: "Vector") -> "np.ndarray":
        """Run one chain on each rank, with all samples, see `hessian.langevin`.

        Args:
            settings: The settings of the chains.
            numbers: The number of the chain of each rank.
            start_gradient: (size,) the gradient at the network itself.

        Returns:
            (ranks, 3, draws) the chains, on rank 0.
        """
        import numpy as np

        from lossatlas.hessian.langevin import langevin_chain

        rank = self.world.rank
        rows = np.zeros((self.world.size, 3, settings.draws))
        gradient = as_vector(start_gradient)
        rows[rank] = self.fitting(langevin_chain, self.alone, settings, numbers[rank], gradient, self.each_step)
        return self.world.total(rows)

    def calls(self, caught: list[int]) -> dict[str, Callable[..., Any]]:
        """Return the functions that rank 0 calls on every rank, by name.

        Args:
            caught: The signals that ask this rank to end.
        """

        def ended_by_signal(function: Callable[..., Any]) -> Callable[..., Any]:
            def checked(*arguments: Any) -> Any:
                check_signals(caught)
                return function(*arguments)

            return checked

        methods = (
            self.product,
            self.loss_at,
            self.gradient_at,
            self.loss_of_parts,
            self.gradient_of_parts,
            self.probe,
            self.whole_chains,
        )
        return {method.__name__: ended_by_signal(method) for method in methods}


@dataclass(frozen=True)
class DistributedHessian:
    """A Hessian on rank 0 whose products, losses and gradients all ranks compute: an operator of `hessian.lanczos`.

    Attributes:
        share: The part of rank 0.
        on_every_rank: Calls a method of every rank's part by its name and returns the result of rank 0.
        chosen: The names of the parameters of a diagonal block; None for all.
        caught: Signals that ask for an end; then losses and gradients raise Incomplete.
    """

    share: HessianShare
    on_every_rank: Callable[..., Any]
    chosen: Sequence[str] | None = None
    caught: list[int] = field(default_factory=list)

    @property
    def names(self) -> Sequence[str]:
        """The names of all parameters of the Hessian."""
        return self.share.hessian.names

    @property
    def shapes(self) -> "Sequence[torch.Size]":
        """The shapes of these parameters."""
        return self.share.hessian.shapes

    @property
    def size(self) -> int:
        """The length of the vectors of this operator."""
        from lossatlas.hessian.flat_vectors import entry_count

        return entry_count(self.names, self.shapes, self.chosen)

    @property
    def dtype(self) -> "torch.dtype":
        return self.share.hessian.dtype

    @property
    def device(self) -> "torch.device":
        return self.share.hessian.device

    @property
    def semidefinite(self) -> bool:
        """True where it is known that no eigenvalue is negative."""
        return self.share.hessian.semidefinite

    @property
    def folded(self) -> bool:
        """True where BatchNorm is folded into the layers before it."""
        return self.share.hessian.folded

    def __call__(self, vector: "Tensor") -> "Tensor":
        """Return the product with a vector (size,)."""
        return self.on_every_rank("product", self.portable(vector), self.chosen)

    def block(self, names: Sequence[str]) -> "DistributedHessian":
        """Return the diagonal block of these parameters."""
        return replace(self, chosen=names)

    def weights(self) -> "Tensor":
        """Return the parameters (size,)."""
        return self.share.hessian.weights()

    def unflatten(self, vector: "Tensor") -> "dict[str, Tensor]":
        """Return a vector (size,) as tensors by the names of the parameters."""
        return dict(zip(self.names, self.share.hessian.unflatten(vector), strict=True))

    def loss_at(self, change: "Tensor | None") -> float:
        """Return the mean loss at changed parameters.

        Raises:
            Incomplete: A signal asks for an end.
        """
        check_signals(self.caught)
        return self.on_every_rank("loss_at", None if change is None else self.portable(change))

    def gradient_at(self, change: "Tensor | None") -> "tuple[float, Tensor]":
        """Return the mean loss and its gradient (size,) at changed parameters.

        Raises:
            Incomplete: A signal asks for an end.
        """
        check_signals(self.caught)
        return self.on_every_rank("gradient_at", None if change is None else self.portable(change))

    @property
    def part_count(self) -> int:
        """The number of samples, or of the batches that have to stay as they are."""
        return self.share.part_count

    def moving(self) -> "Tensor | None":
        """Return a mask (size,) of the entries that vary; None where all vary."""
        return self.share.hessian.moving()

    def loss_of_parts(self, change: "Tensor | None", numbers: Sequence[int]) -> float:
        """Return an estimate of the mean loss at changed parameters by some of its `part_count` parts.

        Raises:
            Incomplete: A signal asks for an end.
        """
        check_signals(self.caught)
        return self.on_every_rank("loss_of_parts", None if change is None else self.portable(change), numbers)

    def gradient_of_parts(self, change: "Tensor | None", numbers: Sequence[int]) -> "tuple[float, Tensor]":
        """Return an estimate of the mean loss and of its gradient (size,) by some of its `part_count` parts.

        Raises:
            Incomplete: A signal asks for an end.
        """
        check_signals(self.caught)
        return self.on_every_rank("gradient_of_parts", None if change is None else self.portable(change), numbers)

    @property
    def rank_count(self) -> int:
        """The number of ranks."""
        return self.share.world.size

    def whole_chains(
        self,
        settings: "ChainSettings",
        numbers: Sequence[int],
        start_gradient: "Tensor",
        each: Callable[[int], None],
    ) -> "np.ndarray":
        """Run one chain on each rank at a time, with all samples.

        Args:
            settings: The settings of the chains.
            numbers: The number of the chain of each rank.
            start_gradient: (size,) the gradient at the network itself.
            each: Called with the number of finished steps of the first.

        Returns:
            (ranks, 3, draws) the chains, see `hessian.langevin`.

        Raises:
            Incomplete: A signal asks for an end.
            WorkFailed: Another rank reports an error.
        """

        def step_done(step: int) -> None:
            check_signals(self.caught)
            raise_reported(self.share.world)
            each(step)

        self.share.each_step = step_done
        return self.on_every_rank("whole_chains", settings, numbers, self.portable(start_gradient))

    def probes(self) -> "ActivationProbes | None":
        """Return the probes of the traces with respect to activations; None where none were asked for."""
        from lossatlas.jobs.curvature.spectrum_parts import ActivationProbes

        activations = self.share.activations
        if activations is None:
            return None
        layers: Sequence[Layer] = activations.layers
        return ActivationProbes(lambda number: self.on_every_rank("probe", number), lambda: layers)

    def portable(self, vector: "Tensor") -> "Vector":
        """Return a vector as it is sent to other ranks; itself where there are none."""
        return vector if self.share.world.size == 1 else vector.cpu().numpy()


def as_vector(vector: "Vector") -> "Tensor":
    import torch

    return vector if isinstance(vector, torch.Tensor) else torch.from_numpy(vector)


def check_signals(caught: list[int]) -> None:
    """Raise Incomplete where a signal asks for an end."""
    if caught:
        raise stopped_by(caught[0], f": {how_to_continue()}")


def run_on_ranks(
    world: World,
    make_share: Callable[[], HessianShare],
    job: Callable[[DistributedHessian], T],
    caught: list[int] | None = None,
) -> T | None:
    """Run a job on rank 0 with an operator that all ranks compute, while the others answer. Every rank calls this.

    Args:
        world: The ranks.
        make_share: Makes the part of this rank.
        job: What rank 0 does with the operator.
        caught: Signals that ask this rank to end, see `process.signals`; by default none are collected.

    Returns:
        On rank 0 the result of the job; None on the others.

    Raises:
        WorkFailed: On rank 0, where another rank has reported an error.
    """
    from lossatlas.data.finite_check import blamed_on

    signals = [] if caught is None else caught
    with chdir("."):  # a user's code may change the working directory
        share = make_share()
    with chdir("."):
        if not world.root:
            share.each_step = lambda step: check_signals(signals)
            answer(world, lambda: share.calls(signals))
            return None
        with blamed_on(share.inputs.samples):
            result = job(DistributedHessian(share, lead(world, share.calls([])), caught=signals))
    world.share(None)
    return result
