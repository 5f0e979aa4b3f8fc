"""Data sets by name: read without executing anything in the files, normalized once, resident in memory.

    python dataloader.py --dataset fashion_mnist_mini                what is found, and where
    python dataloader.py --dataset cifar10 --download                fetch it (only ever when asked)

    from dataloader import load
    data = load("fashion_mnist_mini", "train", limit=500)
    data.inputs, data.targets          # float32 (500, 1, 28, 28), int64 (500,)

Known names: mnist, fashion_mnist, cifar10, cifar100, imagefolder (the layout of ImageNet), npz (a file of arrays), and
fashion_mnist_mini, a balanced subset of Fashion-MNIST that comes with the project (datasets/README.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossatlas import config
from lossatlas.argument_checks import checked_word
from lossatlas.commands import options
from lossatlas.config.option_fields import changed
from lossatlas.datasets.registry import DATASET_NAMES, OWN_KINDS, SOURCES, SPLITS, find, get, load
from lossatlas.errors import BadInput, exit_code


def describe_dataset(name: str, datapath: str | None) -> str:
    """Describe a data set.

    Args:
        name: Name of the data set.
        datapath: Folder or file that holds it; None for the usual places.

    Returns:
        A line that says where it is, and a line for each split.

    Raises:
        BadInput: It is missing.
    """
    from lossatlas.data import Dataset

    lines = [] if name in OWN_KINDS else [f"{name} in {find(name, SOURCES[name], datapath)}"]
    for split in SPLITS:
        try:
            data = load(name, split, datapath=datapath, raw=True)
            inputs = next(data.batches(1))[0]
            labels = data.targets.numpy() if isinstance(data, Dataset) else data.source.labels
            per_class = np.bincount(labels, minlength=data.classes)
            lines.append(
                f"{split}: {len(data)} images of {'x'.join(map(str, inputs.shape[1:]))}, {data.classes} "
                f"classes with {per_class.min()} to {per_class.max()} each, sha256 {data.digest[:16]}"
            )
        except BadInput as error:
            lines.append(f"{split}: {error}")
    return "\n".join(lines)


@dataclass(frozen=True)
class DatasetFileOptions:
    """A data set, its folder, and whether it is downloaded."""

    HEADING: ClassVar[str] = "data"

    dataset: str = changed(
        config.DatasetOptions, "dataset", default="", help=f"one of {', '.join(DATASET_NAMES)}", required=True
    )
    datapath: str | None = changed(
        config.DatasetOptions, "datapath", help="folder of the data set, and of downloads (for npz: the file)"
    )
    download: bool = changed(config.DatasetOptions, "download")


def parser() -> options.Parser[DatasetFileOptions]:
    return options.Parser(__doc__, DatasetFileOptions)


def run(args: DatasetFileOptions) -> None:
    """Fetch the data set if asked, and describe it."""
    checked_word("dataset", args.dataset, DATASET_NAMES)
    if args.download:
        get(args.dataset, args.datapath)
    print(describe_dataset(args.dataset, args.datapath))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
