"""Checks of a user's loss on a few samples, before a surface is computed with it."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossatlas.data.dataset import BATCH_AS_SAMPLE
from lossatlas.data.losses import Batch, Loss, Losses, Model
from lossatlas.data.structures import leaves, selected_samples
from lossatlas.errors import BadInput
from lossatlas.landscape.statistics import STATISTICS

RESERVED = ("loss", "loss_se", "acc", *STATISTICS)  # names of fields and statistics that every surface has
MAX_DIFFERENCE = 1e-3  # of per-sample losses between a batch and its halves, relative to all of them
MAX_MEAN_DIFFERENCE = 2e-5  # the same of the mean of a batch
NEGLIGIBLE = 1e-6  # difference that float32 outputs may cause in losses that are nearly zero


@torch.no_grad()
def check_loss(loss: Loss, model: Model, batch: Batch, copied: Callable[[Batch], Batch]) -> Losses:
    """Evaluate a loss on a batch, and check that it is deterministic and per sample.

    Args:
        loss: The loss.
        model: The network; its outputs have to be float64, because losses near zero would be rounding errors otherwise.
        batch: A few samples.
        copied: Copies a batch to the device of the model, because a network may write into its input.

    Returns:
        The losses of the batch.

    Raises:
        BadInput: The loss is random, a sum over the samples, a mean over something else, or its shapes do not match.
    """
    with torch.random.fork_rng():
        found, again = (loss(model, copied(batch)) for _ in range(2))
    count = next(len(leaf) for _, leaf in leaves(batch) if not isinstance(leaf, Tensor) or leaf.dim())
    check_shapes(found, count)
    check_metric_names(found)
    if not torch.equal(found.per_sample, again.per_sample) and not torch.isnan(found.per_sample).any():
        most = float((found.per_sample - again.per_sample).abs().max())
        raise BadInput(
            f"the loss differs when it is computed twice (by {most:.2g}): the network or the loss is random in eval "
            "mode, as with functional dropout without training=False"
        )
    if count > 1:
        cuts = slice(count // 2), slice(count // 2, count)
        check_independence(found, [loss(model, copied(selected_samples(batch, cut))) for cut in cuts])
    return found


def check_shapes(losses: Losses, count: int) -> None:
    """Check that every value is per sample, and the penalty a scalar.

    Raises:
        BadInput: It is not.
    """
    values = {"per_sample": losses.per_sample, "weights": losses.weights}
    values |= {f"metrics['{name}']": value for name, value in losses.metrics.items()}
    for name, value in values.items():
        if value is not None and (not isinstance(value, Tensor) or value.shape != (count,)):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BadInput(f"a loss gave {name} {given} for {count} samples: give a tensor ({count},)")
    if losses.penalty is not None and (not isinstance(losses.penalty, Tensor) or losses.penalty.dim()):
        raise BadInput("a loss gave a penalty that is not a tensor without axes: sum it")


def check_metric_names(losses: Losses) -> None:
    """Check that metrics can be fields of a surface and names in its file.

    Raises:
        BadInput: A name is reserved, empty, or contains a slash.
    """
    for name in losses.metrics:
        if name in RESERVED:
            raise BadInput(f"a loss gave a metric called '{name}', which a surface has already: give it another name")
        if "/" in name or not name:
            raise BadInput(
                f"a loss gave a metric called '{name}': leave out the slash, names are those of fields in a file"
            )


def check_independence(whole: Losses, halves: list[Losses]) -> None:
    """Check that the loss of a sample, or the mean of a batch, does not depend on the other samples.

    Raises:
        BadInput: The losses of a batch differ from the losses of its halves.
    """
    apart, together = torch.cat([half.per_sample for half in halves]), whole.per_sample
    if not whole.spread:
        apart, together = apart.mean(), together.mean()
    known = torch.isfinite(apart) & torch.isfinite(together)
    error, size = ((values * known.to(values)).nan_to_num().norm() for values in (apart - together, together))
    agree = torch.equal(torch.isfinite(apart), torch.isfinite(together))
    if not agree or error > (MAX_DIFFERENCE if whole.spread else MAX_MEAN_DIFFERENCE) * size + NEGLIGIBLE:
        raise BadInput(
            "the loss of a sample depends on the others in its batch: it is a sum, or a mean over something else than "
            "samples (ignored labels, weights, tokens of padded sequences), or the network normalizes over the batch; "
            "let a loss(model, batch) return lossatlas.Losses(per_sample, weights=...), such as the mean over the "
            "tokens of each sequence and their numbers; samples lie along the first axis of every tensor; "
            f"{BATCH_AS_SAMPLE}"
        )
