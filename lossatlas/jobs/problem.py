"""What a whole computation needs of the world."""

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
    """A network in eval mode, a plane through its parameters, data by split, a loss, and the device that computes.

    training: samples for the statistics of BatchNorm, where these are estimated again at every point. reference: gives the
    user's own network, which may be moved in place: the plane must not share memory with it. By default a copy of `net`.
    """

    net: nn.Module
    plane: Plane
    data: Mapping[str, AnyData]
    loss: Loss
    device: str | torch.device = "cpu"
    training: AnyData | None = None
    reference: Callable[[], nn.Module] | None = None

    def own(self) -> nn.Module:
        """The user's own network, see `reference`."""
        return deep_copy(self.net) if self.reference is None else self.reference()
