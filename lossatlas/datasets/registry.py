"""Data sets by name: read without executing anything in the files, normalized once, resident in memory.

    python dataloader.py --dataset fashion_mnist_mini                what is found, and where
    python dataloader.py --dataset cifar10 --download                fetch it (only ever when asked)

    from dataloader import load
    data = load("fashion_mnist_mini", "train", limit=500)
    data.inputs, data.targets          # float32 (500, 1, 28, 28), int64 (500,)

Known names: mnist, fashion_mnist, cifar10, cifar100, imagefolder (the layout of ImageNet), npz (a file of arrays), and
fashion_mnist_mini, a balanced subset of Fashion-MNIST that comes with the project (datasets/README.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.datasets.file_formats import (
    Arrays,
    fetch,
    folder_files,
    read_cifar10,
    read_cifar100,
    read_idx,
    read_images,
    read_npz,
)
from lossatlas.errors import BadInput, BadUsage, Stop
from lossatlas.io.archives import check_archive
from lossatlas.user_code import UserFunction, parameter_names, place_of

if TYPE_CHECKING:  # reading and describing files needs no torch
    from torch import Tensor

    from lossatlas.data import AnyData, Dataset, Streamed

BUNDLED = Path(__file__).resolve().parent
CLONE = BUNDLED.parent.parent  # where data sets of the release of 2018 lie; of an installed package it is nobody's
IN_CLONE = (CLONE / "plot_surface.py").is_file()
SPLITS = ("train", "test")


@dataclass(frozen=True)
class DatasetSource:
    """Where a named data set lies, how it is read, and its statistics per channel in units of [0, 1].

    markers: files or folders of which one shows that the data set is in a folder. urls: (address, MD5) of what
    `--download` fetches.
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
    """Read one split of a data set.

    raw: leave out the normalization. limit: the first `limit` samples in file order. data_split: keep
    `len // data_split` samples drawn without replacement by `numpy.random.RandomState(0)`, as the release of
    Li et al. does; applied to the training split alone, before the limit. image_size: of an image folder. stream: whether
    to read the images of a folder when they are needed; by default where they do not fit into memory.

    Raises BadUsage for an unknown name, BadInput for missing or damaged files.
    """
    if name not in SOURCES and name not in OWN:
        raise BadUsage(f"unknown data set '{name}': choose from {', '.join([*SOURCES, *OWN])}")
    if split == "test":
        data_split = 1
    if name == "imagefolder":
        files, labels, classes = folder_files(own_place(name, datapath), split)
        chosen = choice(len(files), data_split, limit)
        folder = Images([files[k] for k in chosen], labels[chosen], image_size, None if raw else IMAGENET)
        return folder.data(name, split, classes, stream)
    if name == "npz":
        images, labels = read_npz(own_place(name, datapath), split)
        checked(name, split, images, labels, None)
        part = chosen_part(len(labels), data_split, limit)
        return normalized(name, split, (images[part], labels[part]), int(labels.max()) + 1, None)
    source = SOURCES[name]
    images, labels = source.read(find(name, source, datapath), split)
    checked(name, split, images, labels, source.classes)
    part = chosen_part(len(labels), data_split, limit)
    return normalized(
        name, split, (images[part], labels[part]), source.classes, None if raw else (source.mean, source.std)
    )


@dataclass(frozen=True)
class Images:
    """The images of a folder with their labels, as a data set that reads them by number."""

    files: Sequence[Path]
    labels: np.ndarray
    size: int
    statistics: Any

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> "tuple[Tensor, Tensor]":
        """(3, size, size) and a label, as in memory."""
        one = slice(number, number + 1)
        arrays = read_images(self.files[one], self.size), self.labels[one]
        inputs, targets = normalized("", "", arrays, 0, self.statistics).samples
        return inputs[0], targets[0]

    def data(self, name: str, split: str, classes: int, stream: bool | None) -> "Dataset | Streamed":
        from lossatlas.data import Streamed
        from lossatlas.data.collect import is_better_streamed

        streamed = Streamed(name, split, self, classes, collate=as_pair)
        if is_better_streamed(streamed, stream):
            return streamed
        return normalized(name, split, (read_images(self.files, self.size), self.labels), classes, self.statistics)


def as_pair(items: "list[Any]") -> "tuple[Tensor, Tensor]":
    import torch

    inputs, targets = zip(*items, strict=True)
    return torch.stack(inputs), torch.stack(targets)


def choice(count: int, data_split: int, limit: int | None) -> np.ndarray:
    """Which samples to keep, see `load`."""
    if data_split == 1:
        return np.arange(count)[:limit]
    if count < data_split:
        raise BadUsage(f"--data_split {data_split} leaves nothing of {count} samples")
    return np.random.RandomState(0).choice(count, count // data_split, replace=False)[:limit]


def chosen_part(count: int, data_split: int, limit: int | None) -> Any:
    """The same as an index that takes no copy where it need not."""
    return slice(limit) if data_split == 1 else choice(count, data_split, limit)


def checked(name: str, split: str, images: np.ndarray, labels: np.ndarray, classes: int | None) -> None:
    if images.shape[0] != labels.shape[0] or images.shape[0] == 0:
        raise BadInput(f"{name} {split}: {images.shape[0]} images but {labels.shape[0]} labels")
    if labels.min() < 0 or (classes is not None and labels.max() >= classes):
        raise BadInput(
            f"{name} {split}: labels reach from {labels.min()} to {labels.max()}, not 0..{(classes or 0) - 1}"
        )


def normalized(name: str, split: str, arrays: Arrays, classes: int, statistics: Any) -> "Dataset":
    """A data set from bytes: scaled to [0, 1], then (x - mean) / std per channel when statistics are given."""
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
    """Tensors as they are: `inputs` (N, ...) float32 and `targets` (N,) in a .npz, or in a torch file of tensors.

    data_split and limit as in `load`.

    Raises BadInput; a pickled DataLoader is refused, because reading it would execute what it holds.
    """
    import torch

    from lossatlas.data import Dataset
    from lossatlas.data.plain_tensors import unsupported_kind

    path = Path(file)
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
    if targets.dim() != 1 or len(inputs) != len(targets) or len(targets) == 0 or targets.min() < 0:
        raise BadInput(f"{path}: inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not fit")
    if not torch.isfinite(inputs).all():
        bad = int((~torch.isfinite(inputs.flatten(1))).any(1).sum())
        raise BadInput(f"{path}: {bad} of the {len(inputs)} inputs hold NaN or infinite values")
    part = chosen_part(len(targets), data_split, limit)
    return Dataset(path.name, split, (inputs[part], targets[part]), int(targets.max()) + 1)


def from_factory(
    factory: UserFunction, split: str, *, limit: int | None = None, data_split: int = 1, stream: bool | None = None
) -> "AnyData":
    """One split of what a user's function gives: it is called with `split` where it takes that.

    Otherwise it gives the training data, or a dict with the splits. data_split and limit as in `load`. Raises BadInput.
    """
    from lossatlas.data import FixedBatches, as_dataset

    found = factory(split=split)
    if isinstance(found, Mapping) and set(found) <= set(SPLITS) and found:
        if split not in found:
            raise BadInput(f"--dataset {factory} gives {', '.join(found)}, and no '{split}'")
        found = found[split]
    elif split != "train" and "split" not in parameter_names(factory.function):
        raise BadInput(f"--dataset {factory} takes no 'split', so it gives training data alone: let it take one")
    with factory.at_home():
        try:
            data = as_dataset(found, name=str(factory), split=split, stream=stream and by_number(found))
        except Stop as error:
            raise BadInput(f"--dataset {factory}: {error}") from error
        except Exception as error:
            raise BadInput(f"--dataset {factory}: its samples cannot be read: {place_of(error)}") from error
    if isinstance(data, FixedBatches):
        if limit or data_split > 1:
            raise BadInput(
                f"--dataset {factory} gives batches whose shapes differ, of which no part can be taken: leave out "
                "--limit and --data_split"
            )
        return data
    return data.take(chosen_part(len(data), data_split if split == "train" else 1, limit))


def by_number(found: Any) -> bool | None:
    """True for what can be read when it is needed; for other things None, because what is in memory may stay there."""
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    source = found.dataset if isinstance(found, DataLoader) else found
    return True if isinstance(source, Dataset) and not isinstance(source, IterableDataset) else None


def find(name: str, source: DatasetSource, datapath: str | Path | None) -> Path:
    """The folder that holds the data set: `datapath` or one below it, otherwise the usual places."""
    places = (Path(datapath),) if datapath else source.places
    for place in places:
        for folder in (place, *(place / below for below in (*source.below, name))):
            if any((folder / marker).exists() for marker in source.markers):
                return folder
    where = ", ".join(map(str, places))
    hint = ", or fetch it with --download" if source.urls else ""
    raise BadInput(
        f"{name}: no '{source.markers[0]}' in {where}: put the data set there, name its folder with --datapath{hint}"
    )


def own_place(name: str, datapath: str | Path | None) -> Path:
    """Where a user's own data lie. Raises BadUsage, BadInput."""
    if not datapath:
        raise BadUsage(f"--dataset {name}: say which {OWN[name]} with --datapath")
    if not Path(datapath).exists():
        raise BadInput(f"--datapath {datapath}: there is no such {OWN[name]}")
    return Path(datapath)


def get(name: str, datapath: str | Path | None = None, say: Callable[[str], None] = print) -> None:
    """Download a data set unless it is there. Raises BadUsage where there is nothing to download from."""
    if name not in SOURCES:
        raise BadUsage(f"unknown data set '{name}': choose from {', '.join(SOURCES)}")
    source = SOURCES[name]
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
    """`more`, and the folders of that name beside the bundled data and in the user's cache."""
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
OWN = {"imagefolder": "folder with train/<class>/<image>", "npz": "file of arrays"}
SOURCES = {
    "cifar10": DatasetSource(
        read_cifar10,
        ("data_batch_1", "data_batch_1.bin", "test_batch", "test_batch.bin"),
        ("cifar-10-batches-py", "cifar-10-batches-bin"),
        common_places("cifar10", *([str(CLONE / "cifar10" / "data")] if IN_CLONE else [])),
        (125.3 / 255, 123.0 / 255, 113.9 / 255),
        (63.0 / 255, 62.1 / 255, 66.7 / 255),
        10,
        ((TORONTO + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    ),
    "cifar100": DatasetSource(
        read_cifar100,
        ("train", "train.bin", "test", "test.bin"),
        ("cifar-100-python", "cifar-100-binary"),
        common_places("cifar100"),
        (129.3 / 255, 124.1 / 255, 112.4 / 255),
        (68.2 / 255, 65.4 / 255, 70.4 / 255),
        100,
        ((TORONTO + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    ),
    "mnist": DatasetSource(
        read_idx,
        IDX_MARKERS,
        ("MNIST/raw",),
        common_places("mnist", "/usr/share/datasets/mnist"),
        (0.1307,),
        (0.3081,),
        10,
        tuple((MNIST_URL + name, md5) for name, md5 in MNIST_FILES),
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
NAMES = (*SOURCES, *OWN)
