"""Random directions of large networks as a file stores them: the seed and the factors of the normalization alone.

    direction.arrays()          # the vectors again, with the same bits

A direction is drawn tensor by tensor from one generator of torch. Tensors that are not drawn (biases that are the
network's own, for example) are stored as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import h5py
import numpy as np

from lossatlas.choices import is_word
from lossatlas.errors import BadInput
from lossatlas.io.hdf5 import get_text, set_text
from lossatlas.io.scratch_files import new_file, temporary_folder

if TYPE_CHECKING:  # files are read without torch
    import torch

GENERATOR = "normal_ of torch.Generator on the CPU, float32, tensor by tensor"  # what `seed` belongs to
DRAWN_BLOCK = 1 << 18  # numbers that are drawn at a time; a multiple of 16, see `blocks`
SKETCH = 16  # numbers of each direction by which a file checks that they were drawn again as they were
TensorKind = Literal["drawn", "stored", "zero"]
TENSOR_KINDS: tuple[TensorKind, ...] = get_args(TensorKind)


@dataclass(frozen=True)
class SeededTensor:
    """One tensor of a random direction.

    Attributes:
        shape: Its shape.
        kind: 'drawn', 'stored' or 'zero'; the numbers of a tensor that is zero are drawn too, where `draws`.
        factor: What a drawn tensor is multiplied by: (), or (rows,) along its first axis; the values of a stored one.
        divided: It is divided by the factor instead.
        draws: Its numbers are taken from the generator.
    """

    shape: tuple[int, ...]
    kind: TensorKind
    factor: np.ndarray | None = None
    divided: bool = False
    draws: bool = True


@dataclass(frozen=True)
class SeededDirection(Sequence[np.ndarray]):
    """A random direction, whose arrays are drawn when they are first needed, into a temporary file.

    Attributes:
        seed: The seed of the generator.
        tensors: Its tensors in the order in which they are drawn.
        order: For each array of a direction file the number of its tensor, or the shape of an array of zeros.
        sketch: The first numbers of the largest tensor, see `check`.
    """

    seed: int
    tensors: Sequence[SeededTensor]
    order: Sequence[int | tuple[int, ...]]
    sketch: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @classmethod
    def drawn(
        cls,
        seed: int,
        tensors: Sequence[SeededTensor],
        order: Sequence[int | tuple[int, ...]],
        values: Sequence[np.ndarray],
    ) -> "SeededDirection":
        """Return a direction whose tensors have just been drawn.

        Args:
            seed: Seed of the generator.
            tensors: How each tensor is drawn, in the order of drawing.
            order: Indices into `tensors` in the order of the network, see `SeededDirection`.
            values: Numbers of each tensor, in the order of `tensors`.
        """
        result = cls(seed, tensors, order, tensor_sketch(values))
        result.__dict__["arrays"] = result.in_order(values)
        return result

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the record alone."""
        return type(self), (self.seed, self.tensors, self.order, self.sketch)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, k):  # type: ignore[no-untyped-def]
        return self.arrays[k]

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """The arrays of the direction, float32, in a temporary file.

        Raises:
            BadInput: This installation draws other numbers than the one that wrote the file.
            CannotWrite: The disk lacks the space for them.
        """
        drawn = self.draw()
        self.check(drawn)
        return self.in_order(drawn)

    def in_order(self, drawn: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the arrays of a direction file."""
        return [drawn[k] if isinstance(k, int) else np.zeros(k, np.float32) for k in self.order]

    def draw(self) -> list[np.ndarray]:
        """Return the tensors, drawn and normalized."""
        import torch

        sizes = [int(np.prod(tensor.shape, dtype=np.int64)) for tensor in self.tensors]
        numbers = new_file(4 * sum(sizes), temporary_folder()).bytes.view(np.float32)
        generator, result, start = torch.Generator().manual_seed(self.seed), list[np.ndarray](), 0
        for tensor, size in zip(self.tensors, sizes, strict=True):
            flat = torch.from_numpy(numbers[start : start + size])
            start += size
            if tensor.draws:
                fill_normal(flat, generator)
            finish(flat, tensor)
            result.append(flat.numpy().reshape(tensor.shape))
        return result

    def check(self, drawn: Sequence[np.ndarray]) -> None:
        """Raise BadInput where the numbers disagree with `sketch`."""
        if len(self.sketch) and not np.array_equal(tensor_sketch(drawn), self.sketch):
            raise BadInput(
                "the directions of this file were drawn by another version of torch or on another processor, and come "
                "out different here: compute on the first machine again, or with vectors in the file (store_directions)"
            )


def tensor_sketch(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """Return some numbers of the largest tensor, spread over it."""
    flat = max(tensors, key=lambda array: array.size).reshape(-1)
    return np.array(flat[np.linspace(0, max(flat.size - 1, 0), min(SKETCH, flat.size)).astype(np.int64)])


def finish(flat: "torch.Tensor", tensor: SeededTensor) -> None:
    """Turn the drawn numbers of a tensor into its values, in place."""
    import torch

    if tensor.kind == "zero":
        flat.zero_()
        return
    if tensor.factor is None:
        return
    factor = torch.from_numpy(np.asarray(tensor.factor))
    if tensor.kind == "stored":
        flat.copy_(factor.reshape(-1))
        return
    rows = flat.view(len(factor), -1) if factor.dim() else flat.view(1, -1)
    column = factor.view(-1, 1) if factor.dim() else factor
    if tensor.divided:
        rows.div_(column)
    else:
        rows.mul_(column)


def fill_normal(flat: "torch.Tensor", generator: "torch.Generator") -> None:
    """Fill a flat tensor with normal numbers, block by block: the same ones as in one draw."""
    for block in blocks(len(flat)):
        flat[block].normal_(generator=generator)


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of DRAWN_BLOCK numbers up to `count`; the last one may be up to 15 numbers longer.

    Normal numbers drawn for one block after the other equal the numbers of one draw for all blocks: torch draws
    16 at a time, where there are as many.
    """
    start = 0
    while start < count:
        stop = start + DRAWN_BLOCK if count - start - DRAWN_BLOCK >= 16 else count
        yield slice(start, stop)
        start = stop


def fill_seeded(group: h5py.Group, direction: SeededDirection) -> None:
    """Write a direction into an empty group."""
    group.attrs["seed"] = direction.seed
    set_text(group, "generator", GENERATOR)
    group.create_dataset("sketch", data=direction.sketch)
    for k, tensor in enumerate(direction.tensors):
        own = group.create_group(f"tensors/{k}")
        own.attrs["shape"] = np.array(tensor.shape, np.int64)
        set_text(own, "kind", tensor.kind)
        own.attrs["divided"], own.attrs["draws"] = tensor.divided, tensor.draws
        if tensor.factor is not None:
            own.create_dataset("factor", data=tensor.factor)
    for k, number in enumerate(direction.order):
        own = group.create_group(f"order/{k}")
        own.attrs["tensor"] = number if isinstance(number, int) else -1
        own.attrs["shape"] = np.array([] if isinstance(number, int) else number, np.int64)


def read_seeded(group: h5py.Group) -> SeededDirection:
    """Read a direction.

    Raises:
        BadInput: The generator is another one, or the record is damaged.
    """
    if (generator := get_text(group, "generator")) != GENERATOR:
        raise BadInput(f"the directions were drawn by '{generator}', which this version does not know")
    try:
        tensors = [read_tensor(group["tensors"][str(k)]) for k in range(len(group["tensors"]))]
        order = [read_place(group["order"][str(k)], len(tensors)) for k in range(len(group["order"]))]
        return SeededDirection(int(group.attrs["seed"]), tensors, order, np.asarray(group["sketch"][()], np.float32))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"the record of a random direction is damaged ({error})") from error


def read_tensor(own: h5py.Group) -> SeededTensor:
    """Read the record of one tensor.

    Raises:
        KeyError: A part of the record is missing.
        ValueError: The kind, the shape and the factors do not fit each other.
    """
    shape, kind = tuple(int(n) for n in own.attrs["shape"]), get_text(own, "kind") or ""
    factor = np.asarray(own["factor"][()]) if "factor" in own else None
    if not is_word(kind, TENSOR_KINDS) or (kind == "stored") != (
        factor is not None and factor.shape == shape and kind == "stored"
    ):
        raise ValueError(f"a tensor of kind '{kind}'")
    if kind == "drawn" and factor is not None and factor.shape not in ((), shape[:1]):
        raise ValueError(f"factors {factor.shape} of a tensor {shape}")
    return SeededTensor(shape, kind, factor, bool(own.attrs["divided"]), bool(own.attrs["draws"]))


def read_place(own: h5py.Group, count: int) -> int | tuple[int, ...]:
    """Read the place of one array.

    Raises:
        KeyError: A part of the record is missing.
        ValueError: There is no tensor of this number.
    """
    number = int(own.attrs["tensor"])
    if number >= count:
        raise ValueError(f"tensor {number} of {count}")
    return tuple(int(n) for n in own.attrs["shape"]) if number < 0 else number
