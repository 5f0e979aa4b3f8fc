"""A problem as numpy arrays, which is sent to other ranks without pickling its contents."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.jobs.sweep.parametrization import Parametrization
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn

    from lossatlas.data import Loss
    from lossatlas.jobs.sweep.problem import Problem


@dataclass(frozen=True)
class PackedProblem:
    """A network, the points of the grid, and data, to be sent to other ranks."""

    inputs: PackedInputs
    points: Parametrization

    def unpack(self, loss: "Loss", device: "str | torch.device") -> "Problem":
        """Return the problem on a device of this rank; network and data share the arrays' memory.

        Raises:
            BadInput: This rank reads other data than rank 0.
        """
        from lossatlas.evaluation.parallel_batches import deep_copy
        from lossatlas.jobs.sweep.problem import Problem
        from lossatlas.parameter_space.offloaded import placed

        inputs = self.inputs
        net, data = inputs.unpack()
        training = data.get("train") if inputs.training is None else inputs.training.unpack("train")

        def reference() -> "nn.Module":
            """Return a network that may be moved in place: the plane shares the memory of `net`."""
            of_user = isinstance(inputs.model, UserFunction)
            own = inputs.network(next(iter(data.values()))) if of_user else deep_copy(net)
            return placed(own, device)

        return Problem(net, self.points.plane(net), data, loss, device, training, reference)
