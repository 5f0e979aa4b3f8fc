"""Samples, and losses of them."""

from lossatlas.data.dataset import Dataset
from lossatlas.data.losses import LOSSES, Batch, Loss, Losses

__all__ = ["LOSSES", "Batch", "Dataset", "Loss", "Losses"]
