"""The network that a mean loss evaluates: a copy, or the user's own network, which is moved within a session only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lossatlas.evaluation.precision import in_float64
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.hessian.chosen_parameters import ChosenParameters
from lossatlas.parameter_space.points import Point, move, named_tensors, restored


class EvaluatedNetwork:
    """A network whose loss is differentiated with respect to chosen parameters.

    Args:
        net: A copy, whose outputs are converted to float64 from now on; or the user's network, to be used in place.
        chosen: Its parameters.
        in_place: The network is the user's, and is restored after every session.
    """

    def __init__(self, net: nn.Module, chosen: ChosenParameters, *, in_place: bool) -> None:
        self.net, self.chosen, self.in_place = net, chosen, in_place
        self.position: Point | None = None  # where a network that is used in place is moved, None for its own weights
        self.entered = False
        if not in_place:
            net.register_forward_hook(in_float64)
            for parameter in chosen.tensors:
                parameter.requires_grad_(True)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Use the network within: one that is used in place is moved to its position, and restored afterwards."""
        if not self.in_place or self.entered:
            yield
            return
        self.entered = True
        try:
            with evaluated_in_place(self.net):
                for parameter in self.chosen.tensors:
                    parameter.requires_grad_(True)
                if self.position is not None:
                    move(self.tensors(), self.position)
                yield
        finally:
            self.entered = False

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter and buffer of the network by name."""
        return named_tensors(self.net, every_name=False)

    def move_to(self, point: Mapping[str, Tensor]) -> int:
        """Move the network to a point of a plane.

        Args:
            point: Tensors by name, see `lossatlas.parameter_space.planes`.

        Returns:
            The number of BatchNorm variances that were negative; they are set to zero.
        """
        if not self.in_place:
            return move(self.tensors(), point)
        self.position = {name: value.clone() for name, value in point.items()}
        return move(self.position, point)

    @contextmanager
    def displaced(self, change: Tensor | None) -> Iterator[None]:
        """Add a vector (size,) to the chosen parameters within; afterwards they are restored bit for bit."""
        chosen = self.chosen
        with self.session(), restored(chosen.tensors):
            if change is not None:
                pieces = chosen.unflatten(change.to(chosen.device, chosen.dtype))
                with torch.no_grad():
                    for parameter, piece in zip(chosen.tensors, pieces, strict=True):
                        parameter.data.add_(piece)
            yield
