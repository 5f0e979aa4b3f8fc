"""Samples, and losses of them."""

from lossatlas.data.collect import as_dataset
from lossatlas.data.dataset import AnyData, Dataset, FixedBatches
from lossatlas.data.losses import LOSSES, Batch, Loss, Losses, as_loss

__all__ = ["LOSSES", "AnyData", "Batch", "Dataset", "FixedBatches", "Loss", "Losses", "as_dataset", "as_loss"]
