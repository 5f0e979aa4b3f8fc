"""The problem that a rank evaluates: network, plane, data and loss on one device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData
from lossatlas.evaluation.parallel_batches import deep_copy
from lossatlas.parameter_space.planes import Plane


@dataclass(frozen=True)
class Problem:
    """A network and the points at which its loss is evaluated.

    Attributes:
        net: The network in evaluation mode.
        plane: The map from coordinates to parameters.
        data: The samples by split.
        loss: The loss.
        device: The device that computes.
        training: Samples for BatchNorm statistics, where these are estimated again at every point.
        reference: Returns the user's own network, which may be moved in place, so that the plane must not share its
            memory. By default a copy of `net`.
    """

    net: nn.Module
    plane: Plane
    data: Mapping[str, AnyData]
    loss: Loss
    device: str | torch.device = "cpu"
    training: AnyData | None = None
    reference: Callable[[], nn.Module] | None = None

    def own(self) -> nn.Module:
        """Return the user's own network, see `reference`."""
        return deep_copy(self.net) if self.reference is None else self.reference()
