"""Samples, and losses of them."""

from lossatlas.data.collect import DataLike, as_dataset
from lossatlas.data.dataset import Dataset, FixedBatches
from lossatlas.data.losses import LOSSES, Batch, Loss, Losses, LossLike, as_loss
from lossatlas.data.streamed import AnyData, Streamed, shape_of

__all__ = [
    "LOSSES",
    "AnyData",
    "Batch",
    "DataLike",
    "Dataset",
    "FixedBatches",
    "Loss",
    "LossLike",
    "Losses",
    "Streamed",
    "as_dataset",
    "as_loss",
    "shape_of",
]
