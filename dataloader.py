"""Data sets by name: read without executing anything in the files, normalized once, resident in memory.

    from dataloader import load
    data = load("fashion_mnist_mini", "train", limit=500)
    data.inputs, data.targets          # float32 (500, 1, 28, 28), int64 (500,)

Known names: cifar10 (python layout), fashion_mnist (IDX files, gzipped or not), and fashion_mnist_mini, a balanced
subset of Fashion-MNIST that comes with the project (datasets/README.md).
"""

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from errors import BadInput, BadUsage

HOME = Path(__file__).resolve().parent
SPLITS = ("train", "test")
Arrays = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W) uint8, labels (N,) integers


@dataclass(frozen=True)
class Dataset:
    """Images and labels, in a fixed order.

    inputs: (N, C, H, W) float32, normalized unless raw; targets: (N,) int64 in [0, classes).
    """

    name: str
    split: str
    inputs: Tensor
    targets: Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def digest(self) -> str:
        """SHA-256 of the inputs and targets as they are evaluated."""
        digest = hashlib.sha256(repr((tuple(self.inputs.shape), self.classes)).encode())
        digest.update(np.ascontiguousarray(self.inputs.numpy()).data)
        digest.update(np.ascontiguousarray(self.targets.numpy()).data)
        return digest.hexdigest()

    def take(self, index: Any) -> "Dataset":
        """The samples at `index` (a slice or an integer array), in that order."""
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive batches (inputs, targets); the last one may be smaller."""
        yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)


@dataclass(frozen=True)
class Source:
    """Where a named data set lies, how it is read, and its statistics per channel in units of [0, 1]."""

    read: Callable[[Path, str], Arrays]
    marker: str  # the file or folder that shows that the data set is in a folder
    places: tuple[Path, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int = 10


def load(
    name: str,
    split: str = "train",
    *,
    datapath: str | Path | None = None,
    raw: bool = False,
    limit: int | None = None,
    data_split: int = 1,
) -> Dataset:
    """Read one split of a data set.

    raw: leave out the normalization. limit: the first `limit` samples in file order. data_split: keep
    `len // data_split` samples drawn without replacement by `numpy.random.RandomState(0)`, as the release of
    Li et al. does; applied to the training split alone, before the limit.

    Raises BadUsage for an unknown name, BadInput for missing or damaged files.
    """
    if name not in SOURCES:
        raise BadUsage(f"unknown data set '{name}': choose from {', '.join(SOURCES)}")
    source = SOURCES[name]
    images, labels = source.read(find(name, source, datapath), split)
    if images.shape[0] != labels.shape[0] or images.shape[0] == 0:
        raise BadInput(f"{name} {split}: {images.shape[0]} images but {labels.shape[0]} labels")
    if labels.min() < 0 or labels.max() >= source.classes:
        raise BadInput(
            f"{name} {split}: labels reach from {labels.min()} to {labels.max()}, not 0..{source.classes - 1}"
        )
    chosen = np.arange(len(labels))
    if data_split > 1 and split == "train":
        if len(labels) < data_split:
            raise BadUsage(f"--data_split {data_split} leaves nothing of {len(labels)} samples")
        chosen = np.random.RandomState(0).choice(len(labels), len(labels) // data_split, replace=False)
    chosen = chosen[:limit]
    inputs = torch.from_numpy(np.ascontiguousarray(images[chosen])).float().div_(255)
    if not raw:
        shape = (1, -1, 1, 1)
        inputs = inputs.sub_(torch.tensor(source.mean).view(shape)).div_(torch.tensor(source.std).view(shape))
    targets = torch.from_numpy(labels[chosen].astype(np.int64))
    return Dataset(name, split, inputs, targets, source.classes)


def load_file(file: str | Path, split: str, *, limit: int | None = None) -> Dataset:
    """Tensors as they are: `inputs` (N, ...) float32 and `targets` (N,) in a .npz, or in a torch file of tensors.

    Raises BadInput; a pickled DataLoader is refused, because reading it would execute what it holds.
    """
    path = Path(file)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                content = {name: torch.from_numpy(arrays[name]) for name in ("inputs", "targets")}
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        inputs, targets = content["inputs"].float()[:limit], content["targets"].long()[:limit]
    except FileNotFoundError:
        raise BadInput(f"no file {path}") from None
    except Exception as error:  # damaged files raise nearly anything
        raise BadInput(
            f"{path} holds no tensors 'inputs' and 'targets' that can be read without executing it "
            f"({type(error).__name__}): save them with numpy.savez(FILE, inputs=..., targets=...) and give that file"
        ) from error
    if targets.dim() != 1 or len(inputs) != len(targets) or len(targets) == 0 or targets.min() < 0:
        raise BadInput(f"{path}: inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not fit")
    return Dataset(path.name, split, inputs, targets, max(10, int(targets.max()) + 1))


def find(name: str, source: Source, datapath: str | Path | None) -> Path:
    """The folder that holds the data set: `datapath` or one below it, otherwise the usual places."""
    places = (Path(datapath),) if datapath else source.places
    for place in places:
        for folder in (place, *(place / below for below in ("cifar-10-batches-py", "fashion-mnist", name))):
            if any(folder.glob(source.marker + "*")):
                return folder
    where = ", ".join(map(str, places))
    raise BadInput(
        f"{name}: no '{source.marker}' in {where}: put the data set there or name its folder with --datapath"
    )


class ArraysOnly(pickle.Unpickler):
    """Reads pickles of plain containers and numpy arrays; any other global is refused, so nothing is executed."""

    def find_class(self, module: str, name: str) -> Any:
        numeric = module.replace("numpy._core", "numpy.core")
        if (numeric, name) == ("numpy.core.multiarray", "_reconstruct"):
            from numpy._core.multiarray import _reconstruct  # type: ignore[attr-defined,unused-ignore]

            return _reconstruct
        if (numeric, name) == ("numpy.core.numeric", "_frombuffer"):
            from numpy._core.numeric import _frombuffer  # type: ignore[attr-defined,unused-ignore]

            return _frombuffer
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            import _codecs

            return _codecs.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_cifar10(folder: Path, split: str) -> Arrays:
    """The python-pickle layout: data_batch_* or test_batch with b'data' (N, 3072) uint8 and b'labels'."""
    files = sorted(folder.glob("data_batch_*")) if split == "train" else [folder / "test_batch"]
    parts = [read_cifar_file(file) for file in files]
    images = np.concatenate([images for images, _ in parts])
    return images.reshape(-1, 3, 32, 32), np.concatenate([labels for _, labels in parts])


def read_cifar_file(file: Path) -> Arrays:
    try:
        content = ArraysOnly(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        images, labels = content[b"data"], np.asarray(content[b"labels"])
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or labels.dtype.kind not in "iu":
            raise ValueError(f"data {images.dtype} {images.shape}, labels {labels.dtype}")
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise BadInput(f"{file} is no CIFAR-10 batch in the python layout: {error}") from error
    return images, labels


def read_idx(folder: Path, split: str) -> Arrays:
    """The IDX layout of MNIST: <train|t10k>-images-idx3-ubyte and -labels-idx1-ubyte, with or without .gz."""
    prefix = "train" if split == "train" else "t10k"
    images = read_idx_file(folder, f"{prefix}-images-idx3-ubyte", 3)
    return images[:, None], read_idx_file(folder, f"{prefix}-labels-idx1-ubyte", 1)


def read_idx_file(folder: Path, name: str, axes: int) -> np.ndarray:
    plain, zipped = folder / name, folder / f"{name}.gz"
    file = plain if plain.exists() else zipped
    try:
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:  # gzip's own error is an OSError
        raise BadInput(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < 4 + 4 * axes:
        raise BadInput(f"{file} is no IDX file of {axes}-dimensional bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    if len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise BadInput(f"{file} is truncated: its header says {shape}, it holds {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_npz(folder: Path, split: str) -> Arrays:
    """The bundled layout: <split>_images (N, H, W) or (N, C, H, W) uint8 and <split>_labels (N,)."""
    file = folder / "fashion_mnist_mini.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except Exception as error:  # zip, header and key errors alike
        raise BadInput(f"cannot read {file}: {error}") from error
    return (images if images.ndim == 4 else images[:, None]), labels


FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)
SOURCES = {
    "cifar10": Source(
        read_cifar10,
        "data_batch_1",
        (HOME / "cifar10" / "data", HOME / "datasets", Path("~/.cache/cifar10").expanduser()),
        (125.3 / 255, 123.0 / 255, 113.9 / 255),
        (63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
    "fashion_mnist": Source(
        read_idx,
        "train-images-idx3-ubyte",
        (Path("/usr/share/datasets/fashion-mnist"), HOME / "datasets"),
        FASHION_MEAN,
        FASHION_STD,
    ),
    "fashion_mnist_mini": Source(read_npz, "fashion_mnist_mini.npz", (HOME / "datasets",), FASHION_MEAN, FASHION_STD),
}
