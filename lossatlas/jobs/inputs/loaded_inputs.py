"""The networks and the data of a command, as rank 0 has loaded them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossatlas import config
from lossatlas.choices import DirType

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData
    from lossatlas.evaluation.reference import KeptTensors
    from lossatlas.parameter_space import Point


@dataclass(frozen=True, kw_only=True)
class LoadedInputs:
    """The networks and the data of a command.

    Attributes:
        net: The network, with the parameters of the origin.
        model: The network's name, or the user's function that makes it.
        data: The samples by split.
        chosen: The configuration of the data.
        loss: The loss's name, or the user's function.
        dir_type: 'weights' or 'states'.
        origin: The tensors at the origin by name.
        targets: The tensors of the network at the end of each axis; None for an axis without one.
        towards: The digests of these networks by file.
        record: The fields that identify the network.
        training: Training samples for BatchNorm statistics, where they are asked for.
        kept: The copies of a large network's tensors on disk, where memory is low.
    """

    net: "nn.Module"
    model: config.ModelChoice
    data: "dict[str, AnyData]"
    chosen: config.DataConfig
    loss: config.LossChoice
    dir_type: DirType
    origin: "Point"
    targets: "Sequence[Point | None]"
    towards: Mapping[str, str]
    record: Mapping[str, Any]
    training: "AnyData | None" = None
    kept: "KeptTensors | None" = None

    @property
    def first(self) -> "AnyData":
        """The samples of the first split, which curvature is computed of."""
        return next(iter(self.data.values()))
