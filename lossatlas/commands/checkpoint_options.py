"""The options that choose the checkpoints of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lossatlas.config.option_fields import natural, option, positive
from lossatlas.jobs.trajectory.checkpoint_series import MODEL_PREFIX, SUFFIX, FolderSelection


@dataclass(frozen=True)
class SeriesOptions:
    """The checkpoints that belong to a series."""

    HEADING: ClassVar[str] = "checkpoints"

    prefix: str = option(
        MODEL_PREFIX,
        "beginning of the name of a checkpoint; names of lossatlas.Recorder, Lightning and Hugging Face are found "
        "without it",
    )
    suffix: str = option(SUFFIX, "end of the name of a checkpoint")
    start_epoch: int | None = option(None, "first epoch (default: the first there is)", kind=natural)
    max_epoch: int | None = option(None, "last epoch (default: the last there is)", kind=natural)
    save_epoch: int | None = option(None, "take every N-th epoch (default: all there are)", kind=positive, metavar="N")
    checkpoints: tuple[str, ...] = option((), "checkpoint files in order, instead of folders", many="+", metavar="FILE")


def folder_selection(args: SeriesOptions, drops: Sequence[int] = ()) -> FolderSelection:
    """Return the checkpoints of a folder that options choose.

    Args:
        args: The options.
        drops: Epochs at which the learning rate dropped; empty to read them from saved states of the optimizer.
    """
    return FolderSelection(
        prefix=args.prefix,
        suffix=args.suffix,
        start_epoch=args.start_epoch,
        max_epoch=args.max_epoch,
        save_epoch=args.save_epoch,
        drops=tuple(drops),
    )
