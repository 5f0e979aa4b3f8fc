"""The parameters of a network that a mean loss is a function of, and flat vectors of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput, BadUsage
from lossatlas.hessian.flat_vectors import flatten, size_of_entries, unflatten
from lossatlas.parameter_space.points import movable
from lossatlas.parameter_space.selection import Selection

COMPARED_STEP = 0.02  # of a step away from the weights, relative to the size of each tensor


@dataclass(frozen=True)
class ChosenParameters:
    """Parameters of a network, in the order of the vectors.

    Attributes:
        names: Their names.
        tensors: The parameters themselves.
        padding_rows: The padding row of each embedding among them, by name.
    """

    names: list[str]
    tensors: list[Tensor]
    padding_rows: Mapping[str, int]

    @classmethod
    def of(cls, net: nn.Module, selection: Selection, *, matrices_only: bool) -> "ChosenParameters":
        """Choose parameters by name.

        Args:
            net: The network.
            selection: The names.
            matrices_only: Of these, take those with more than one axis.

        Raises:
            BadUsage: No parameter is chosen.
            BadInput: A parameter is complex.
        """
        tensors = dict(net.named_parameters())
        names = [
            name
            for name, value in tensors.items()
            if name in selection and movable(value) and (value.dim() > 1 or not matrices_only)
        ]
        check_chosen_parameters(names, tensors, selection)
        rows = {name: row for name, row in padding_rows(net).items() if name in names}
        return cls(names, [tensors[name] for name in names], rows)

    @property
    def shapes(self) -> list[torch.Size]:
        """The shapes of the parameters."""
        return [tensor.shape for tensor in self.tensors]

    @property
    def size(self) -> int:
        """The number of their entries."""
        return sum(tensor.numel() for tensor in self.tensors)

    @property
    def dtype(self) -> torch.dtype:
        """Their type, which vectors have too."""
        return self.tensors[0].dtype

    @property
    def device(self) -> torch.device:
        """Their device."""
        return self.tensors[0].device

    def free(self, names: Sequence[str] | None = None) -> Tensor | None:
        """Return a mask of the coordinates that vary: 1, and 0 in padding rows; None where all vary.

        Args:
            names: The parameters of a block; None for all.
        """
        chosen = [k for k, name in enumerate(self.names) if names is None or name in names]
        if not any(self.names[k] in self.padding_rows for k in chosen):
            return None
        masks = []
        for k in chosen:
            mask = torch.ones(self.tensors[k].shape, dtype=self.dtype, device=self.device)
            if self.names[k] in self.padding_rows:
                mask[self.padding_rows[self.names[k]]] = 0
            masks.append(mask.flatten())
        return torch.cat(masks)

    def small_step(self) -> Tensor:
        """Draw a small random step (size,), relative to each tensor, at whose end the gradient is not zero."""
        generator = torch.Generator().manual_seed(0)
        pieces = []
        for p in self.tensors:
            random = torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
            pieces.append(COMPARED_STEP * size_of_entries(p) * random)
        return self.flatten(pieces)

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Split a vector (size,) into views in the shapes of the parameters."""
        return unflatten(vector, self.shapes)

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Concatenate a tensor for each parameter to a vector (size,); None stands for zeros."""
        return flatten(tensors, self.tensors)


def check_chosen_parameters(names: Sequence[str], tensors: Mapping[str, Tensor], selection: Selection) -> None:
    """Raise BadUsage where no parameter is chosen, BadInput where one is complex."""
    if not names:
        reason = (
            f"is left by '{selection}'"
            if selection.without
            else f"is called like {', '.join(selection.only) or 'a matrix'}"
        )
        raise BadUsage(f"no parameter {reason}: there are {', '.join(tensors)}")
    if pairs := [name for name in names if tensors[name].is_complex()]:
        raise BadInput(
            f"the Hessian is taken with respect to real parameters, and '{pairs[0]}' is complex: leave it out, or "
            "keep its real and imaginary parts as two parameters"
        )


def padding_rows(net: nn.Module) -> dict[str, int]:
    """Return the padding row of each embedding by the name of its weight.

    torch gives it no gradient, so it is held fixed in training, and here. A weight that other modules use too varies.
    """
    uses: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        uses.setdefault(id(parameter), []).append(name)
    return {
        uses[id(module.weight)][0]: module.padding_idx
        for module in net.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None and len(uses[id(module.weight)]) == 1
    }
