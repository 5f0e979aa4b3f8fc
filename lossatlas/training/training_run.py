"""A training run that measures the network after every epoch and keeps checkpoints, from which it can be continued."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossatlas.data import AnyData, Loss
from lossatlas.training.loop import TrainingRecipe, measure, train
from lossatlas.training.run_checkpoints import EpochResult, RunCheckpoints


@dataclass(kw_only=True)
class TrainingRun:
    """A training run of a network on data, in place.

    Attributes:
        net: Network that is trained, with its initial weights.
        data: Data on which it is trained.
        test: Data on which it is measured after every epoch.
        recipe: Recipe of the training.
        loss: Its loss.
        origin: Hashes of the data, of the initial checkpoint and of the user's code.
        folder: Folder of the checkpoints; None to keep none.
        save_epoch: Epochs between checkpoints.
        report_step: Called with (epoch, step, batch loss) after every step.
        report_epoch: Called with (result, seconds since the start) after every epoch.
        curve: Result of each epoch.
        done: Epochs of a run that is continued.
        optimizer_state: State of the optimizer after them; None for a new run.
        started: Time of the start, in seconds of the monotonic clock.
    """

    net: nn.Module
    data: AnyData
    test: AnyData
    recipe: TrainingRecipe
    loss: Loss
    origin: Mapping[str, str]
    folder: Path | None
    save_epoch: int
    report_step: Callable[[int, int, float], None] = lambda epoch, step, loss: None
    report_epoch: Callable[[EpochResult, float], None] = lambda result, seconds: None
    curve: list[EpochResult] = field(default_factory=list, init=False)
    done: int = field(default=0, init=False)
    optimizer_state: dict[str, Any] | None = field(default=None, init=False)
    started: float = field(default_factory=time.monotonic, init=False)

    @property
    def checkpoints(self) -> RunCheckpoints | None:
        """The checkpoints of the run; None where none are kept."""
        return RunCheckpoints(self.folder, {**asdict(self.recipe), **self.origin}) if self.folder else None

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.monotonic() - self.started

    def restore(self) -> int:
        """Load the last checkpoint into the network, from which `train` continues.

        Returns:
            The number of epochs done; 0 where there is no checkpoint.

        Raises:
            BadInput: The checkpoint is of another program, or was made by another recipe.
        """
        progress = self.checkpoints.restore(self.net) if self.checkpoints else None
        if progress is not None:
            self.done, self.optimizer_state = progress.epochs, progress.optimizer_state
            self.curve += progress.curve
        return self.done

    def train(self, *, channels_last: bool) -> None:
        """Train to the last epoch of the recipe.

        Args:
            channels_last: See `loop.train`.

        Raises:
            BadUsage: The recipe does not suit the data.
            CannotWrite: A checkpoint cannot be written.
        """
        train(
            self.net,
            self.data,
            self.recipe,
            self.report_step,
            self.on_epoch,
            on_start=self.on_start,
            loss=self.loss,
            channels_last=channels_last,
            start=self.done,
            optimizer_state=self.optimizer_state,
        )

    def on_start(self, optimizer: torch.optim.Optimizer) -> None:
        """Save the network before its first step, where a trajectory begins."""
        if self.checkpoints and not self.checkpoints.has_state(0):
            _, accuracy = measure(self.net, self.test, self.loss)
            self.checkpoints.save(0, self.net, optimizer, self.curve, accuracy)

    def on_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Measure the network, report the result, and save a checkpoint where one is due."""
        loss, accuracy = measure(self.net, self.test, self.loss)
        result = EpochResult(epoch, loss, none_for_nan(accuracy))
        self.curve.append(result)
        self.report_epoch(result, self.seconds())
        if self.checkpoints and (epoch % self.save_epoch == 0 or epoch == self.recipe.epochs):
            self.checkpoints.save(epoch, self.net, optimizer, self.curve, result.test_acc)


def none_for_nan(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if math.isnan(value) else value
