"""Scores of a task by a user's function, as metrics of a loss.

loss = with_scores(score, tokenizer)  # score(model, tokenizer, samples) -> (n,)
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossatlas.data.losses import Batch, Losses, LossLike, Model, UserLoss, as_loss, takes
from lossatlas.errors import BadInput, BadUsage, named

SEED = 0  # of what a score draws, the same for every batch
Score = Callable[[Model, Any, Batch], Any]


def with_scores(score: Score, tokenizer: Any = None, loss: LossLike = "next_token") -> UserLoss:
    """Return a loss with further metrics: the scores that a user's function returns.

    Args:
        score: A function score(model, tokenizer, samples) that returns one value for each sample, or a dict of such
            values by name. It may generate: what it draws at random has the same seed for every batch.
        tokenizer: Passed to `score`.
        loss: The loss, see `lossatlas.data.as_loss`. Of samples in a dict, lists of texts do not reach the model.

    Returns:
        The loss, for `lossatlas.surface(..., loss=...)`. The surface has a field for each score, such as `train_NAME`;
        a score without a name has that of the function. Each sample counts once, also in the mean loss, so that the
        mean of a score is that over the samples.

    Raises:
        BadUsage: The loss is unknown, or the score is no function of three arguments.

    Example:
        >>> import lossatlas, torch
        >>> def largest(model, tokenizer, samples):
        ...     return samples.amax(1)
        >>> loss = lossatlas.with_scores(largest)
        >>> model = torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7))
        >>> loss(model, torch.tensor([[1, 2, 3], [5, 6, 1]])).metrics["largest"].tolist()
        [3.0, 6.0]
    """
    check_score(score)
    return ScoredLoss(score, tokenizer, as_loss(loss))


class ScoredLoss(UserLoss):
    """A loss with the scores of a user's function, see `with_scores`. Random numbers are drawn as with one thread."""

    def __init__(self, score: Score, tokenizer: Any, loss: Any) -> None:
        def scored(model: Model, batch: Batch) -> Losses:
            found = loss(model, batch)
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(SEED)
                values = score(model, tokenizer, batch)
            by_name = values if isinstance(values, Mapping) else {score_name(score): values}
            scores = {name: as_values(value, found.per_sample) for name, value in by_name.items()}
            return replace(found, weights=None, metrics={**found.metrics, **scores})

        super().__init__(scored)
        self.single_threaded = True


def check_score(score: Any) -> None:
    """Raise BadUsage for a score that is no function of a model, a tokenizer and samples."""
    what = "give a function score(model, tokenizer, samples)"
    if not callable(score):
        raise BadUsage(f"{named('score', score)}: {what}")
    try:
        signature = inspect.signature(score)
    except (TypeError, ValueError):  # of some built-in functions
        return
    if not takes(signature, 3):
        raise BadUsage(f"the score {score_name(score)}{signature} does not take three arguments: {what}")


def score_name(score: Score) -> str:
    """Return the name of a score that returns no names."""
    return str(getattr(score, "__name__", "score")).strip("<>")


def as_values(values: Any, per_sample: Tensor) -> Tensor:
    """Return scores in float64 on the device of the losses.

    Raises:
        BadInput: The scores are no numbers.
    """
    try:
        return torch.as_tensor(values, dtype=torch.float64, device=per_sample.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"a score gave {type(values).__name__}, not one number for each sample") from error
