"""Reads and fetches the files of data sets: arrays out, nothing in a file is ever executed.

A reader takes (place, split) and returns images (N, C, H, W) uint8 and labels (N,) integers; it raises BadInput for
missing, truncated or foreign files.
"""

import gzip
import hashlib
import http.client
import io
import math
import os
import pickle
import re
import struct
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lossatlas.errors import BadInput, CannotWrite, say
from lossatlas.io.archives import MOST_FROM_ZIP, SMALL, check_archive

CIFAR10_BATCHES = 5
Arrays = tuple[np.ndarray, np.ndarray]
IMAGES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm")


class Kind:
    """Stands for a numpy dtype in a pickle: integers alone. Of its state the order of the bytes counts, nothing else."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name if type(name) is str else "?"
        if not re.fullmatch(r"[|<>=]?[iu][1248]", text):
            raise pickle.UnpicklingError(f"its arrays hold '{text[:20]}', no integers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] in ("<", ">", b"<", b">"):
            order = state[1] if isinstance(state[1], str) else state[1].decode()
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class Integers:
    """Stands for a numpy array in a pickle, and takes nothing over from it but shape, kind and bytes."""

    def __init__(self, *_: Any) -> None:
        self.value = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        self.value = integers(content, kind, shape, "F" if fortran is True else "C")


def integers(content: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    """An array of these bytes. Raises UnpicklingError, ValueError, TypeError."""
    if not isinstance(kind, Kind) or not isinstance(content, bytes | bytearray | str):
        raise pickle.UnpicklingError("it holds an array whose bytes are missing")
    if isinstance(content, str):  # as Python 2 wrote them
        content = content.encode("latin1")
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise pickle.UnpicklingError("it holds an array without a shape")
    return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Integers:
    found = Integers()
    found.value = integers(content, kind, shape, "F" if order in ("F", b"F") else "C")
    return found


def encode(text: Any, encoding: Any) -> bytes:
    """Bytes that Python 3 wrote in the protocol of Python 2; no other encoding, because some grow without end."""
    if type(text) is not str or encoding != "latin1":
        raise pickle.UnpicklingError("it asks for an encoding that arrays do not need")
    return text.encode("latin1")


InPython: Any = pickle._Unpickler


class ArraysOnly(InPython):
    """Reads pickles of plain containers and arrays of integers. Any other global is refused, so nothing is executed, and
    numpy itself never sees what a file says of an array's type.

    It is the unpickler that is written in Python, because each of its steps can be looked at: what needs memory or time
    beyond the size of the file (tables with gaps, keys that are nested, buffers that are announced) is refused.
    """

    KNOWN = MappingProxyType(
        {
            ("numpy.core.multiarray", "_reconstruct"): Integers,
            ("numpy.core.numeric", "_frombuffer"): from_buffer,
            ("numpy", "ndarray"): Integers,
            ("numpy", "dtype"): Kind,
            ("_codecs", "encode"): encode,
        }
    )
    REFUSED = (
        *(pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
        *(
            pickle.EXT1,
            pickle.EXT2,
            pickle.EXT4,
            pickle.NEXT_BUFFER,
            pickle.EMPTY_SET,
            pickle.ADDITEMS,
            pickle.FROZENSET,
        ),
    )

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.size = len(content)

    def find_class(self, module: str, name: str) -> Any:
        found = self.KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found

    def refuse(self) -> None:
        raise pickle.UnpicklingError("it uses what arrays and lists do not need")

    def check_keys(self, keys: Sequence[Any]) -> None:
        if not all(type(key) in (str, bytes, int) for key in keys):
            raise pickle.UnpicklingError("it has a key that is no text and no number")

    def setitem(self) -> None:
        self.check_keys(self.stack[-2:-1])
        InPython.load_setitem(self)

    def setitems(self) -> None:
        self.check_keys(self.stack[::2])
        InPython.load_setitems(self)

    def dictionary(self) -> None:
        self.check_keys(self.stack[::2])
        InPython.load_dict(self)

    def bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self.size:
            raise pickle.UnpicklingError("it is truncated")
        self.append(bytearray(self.read(length)))

    def reduce(self) -> None:
        if not any(self.stack[-2] is known for known in self.KNOWN.values()):
            self.refuse()
        InPython.load_reduce(self)

    def build(self) -> None:
        if type(self.stack[-2]) not in (Kind, Integers):
            self.refuse()
        InPython.load_build(self)


ArraysOnly.dispatch = {
    **InPython.dispatch,
    **dict.fromkeys((code[0] for code in ArraysOnly.REFUSED), ArraysOnly.refuse),
    pickle.SETITEM[0]: ArraysOnly.setitem,
    pickle.SETITEMS[0]: ArraysOnly.setitems,
    pickle.DICT[0]: ArraysOnly.dictionary,
    pickle.BYTEARRAY8[0]: ArraysOnly.bytearray8,
    pickle.REDUCE[0]: ArraysOnly.reduce,
    pickle.BUILD[0]: ArraysOnly.build,
}


def read_cifar10(folder: Path, split: str) -> Arrays:
    """CIFAR-10 in the python or the binary layout: data_batch_* and test_batch, or the same with .bin."""
    binary = not (folder / "data_batch_1").exists() and not (folder / "test_batch").exists()
    pattern = "data_batch_[0-9]*" if split == "train" else "test_batch"
    files = sorted(f for f in folder.glob(pattern + (".bin" if binary else "")) if binary or not f.suffix)
    if not files:
        raise BadInput(f"no {pattern} in {folder}: the {split} split of cifar10 is not there")
    if split == "train" and len(files) < CIFAR10_BATCHES:
        say(
            f"note: {folder} holds {len(files)} of the {CIFAR10_BATCHES} training batches of cifar10 "
            f"({', '.join(f.name for f in files)}): only their images are used"
        )
    parts = [read_cifar_records(f, 1) if binary else read_cifar_pickle(f, b"labels") for f in files]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def read_cifar100(folder: Path, split: str) -> Arrays:
    """CIFAR-100 with its fine labels, in the python or the binary layout: train and test, or the same with .bin."""
    plain = folder / split
    return (
        read_cifar_pickle(plain, b"fine_labels") if plain.exists() else read_cifar_records(folder / f"{split}.bin", 2)
    )


def read_cifar_pickle(file: Path, labels_key: bytes) -> Arrays:
    content = read_bytes(file)
    try:
        batch = ArraysOnly(content).load()
        images, labels = (value_of(batch[key]) for key in (b"data", labels_key))
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072:
            raise ValueError(f"data {images.dtype} {images.shape}")
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"labels {labels.dtype} {labels.shape}")
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise BadInput(f"{file} is no CIFAR batch in the python layout: {error}") from error
    return images.reshape(-1, 3, 32, 32), labels


def value_of(found: Any) -> np.ndarray:
    """An array of a pickle, or a list of whole numbers as one. Raises ValueError."""
    if isinstance(found, Integers):
        return found.value
    if type(found) is not list or not all(type(number) is int for number in found):
        raise ValueError(f"{type(found).__name__} where an array or a list of whole numbers should be")
    return np.array(found, np.int64)


def read_cifar_records(file: Path, label_bytes: int) -> Arrays:
    """Records of `label_bytes` labels, the last of which counts, and 3072 bytes of image."""
    content = np.frombuffer(read_bytes(file), np.uint8)
    if len(content) == 0 or len(content) % (label_bytes + 3072):
        raise BadInput(f"{file} is no CIFAR file in the binary layout: {len(content)} bytes are no whole records")
    records = content.reshape(-1, label_bytes + 3072)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1]


def read_idx(folder: Path, split: str) -> Arrays:
    """The IDX layout of MNIST: <train|t10k>-images-idx3-ubyte and -labels-idx1-ubyte, with or without .gz."""
    prefix = "train" if split == "train" else "t10k"
    images = read_idx_file(folder, f"{prefix}-images-idx3-ubyte", 3)
    return images[:, None], read_idx_file(folder, f"{prefix}-labels-idx1-ubyte", 1)


def read_idx_file(folder: Path, name: str, axes: int) -> np.ndarray:
    file = folder / name if (folder / name).exists() else folder / f"{name}.gz"
    content = read_bytes(file)
    if file.suffix == ".gz":
        content = unzipped(content, file, axes)
    shape = idx_shape(content, file, axes)
    if len(content) != 4 + 4 * axes + math.prod(shape) or max(shape) > len(content):
        raise BadInput(f"{file} is truncated: its header says {shape}, it holds {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def idx_shape(content: bytes, file: Path, axes: int) -> tuple[int, ...]:
    """What the beginning of an IDX file says. Raises BadInput."""
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < 4 + 4 * axes:
        raise BadInput(f"{file} is no IDX file of {axes}-dimensional bytes")
    return tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))


def unzipped(content: bytes, file: Path, axes: int) -> bytes:
    """An IDX file without its compression, of which no more is unpacked than its own header says. Raises BadInput."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
            head = unpacked.read(4 + 4 * axes)
            size = math.prod(idx_shape(head, file, axes))
            if size > max(SMALL, MOST_FROM_ZIP * len(content)):
                raise BadInput(f"{file} says that {len(content)} bytes unpack to {size}: such data compress less")
            return head + unpacked.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot read {file}: {error}") from error


def read_npz(file: Path, split: str) -> Arrays:
    """A .npz with <split>_images (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 and <split>_labels (N,).

    The names of Keras' archives, x_<split> and y_<split>, do as well. An axis of 1 or 3 at the end holds channels.
    """
    if file.is_file():
        check_archive(file)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            keras = f"x_{split}" in arrays
            images = arrays[f"x_{split}" if keras else f"{split}_images"]
            labels = np.squeeze(arrays[f"y_{split}" if keras else f"{split}_labels"])
    except Exception as error:  # zip, header and key errors alike
        raise BadInput(f"cannot read {split}_images and {split}_labels in {file}: {error}") from error
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(
            f"{file}: {split} images are {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}"
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    return images, labels


def folder_files(folder: Path, split: str) -> tuple[list[Path], np.ndarray, int]:
    """An image folder in the layout of ImageNet, <train|val|test>/<class>/<image>: files in order, labels, classes.

    Classes are numbered by the sorted names of the folders in train/, where there is one.
    """
    names = ("train",) if split == "train" else ("test", "val")
    top = next((folder / name for name in names if (folder / name).is_dir()), None)
    if top is None:
        raise BadInput(f"no folder {' or '.join(names)} in {folder}: the {split} split is not there")
    naming = folder / "train" if (folder / "train").is_dir() else top
    classes = sorted(p.name for p in naming.iterdir() if p.is_dir())
    if unknown := sorted({p.name for p in top.iterdir() if p.is_dir()} - set(classes)):
        raise BadInput(f"{top / unknown[0]}: there is no such class in {naming}")
    files = [
        (f, k)
        for k, name in enumerate(classes)
        if (top / name).is_dir()
        for f in sorted((top / name).iterdir())
        if f.suffix.lower() in IMAGES
    ]
    if not files:
        raise BadInput(f"no images in {top}/<class>/: known endings are {' '.join(IMAGES)}")
    return [file for file, _ in files], np.array([k for _, k in files]), len(classes)


def read_images(files: Sequence[Path], size: int) -> np.ndarray:
    """Images (N, 3, size, size): the shorter side scaled to 8/7 of `size`, then the centre, as is usual for ImageNet."""
    from PIL import Image

    result = np.empty((len(files), 3, size, size), np.uint8)
    for k, file in enumerate(files):
        try:
            with Image.open(file) as image:
                rgb = image.convert("RGB")
        except Exception as error:  # decoders raise nearly anything
            raise BadInput(f"{file} is not a readable image: {error}") from error
        scale = size * 8 / 7 / min(rgb.size)
        width, height = (max(size, round(side * scale)) for side in rgb.size)
        left, top = (width - size) // 2, (height - size) // 2
        pixels = rgb.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
        result[k] = np.asarray(pixels).transpose(2, 0, 1)
    return result


def read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error


def fetch(url: str, md5: str, folder: Path, say: Callable[[str], None] = print) -> None:
    """Download a file, check it, and unpack it when it is an archive. Raises BadInput, CannotWrite."""
    target = folder / url.rpartition("/")[2]
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = download(url, part, say)
        if found != md5:
            part.unlink()
            raise BadInput(f"{url} has the MD5 checksum {found}, expected {md5}: nothing was kept")
        os.replace(part, target)
        if target.name.endswith(".tar.gz"):
            unpack(target, folder)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise BadInput(f"cannot fetch {url}: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot unpack {target}: {error}") from error
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror or error}") from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the place, then move, so that half an archive is never taken for a data set."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with tarfile.open(archive) as content:
            content.extractall(scratch, filter="data")
        for item in Path(scratch).iterdir():
            os.replace(item, folder / item.name)
    archive.unlink()


def download(url: str, part: Path, say: Callable[[str], None]) -> str:
    """Fetch a URL into a file with a progress line every few seconds; returns the MD5 checksum."""
    digest, done, last = hashlib.md5(), 0, time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as response, open(part, "wb") as out:
        total = int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(1 << 18):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if time.monotonic() - last > 3:
                last = time.monotonic()
                say(f"{url}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")
    say(f"{url}: {done / 1e6:.2f} MB")
    return digest.hexdigest()
