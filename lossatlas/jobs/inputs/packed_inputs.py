"""Networks and data as numpy arrays, which are sent to other ranks without pickling their contents."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput
from lossatlas.jobs.inputs.configured_data import load_split
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData


@dataclass(frozen=True)
class PackedInputs:
    """A network and its data as numpy arrays.

    Attributes:
        model: The network's name, or the user's function that makes it.
        state: The state of the network.
        data: By split the samples, images as (N, H, W, C), or the source that each rank reads them from.
        training: Samples for BatchNorm statistics, where they are not among the data.
        in_training_mode: The network was in training mode when its state was taken.
    """

    model: config.ModelChoice
    state: dict[str, np.ndarray]
    data: "dict[str, PackedSamples | StreamedSource]"
    training: "PackedSamples | StreamedSource | None" = None
    in_training_mode: bool = False

    @classmethod
    def of(cls, loaded: LoadedInputs) -> "PackedInputs":
        """Pack the inputs of a command; arrays share the memory of the tensors where they can."""
        from lossatlas.evaluation.parallel_batches import is_training

        state = {name: as_array(value) for name, value in loaded.net.state_dict().items()}
        data = {split: pack_samples(data, loaded.chosen) for split, data in loaded.data.items()}
        further = loaded.training is not None and "train" not in data
        training = pack_samples(loaded.training, loaded.chosen) if further and loaded.training is not None else None
        return cls(loaded.model, state, data, training, is_training(loaded.net))

    def unpack(self) -> "tuple[nn.Module, dict[str, AnyData]]":
        """Return the network and the samples by split, which share the arrays' memory.

        Raises:
            BadInput: This rank reads other data than rank 0.
        """
        data = {split: packed.unpack(split) for split, packed in self.data.items()}
        return self.network(next(iter(data.values()))), data

    def network(self, first: "AnyData") -> "nn.Module":
        """Return the network in evaluation mode. A network of the zoo shares the arrays' memory, a user's has its own.

        Args:
            first: The samples of the first split.
        """
        import torch

        from lossatlas.data import shape_of
        from lossatlas.models import build

        own_tensors = {name: as_tensor(value) for name, value in self.state.items()}
        if isinstance(self.model, UserFunction):
            net = self.built(first)
            net.load_state_dict(own_tensors)  # assigning would untie weights
            return net
        shape = shape_of(first)
        with torch.device("meta"):  # no random initialization and no memory: the state is assigned
            net = build(self.model, shape, first.classes)
        net.load_state_dict(own_tensors, assign=True)
        return net.eval().requires_grad_(False)

    def built(self, first: "AnyData") -> "nn.Module":
        """Return a new network, in the mode in which its state was taken, see `load_to_evaluate`.

        Args:
            first: The samples of the first split.
        """
        from lossatlas.data import shape_of
        from lossatlas.evaluation.parallel_batches import changes_weights_with_mode
        from lossatlas.models import build

        if isinstance(self.model, UserFunction):
            net = build(self.model)
            net.train(changes_weights_with_mode(net) and self.in_training_mode)
            return net.requires_grad_(False)
        return build(self.model, shape_of(first), first.classes).eval().requires_grad_(False)


@dataclass(frozen=True)
class PackedSamples:
    """Samples as arrays.

    Attributes:
        samples: A structure of arrays; a list of batches where `fixed`.
        classes: The number of classes.
        fixed: The samples come in fixed batches, whose shapes differ.
    """

    samples: Any
    classes: int
    fixed: bool

    def unpack(self, split: str) -> "AnyData":
        """Return the samples as tensors that share the arrays' memory."""
        from lossatlas.data import Dataset, FixedBatches
        from lossatlas.data.structures import mapped

        if self.fixed:
            batches = [mapped(writable(batch), channels_first) for batch in self.samples]
            return FixedBatches(split, split, batches, self.classes)
        return Dataset(split, split, mapped(writable(self.samples), channels_first), self.classes)


@dataclass(frozen=True)
class StreamedSource:
    """Samples that every rank reads itself.

    Attributes:
        chosen: The configuration of the data.
        classes: The number of classes.
        sketch: The digest of some samples on rank 0.
    """

    chosen: config.DataConfig
    classes: int
    sketch: str

    def unpack(self, split: str) -> "AnyData":
        """Return the samples.

        Raises:
            BadInput: As `load_split`, or the samples differ from those of rank 0.
        """
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
    """Pack the samples of a split; streamed ones by their source."""
    from lossatlas.data import FixedBatches, Streamed
    from lossatlas.data.structures import mapped

    if isinstance(data, Streamed):
        return StreamedSource(chosen, data.classes, data.sketch)

    def arrays(samples: Any) -> Any:
        return mapped(samples, lambda tensor: as_array(channels_last(tensor)))

    if isinstance(data, FixedBatches):
        return PackedSamples([arrays(batch) for batch in data.contents], data.classes, fixed=True)
    return PackedSamples(arrays(data.samples), data.classes, fixed=False)


def channels_last(inputs: "Tensor") -> "Tensor":
    """Return images (N, C, H, W) as contiguous (N, H, W, C), a view if memory is in this order; others unchanged."""
    return inputs.permute(0, 2, 3, 1).contiguous() if inputs.dim() == 4 else inputs


def channels_first(inputs: "Tensor") -> "Tensor":
    """Return images (N, H, W, C) as a view (N, C, H, W); others as they are."""
    return inputs.permute(0, 3, 1, 2) if inputs.dim() == 4 else inputs


def writable(samples: Any) -> Any:
    """Return samples with writable arrays; read-only ones, which came from another rank, are copied."""
    if isinstance(samples, np.ndarray):
        return samples if samples.flags.writeable else samples.copy()
    if isinstance(samples, Mapping):
        return {name: writable(value) for name, value in samples.items()}
    if isinstance(samples, list | tuple):
        items = [writable(value) for value in samples]
        return type(samples)(*items) if hasattr(samples, "_fields") else type(samples)(items)
    return samples


def as_array(tensor: "Tensor") -> Any:
    """Return a numpy array that shares a tensor's memory; the tensor itself where numpy has no such type."""
    import torch

    return tensor if tensor.dtype == torch.bfloat16 else tensor.detach().numpy()


def as_tensor(array: Any) -> "Tensor":
    """Return a tensor that shares an array's memory; a read-only array, which came from another rank, is copied."""
    import torch

    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(array if array.flags.writeable else array.copy())
