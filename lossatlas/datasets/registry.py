"""Registry of the data sets that are known by name: read without executing anything, normalized, in memory.

    from lossatlas.datasets.registry import load
    data = load("fashion_mnist_mini", "train", limit=500)
    data.inputs, data.targets          # float32 (500, 1, 28, 28), int64 (500,)

`SOURCES` holds the known data sets. `OWN_KINDS` holds kinds of data of the user's: imagefolder (the layout of
ImageNet) and npz (a file of arrays).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.argument_checks import checked_word
from lossatlas.datasets.downloads import fetch
from lossatlas.datasets.file_formats import (
    Arrays,
    folder_files,
    read_cifar10,
    read_cifar100,
    read_idx,
    read_images,
    read_npz,
)
from lossatlas.errors import BadInput, BadUsage, Stop, error_location, named
from lossatlas.io.archives import check_archive
from lossatlas.user_code import CLONE, IN_CLONE, UserFunction, parameter_names

if TYPE_CHECKING:  # reading and describing files needs no torch
    from torch import Tensor

    from lossatlas.data import AnyData, Dataset, Streamed

BUNDLED = Path(__file__).resolve().parent
SPLITS = ("train", "test")
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel


@dataclass(frozen=True)
class DatasetSource:
    """A known data set.

    Attributes:
        read: Reader of its files, see `lossatlas.datasets.file_formats`.
        markers: Files or folders, of which any one shows that the data set is in a folder.
        below: Folders that a download makes within a folder.
        places: Folders in which it is looked for.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
        classes: Number of classes.
        urls: Address and MD5 checksum of each file to download.
    """

    read: Callable[[Path, str], Arrays]
    markers: tuple[str, ...]
    below: tuple[str, ...]
    places: tuple[Path, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int = 10
    urls: tuple[tuple[str, str], ...] = field(default=())


def load(
    name: str,
    split: str = "train",
    *,
    datapath: str | Path | None = None,
    raw: bool = False,
    limit: int | None = None,
    data_split: int = 1,
    image_size: int = 224,
    stream: bool | None = None,
) -> "Dataset | Streamed":
    """Load one split of a data set.

    Args:
        name: Name of the data set, one of `DATASET_NAMES`.
        split: "train" or "test".
        datapath: Folder, or file, of the data; by default the usual places.
        raw: Leave out the normalization.
        limit: Number of samples to keep, from the first in file order.
        data_split: Keep `len // data_split` samples that `numpy.random.RandomState(0)` draws without replacement, as
            the release of Li et al. does; of the training split alone, before the limit.
        image_size: Side of the images of an image folder, in pixels.
        stream: Read the images of an image folder when they are needed; by default where they do not fit into memory.

    Returns:
        The data: images (N, C, H, W) float32 and labels (N,) int64.

    Raises:
        BadUsage: The name is unknown, or `data_split` leaves no sample.
        BadInput: Files are missing or damaged.

    Example:
        >>> load("fashion_mnist_mini", "test", limit=5).inputs.shape
        torch.Size([5, 1, 28, 28])
    """
    checked_word("dataset", name, [*SOURCES, *OWN_KINDS])
    if split == "test":
        data_split = 1
    if name == "imagefolder":
        files, labels, classes = folder_files(own_place(name, datapath), split)
        chosen = _chosen_samples(len(files), data_split, limit)
        folder = ImageFolder([files[k] for k in chosen], labels[chosen], image_size, None if raw else IMAGENET)
        return folder.data(name, split, classes, stream=stream)
    if name == "npz":
        images, labels = read_npz(own_place(name, datapath), split)
        _check_labels(name, split, images, labels, None)
        part = _chosen_index(len(labels), data_split, limit)
        return normalized_dataset(name, split, (images[part], labels[part]), int(labels.max()) + 1, None)
    source = SOURCES[name]
    images, labels = source.read(find(name, source, datapath), split)
    _check_labels(name, split, images, labels, source.classes)
    part = _chosen_index(len(labels), data_split, limit)
    return normalized_dataset(
        name, split, (images[part], labels[part]), source.classes, None if raw else (source.mean, source.std)
    )


@dataclass(frozen=True)
class ImageFolder:
    """Images of a folder with their labels, which are read by number.

    Attributes:
        files: Image files.
        labels: (N,) labels.
        size: Side of an image, in pixels.
        statistics: Mean and standard deviation of each channel; None to leave out the normalization.
    """

    files: Sequence[Path]
    labels: np.ndarray
    size: int
    statistics: Statistics | None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> "tuple[Tensor, Tensor]":
        """Read one image (3, size, size) and its label."""
        one = slice(number, number + 1)
        arrays = read_images(self.files[one], self.size), self.labels[one]
        inputs, targets = normalized_dataset("", "", arrays, 0, self.statistics).samples
        return inputs[0], targets[0]

    def data(self, name: str, split: str, classes: int, *, stream: bool | None) -> "Dataset | Streamed":
        """Make a data set, streamed or in memory.

        Args:
            name: Its name.
            split: "train" or "test".
            classes: Number of classes.
            stream: Read images when they are needed; None decides by their size.

        Returns:
            The data set.
        """
        from lossatlas.data import Streamed
        from lossatlas.data.collect import is_better_streamed

        streamed = Streamed(name, split, self, classes, collate=_stack_pairs)
        if is_better_streamed(streamed, stream):
            return streamed
        return normalized_dataset(
            name, split, (read_images(self.files, self.size), self.labels), classes, self.statistics
        )


def _stack_pairs(items: "list[tuple[Tensor, Tensor]]") -> "tuple[Tensor, Tensor]":
    import torch

    inputs, targets = zip(*items, strict=True)
    return torch.stack(inputs), torch.stack(targets)


def _chosen_samples(count: int, data_split: int, limit: int | None) -> np.ndarray:
    """Return the indices of the samples to keep, see `load`."""
    if data_split == 1:
        return np.arange(count)[:limit]
    if count < data_split:
        raise BadUsage(f"{named('data_split', data_split)} leaves nothing of {count} samples")
    return np.random.RandomState(0).choice(count, count // data_split, replace=False)[:limit]


def _chosen_index(count: int, data_split: int, limit: int | None) -> slice | np.ndarray:
    """Return the samples to keep as an index; a slice, which copies nothing, where this is possible."""
    return slice(limit) if data_split == 1 else _chosen_samples(count, data_split, limit)


def _check_labels(name: str, split: str, images: np.ndarray, labels: np.ndarray, classes: int | None) -> None:
    if images.shape[0] != labels.shape[0] or images.shape[0] == 0:
        raise BadInput(f"{name} {split}: {images.shape[0]} images but {labels.shape[0]} labels")
    if labels.min() < 0 or (classes is not None and labels.max() >= classes):
        raise BadInput(
            f"{name} {split}: labels reach from {labels.min()} to {labels.max()}, not 0..{(classes or 0) - 1}"
        )


def normalized_dataset(name: str, split: str, arrays: Arrays, classes: int, statistics: Statistics | None) -> "Dataset":
    """Make a data set from bytes: scaled to [0, 1], then (x - mean) / std of each channel.

    Args:
        name: Its name.
        split: "train" or "test".
        arrays: Images (N, C, H, W) uint8 and labels (N,).
        classes: Number of classes.
        statistics: Mean and standard deviation of each channel; None to leave out the normalization.

    Returns:
        The data set, in memory with the channels last.
    """
    import torch

    from lossatlas.data import Dataset

    images = arrays[0]
    inputs = torch.empty(images.shape, dtype=torch.float32, memory_format=torch.channels_last)
    for k in range(0, len(images), 4096):  # in parts, so that the bytes are not copied as a whole
        inputs[k : k + 4096] = torch.from_numpy(images[k : k + 4096].copy())
    inputs.div_(255)
    if statistics is not None:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in statistics)
        inputs = inputs.sub_(mean).div_(std)
    return Dataset(name, split, (inputs, torch.from_numpy(arrays[1].astype(np.int64))), classes)


def load_file(file: str | Path, split: str, *, limit: int | None = None, data_split: int = 1) -> "Dataset":
    """Load tensors as they are from a .npz, or from a torch file of tensors.

    Args:
        file: File with `inputs` (N, ...) and `targets` (N,). A pickled DataLoader is refused, because reading it would
            execute its content.
        split: "train" or "test".
        limit: As in `load`.
        data_split: As in `load`.

    Returns:
        The data: inputs float32 and targets int64.

    Raises:
        BadInput: The file is missing or damaged, or holds anything else.
        BadUsage: `data_split` leaves no sample.
    """
    from lossatlas.data import Dataset

    path = Path(file)
    inputs, targets = _read_tensors(path)
    if targets.dim() != 1 or len(inputs) != len(targets) or len(targets) == 0 or targets.min() < 0:
        raise BadInput(f"{path}: inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not fit")
    if not inputs.isfinite().all():
        bad = int((~inputs.isfinite().flatten(1)).any(1).sum())
        raise BadInput(f"{path}: {bad} of the {len(inputs)} inputs hold NaN or infinite values")
    part = _chosen_index(len(targets), data_split, limit)
    return Dataset(path.name, split, (inputs[part], targets[part]), int(targets.max()) + 1)


def _read_tensors(path: Path) -> "tuple[Tensor, Tensor]":
    """Read inputs as float32 and targets as int64 from a file."""
    import torch

    from lossatlas.data.plain_tensors import unsupported_kind

    if path.is_file():
        check_archive(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                content = {name: torch.from_numpy(arrays[name]) for name in ("inputs", "targets")}
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for name in ("inputs", "targets"):
                if odd := unsupported_kind(content[name], path):
                    raise BadInput(f"{path}: '{name}' is {odd}: save it as plain numbers")
        inputs, targets = content["inputs"].float(), content["targets"].long()
        whole = bool((content["targets"] == targets).all()) and inputs.dim() > 0 and not content["inputs"].is_complex()
    except FileNotFoundError:
        raise BadInput(f"no file {path}") from None
    except BadInput:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise BadInput(
            f"{path} holds no tensors 'inputs' and 'targets' that can be read without executing it "
            f"({type(error).__name__}): save them with numpy.savez(FILE, inputs=..., targets=...) and give that file"
        ) from error
    if not whole:
        raise BadInput(f"{path}: the targets are not whole numbers, or the inputs are no array of real numbers")
    return inputs, targets


def from_factory(
    factory: UserFunction, split: str, *, limit: int | None = None, data_split: int = 1, stream: bool | None = None
) -> "AnyData":
    """Load one split of the data that a user's function returns.

    Args:
        factory: The user's function, which is called with `split` if it takes it. Otherwise it returns the training
            data, or a dictionary with the splits.
        split: "train" or "test".
        limit: As in `load`.
        data_split: As in `load`.
        stream: Read samples when they are needed; by default where they do not fit into memory.

    Returns:
        The data.

    Raises:
        BadInput: The function fails, has no such split, or returns anything else.
    """
    from lossatlas.data import FixedBatches, as_dataset

    dataset = f"{named('dataset')} {factory}"
    found = factory(split=split)
    if isinstance(found, Mapping) and set(found) <= set(SPLITS) and found:
        if split not in found:
            raise BadInput(f"{dataset} gives {', '.join(found)}, and no '{split}'")
        found = found[split]
    elif split != "train" and "split" not in parameter_names(factory.function):
        raise BadInput(f"{dataset} takes no 'split', so it gives training data alone: let it take one")
    with factory.isolated():
        try:
            data = as_dataset(
                found,
                name=str(factory),
                split=split,
                stream=stream and _is_read_by_number(found),
                limit=None if data_split > 1 else limit,
            )
        except Stop as error:
            raise BadInput(f"{dataset}: {error}") from error
        except Exception as error:
            raise BadInput(f"{dataset}: its samples cannot be read: {error_location(error)}") from error
    if isinstance(data, FixedBatches):
        if data_split > 1:
            raise BadInput(
                f"{dataset} gives batches whose shapes differ, of which samples cannot be chosen: leave out "
                f"{named('data_split')}"
            )
        return data
    return data.take(_chosen_index(len(data), data_split if split == "train" else 1, limit))


def _is_read_by_number(found: Any) -> bool | None:
    """Return True for samples that can be read when they are needed; otherwise None: they may stay in memory."""
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    source = found.dataset if isinstance(found, DataLoader) else found
    return True if isinstance(source, Dataset) and not isinstance(source, IterableDataset) else None


def find(name: str, source: DatasetSource, datapath: str | Path | None) -> Path:
    """Find the folder that holds a data set.

    Args:
        name: Name of the data set.
        source: Its entry in `SOURCES`.
        datapath: Folder to look in, and below; by default the usual places.

    Returns:
        The folder.

    Raises:
        BadInput: No folder holds it.
    """
    places = (Path(datapath),) if datapath else source.places
    for place in places:
        for folder in (place, *(place / below for below in (*source.below, name))):
            if any((folder / marker).exists() for marker in source.markers):
                return folder
    where = ", ".join(map(str, places))
    hint = f", or fetch it with {named('download')}" if source.urls else ""
    raise BadInput(
        f"{name}: no '{source.markers[0]}' in {where}: put the data set there, name its folder with "
        f"{named('datapath')}{hint}"
    )


def own_place(name: str, datapath: str | Path | None) -> Path:
    """Find data of a user's own.

    Args:
        name: Kind of the data, one of `OWN_KINDS`.
        datapath: Folder or file that the user names.

    Returns:
        The folder or file.

    Raises:
        BadUsage: None is named.
        BadInput: It is missing.
    """
    if not datapath:
        raise BadUsage(f"{named('dataset', name)}: say which {OWN_KINDS[name]} with {named('datapath')}")
    if not Path(datapath).exists():
        raise BadInput(f"{named('datapath', datapath)}: there is no such {OWN_KINDS[name]}")
    return Path(datapath)


def get(name: str, datapath: str | Path | None = None, say: Callable[[str], None] = print) -> None:
    """Download a data set unless it is there.

    Args:
        name: Name of the data set.
        datapath: Folder that gets it; by default one in the user's cache, or in the clone.
        say: Called with lines of progress.

    Raises:
        BadUsage: The name is unknown.
        BadInput: It cannot be fetched, or there is no address to fetch it from.
        CannotWrite: The folder cannot be written.
    """
    source = SOURCES[checked_word("dataset", name, list(SOURCES))]
    folder = Path(datapath) if datapath else common_places(name)[0]
    try:
        folder = find(name, source, datapath)
    except BadInput:
        if not source.urls:
            raise
    else:
        if len(source.urls) < 2:  # an archive is unpacked as a whole or not at all
            return
    for url, md5 in source.urls:
        file = folder / url.rpartition("/")[2]
        if not file.exists() and not file.with_suffix("").exists():
            fetch(url, md5, folder, say)


def common_places(name: str, *more: str) -> tuple[Path, ...]:
    """List the usual folders of a data set.

    Args:
        name: Name of the data set.
        *more: Other folders.

    Returns:
        The folder of that name in the clone, the other folders, and the one in the user's cache.
    """
    beside = [CLONE / "datasets" / name] if IN_CLONE else []
    return (*beside, *map(Path, more), Path("~/.cache/datasets").expanduser() / name)


MNIST_FILES = (
    ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
)
FASHION_FILES = (
    ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
    ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
)
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
TORONTO = "https://www.cs.toronto.edu/~kriz/"
IDX_MARKERS = (
    "train-images-idx3-ubyte",
    "train-images-idx3-ubyte.gz",
    "t10k-images-idx3-ubyte",
    "t10k-images-idx3-ubyte.gz",
)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FASHION = ((0.2860,), (0.3530,))
OWN_KINDS = {"imagefolder": "folder with train/<class>/<image>", "npz": "file of arrays"}
SOURCES = {
    "cifar10": DatasetSource(
        read=read_cifar10,
        markers=("data_batch_1", "data_batch_1.bin", "test_batch", "test_batch.bin"),
        below=("cifar-10-batches-py", "cifar-10-batches-bin"),
        places=common_places("cifar10", *([str(CLONE / "cifar10" / "data")] if IN_CLONE else [])),
        mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
        std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
        classes=10,
        urls=((TORONTO + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    ),
    "cifar100": DatasetSource(
        read=read_cifar100,
        markers=("train", "train.bin", "test", "test.bin"),
        below=("cifar-100-python", "cifar-100-binary"),
        places=common_places("cifar100"),
        mean=(129.3 / 255, 124.1 / 255, 112.4 / 255),
        std=(68.2 / 255, 65.4 / 255, 70.4 / 255),
        classes=100,
        urls=((TORONTO + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    ),
    "mnist": DatasetSource(
        read=read_idx,
        markers=IDX_MARKERS,
        below=("MNIST/raw",),
        places=common_places("mnist", "/usr/share/datasets/mnist"),
        mean=(0.1307,),
        std=(0.3081,),
        classes=10,
        urls=tuple((MNIST_URL + name, md5) for name, md5 in MNIST_FILES),
    ),
    "fashion_mnist": DatasetSource(
        read_idx,
        IDX_MARKERS,
        ("fashion-mnist", "FashionMNIST/raw"),
        common_places("fashion_mnist", "/usr/share/datasets/fashion-mnist"),
        *FASHION,
        10,
        tuple((FASHION_URL + name, md5) for name, md5 in FASHION_FILES),
    ),
    "fashion_mnist_mini": DatasetSource(
        lambda folder, split: read_npz(folder / "fashion_mnist_mini.npz", split),
        ("fashion_mnist_mini.npz",),
        (),
        (BUNDLED,),
        *FASHION,
    ),
}
DATASET_NAMES = (*SOURCES, *OWN_KINDS)
