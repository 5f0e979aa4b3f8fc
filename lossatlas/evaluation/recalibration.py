"""Running statistics of BatchNorm, estimated again at every point.

Between two networks, or far from one, the running means and variances of a checkpoint are not the statistics of the
activations there, and part of the loss is due to this mismatch alone. They are estimated from a fixed sequence of
training samples, as torch.optim.swa_utils.update_bn does: the mean over batches of each batch's mean and variance, all
layers in one pass.
"""

import torch
from torch import nn

from lossatlas.choices import EvaluationPrecision
from lossatlas.data.dataset import FixedBatches
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.errors import BadUsage, named
from lossatlas.evaluation.precision import LOW
from lossatlas.evaluation.sample_storage import StoredSamples

RECALIBRATION_BATCH = 125  # samples of a batch
NORM = nn.modules.batchnorm._BatchNorm


def batchnorm_layers(net: nn.Module) -> list[NORM]:
    """Return the BatchNorm layers of a network that have running statistics."""
    return [module for module in net.modules() if isinstance(module, NORM) and module.running_mean is not None]


def check_recalibrated(net: nn.Module, data: AnyData, precision: EvaluationPrecision, count: int) -> None:
    """Check that the statistics of BatchNorm can be estimated.

    Args:
        net: The network.
        data: The training samples.
        precision: The precision of the evaluation.
        count: The number of training samples to use.

    Raises:
        BadUsage: The network has no BatchNorm with running statistics, the precision is too low, or there are fewer
            than two single samples.
    """
    if not batchnorm_layers(net):
        raise BadUsage(
            f"there is no BatchNorm with running statistics in this network to recalibrate: use {named('bn', 'keep')}"
        )
    if precision in LOW:
        raise BadUsage(
            f"BatchNorm is not recalibrated in {precision}: use float32, float64 or tf32, or {named('bn', 'keep')}"
        )
    if isinstance(data, FixedBatches) or (isinstance(data, Streamed) and data.fixed):
        raise BadUsage(
            "BatchNorm is recalibrated on single training samples, and these come in batches that stay as they are"
        )
    if not isinstance(count, int) or min(len(data), count) < 2:
        raise BadUsage(
            f"BatchNorm is recalibrated on two training samples at least: {count} of {len(data)} are asked for"
        )


class BatchNormRecalibration:
    """Estimator of the statistics of BatchNorm from the first samples of the shuffled order.

    Called when the network has moved.

    Args:
        net: The network; its BatchNorm layers get buffers of their own.
        samples: The training samples.
        count: The number of samples to use.
        forward: The loss, which evaluates the network on a batch.
    """

    def __init__(self, net: nn.Module, samples: StoredSamples, count: int, forward: Loss) -> None:
        self.net, self.samples, self.forward = net, samples, forward
        self.norms = batchnorm_layers(net)
        count = min(count, len(samples))
        ranges = [(start, min(stop, count)) for start, stop in samples.spans(0, count, RECALIBRATION_BATCH)]
        self.spans = [(start, stop) for start, stop in ranges if stop - start > 1]  # one sample has no variance
        for module in self.norms:
            module.momentum = None  # the mean over all batches
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer.clone())

    @torch.no_grad()
    def __call__(self) -> None:
        """Estimate the statistics at the current point."""
        for module in self.norms:
            module.reset_running_stats()
            module.train()
        try:
            for batch in self.samples.stream(self.spans, shuffled=True):
                self.forward(self.net, batch)
        finally:
            for module in self.norms:
                module.eval()
