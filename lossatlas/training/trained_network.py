"""The files of a trained network: its weights, and a JSON that records how it was made."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lossatlas.models import save_state
from lossatlas.training.outputs import write_json
from lossatlas.training.training_run import TrainingRun, none_for_nan


def write_trained_network(
    out: str,
    run: TrainingRun,
    *,
    command: str,
    model: str,
    config: Mapping[str, Any],
    train_loss: float,
    train_accuracy: float,
) -> None:
    """Write a trained network, and a JSON beside it.

    Args:
        out: File of the network.
        run: The training, at its end.
        command: Command line that started it.
        model: Name of the network.
        config: All options by name.
        train_loss: Mean loss on the training data.
        train_accuracy: Accuracy on them in percent; NaN where the loss gives none.

    Raises:
        CannotWrite: A file cannot be written.
    """
    save_state(out, run.net)
    about = {
        "command": command,
        "model": model,
        "dataset": run.data.name,
        **({"init_sha256": run.origin["init"]} if "init" in run.origin else {}),
        "data_sha256": {"train": run.origin["data"], "test": run.test.digest},
        "train_loss": train_loss,
        "train_acc": none_for_nan(train_accuracy),
        "test_loss": run.curve[-1].test_loss,
        "test_acc": run.curve[-1].test_acc,
        "config": config,
        "recipe": asdict(run.recipe),
        "epochs": [asdict(result) for result in run.curve],
        "seconds": round(run.seconds()),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    write_json(Path(out).with_suffix(".json"), about)
