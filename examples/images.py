"""The bundled images, smaller and normalized, for examples that train many small networks.

(inputs, labels), (test_inputs, test_labels) = images(pool=2), images("test", pool=2)
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FILE = Path(__file__).resolve().parent.parent / "lossatlas" / "datasets" / "fashion_mnist_mini.npz"


def images(split: str = "train", *, pool: int = 2, limit: int = 2000, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28 / pool, 28 / pool) and labels (n,), normalized by the mean and deviation of the training images.

    pool: a pixel is the mean of `pool` x `pool` pixels. noise: the share of the labels that are replaced by random
    ones, always the same.
    """
    with np.load(FILE) as file:
        raw, train = (torch.from_numpy(file[f"{name}_images"]).float()[:, None] for name in (split, "train"))
        labels = torch.from_numpy(file[f"{split}_labels"]).long()[:limit]
    train, raw = F.avg_pool2d(train, pool), F.avg_pool2d(raw[:limit], pool)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(len(labels), generator=generator) < noise
    labels = torch.where(chosen, torch.randint(10, labels.shape, generator=generator), labels)
    return (raw - train.mean()) / train.std(), labels
