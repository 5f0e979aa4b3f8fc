"""The checkpoints of a training: which there are, in their order, and where its learning rate dropped."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from lossatlas.errors import BadInput, BadUsage
from lossatlas.io.checkpoint_names import checkpoint_exists, checkpoints_in, split_word
from lossatlas.option_fields import natural, option, positive

PREFIX, SUFFIX = "model_", ".t7"  # of train.py and of the release of 2018
DROPPED = 0.5  # a learning rate that is at most this much of the one before has dropped


@dataclass(frozen=True)
class CheckpointOptions:
    """The checkpoints that belong to a series."""

    HEADING: ClassVar[str] = "checkpoints"

    model_folder: tuple[str, ...] = option(
        (), "folder of the checkpoints of a run; several folders for several runs", many="+", metavar="FOLDER"
    )
    prefix: str = option(
        PREFIX,
        "beginning of the name of a checkpoint; names of lossatlas.Recorder, Lightning and Hugging Face are found without it",
    )
    suffix: str = option(SUFFIX, "end of the name of a checkpoint")
    start_epoch: int | None = option(None, "first epoch (default: the first there is)", kind=natural)
    max_epoch: int | None = option(
        None, "last epoch, which is the origin of the plane (default: the last there is)", kind=natural
    )
    save_epoch: int | None = option(None, "take every N-th epoch (default: all there are)", kind=positive, metavar="N")
    checkpoints: tuple[str, ...] = option((), "checkpoint files in order, instead of folders", many="+", metavar="FILE")
    lr_drops: tuple[int, ...] = option(
        (),
        "epochs at which the learning rate was lowered (default: read from the saved states of the optimizer)",
        kind=natural,
        many="+",
        metavar="EPOCH",
    )
    labels: tuple[str, ...] | None = option(
        None, "a name for each run (default: the parts in which the names of the folders differ)", many="+"
    )


@dataclass(frozen=True)
class CheckpointSeries:
    """Checkpoints of one training, in their order. epochs: None where their names do not say."""

    name: str
    files: tuple[Path, ...]
    epochs: tuple[int, ...] | None
    drops: tuple[int, ...]
    slug: str = ""  # a name for files, another one for each run

    def at(self, k: int) -> str:
        """The k-th one, in words."""
        return f"checkpoint {k + 1}" if self.epochs is None else f"epoch {self.epochs[k]}"


def read_series(args: CheckpointOptions) -> tuple[CheckpointSeries, ...]:
    """Return the series of checkpoints that the options name. Raises BadUsage, BadInput."""
    if bool(args.model_folder) == bool(args.checkpoints):
        raise BadUsage("name a --model_folder of checkpoints, or several, or --checkpoints")
    if args.checkpoints:
        files = [Path(file) for file in args.checkpoints]
        if missing := [file for file in files if not checkpoint_exists(file)]:
            raise BadInput(f"no checkpoint {missing[0]}")
        numbers = [int((re.findall(r"\d+", split_word(file)[0].stem) or ["-1"])[-1]) for file in files]
        counted = all(a < b for a, b in pairwise(numbers)) and numbers[0] >= 0
        name = args.labels[0] if args.labels else files[0].resolve().parent.name
        return (
            CheckpointSeries(
                name, tuple(files), tuple(numbers) if counted else None, tuple(args.lr_drops), "checkpoints"
            ),
        )
    runs = [series_in_folder(Path(folder), args) for folder in args.model_folder]
    places = [run.files[0].resolve().parent for run in runs]
    if twice := [place for k, place in enumerate(places) if place in places[:k]]:
        raise BadUsage(f"--model_folder names {twice[0]} twice")
    if args.labels and len(args.labels) != len(runs):
        raise BadUsage(f"--labels gives {len(args.labels)} names for {len(runs)} runs")
    names = args.labels or short_names([Path(folder).absolute().name for folder in args.model_folder])
    if len(set(names)) < len(names):
        names = list(map(str, args.model_folder))
    slugs: list[str] = []
    for name in names:
        slug = re.sub(r"[^\w.=+-]", "_", name)
        slugs.append(slug if slug not in slugs else f"{slug}_{len(slugs) + 1}")
    return tuple(replace(run, name=n, slug=slug) for run, n, slug in zip(runs, names, slugs, strict=True))


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the parts, between underscores, that all of them have."""
    if len(names) < 2:
        return list(names)
    parts = [name.split("_") for name in names]
    common = set(parts[0]).intersection(*parts[1:])
    return [
        " ".join(part for part in own if part not in common) or name for own, name in zip(parts, names, strict=True)
    ]


def series_in_folder(folder: Path, args: CheckpointOptions) -> CheckpointSeries:
    """The checkpoints in a folder, all or those that are asked for."""
    if not folder.is_dir():
        raise BadInput(f"no folder {folder}")
    pattern = re.compile(re.escape(args.prefix) + r"(\d+)" + re.escape(args.suffix))
    named = [(int(found.group(1)), file) for file in folder.iterdir() if (found := pattern.fullmatch(file.name))]
    if not named and (args.prefix, args.suffix) == (PREFIX, SUFFIX):  # of lossatlas.Recorder or another program
        named = checkpoints_in(folder)
    files_of = dict(named)
    if len(files_of) < len(named):
        epoch = next(epoch for epoch, file in named if files_of[epoch] != file)
        raise BadInput(f"{folder} holds epoch {epoch} twice: name --checkpoints, or remove one")
    there = sorted(files_of)
    if not there:
        raise BadInput(f"no checkpoint {args.prefix}<epoch>{args.suffix} in {folder}: set --prefix and --suffix")
    first = there[0] if args.start_epoch is None else args.start_epoch
    last = there[-1] if args.max_epoch is None else args.max_epoch
    if first >= last:
        raise BadUsage(f"--start_epoch {first} has to be below --max_epoch {last}")
    epochs = [epoch for epoch in there if first <= epoch <= last]
    if args.save_epoch:
        epochs = list(range(first, last + 1, args.save_epoch))
    wanted = [*epochs, *(end for end in (first, last) if end not in epochs)]
    missing = [epoch for epoch in sorted(wanted) if epoch not in there]
    if missing:
        name = files_of[there[-1]].name.replace(str(there[-1]), str(missing[0]))
        raise BadInput(
            f"no checkpoint {folder / name} ({len(missing)} of {len(wanted)} are "
            "missing): set --start_epoch, --max_epoch and --save_epoch to what is there"
        )
    epochs = sorted(wanted)
    files = tuple(files_of[epoch] for epoch in epochs)
    return CheckpointSeries(
        folder.resolve().name, files, tuple(epochs), tuple(args.lr_drops) or learning_rate_drops(folder, epochs)
    )


def learning_rate_drops(folder: Path, epochs: Sequence[int]) -> tuple[int, ...]:
    """Epochs at which the learning rate is far below that of the checkpoint before, as the optimizer's states say.

    A smooth schedule has no drops: a state of train.py says which it is, and of others most rates have to be the same.
    """
    from lossatlas.models.checkpoint import read_content

    rates: list[float] = []
    schedule = ""
    for epoch in epochs:
        try:
            content: Any = read_content(folder / f"opt_state_{epoch}.t7")
            rates.append(float(content["optimizer"]["param_groups"][0]["lr"]))
            schedule = content.get("recipe", {}).get("schedule", "")
        except (BadInput, OSError, KeyError, IndexError, TypeError, ValueError, AttributeError):
            return ()
    steady = sum(math.isclose(a, b) for a, b in pairwise(rates))
    if schedule not in ("", "step") or (not schedule and 2 * steady < len(rates) - 1):
        return ()
    pairs = zip(epochs[1:], pairwise(rates), strict=True)
    return tuple(epoch for epoch, (before, now) in pairs if 0 < now <= DROPPED * before)
