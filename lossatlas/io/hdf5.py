"""HDF5 files: written atomically with checksums, and checked when they are read.

Any byte of a file may be damaged: every error in reading becomes a BadInput.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import h5py
import numpy as np

from lossatlas.errors import BadInput, BadUsage, CannotWrite
from lossatlas.io.atomic_write import write_file
from lossatlas.io.scratch_files import MappedImage
from lossatlas.landscape.plan import ExecutionPlan

MARK = b"\nlossatlas sha256 "  # precedes the checksum of a whole file
LARGE = 1 << 28  # bytes of an array in a smaller file
PIECE = 60_000  # bytes of a text in one attribute
DAMAGE = (
    OSError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    EOFError,
)


def write(path: str | Path, fill: Callable[[h5py.File], object], *, new: bool = False, size: int = 0) -> bool:
    """Write an HDF5 file atomically, followed by a checksum, which HDF5 does not read.

    The file is built in memory because libhdf5 crashes on a full disk, and one with large arrays in a temporary file.

    Args:
        path: The file.
        fill: Writes the contents into an open file.
        new: See `lossatlas.io.atomic_write.write_file`.
        size: The bytes of its arrays, if they may be many.

    Returns:
        See `lossatlas.io.atomic_write.write_file`.

    Raises:
        CannotWrite: The file cannot be written.
    """
    image = image_of(fill, size)
    digest = hashlib.sha256(image.getbuffer())

    def content(out: BinaryIO) -> None:
        out.write(image.getbuffer())
        out.write(MARK + digest.hexdigest().encode() + b"\n")

    return write_file(path, content, new=new)


def image_of(fill: Callable[[h5py.File], object], size: int = 0) -> BytesIO | MappedImage:
    """Build an HDF5 file in memory; HDF5's own images need the memory twice while they are copied out.

    Args:
        fill: Writes the contents into an open file.
        size: The bytes of its arrays; with more than LARGE the image is in a temporary file.
    """
    image = BytesIO() if size <= LARGE else MappedImage(size + size // 100 + LARGE)
    try:
        with h5py.File(image, "w", track_order=True) as f:
            fill(f)
            f.flush()
            end = f.id.get_filesize()
    except ValueError as error:  # HDF5 cannot close a file without memory either
        if isinstance(error.__context__, MemoryError):
            raise MemoryError("no memory for the image of a file") from None
        raise
    image.seek(0, SEEK_END)
    image.write(bytes(end - image.tell()))  # reserved by HDF5 at the end, and not written
    return image


def file_size(fill: Callable[[h5py.File], object]) -> int:
    """Compute the size of a file in bytes, with its checksum."""
    return image_of(fill).tell() + len(MARK) + 65


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        path: The file.

    Raises:
        BadInput: There is no file, or anything within the context fails because of damage.
    """
    if not Path(path).is_file():
        raise BadInput(f"no file {path}")
    try:
        check_readable(Path(os.path.realpath(path)))
        f = h5py.File(path, "r", locking=False, track_order=True)
    except OSError as error:
        raise BadInput(f"{path} is not a readable HDF5 file: {hdf5_cause(error)}") from error
    with f:
        try:
            check_sizes(f, os.path.getsize(path))
            yield f
        except (BadInput, BadUsage, CannotWrite):
            raise
        except DAMAGE as error:
            raise BadInput(f"{path} is damaged, or not what it should be: {hdf5_cause(error)}") from error


def check_sizes(f: h5py.File, size: int) -> None:
    """Raise BadInput where an array claims to be far larger than its file: it would fill the memory."""

    def look(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and (item.size or 0) * item.dtype.itemsize > max(LARGE, 4 * size):
            raise BadInput(f"{f.filename}: '{name}' says that it is far larger than its file")

    f.visititems(look)


def hdf5_cause(error: BaseException) -> str:
    """Return the first line of an error; of h5py's, 'attempt (cause)', the cause."""
    text = (str(error).splitlines() or [""])[0][:150]
    if isinstance(error, OSError) and text.endswith(")"):
        return text[text.find("(") + 1 : -1]
    return f"{type(error).__name__}: {text}"


def check_readable(path: Path) -> None:
    """Raise BadInput for a file in which libhdf5 may loop forever, because damaged bytes refer to each other.

    A file whose checksum holds is not damaged. Another one, such as a file of another program, is first read in a
    process of its own with limited time and memory.
    """
    found = path.stat()
    check_file_version(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=4096)
def check_file_version(path: Path, version: tuple[int, ...]) -> None:
    """Check a file once for each version of it."""
    if not checksum_holds(path):
        probe(path)


def checksum_holds(path: Path) -> bool:
    """Test whether the checksum at the end of a file agrees with all bytes before it."""
    length = len(MARK) + 64 + 1
    with open(path, "rb") as f:
        size = f.seek(0, os.SEEK_END) - length
        if size < 0:
            return False
        f.seek(size)
        end = f.read(length)
        if not end.startswith(MARK):
            return False
        f.seek(0)
        digest = hashlib.sha256()
        while size > 0 and (chunk := f.read(min(size, 1 << 22))):
            digest.update(chunk)
            size -= len(chunk)
    return end == MARK + digest.hexdigest().encode() + b"\n"


def probe(path: Path) -> None:
    """Raise BadInput where a process of its own cannot read a file to its end, see `lossatlas.io.hdf5_probe`."""
    if not sys.executable:  # a program that embeds Python
        return
    script = Path(__file__).with_name("hdf5_probe.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI", "HYD"))}
    result = subprocess.run(
        [sys.executable, "-P", str(script), str(path) if os.name == "nt" else os.fsencode(path)],
        capture_output=True,
        env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    ended = [-getattr(signal, name) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name)]
    if result.returncode in ended:
        raise BadInput(f"{path} is damaged: reading it has no end")
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {result.returncode}"]
        raise BadInput(f"{path} is not a readable HDF5 file: {lines[-1][:150]}")


def set_text(item: h5py.HLObject, name: str, value: str) -> None:
    """Store a text as attributes of fixed length, of which HDF5 allows 64 kB each: `name`, `name 2`, ...

    Texts of variable length are stored in a heap, and reading a damaged heap may not end.
    """
    content = value.encode()
    for k, start in enumerate(range(0, max(1, len(content)), PIECE)):
        piece = content[start : start + PIECE]
        kind = h5py.string_dtype("utf-8", max(1, len(piece)))
        item.attrs.create(name if k == 0 else f"{name} {k + 1}", np.array(piece, kind))


def get_text(item: h5py.HLObject, name: str) -> str | None:
    """Read a text that `set_text` or an earlier version has stored; None where there is none."""
    if name not in item.attrs:
        return None
    found = item.attrs[name]
    if not isinstance(found, bytes):
        return str(found)
    number = 2
    while f"{name} {number}" in item.attrs:
        found += item.attrs[f"{name} {number}"]
        number += 1
    return found.decode()


def own_attribute(name: str, names: Collection[str]) -> bool:
    """Test whether an attribute is one of these, or a further piece of one."""
    first, _, number = name.rpartition(" ")
    return name in names or (first in names and number.isdecimal())


def seal(item: h5py.Group, names: Iterable[str], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Record a checksum over some attributes of a file or a group and over arrays; others may be added later.

    Args:
        item: The file or group.
        names: Names of the attributes.
        arrays: Arrays by name.
    """
    set_text(item, "seal", seal_of(item, names, arrays))


def check_seal(item: h5py.Group, names: Iterable[str], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Compare attributes and arrays with the checksum that `seal` has recorded; files of earlier versions have none.

    Raises:
        BadInput: They differ.
    """
    if get_text(item, "seal") not in (None, seal_of(item, names, arrays)):
        raise BadInput(f"{item.file.filename} is damaged: its attributes do not have the checksum that it records")


def seal_of(item: h5py.Group, names: Iterable[str], arrays: Mapping[str, np.ndarray] | None) -> str:
    digest = hashlib.sha256(checksum(arrays or {}).encode())
    for name in sorted(names):
        digest.update(f"{name}={get_text(item, name)}\n".encode())
    return digest.hexdigest()


def set_file_name(group: h5py.Group, name: str, file: str | Path) -> None:
    """Store a file's name, of any bytes, as a data set of fixed length."""
    content = os.fsencode(file)
    group.create_dataset(name, data=np.array(content, h5py.string_dtype("utf-8", max(1, len(content)))))


def read_array(f: h5py.File, name: str, axes: int) -> np.ndarray:
    """Read finite numbers as float64; raise BadInput for another number of axes, or none."""
    array = np.asarray(f[name][()], dtype=np.float64)
    if array.ndim != axes or array.size == 0 or not np.isfinite(array).all():
        raise BadInput(f"{f.filename}: '{name}' has shape {array.shape}, or values that are no coordinates")
    return array


def read_json(item: h5py.HLObject, name: str) -> dict[str, Any]:
    """Read a JSON object from an attribute, {} where there is none.

    Raises:
        BadInput: The attribute holds JSON that is no object.
        ValueError: The attribute holds no JSON.
    """
    found = get_text(item, name)
    value = {} if found is None else json.loads(found)
    if not isinstance(value, dict):
        raise BadInput(f"{item.file.filename} is damaged: the attribute {name} is {type(value).__name__}")
    return value


def read_plan(item: h5py.Group) -> ExecutionPlan:
    """Read the execution plan of a file.

    Raises:
        BadInput: As `read_json`.
        ValueError: As `read_json`.
    """
    return cast(ExecutionPlan, read_json(item, "plan"))


def text(value: object) -> str:
    """Convert a stored text, bytes or not, to str."""
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def checksum(data: Mapping[str, np.ndarray]) -> str:
    """Compute SHA-256 over arrays: names, shapes, types and values."""
    digest = hashlib.sha256()
    for name in sorted(data):
        array = np.ascontiguousarray(data[name])
        digest.update(repr((name, array.shape, str(array.dtype))).encode())
        digest.update(array.data)
    return digest.hexdigest()
