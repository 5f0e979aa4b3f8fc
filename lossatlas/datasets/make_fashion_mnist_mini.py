"""Make fashion_mnist_mini.npz: the first images of each class of Fashion-MNIST, in file order.

python -m lossatlas.datasets.make_fashion_mnist_mini [FOLDER_WITH_THE_IDX_FILES]
"""

import sys
from pathlib import Path

import numpy as np

from lossatlas.datasets.file_formats import read_idx

HERE = Path(__file__).resolve().parent

PER_CLASS = {"train": 200, "test": 100}


def main(folder: str = "/usr/share/datasets/fashion-mnist") -> None:
    """Write the file beside this module, from a folder with the IDX files."""
    arrays = {}
    for split, count in PER_CLASS.items():
        images, labels = read_idx(Path(folder), split)
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == k)[:count] for k in range(10)]))
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images[chosen, 0], labels[chosen]
    out = HERE / "fashion_mnist_mini.npz"
    np.savez_compressed(out, **arrays)
    print(f"{out}: {', '.join(f'{k} {v.shape}' for k, v in arrays.items())}, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
