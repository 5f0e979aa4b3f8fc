"""Training runs as a Python function takes them: lists of checkpoints, and folders of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.io.checkpoint_names import checkpoints_in, counted_in
from lossatlas.jobs.inputs.networks import Net
from lossatlas.jobs.trajectory.checkpoint_series import (
    CheckpointSeries,
    learning_rate_drops,
    named_apart,
    short_names,
)
from lossatlas.models.checkpoint import IN_FOLDER

Run = Sequence[Net] | str | Path  # checkpoints in their order, or the folder of a run
RunsLike = str | Path | Sequence[Net | Sequence[Net]]  # a run, or a list of runs; `runs_given` refuses a mixture


def runs_given(
    checkpoints: RunsLike, labels: Sequence[str] | None, epochs: Sequence[Any] | np.ndarray | None
) -> tuple[CheckpointSeries, ...]:
    """Return the runs that a Python function is given.

    Args:
        checkpoints: The checkpoints of a run, which are not read, or the folder of a run, see
            `io.checkpoint_names.checkpoints_in`; or a list of such runs.
        labels: A name for each run; None for the parts in which the names of their folders differ, or their numbers.
        epochs: The epoch or step of each checkpoint; of several runs one sequence for each. None for the numbers in the
            names of a folder's files.

    Returns:
        The runs.

    Raises:
        BadUsage: These are no runs, or there is not one label for each run or one epoch for each checkpoint.
        BadInput: A folder is missing, or holds no checkpoints.
    """
    if isinstance(labels, str):
        raise BadUsage(f"{named('labels', labels)}: give a list with a name for each run")
    items = listed(checkpoints)
    several = [is_run(item) for item in items]
    if not items or not any(several):
        run = series_of(checkpoints if isinstance(checkpoints, str | Path) else items)
        run = run if epochs is None else with_epochs(run, epochs)
        return named_apart([run], list(labels or [run.name]), [run.name])
    if not all(several):
        odd = items[several.index(False)]
        raise BadUsage(
            f"a list of runs holds folders of runs and lists of checkpoints, not {type(odd).__name__} {str(odd)[:60]!r}"
        )
    if epochs is not None and len(epochs) != len(items):
        raise BadUsage(f"{named('epochs')} has {len(epochs)} sequences for {len(items)} runs: give one for each")
    runs = [series_of(item) for item in items]
    runs = runs if epochs is None else [with_epochs(run, each) for run, each in zip(runs, epochs, strict=True)]
    return named_apart(runs, list(labels or default_names(items)), list(map(str, range(1, len(items) + 1))))


def listed(checkpoints: Any) -> list[Any]:
    """Return the items of a list of checkpoints or runs.

    Returns:
        The items; none for a folder, which is one run.

    Raises:
        BadUsage: It is one network, or no list.
    """
    if isinstance(checkpoints, nn.Module | Mapping):
        raise BadUsage("one network is no trajectory: give a list of checkpoints, or the folder of a run")
    if isinstance(checkpoints, str | Path):
        return []
    if not isinstance(checkpoints, Iterable):
        raise BadUsage(f"checkpoints are a list, or the folder of a run, not {type(checkpoints).__name__}")
    return list(checkpoints)


def is_run(item: object) -> bool:
    """Return whether an item of a list is a run, not a checkpoint: a list, or a folder with checkpoints of a run."""
    if isinstance(item, list | tuple):
        return True
    if not isinstance(item, str | Path) or not Path(item).is_dir():
        return False
    return not any((Path(item) / name).is_file() for name in IN_FOLDER) and bool(checkpoints_in(item))


def default_names(items: Sequence[Run]) -> list[str]:
    """Return the names of several runs: of folders the parts in which their names differ, otherwise their numbers."""
    if all(isinstance(item, str | Path) for item in items):
        return short_names([Path(str(item)).absolute().name for item in items])
    return [f"run {k + 1}" for k in range(len(items))]


def series_of(run: Run) -> CheckpointSeries:
    """Return the series of a list of checkpoints or of a folder.

    Raises:
        BadUsage: A checkpoint is neither a network nor a state dict nor a path.
        BadInput: There is no such folder, or no checkpoint of a run in it.
    """
    if not isinstance(run, str | Path):
        for each in run:
            if not isinstance(each, nn.Module | Mapping | str | Path):
                raise BadUsage(f"a checkpoint is a network, a state dict or a path, not {type(each).__name__}")
        given = tuple(run)
        words = {counted_in(each) for each in given if isinstance(each, str | Path)}
        return CheckpointSeries("", given, counted="step" if words == {"step"} else "epoch")
    folder = Path(run)
    if not folder.is_dir():
        raise BadInput(f"no folder of checkpoints at {run}: give the folder of a run, or a list of checkpoints")
    if not (found := checkpoints_in(folder)):
        raise BadInput(f"{run} holds no checkpoints of a run (such as model_10.safetensors): list the checkpoints")
    epochs, files = zip(*found, strict=True)
    drops, counted = learning_rate_drops(folder, epochs), counted_in(files[0])
    return CheckpointSeries(folder.resolve().name, files, epochs, drops, counted=counted)


def with_epochs(run: CheckpointSeries, epochs: Sequence[Any] | np.ndarray) -> CheckpointSeries:
    """Return a run with the epochs of its checkpoints.

    Raises:
        BadUsage: There is not one number for each checkpoint.
    """
    if len(epochs) != len(run.checkpoints):
        raise BadUsage(
            f"{named('epochs')} names {len(epochs)} epochs of {len(run.checkpoints)} checkpoints: give one for each"
        )
    try:
        numbers = tuple(float(epoch) for epoch in epochs)
    except (TypeError, ValueError) as error:
        raise BadUsage(f"{named('epochs')}: give a number for each checkpoint") from error
    return replace(run, epochs=numbers)
