"""Tensors of large networks in memory-mapped files, which the system may drop from memory and read again.

    scratch = Scratch.in_folder()
    origin = scratch.copy(tensors(net))          # its pages count as file cache, not as memory of the process

The files have no names once they are made, so that nothing is left of them when the process ends, in whatever way.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lossatlas.errors import CannotWrite
from lossatlas.parameter_space.points import Point

ALIGNMENT = 64  # bytes; of each tensor in a file
BLOCK = 1 << 18  # numbers that are computed at a time; a multiple of 16, see `drawn_blocks`


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
        return cls(Path(tempfile.gettempdir() if folder is None else folder))

    def empty(self, shapes: Mapping[str, torch.Size], dtypes: Mapping[str, torch.dtype]) -> Point:
        """Make mapped tensors, which hold zeros.

        Args:
            shapes: The shape of each tensor by name.
            dtypes: The type of each tensor by name.

        Returns:
            The tensors by name, on the CPU.

        Raises:
            CannotWrite: The disk lacks the space for them.
        """
        places, end = dict[str, int](), 0
        for name, shape in shapes.items():
            places[name] = end
            end += -(-shape.numel() * dtypes[name].itemsize // ALIGNMENT) * ALIGNMENT
        storage = self.storage(end)
        return {name: view(storage, places[name], shape, dtypes[name]) for name, shape in shapes.items()}

    def storage(self, size: int) -> torch.UntypedStorage:
        """Return mapped bytes (size,) of a new file. Raises CannotWrite."""
        try:
            handle, path = tempfile.mkstemp(prefix="lossatlas_", dir=self.folder)
        except OSError as error:
            raise CannotWrite(f"cannot write temporary files to {self.folder}: {error.strerror}") from error
        try:
            os.posix_fallocate(handle, 0, max(size, 1))  # on a full disk, a write to the mapping would end the process
            return torch.UntypedStorage.from_file(path, shared=True, nbytes=max(size, 1))
        except OSError as error:
            raise CannotWrite(
                f"{self.folder} has no space for {size / 1e9:.3g} GB of the network's tensors ({error.strerror}): set "
                "TMPDIR to a folder on another disk"
            ) from error
        finally:
            os.close(handle)
            os.unlink(path)

    def like(self, point: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Point:
        """Return mapped tensors in the shapes of a point, and in its types, or in another one."""
        dtypes = {name: value.dtype if dtype is None else dtype for name, value in point.items()}
        return self.empty({name: value.shape for name, value in point.items()}, dtypes)

    def copy(self, point: Mapping[str, Tensor]) -> Point:
        """Return mapped copies of tensors, in their own types. Raises CannotWrite."""
        copies = self.like(point)
        for name, value in point.items():
            copies[name].copy_(value.detach())
        return copies


def view(storage: torch.UntypedStorage, place: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the tensor that begins at byte `place` of mapped bytes."""
    flat = torch.empty(0, dtype=dtype).set_(storage, place // dtype.itemsize, (shape.numel(),), (1,))
    return flat.view(shape)


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of BLOCK numbers up to `count`; the last one may be up to 15 numbers longer.

    Normal numbers that are drawn for one block after the other are those of one draw for all of them: torch draws
    16 at a time, where there are as many.
    """
    start = 0
    while start < count:
        stop = start + BLOCK if count - start - BLOCK >= 16 else count
        yield slice(start, stop)
        start = stop
