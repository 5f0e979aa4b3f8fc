"""The folder of a recorded training run: `model_<step>.safetensors`, and `recorder.json` of steps, times and losses.

The names are those that `plot_trajectory.py --model_folder` finds. The log lists the files that belong to the run; it
is written after the checkpoint that it names, so that a checkpoint in it is always complete.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lossatlas.errors import BadInput
from lossatlas.io.atomic_write import write_file

LOG = "recorder.json"
FORMAT = "lossatlas recorder 1"


@dataclass(frozen=True)
class Entry:
    """A recorded checkpoint.

    Attributes:
        step: The number of the step or the epoch.
        file: The name of its file in the folder.
        time: When it was recorded, in seconds since 1970.
        loss: The loss that the training gave; NaN for none.
        metrics: Further numbers by name.
    """

    step: int
    file: str
    time: float
    loss: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunLog:
    """The log of a run.

    Attributes:
        entries: The checkpoints that are kept, by increasing step.
        interval: The distance of the checkpoints that are kept, in steps; it doubles when there are too many.
    """

    entries: tuple[Entry, ...]
    interval: int = 1


def read_log(folder: Path) -> RunLog | None:
    """Read the log of a run.

    Args:
        folder: The folder.

    Returns:
        The log with the checkpoints that are there; None where there is no log.

    Raises:
        BadInput: The log is damaged, or of a later version.
    """
    file = folder / LOG
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} is not readable as the log of a run ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadInput(f"{file} was not written by lossatlas.Recorder, or by a later version")
    try:
        entries = [_entry(each) for each in content["entries"]]
        interval = int(content["interval"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInput(f"{file} is damaged ({type(error).__name__}: {error})") from error
    return RunLog(tuple(entry for entry in entries if (folder / entry.file).is_file()), interval)


def _entry(content: Mapping[str, Any]) -> Entry:
    file = str(content["file"])
    if Path(file).name != file:
        raise ValueError(f"{file} lies elsewhere")
    metrics = {str(name): float(value) for name, value in content["metrics"].items()}
    return Entry(int(content["step"]), file, float(content["time"]), float(content["loss"]), metrics)


def bytes_of_log(folder: Path) -> bytes | None:
    """Return the content of a run's log as it is on disk; None where there is none, or it cannot be read."""
    try:
        return (folder / LOG).read_bytes()
    except OSError:
        return None


def write_log(folder: Path, log: RunLog) -> bytes:
    """Write the log of a run atomically.

    Returns:
        The bytes that were written.

    Raises:
        CannotWrite: The file cannot be written.
    """
    entries = [_json_numbers(asdict(entry)) for entry in log.entries]
    content = {"format": FORMAT, "interval": log.interval, "entries": entries}
    image = json.dumps(content, indent=1, allow_nan=False).encode()
    write_file(folder / LOG, image)
    return image


def _json_numbers(value: Any) -> Any:
    """Write a number for which JSON has no notation as a text that `float` reads."""
    if isinstance(value, dict):
        return {name: _json_numbers(each) for name, each in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def thinned(steps: Sequence[int], interval: int, keep: int | None) -> tuple[list[int], int]:
    """Choose the steps to keep: one in each interval, which doubles until there are few enough, and the last.

    Args:
        steps: The steps by increasing number, at least one.
        interval: The interval so far.
        keep: The most steps to keep, at least 2; None for all.

    Returns:
        The steps that are kept, and the interval.

    Example:
        >>> thinned([0, 1, 2, 3, 4, 5], 1, 4)
        ([0, 2, 4, 5], 2)
    """
    if keep is None:
        return list(steps), interval
    while True:
        first_of = {step // interval: step for step in reversed(steps)}
        kept = sorted({*first_of.values(), steps[-1]})
        if len(kept) <= keep:
            return kept, interval
        interval *= 2
