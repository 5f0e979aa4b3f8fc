"""File formats of data sets: arrays out, and nothing in a file is ever executed.

A reader takes (folder, split) and returns images (N, C, H, W) uint8 and labels (N,) integers. It raises BadInput for
missing, truncated or foreign files.
"""

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossatlas.datasets.array_pickles import ArrayUnpickler, array_of
from lossatlas.errors import BadInput, say
from lossatlas.io.archives import MOST_FROM_ZIP, SMALL, check_archive

CIFAR10_BATCHES = 5
CIFAR_SHAPE = (3, 32, 32)
CIFAR_BYTES = 3072  # of an image
Arrays = tuple[np.ndarray, np.ndarray]
IMAGES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm")


def read_cifar10(folder: Path, split: str) -> Arrays:
    """Read CIFAR-10 in the python or the binary layout: data_batch_* and test_batch, or the same with .bin.

    Args:
        folder: Folder of the files.
        split: "train" or "test".

    Returns:
        Images (N, 3, 32, 32) uint8 and labels (N,).

    Raises:
        BadInput: A file is missing or damaged.
    """
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
    parts = [_read_cifar_records(f, 1) if binary else _read_cifar_pickle(f, b"labels") for f in files]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def read_cifar100(folder: Path, split: str) -> Arrays:
    """Read CIFAR-100 with its fine labels, in the python or the binary layout: train and test, or the same with .bin.

    Arguments, result and errors are those of `read_cifar10`.
    """
    plain = folder / split
    return (
        _read_cifar_pickle(plain, b"fine_labels") if plain.exists() else _read_cifar_records(folder / f"{split}.bin", 2)
    )


def _read_cifar_pickle(file: Path, labels_key: bytes) -> Arrays:
    content = _read_bytes(file)
    try:
        batch = ArrayUnpickler(content).load()
        images, labels = (array_of(batch[key]) for key in (b"data", labels_key))
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != CIFAR_BYTES:
            raise ValueError(f"data {images.dtype} {images.shape}")
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"labels {labels.dtype} {labels.shape}")
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise BadInput(f"{file} is no CIFAR batch in the python layout: {error}") from error
    return images.reshape(-1, *CIFAR_SHAPE), labels


def _read_cifar_records(file: Path, label_bytes: int) -> Arrays:
    """Read records of `label_bytes` labels, the last of which counts, and the bytes of an image."""
    content = np.frombuffer(_read_bytes(file), np.uint8)
    if len(content) == 0 or len(content) % (label_bytes + CIFAR_BYTES):
        raise BadInput(f"{file} is no CIFAR file in the binary layout: {len(content)} bytes are no whole records")
    records = content.reshape(-1, label_bytes + CIFAR_BYTES)
    return records[:, label_bytes:].reshape(-1, *CIFAR_SHAPE), records[:, label_bytes - 1]


def read_idx(folder: Path, split: str) -> Arrays:
    """Read the IDX layout of MNIST: <train|t10k>-images-idx3-ubyte and -labels-idx1-ubyte, with or without .gz.

    Arguments and errors are those of `read_cifar10`; images are (N, 1, H, W).
    """
    prefix = "train" if split == "train" else "t10k"
    images = _read_idx_file(folder, f"{prefix}-images-idx3-ubyte", 3)
    return images[:, None], _read_idx_file(folder, f"{prefix}-labels-idx1-ubyte", 1)


def _read_idx_file(folder: Path, name: str, axes: int) -> np.ndarray:
    file = folder / name if (folder / name).exists() else folder / f"{name}.gz"
    content = _read_bytes(file)
    if file.suffix == ".gz":
        content = _unzipped(content, file, axes)
    shape = _idx_shape(content, file, axes)
    if len(content) != 4 + 4 * axes + math.prod(shape) or max(shape) > len(content):
        raise BadInput(f"{file} is truncated: its header says {shape}, it holds {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _idx_shape(content: bytes, file: Path, axes: int) -> tuple[int, ...]:
    """Return the shape of an IDX file, from its header."""
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < 4 + 4 * axes:
        raise BadInput(f"{file} is no IDX file of {axes}-dimensional bytes")
    return tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))


def _unzipped(content: bytes, file: Path, axes: int) -> bytes:
    """Return an IDX file without its compression; no more is unpacked than its own header says."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
            head = unpacked.read(4 + 4 * axes)
            size = math.prod(_idx_shape(head, file, axes))
            if size > max(SMALL, MOST_FROM_ZIP * len(content)):
                raise BadInput(f"{file} says that {len(content)} bytes unpack to {size}: such data compress less")
            return head + unpacked.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot read {file}: {error}") from error


def read_npz(file: Path, split: str) -> Arrays:
    """Read a .npz with <split>_images (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 and <split>_labels (N,).

    The names of Keras' archives, x_<split> and y_<split>, are known too. An axis of 1 or 3 at the end holds channels.

    Args:
        file: The file.
        split: "train" or "test".

    Returns:
        Images (N, C, H, W) uint8 and labels (N,).

    Raises:
        BadInput: The file is missing or damaged, or its arrays are of another kind.
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
    """List an image folder in the layout of ImageNet, <train|val|test>/<class>/<image>.

    Classes are numbered by the sorted names of the folders in train/, if there is one.

    Args:
        folder: The folder.
        split: "train" or "test", which may be named val.

    Returns:
        The files in order, their labels (N,), and the number of classes.

    Raises:
        BadInput: A folder is missing, or there is no image.
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
    """Read images: the shorter side scaled to 8/7 of `size`, then the centre, as is usual for ImageNet.

    Args:
        files: Image files.
        size: Side of the result, in pixels.

    Returns:
        (N, 3, size, size) uint8.

    Raises:
        BadInput: A file is no readable image.
    """
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


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
