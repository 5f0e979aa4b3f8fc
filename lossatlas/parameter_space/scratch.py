"""Tensors of large networks in memory-mapped temporary files, see `io.scratch_files`.

scratch = Scratch.in_folder()
origin = scratch.copy(tensors(net))          # its pages count as file cache, not as memory of the process
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lossatlas.io.scratch_files import MappedFile, new_file, temporary_folder

ALIGNMENT = 64  # bytes; of each tensor in a file

Format = tuple[str, tuple[int, ...], torch.dtype]  # name, shape and type of a tensor


class MappedPoint(dict[str, Tensor]):
    """Tensors by name in one mapped file.

    Args:
        file: The file.
        formats: The tensors in it, in their order.
    """

    def __init__(self, file: MappedFile, formats: Sequence[Format]) -> None:
        places, _ = layout_of(formats)
        data = torch.from_numpy(file.bytes)
        super().__init__(
            (name, data[place : place + size].view(dtype).view(shape))
            for (name, shape, dtype), (place, size) in zip(formats, places, strict=True)
        )
        self.file, self.formats = file, list(formats)


@dataclass(frozen=True)
class Scratch:
    """A folder for memory-mapped tensors.

    Attributes:
        folder: The folder; on a disk, because a file system in memory would save nothing.

    Example:
        >>> scratch = Scratch.in_folder()
        >>> scratch.copy({"weight": torch.ones(2, 3)})["weight"].sum()
        tensor(6.)
    """

    folder: Path

    @classmethod
    def in_folder(cls, folder: str | Path | None = None) -> "Scratch":
        """Return the scratch files of a folder; of TMPDIR, or the system's own for temporary files, by default."""
        return cls(temporary_folder() if folder is None else Path(folder))

    def empty(self, formats: Sequence[Format]) -> MappedPoint:
        """Return mapped tensors, which hold zeros, on the CPU.

        Raises:
            CannotWrite: The folder cannot be written, or lacks the space.
        """
        return MappedPoint(new_file(layout_of(formats)[1], self.folder), formats)

    def like(self, point: Mapping[str, Tensor]) -> MappedPoint:
        """Return mapped tensors in the shapes and types of a point, see `empty`."""
        return self.empty([(name, tuple(value.shape), value.dtype) for name, value in point.items()])

    def copy(self, point: Mapping[str, Tensor]) -> MappedPoint:
        """Return mapped copies of tensors, in their own types, see `empty`."""
        copies = self.like(point)
        for name, value in point.items():
            copies[name].copy_(value.detach())
        return copies


def layout_of(formats: Sequence[Format]) -> tuple[list[tuple[int, int]], int]:
    """Return the first byte and the bytes of each tensor in a file, and the size of the file."""
    places, end = list[tuple[int, int]](), 0
    for _, shape, dtype in formats:
        size = torch.Size(shape).numel() * dtype.itemsize
        places.append((end, size))
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return places, end
