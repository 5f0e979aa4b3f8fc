"""Checkpoints of a training run: the network and the optimizer's state after an epoch, from which the run continues."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossatlas.errors import BadInput
from lossatlas.models.checkpoint import load_into, put_torch, read_content, read_state


@dataclass(frozen=True)
class EpochResult:
    """The network after an epoch, as checkpoints and the JSON of a network record it.

    Attributes:
        epoch: Epochs done.
        test_loss: Mean loss on the test data.
        test_acc: Accuracy on them in percent; None where the loss gives none.
    """

    epoch: int
    test_loss: float
    test_acc: float | None


@dataclass(frozen=True)
class RestoredRun:
    """The progress of a run that is continued.

    Attributes:
        epochs: Epochs done.
        optimizer_state: State of the optimizer after them.
        curve: Result of each epoch.
    """

    epochs: int
    optimizer_state: dict
    curve: list[EpochResult]


@dataclass(frozen=True)
class RunCheckpoints:
    """Checkpoints of a run in a folder: `model_<epoch>.t7`, as the release of Li et al., and `opt_state_<epoch>.t7`.

    Attributes:
        folder: The folder, which exists.
        recipe: Every setting that decides the result, which checkpoints record, by name.
    """

    folder: Path
    recipe: Mapping[str, Any]

    def epochs(self) -> list[int]:
        """List the epochs of which there is a network."""
        return sorted(int(m[1]) for f in self.folder.iterdir() if (m := re.fullmatch(r"model_(\d+)\.t7", f.name)))

    def has_state(self, epoch: int) -> bool:
        """Return True where there is an optimizer's state after an epoch."""
        return self._state_file(epoch).exists()

    def save(
        self,
        epoch: int,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        curve: list[EpochResult],
        accuracy: float | None,
    ) -> None:
        """Write a checkpoint, after the optimizer's state, without which the run could not be continued from it.

        Args:
            epoch: Epochs done.
            net: The network.
            optimizer: Its optimizer.
            curve: Result of each epoch.
            accuracy: Accuracy of the network on the test data in percent; None for none.

        Raises:
            CannotWrite: A file cannot be written.
        """
        state = {
            "optimizer": optimizer.state_dict(),
            "curve": [asdict(result) for result in curve],
            "recipe": dict(self.recipe),
        }
        put_torch(self._state_file(epoch), state)
        put_torch(self._network_file(epoch), {"state_dict": net.state_dict(), "epoch": epoch, "acc": accuracy})

    def restore(self, net: nn.Module) -> RestoredRun | None:
        """Load the last checkpoint into the network.

        Returns:
            The progress of the run; None where there is no checkpoint.

        Raises:
            BadInput: The checkpoint is of another program, or was made by another recipe.
        """
        epochs = self.epochs()
        if not epochs:
            return None
        file = self._network_file(epochs[-1])
        load_into(net, read_state(file), file.name)
        saved: Any = read_content(self._state_file(epochs[-1]))
        if not isinstance(saved, dict) or "recipe" not in saved:
            raise BadInput(f"{self._state_file(epochs[-1])} was written by another program: it cannot be continued")
        for name in {**self.recipe, **saved["recipe"]}:
            if self.recipe.get(name) != saved["recipe"].get(name):
                raise BadInput(
                    f"{self.folder} was trained with {name} = {saved['recipe'].get(name)}, now it is "
                    f"{self.recipe.get(name)}"
                )
        return RestoredRun(epochs[-1], saved["optimizer"], [EpochResult(**result) for result in saved["curve"]])

    def _network_file(self, epoch: int) -> Path:
        return self.folder / f"model_{epoch}.t7"

    def _state_file(self, epoch: int) -> Path:
        return self.folder / f"opt_state_{epoch}.t7"
