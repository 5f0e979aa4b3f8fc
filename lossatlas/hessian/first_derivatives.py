"""The mean loss with its gradients alone: for jobs that take no product with a matrix of second order."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lossatlas.choices import ProductPrecision
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadUsage
from lossatlas.hessian.batching import usual_batch_size
from lossatlas.hessian.curvature_operator import CurvatureOperator
from lossatlas.hessian.derivative_check import check_gradient
from lossatlas.hessian.loss_samples import Reduce
from lossatlas.parameter_space.selection import Selection


class FirstDerivatives(CurvatureOperator):
    """The mean loss and its gradients with respect to chosen parameters, of a network that needs no second derivatives.

    Args:
        net: The network.
        data: Its samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        parameters: Patterns of parameter names (re.search); all parameters by default.
        without: Patterns of parameters to leave out.
        matrices_only: Of these, take those with more than one axis.
        batch_size: Samples in a batch; see `lossatlas.hessian.batching` for the default.
        device: The device.
        reduce: Sums a vector over the ranks where samples are distributed over ranks.
        reduce_setup: The same during construction, whose sums every rank needs; by default `reduce`.
        precision: 'float32' or 'float64'; by default that of the parameters, and float32 for half precision.

    Raises:
        BadUsage: No parameter is chosen.
        BadInput: The network is random, a parameter is complex, or the gradient is not that of the loss.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, Dataset
        >>> data = Dataset("noise", "train", (torch.randn(64, 8), torch.randint(0, 3, (64,))), 3)
        >>> loss = FirstDerivatives(torch.nn.Linear(8, 3), data, LOSSES["crossentropy"])
        >>> loss.gradient()[1].shape
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
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
        reduce_setup: Reduce | None = None,
        precision: ProductPrecision | None = None,
    ) -> None:
        threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
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
        with self.session():
            self.check()
        self.start_workers(threads, None)

    def check(self) -> None:
        """Compare the gradient with finite differences, see `derivative_check.check_gradient`."""
        check_gradient(self)

    def parts(
        self, parameters: Sequence[Tensor], pieces: Sequence[Tensor], names: Sequence[str] | None
    ) -> Iterator[Tensor]:
        """Refuse a product.

        Raises:
            BadUsage: Always.
        """
        raise BadUsage("first derivatives give no products with a matrix of second order")
