"""The samples of a mean loss, on the device of its network: batches in a fixed order, and their weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossatlas.data.losses import Batch, Loss, Losses, Model
from lossatlas.data.streamed import AnyData, some_of
from lossatlas.data.structures import leaves
from lossatlas.errors import BadInput
from lossatlas.evaluation.folding import NotFoldable
from lossatlas.evaluation.precision import channels_come_last
from lossatlas.evaluation.sample_storage import SampleSpan, StoredSamples, is_changed, place_samples
from lossatlas.hessian.evaluated_network import EvaluatedNetwork

Reduce = Callable[[Tensor], Tensor]  # the sum of a vector over the ranks that share the data
COMPARED_SAMPLES = 16  # spread over the data, on which a copy is compared with the network itself


@dataclass(frozen=True)
class LossSamples:
    """Samples on the device of a network, and the loss of each batch as a part of the mean.

    Attributes:
        loss: `loss(model, batch)`, see `lossatlas.data.losses`.
        stored: The samples of this rank.
        compared: A few of them, spread over the data.
        batch_size: Samples in a batch.
        spans: Where each batch starts and stops.
        total_weight: The weight of all samples, over all ranks.
        penalty_share: This rank's share of the loss's term of the parameters, which every rank adds.
    """

    loss: Loss
    stored: StoredSamples
    compared: StoredSamples
    batch_size: int
    spans: list[SampleSpan]
    total_weight: float
    penalty_share: float

    @classmethod
    def place(
        cls, data: AnyData, loss: Loss, network: EvaluatedNetwork, *, batch_size: int, reduce: Reduce
    ) -> "LossSamples":
        """Put samples onto the device of a network, and sum their weights.

        Args:
            data: The samples.
            loss: The loss.
            network: The network.
            batch_size: Samples in a batch.
            reduce: Sums a vector over the ranks, for each of them.
        """
        chosen = network.chosen
        stored = store(data, loss, network)
        few = some_of(data, COMPARED_SAMPLES)
        compared = place_samples(few, chosen.device, chosen.dtype, channels_last=stored.channels_last)
        spans = list(stored.spans(0, len(stored), batch_size))
        own = weight_of(stored, spans, loss, network)
        total = float(reduce(torch.tensor([own], dtype=torch.float64))[0])
        if not total > 0:
            raise BadInput("no sample counts in the loss: the weights, or the labels that are not ignored, sum to 0")
        return cls(loss, stored, compared, batch_size, spans, total, own / total)

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, as copies where the network overwrites its input."""
        return self.stored.stream(self.spans)

    def of_parts(self, numbers: Sequence[int]) -> list[Batch]:
        """Return the parts of the data with these numbers: one batch of samples, or the batches that have to stay."""
        if not numbers:
            return []
        if self.stored.data.parts == len(self.stored):
            return [self.stored.select(list(numbers))]
        return [self.stored.batch(*self.spans[number]) for number in numbers]

    def few(self, count: int = COMPARED_SAMPLES) -> Batch:
        """Return a batch of a few samples from all over the data, which a network may overwrite."""
        return self.compared.first_samples(count)

    def batch_loss(self, model: Model, batch: Batch, *, penalty: bool = False) -> Tensor:
        """Compute one batch's part of the mean loss, with `penalty` also the loss's term of the parameters."""
        losses = self.loss(model, batch)
        if losses.penalty is not None and not isinstance(model, nn.Module):
            raise NotFoldable("the loss has a term of the parameters")
        part = weighted_sum(losses) / self.total_weight
        return part + losses.penalty * self.penalty_share if penalty and losses.penalty is not None else part


def store(data: AnyData, loss: Loss, network: EvaluatedNetwork) -> StoredSamples:
    """Put samples onto the device, images in the channels-last layout where that is faster and accepted."""
    chosen = network.chosen
    images = any(isinstance(x, Tensor) and x.dim() == 4 for _, x in leaves(next(iter(data.batches(1)))))
    last = channels_come_last(chosen.device, "float32") and not network.in_place
    samples = place_samples(data, chosen.device, chosen.dtype, channels_last=last)
    if images and last and not accepts(network.net, loss, samples.first_samples()):
        samples = place_samples(data, chosen.device, chosen.dtype, channels_last=False)
    return samples


def accepts(net: nn.Module, loss: Loss, batch: Batch) -> bool:
    """Test whether a network takes images in channels-last order, which `view` does not."""
    try:
        with torch.no_grad():
            loss(net, batch)
    except RuntimeError:
        return False
    return True


def weight_of(samples: StoredSamples, spans: Sequence[SampleSpan], loss: Loss, network: EvaluatedNetwork) -> float:
    """Sum the weights of samples, and note in them whether the network overwrites its input.

    Args:
        samples: Samples on the device.
        spans: First sample and end of each batch.
        loss: Loss per sample, which also gives the weights.
        network: The network, on the same device.
    """
    sample = samples.first_samples()
    with torch.no_grad(), network.session():
        loss(network.net, sample)
        samples.overwritten = is_changed(sample, samples.first_samples())
        weights = [loss(network.net, batch).weights for batch in samples.stream(spans)]
    return sum_of_weights(spans, weights)


def sum_of_weights(spans: Sequence[tuple[int, int]], weights: Sequence[Tensor | None]) -> float:
    """Sum the weights of samples over batches.

    Args:
        spans: The samples at which each batch starts and stops.
        weights: The weights of the samples of each batch; None for weights of 1.
    """
    return sum(
        float(stop - start if w is None else w.double().sum()) for (start, stop), w in zip(spans, weights, strict=True)
    )


def weighted_sum(losses: Losses) -> Tensor:
    """Sum the losses of a batch, each times the weight of its sample."""
    return (losses.per_sample if losses.weights is None else losses.weights * losses.per_sample).sum()
