"""The cause of a loss that is not finite, where it is in the data.

with blamed_on(data):
    check_deterministic(operator)       # its NotFiniteLoss says that the data contain NaN, where they do
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lossatlas.data.streamed import AnyData
from lossatlas.data.structures import leaves
from lossatlas.errors import BadInput

SAMPLES_AT_A_TIME = 256


class NotFiniteLoss(BadInput):
    """A loss, or its derivatives, that is not finite.

    Args:
        what: What is not finite.
        cause: The cause, where it is not in the data, or what follows.
    """

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(f"{what}: {cause}")
        self.what = what


def first_not_finite(data: AnyData) -> str:
    """Say that samples contain NaN or infinite values, and which is the first; '' where all are finite.

    Args:
        data: The samples, which are all read.

    Example:
        >>> from lossatlas.data import Dataset
        >>> first_not_finite(Dataset("it", "train", (torch.tensor([[0.0], [float("nan")]]), torch.arange(2)), 2))
        'the data contain NaN, first in sample 1 (counted from 0)'
    """
    start = 0
    for batch in data.batches(SAMPLES_AT_A_TIME):
        tensors = [torch.as_tensor(leaf) for _, leaf in leaves(batch) if not isinstance(leaf, list | tuple)]
        numbers = [each for each in tensors if each.is_floating_point() and each.dim()]
        wrong = [(int(bad.int().argmax()), each) for each in numbers if (bad := has_not_finite(each)).any()]
        if wrong:
            row, tensor = min(wrong, key=lambda pair: pair[0])
            word = "NaN" if tensor[row].isnan().any() else "infinite values"
            return f"the data contain {word}, first in sample {start + row} (counted from 0)"
        start += max((len(each) for each in tensors if each.dim()), default=0)
    return ""


def has_not_finite(samples: Tensor) -> Tensor:
    """Return the mask (samples,) of the samples with a value that is not finite."""
    return ~samples.isfinite().reshape(len(samples), -1).all(1)


@contextmanager
def blamed_on(data: AnyData) -> Iterator[None]:
    """Say in the message of a `NotFiniteLoss` that is raised within that the data are not finite, where they are not.

    Args:
        data: The samples.

    Raises:
        BadInput: The data are not finite.
    """
    try:
        yield
    except NotFiniteLoss as error:
        if found := first_not_finite(data):
            raise BadInput(f"{error.what}: {found}") from error
        raise
