"""The choice between a copy of a network and the network itself, by comparing their gradients."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.choices import ProductPrecision
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadInput, BadUsage, Stop, first_line, named, note
from lossatlas.evaluation.precision import PRECISION_TYPES
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import fitted
from lossatlas.hessian.batch_derivatives import RANDOM_LOSS, custom_derivatives, gradient_of, with_causes
from lossatlas.hessian.chosen_parameters import ChosenParameters
from lossatlas.hessian.curvature_copy import LossAndGradient, curvature_copy, gradient_mismatch
from lossatlas.hessian.evaluated_network import EvaluatedNetwork
from lossatlas.hessian.loss_samples import LossSamples, Reduce
from lossatlas.parameter_space.points import movable
from lossatlas.parameter_space.selection import Selection


@dataclass(frozen=True)
class LossParts:
    """A network that can be evaluated, and the samples on its device."""

    network: EvaluatedNetwork
    samples: LossSamples


@dataclass(frozen=True)
class LossSettings:
    """All that a mean loss depends on except the network.

    Attributes:
        data: The samples.
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        selection: The parameters by name.
        matrices_only: Of these, take those with more than one axis.
        batch_size: Samples in a batch.
        reduce: Sums a vector over the ranks, for each of them.
    """

    data: AnyData
    loss: Loss
    selection: Selection
    matrices_only: bool
    batch_size: int
    reduce: Reduce

    def parts(self, net: nn.Module, *, in_place: bool) -> LossParts:
        """Choose the parameters of a network, and put the samples onto its device.

        Args:
            net: The network.
            in_place: The network is the user's, see `EvaluatedNetwork`.
        """
        chosen = ChosenParameters.of(net, self.selection, matrices_only=self.matrices_only)
        network = EvaluatedNetwork(net, chosen, in_place=in_place)
        samples = LossSamples.place(self.data, self.loss, network, batch_size=self.batch_size, reduce=self.reduce)
        return LossParts(network, samples)


def copy_or_original(
    net: nn.Module, settings: LossSettings, device: torch.device | str, precision: ProductPrecision | None
) -> LossParts:
    """Use a copy that has the gradient of the network, otherwise the network itself.

    Args:
        net: The network.
        settings: The mean loss.
        device: The device of the copy.
        precision: See `curvature_copy.curvature_copy`.

    Returns:
        The copy or the network, with the samples on its device.

    Raises:
        BadUsage: No parameter is chosen, or the network would have to be used in place on another device.
        BadInput: The network is random, a parameter is complex, or neither the copy nor the network can be used.
    """
    copy, mismatch = equivalent_copy(net, settings, device, precision)
    if copy is not None:
        return copy
    check_in_place(net, device, precision, mismatch)
    note(f"products with the Hessian use the network itself, which is slower: {mismatch}")
    return settings.parts(net, in_place=True)


def equivalent_copy(
    net: nn.Module, settings: LossSettings, device: torch.device | str, precision: ProductPrecision | None
) -> tuple[LossParts | None, str]:
    """Try to make a copy that has the gradient of the network.

    Args:
        net: The network.
        settings: The mean loss.
        device: Device of the copy.
        precision: Precision of the copy, see `curvature_copy.curvature_copy`.

    Returns:
        The copy and "", otherwise None and a line about the difference.
    """
    try:
        copy = settings.parts(curvature_copy(net, device, precision), in_place=False)
        mismatch = copy_mismatch(copy, net)
    except (Stop, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        return None, first_line(error, 150)
    return (None, mismatch) if mismatch else (copy, "")


def check_in_place(
    net: nn.Module, device: torch.device | str, precision: ProductPrecision | None, mismatch: str
) -> None:
    """Refuse a network that cannot be used in place.

    Args:
        net: The network.
        device: Device on which it is asked for.
        precision: Precision that is asked for; None for its own.
        mismatch: Why a copy cannot be used, for messages.

    Raises:
        BadInput: Its parameters have several precisions, half precision, or another one than `precision`.
        BadUsage: It lies on another device.
    """
    own = [p for p in net.parameters() if movable(p)]
    first = own[0]
    if len({p.dtype for p in own}) > 1:
        raise BadInput(
            f"products with the Hessian need parameters of one precision, and a copy in one does not work "
            f"({mismatch}): convert the network itself"
        )
    wanted = PRECISION_TYPES[precision][0] if precision in PRECISION_TYPES else first.dtype
    if first.dtype not in (torch.float32, torch.float64) or wanted != first.dtype:
        raise BadInput(
            f"a converted copy of this network does not compute the same ({mismatch}), and products with the "
            f"Hessian in {str(wanted).removeprefix('torch.')} need one: convert the network itself to it first"
        )
    if first.device.type != torch.device(device).type:
        raise BadUsage(
            f"{named('device', str(device))}: this network can only be evaluated in place ({mismatch}), on "
            f"{first.device}: move it first"
        )


def copy_mismatch(copy: LossParts, net: nn.Module) -> str:
    """Compare the gradients of a copy and of the network itself on a few samples, a small step from its weights.

    Args:
        copy: The copy.
        net: The network itself.

    Returns:
        A line about the difference, '' where there is none.

    Raises:
        BadInput: The loss is random.
    """
    network, samples = copy.network, copy.samples
    step = network.chosen.small_step()
    check_repeated(copy)
    with network.displaced(step), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        value = samples.batch_loss(network.net, samples.few(), penalty=True)
        found = with_causes(
            lambda: gradient_of(value, network.chosen.tensors, required=False), custom_derivatives(value)
        )
    with evaluated_in_place(net), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        tensors = dict(net.named_parameters())
        own = [tensors[name].requires_grad_(True) for name in network.chosen.names]
        with torch.no_grad():
            for parameter, piece in zip(own, network.chosen.unflatten(step), strict=True):
                parameter.data.add_(piece.to(parameter.device, parameter.dtype))
        wanted = samples.batch_loss(net, fitted(samples.few(), net), penalty=True)
        expected = gradient_of(wanted, own, required=False)
    return gradient_mismatch(
        network.chosen.names,
        LossAndGradient(float(value.detach()), found),
        LossAndGradient(float(wanted.detach()), expected),
        half_precision=bool({p.dtype for p in own} & {torch.bfloat16, torch.float16}),
    )


def check_repeated(copy: LossParts) -> None:
    """Raise BadInput where the loss of a few samples differs when it is computed twice."""
    samples = copy.samples
    with torch.random.fork_rng(), torch.no_grad():
        first, second = (float(samples.batch_loss(copy.network.net, samples.few(), penalty=True)) for _ in range(2))
    if first != second and not (math.isnan(first) and math.isnan(second)):
        raise BadInput(f"two losses at the same weights differ by {abs(first - second):.1e}: {RANDOM_LOSS}")
