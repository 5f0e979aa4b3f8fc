"""HDF5 files that are written at once or not at all, and read with mistrust.

Any byte of a file may be damaged: whatever goes wrong in reading is a BadInput, and numbers have checksums.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput, BadUsage, CannotWrite

DAMAGE = (OSError, LookupError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError, EOFError)


def write(path: str | Path, fill: Any) -> None:
    """Build a file in memory, then put it in place: temporary file, fsync, replace, fsync of the folder.

    The image is built in memory because libhdf5 crashes on a full disk, and because an interrupted write must leave
    the previous file as it was.
    """
    path = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        with h5py.File(str(path), "w", driver="core", backing_store=False, track_order=True) as f:
            fill(f)
            f.flush()
            image = f.id.get_file_image()
        with open(temporary, "wb") as out:
            out.write(image)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
        folder = os.open(path.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading. Raises BadInput for whatever goes wrong in it, since any byte may be damaged."""
    if not Path(path).is_file():
        raise BadInput(f"no file {path}")
    try:
        f = h5py.File(path, "r", locking=False, track_order=True)
    except OSError as error:
        raise BadInput(f"{path} is not a readable HDF5 file: {str(error).splitlines()[0][:150]}") from error
    with f:
        try:
            yield f
        except (BadInput, BadUsage, CannotWrite):
            raise
        except DAMAGE as error:
            raise BadInput(f"{path} is damaged, or not what it should be: {type(error).__name__}: {error}") from error


def seal(item: h5py.Group, names: Iterable[str], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Record a checksum over attributes of a file or a group, and further arrays; what others add to it is theirs."""
    item.attrs["seal"] = seal_of(item, names, arrays)


def check_seal(item: h5py.Group, names: Iterable[str], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Raise BadInput where something is not what was sealed. Files of earlier versions have no seal."""
    if "seal" in item.attrs and item.attrs["seal"] != seal_of(item, names, arrays):
        raise BadInput(f"{item.file.filename} is damaged: its attributes do not have the checksum that it records")


def seal_of(item: h5py.Group, names: Iterable[str], arrays: Mapping[str, np.ndarray] | None) -> str:
    digest = hashlib.sha256(checksum(arrays or {}).encode())
    for name in sorted(names):
        digest.update(f"{name}={text(item.attrs[name]) if name in item.attrs else None}\n".encode())
    return digest.hexdigest()


def read_array(f: h5py.File, name: str, axes: int) -> np.ndarray:
    array = np.asarray(f[name][()], dtype=np.float64)
    if array.ndim != axes or array.size == 0 or not np.isfinite(array).all():
        raise BadInput(f"{f.filename}: '{name}' has shape {array.shape}, or values that are no coordinates")
    return array


def read_json(item: h5py.HLObject, name: str) -> dict[str, Any]:
    return json.loads(item.attrs[name]) if name in item.attrs else {}


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def checksum(data: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(data):
        array = np.ascontiguousarray(data[name])
        digest.update(repr((name, array.shape, str(array.dtype))).encode())
        digest.update(array.data)
    return digest.hexdigest()
