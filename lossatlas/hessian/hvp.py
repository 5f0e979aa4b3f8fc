"""Products with the Hessian of a network's mean loss.

    operator = Hessian(net, data, LOSSES["crossentropy"])
    operator(v)                    # the Hessian times v, (size,) both
    loss, gradient = operator.gradient()

The loss is the mean over the samples (with weights, the weighted mean) plus its own term of the parameters. Products
are exact; batches come in a fixed order, the network is in evaluation mode, and its outputs are converted to float64
before the loss is computed.

There are two execution modes. `folded`: BatchNorm is folded into the layers in front of it as a differentiable
function, and the gradient is differentiated in forward mode. This takes 2 to 2.7 times the time of a gradient, 1.6 to 2
when it is compiled. Otherwise the product of gradient and vector is differentiated in reverse mode, which takes up to 4
times the time of a gradient. On the CPU several batches are computed in parallel, see
`lossatlas.evaluation.parallel_batches`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.choices import ProductPrecision
from lossatlas.data.losses import Batch, Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadInput, BadUsage, first_line
from lossatlas.evaluation.folding import FoldedFunction
from lossatlas.evaluation.sample_storage import map_inputs
from lossatlas.hessian.batch_derivatives import (
    EquivalentForward,
    FoldedLoss,
    forward_product,
    functional_product,
    reverse_product,
)
from lossatlas.hessian.batching import usual_batch_size
from lossatlas.hessian.curvature_copy import float64_copy, to_float64
from lossatlas.hessian.curvature_operator import CurvatureOperator
from lossatlas.hessian.derivative_check import check_derivatives
from lossatlas.hessian.flat_vectors import flatten
from lossatlas.hessian.loss_samples import Reduce
from lossatlas.parameter_space.points import named_tensors
from lossatlas.parameter_space.selection import Selection

FOLDING_SAMPLES = 8  # on which the folded mode is compared with the other


class Hessian(CurvatureOperator):
    """The Hessian of the mean loss with respect to chosen parameters, as an operator on flat vectors.

    A copy of the network is differentiated. Where the gradient of the copy differs from the network's own, the
    network is used in place, and restored after every product.

    Args:
        net: The network.
        data: Its samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        parameters: Patterns of parameter names (re.search); all parameters by default. A tensor with several names
            (tied weights) matches under any of them, and counts once.
        without: Patterns of parameters to leave out.
        matrices_only: Of these, take those with more than one axis, as in the code of Li et al. (arXiv 1712.09913).
        batch_size: Samples in a batch; see `lossatlas.hessian.batching` for the default.
        parallel_batches: Batches that are computed in parallel on the CPU; by default one for each thread if there are
            enough batches.
        device: The device.
        reduce: Sums a vector over the ranks where samples are distributed over ranks.
        reduce_setup: The same during construction, whose sums every rank needs; by default `reduce`.
        folded: Fold BatchNorm; by default where that is possible and gives the same product, see `why_not_folded`.
        compiled: Fuse the folded mode by torch.compile, which takes half a minute or more at the first product.
        precision: 'float32' or 'float64'; by default that of the parameters, and float32 for half precision.

    Attributes:
        names: The names of the parameters, in the order of the vectors.
        shapes: Their shapes.
        size: The number of their entries.
        dtype: Their type, which products have too.
        device: Their device.
        total_weight: The weight of all samples, over all ranks.
        folded: The folded mode is used.
        why_not_folded: The reason why not, '' where it is.

    Raises:
        BadUsage: No parameter is chosen, or an unfolded network is to be compiled.
        BadInput: The derivatives are not those of the loss (see `derivative_check.check_derivatives`), the network is
            random, a parameter is complex, or BatchNorm cannot be folded although `folded` is True.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> operator = Hessian(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"])
        >>> operator(torch.ones(operator.size)).shape
        torch.Size([27])
    """

    def __init__(
        self,
        net: nn.Module,
        data: AnyData,
        loss: Loss,
        *,
        parameters: str | Sequence[str] = (),
        without: str | Sequence[str] = (),
        matrices_only: bool = False,
        batch_size: int | None = None,
        parallel_batches: int | None = None,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        reduce_setup: Reduce | None = None,
        folded: bool | None = None,
        compiled: bool = False,
        precision: ProductPrecision | None = None,
    ) -> None:
        threads = torch.get_num_threads() if torch.device(device).type == "cpu" and not compiled else 1
        super().__init__(
            net,
            data,
            loss,
            selection=Selection(parameters, without, net),
            matrices_only=matrices_only,
            batch_size=batch_size or usual_batch_size(len(data), device, threads),
            device=device,
            reduce=reduce,
            reduce_setup=reduce_setup,
            precision=precision,
        )
        self.choose_mode(folded=folded, compiled=compiled)
        with self.session():
            self.check()
        self.start_workers(threads, parallel_batches)

    def check(self) -> None:
        """Compare derivatives with finite differences, see `derivative_check.check_derivatives`."""
        check_derivatives(self)

    def choose_mode(self, *, folded: bool | None, compiled: bool) -> None:
        """Fold and compile as asked for.

        Args:
            folded: Fold BatchNorm; None to fold it where that is possible.
            compiled: Compile the product of the folded network.

        Raises:
            BadUsage: The product is to be compiled, and BatchNorm is not folded.
            BadInput: BatchNorm is to be folded, and that is not possible.
        """
        self.why_not_folded = "not asked for" if folded is False else self.fold()
        if folded and not self.folded:
            raise BadInput(f"BatchNorm cannot be folded: {self.why_not_folded}")
        if compiled and not self.folded:
            raise BadUsage(f"only a folded network can be compiled; this network is not: {self.why_not_folded}")
        self.compiled = torch.compile(self.functional_product, fullgraph=True, dynamic=False) if compiled else None

    def fold(self) -> str:
        """Use the folded mode if it gives the same product on a few samples in float64; otherwise return why not."""
        if self.in_place:
            return "the network itself is used, in place"
        net = float64_copy(self.net)
        tensors = named_tensors(net, every_name=False)
        parameters, generator = [tensors[name] for name in self.names], torch.Generator().manual_seed(0)
        vectors = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(self.device) for p in parameters]
        batch, again = (map_inputs(self.samples.stored.first_samples(FOLDING_SAMPLES), to_float64) for _ in range(2))
        try:
            function = FoldedFunction(self.net)
            with forward_ad.dual_level():
                found = forward_product(
                    FoldedLoss(self.samples.batch_loss, function, self.names, tensors), batch, parameters, vectors
                )
            with sdpa_kernel(SDPBackend.MATH):
                expected = reverse_product(
                    self.samples.batch_loss, net, again, parameters, vectors, penalty=False, required=False
                )
            error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
            reason = "" if error <= 1e-6 else f"it would change a product by {error:.1e}"
        except Exception as error:
            reason = first_line(error, 120)
        if not reason:
            self.forward = EquivalentForward(self.net, function)
        return reason

    def equivalent_forward(self, net: nn.Module) -> EquivalentForward:
        """Return a replica of the network, folded where this one is."""
        return EquivalentForward(net, None if self.forward.function is None else FoldedFunction(net))

    def parts(
        self, parameters: Sequence[Tensor], pieces: Sequence[Tensor], names: Sequence[str] | None
    ) -> Iterator[Tensor]:
        """Compute each batch's part of a product, see `CurvatureOperator.parts`."""
        if self.folded:
            return self.folded_parts(parameters, pieces, names)
        return self.unfolded_parts(parameters, pieces)

    def unfolded_parts(self, parameters: Sequence[Tensor], pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Compute each batch's part of a product in reverse mode."""
        required = len(parameters) == len(self.parameters)

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            number, batch = item
            first = number == 0
            return reverse_product(
                self.samples.batch_loss,
                forward.net,
                batch,
                parameters,
                pieces,
                penalty=first,
                required=required and first,
            )

        return self.map_batches(of_batch)

    def folded_parts(
        self, parameters: Sequence[Tensor], pieces: Sequence[Tensor], names: Sequence[str] | None
    ) -> Iterator[Tensor]:
        """Compute each batch's part of a product in forward mode.

        Args:
            parameters: The parameters of the product.
            pieces: The vector, in the shapes of the parameters.
            names: The names of the parameters of a block; None for all.
        """
        tensors = self.network.tensors()
        if names is not None:
            fixed = dict(zip(self.names, self.parameters, strict=True))
            tensors |= {name: value.detach() for name, value in fixed.items()}
        elif self.compiled is not None:
            for batch in self.samples.batches():
                yield flatten(self.compiled(parameters, tensors, pieces, batch), parameters)
            return
        own = self.names if names is None else names

        def of_batch(forward: EquivalentForward, item: tuple[int, Batch]) -> Tensor:
            assert forward.function is not None
            loss = FoldedLoss(self.samples.batch_loss, forward.function, own, tensors)
            return forward_product(loss, item[1], parameters, pieces)

        with forward_ad.dual_level():  # one for all threads, because it belongs to the process
            yield from self.map_batches(of_batch)

    def functional_product(
        self, parameters: Sequence[Tensor], tensors: dict[str, Tensor], vectors: Sequence[Tensor], batch: Batch
    ) -> list[Tensor]:
        """Compute one batch's product in the form that torch.compile accepts.

        Args:
            parameters: The chosen parameters, a tensor each.
            tensors: The other tensors of the network by name.
            vectors: The vector, a tensor for each chosen parameter.
            batch: The samples.

        Returns:
            The product with the Hessian of the batch's loss, a tensor for each chosen parameter.
        """
        function = self.forward.function
        assert function is not None
        return functional_product(
            FoldedLoss(self.samples.batch_loss, function, self.names, tensors), batch, parameters, vectors
        )
