"""Memory-mapped temporary files for the tensors of large networks, whose pages the system may drop and read again.

The files have no names once they are made, so that nothing is left of them when the process ends, in whatever way.
"""

import io
import mmap
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.errors import CannotWrite

PREFIX = "lossatlas_"  # of the files, while they have names


@dataclass(frozen=True)
class MappedFile:
    """A temporary file in memory.

    Attributes:
        bytes: Its content, (size,) uint8; what is written into it goes to the file.
        handle: The open file, by which other processes of this host can map it too.
    """

    bytes: np.ndarray
    handle: int

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.handle)

    @property
    def place(self) -> str:
        """The name under which other processes of this host can open it."""
        return f"/proc/{os.getpid()}/fd/{self.handle}"


class MappedImage(io.RawIOBase):
    """A binary file in a temporary file, as BytesIO is one in memory.

    Args:
        capacity: The largest number of bytes that will be written; the space for them is reserved now.

    Raises:
        CannotWrite: The disk lacks the space.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.file, self.size, self.place = new_file(capacity, temporary_folder()), 0, 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte, and return its number."""
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return the number of bytes."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self.place))
        view[:count] = self.file.bytes[self.place : self.place + count].data
        self.place += count
        return count

    def write(self, content: Any) -> int:
        """Write bytes, and return their number.

        Raises:
            OSError: The bytes exceed the capacity.
        """
        view = memoryview(content).cast("B")
        end = self.place + len(view)
        if end > len(self.file.bytes):
            raise OSError(f"{end} bytes in an image of {len(self.file.bytes)}")
        self.file.bytes[self.place : end] = np.frombuffer(view, np.uint8)
        self.place, self.size = end, max(self.size, end)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, which may grow by zeros."""
        self.size = self.place if size is None else size
        return self.size

    def getbuffer(self) -> memoryview:
        """Return the content."""
        return self.file.bytes[: self.size].data


def temporary_folder() -> Path:
    """Return TMPDIR, or the system's folder for temporary files."""
    return Path(tempfile.gettempdir())


def new_file(size: int, folder: Path) -> MappedFile:
    """Make a mapped file of zeros.

    Args:
        size: Its bytes.
        folder: A folder on a disk; a file system in memory would save nothing.

    Raises:
        CannotWrite: The folder cannot be written, or lacks the space.
    """
    try:
        handle, path = tempfile.mkstemp(prefix=PREFIX, dir=folder)
    except OSError as error:
        raise CannotWrite(f"cannot write temporary files to {folder}: {error.strerror}") from error
    os.unlink(path)
    try:
        os.posix_fallocate(handle, 0, max(size, 1))  # on a full disk, a write to the mapping would end the process
    except OSError as error:
        os.close(handle)
        raise CannotWrite(
            f"{folder} has no space for {size / 1e9:.3g} GB of the network's tensors ({error.strerror}): set TMPDIR to "
            "a folder on another disk"
        ) from error
    return mapped_file(handle, size)


def open_file(place: str, size: int) -> MappedFile:
    """Map the file of another process of this host.

    Args:
        place: The file, see `MappedFile.place`.
        size: Its bytes.

    Raises:
        OSError: The file cannot be opened, or has another size.
    """
    handle = os.open(place, os.O_RDWR)
    if os.fstat(handle).st_size != max(size, 1):
        os.close(handle)
        raise OSError(f"{place} has another size")
    return mapped_file(handle, size)


def mapped_file(handle: int, size: int) -> MappedFile:
    """Map an open file."""
    return MappedFile(np.frombuffer(mmap.mmap(handle, max(size, 1)), np.uint8)[:size], handle)
