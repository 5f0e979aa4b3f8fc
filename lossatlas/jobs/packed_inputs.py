"""Networks and data as numpy arrays, which travel to other ranks without being copied."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput
from lossatlas.jobs.inputs import LoadedInputs, load_split, shape_of
from lossatlas.jobs.parametrization import Parametrization
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.jobs.problem import Problem


@dataclass(frozen=True)
class PackedInputs:
    """A network and its data, as numpy arrays that travel without being copied.

    data by split: samples whose images have four axes as (N, H, W, C), or where they are read. training: those for the
    statistics of BatchNorm, where they are not among the data. mode: whether the state was taken in training mode.
    """

    model: config.Model
    state: dict[str, np.ndarray]
    data: "dict[str, PackedSamples | StreamedSource]"
    training: "PackedSamples | StreamedSource | None" = None
    mode: bool = False

    @classmethod
    def of(cls, loaded: LoadedInputs) -> "PackedInputs":
        from lossatlas.evaluation.parallel_batches import is_training

        state = {name: as_array(value) for name, value in loaded.net.state_dict().items()}
        data = {split: pack_samples(data, loaded.chosen) for split, data in loaded.data.items()}
        further = loaded.training is not None and "train" not in data
        training = pack_samples(loaded.training, loaded.chosen) if further and loaded.training is not None else None
        return cls(loaded.model, state, data, training, is_training(loaded.net))

    def unpack(self) -> "tuple[nn.Module, dict[str, AnyData]]":
        """All of it shares the arrays' memory. Raises BadInput where this rank reads other data than rank 0."""
        data = {split: one.unpack(split) for split, one in self.data.items()}
        return self.network(next(iter(data.values()))), data

    def network(self, first: "AnyData") -> "nn.Module":
        """The network in evaluation mode. One of the zoo shares the arrays' memory, a user's has its own.

        first: the data of the first split.
        """
        import torch

        from lossatlas.evaluation.parallel_batches import changes_weights_with_mode
        from lossatlas.models import build

        own_tensors = {name: as_tensor(value) for name, value in self.state.items()}
        if isinstance(self.model, UserFunction):
            net = build(self.model)
            net.train(
                changes_weights_with_mode(net) and self.mode
            )  # as it was when its state was taken, see load_to_evaluate
            net.load_state_dict(own_tensors)  # assigning would untie weights
            return net.requires_grad_(False)
        shape = shape_of(first)
        with torch.device("meta"):  # neither drawn at random nor stored: what it holds is assigned
            net = build(self.model, shape, first.classes)
        net.load_state_dict(own_tensors, assign=True)
        return net.eval().requires_grad_(False)


@dataclass(frozen=True)
class PackedSamples:
    """Samples, or batches of shapes that differ, as arrays."""

    samples: Any
    classes: int
    fixed: bool

    def unpack(self, split: str) -> "AnyData":
        from lossatlas.data import Dataset, FixedBatches
        from lossatlas.data.structures import mapped

        if self.fixed:
            batches = [mapped(writable(batch), channels_first) for batch in self.samples]
            return FixedBatches(split, split, batches, self.classes)
        return Dataset(split, split, mapped(writable(self.samples), channels_first), self.classes)


@dataclass(frozen=True)
class StreamedSource:
    """Samples that every rank reads when it needs them."""

    chosen: config.DataConfig
    classes: int
    sketch: str

    def unpack(self, split: str) -> "AnyData":
        from lossatlas.data import Streamed

        data = load_split(replace(self.chosen, stream="always"), split)
        assert isinstance(data, Streamed)
        data = replace(data, classes=self.classes)
        if data.sketch != self.sketch:
            raise BadInput(
                f"{data.name} holds other {split} samples here, on {socket.gethostname()}, than on rank 0: every rank "
                "has to reach the same files"
            )
        return data


def pack_samples(data: "AnyData", chosen: config.DataConfig) -> PackedSamples | StreamedSource:
    from lossatlas.data import FixedBatches, Streamed
    from lossatlas.data.structures import mapped

    if isinstance(data, Streamed):
        return StreamedSource(chosen, data.classes, data.sketch)

    def arrays(samples: Any) -> Any:
        return mapped(samples, lambda tensor: as_array(channels_last(tensor)))

    if isinstance(data, FixedBatches):
        return PackedSamples([arrays(batch) for batch in data.contents], data.classes, True)
    return PackedSamples(arrays(data.samples), data.classes, False)


def channels_last(inputs: "Tensor") -> "Tensor":
    """Images (N, C, H, W) as contiguous (N, H, W, C), without a copy where they lie like this; others as they are."""
    return inputs.permute(0, 2, 3, 1).contiguous() if inputs.dim() == 4 else inputs


def channels_first(inputs: "Tensor") -> "Tensor":
    return inputs.permute(0, 3, 1, 2) if inputs.dim() == 4 else inputs


def writable(samples: Any) -> Any:
    """Samples whose arrays can be written, copied where they came read-only from another rank."""
    if isinstance(samples, np.ndarray):
        return samples if samples.flags.writeable else samples.copy()
    if isinstance(samples, Mapping):
        return {name: writable(value) for name, value in samples.items()}
    if isinstance(samples, list | tuple):
        items = [writable(value) for value in samples]
        return type(samples)(*items) if hasattr(samples, "_fields") else type(samples)(items)
    return samples


def as_array(tensor: "Tensor") -> Any:
    """The tensor's memory as a numpy array; a tensor where numpy has no such type."""
    import torch

    return tensor if tensor.dtype == torch.bfloat16 else tensor.detach().numpy()


def as_tensor(array: Any) -> "Tensor":
    """Without a copy, unless the array came read-only from another rank."""
    import torch

    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@dataclass(frozen=True)
class PackedProblem:
    """A network, the points of the grid, and data, as they travel to other ranks."""

    inputs: PackedInputs
    points: Parametrization

    def unpack(self, loss: "Loss", device: str) -> "Problem":
        """Return the problem on a device of this rank; network and data share the arrays' memory.

        Raises:
            BadInput: This rank reads other data than rank 0.
        """
        from lossatlas.evaluation.parallel_batches import copied
        from lossatlas.jobs.problem import Problem

        inputs = self.inputs
        net, data = inputs.unpack()
        training = data.get("train") if inputs.training is None else inputs.training.unpack("train")

        def reference() -> "nn.Module":
            """Return the user's own network, which may be moved in place: the plane shares memory with the other one."""
            of_user = isinstance(inputs.model, UserFunction)
            own = inputs.network(next(iter(data.values()))) if of_user else copied(net)
            return own.to(device)

        return Problem(net, self.points.plane(net), data, loss, device, training, reference)
