"""The checkpoints of training runs: which there are, in their order, and where the learning rate dropped."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.io.checkpoint_names import checkpoint_exists, checkpoints_in, counted_in, split_word

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.jobs.inputs.networks import Net

MODEL_PREFIX, SUFFIX = "model_", ".t7"  # of train.py and of the release of 2018
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".t7", ".ckpt", ".bin", ".safetensors")
NUMBERED = re.compile(r"(.*?)\d+(\D*)")  # a name, what is before its last number, and after it
DROPPED = 0.5  # a learning rate that is at most this much of the one before has dropped


@dataclass(frozen=True)
class CheckpointSeries:
    """Checkpoints of one training run, in their order.

    Attributes:
        name: Name of the run.
        checkpoints: The checkpoints: files, and in Python also networks and state dicts.
        epochs: The epoch or step of each checkpoint; None where it is not known.
        drops: Epochs at which the learning rate dropped.
        slug: Name of the run in names of files, unique among the runs.
        counted: What `epochs` are numbers of, "epoch" or "step".
    """

    name: str
    checkpoints: "tuple[Net, ...]"
    epochs: tuple[float, ...] | None = None
    drops: tuple[float, ...] = ()
    slug: str = ""
    counted: str = "epoch"

    def at(self, k: int) -> str:
        """Describe the k-th checkpoint by its epoch or number."""
        return f"checkpoint {k + 1}" if self.epochs is None else f"{self.counted} {self.epochs[k]}"

    def source(self, k: int) -> str:
        """Name the k-th checkpoint by its path, or by its number where it is no file."""
        checkpoint = self.checkpoints[k]
        return str(checkpoint) if isinstance(checkpoint, str | Path) else f"checkpoint {k % len(self.checkpoints) + 1}"

    def file_name(self, k: int) -> str:
        """Name the k-th checkpoint by its file name, or by its number where it is no file."""
        return Path(self.source(k)).name

    @property
    def files(self) -> tuple[Path, ...]:
        """The files; for series whose checkpoints are files."""
        return tuple(Path(str(checkpoint)) for checkpoint in self.checkpoints)

    @property
    def folder(self) -> Path:
        """The folder of the first file."""
        return self.files[0].parent


def names_in_use(folder: Path) -> str:
    """Return the beginning and the end of the names of a folder's checkpoints, as options; '' where none is found."""
    for file in sorted(folder.iterdir()):
        if file.suffix in CHECKPOINT_SUFFIXES and (found := NUMBERED.fullmatch(file.stem)):
            return f", as in {named('prefix', found[1])} {named('suffix', found[2] + file.suffix)} for {file.name}"
    return ""


@dataclass(frozen=True)
class FolderSelection:
    """The checkpoints in a folder that belong to a series.

    Attributes:
        prefix: Beginning of their names, before the epoch.
        suffix: End of their names.
        start_epoch: First epoch; None for the first there is.
        max_epoch: Last epoch; None for the last there is.
        save_epoch: Distance of epochs; None for all there are.
        drops: Epochs at which the learning rate dropped; empty to read them from saved states of the optimizer.
    """

    prefix: str = MODEL_PREFIX
    suffix: str = SUFFIX
    start_epoch: int | None = None
    max_epoch: int | None = None
    save_epoch: int | None = None
    drops: tuple[int, ...] = ()

    def numbered(self, folder: Path) -> dict[int, Path]:
        """Return the checkpoints in a folder by epoch.

        Raises:
            BadInput: There is no such folder or no checkpoint in it, or one epoch is there twice.
        """
        if not folder.is_dir():
            raise BadInput(f"no folder {folder}")
        pattern = re.compile(re.escape(self.prefix) + r"(\d+)" + re.escape(self.suffix))
        found = [(int(match.group(1)), file) for file in folder.iterdir() if (match := pattern.fullmatch(file.name))]
        by_default = (self.prefix, self.suffix) == (MODEL_PREFIX, SUFFIX)
        if not found and by_default:  # files of lossatlas.Recorder or of another program
            found = checkpoints_in(folder)
        files = dict(found)
        if len(files) < len(found):
            epoch = next(epoch for epoch, file in found if files[epoch] != file)
            raise BadInput(f"{folder} holds epoch {epoch} twice: name {named('checkpoints')}, or remove one")
        if not files:
            raise BadInput(
                f"no checkpoint {self.prefix}<epoch>{self.suffix} in {folder}: set {named('prefix')} and "
                f"{named('suffix')}{names_in_use(folder)}"
            )
        return files

    def epochs(self, there: Sequence[int]) -> list[int]:
        """Return the epochs of the series.

        Args:
            there: The epochs of the checkpoints in the folder, in order.

        Returns:
            The selected ones of these; with `save_epoch` all epochs at this distance, of which some may be missing.

        Raises:
            BadUsage: The first epoch is not below the last one.
        """
        first = there[0] if self.start_epoch is None else self.start_epoch
        last = there[-1] if self.max_epoch is None else self.max_epoch
        if first >= last:
            raise BadUsage(f"{named('start_epoch', first)} has to be below {named('max_epoch', last)}")
        epochs = [epoch for epoch in there if first <= epoch <= last]
        if self.save_epoch:
            epochs = list(range(first, last + 1, self.save_epoch))
        return sorted({*epochs, first, last})

    def series(self, folder: Path) -> CheckpointSeries:
        """Return the series of a folder.

        Raises:
            BadUsage: The first epoch is not below the last one.
            BadInput: The folder or a checkpoint is missing, or an epoch is there twice.
        """
        files = self.numbered(folder)
        there = sorted(files)
        epochs = self.epochs(there)
        if missing := [epoch for epoch in epochs if epoch not in files]:
            name = files[there[-1]].name.replace(str(there[-1]), str(missing[0]))
            raise BadInput(
                f"no checkpoint {folder / name} ({len(missing)} of {len(epochs)} are missing): set "
                f"{named('start_epoch')}, {named('max_epoch')} and {named('save_epoch')} to what is there"
            )
        drops = self.drops or learning_rate_drops(folder, epochs)
        chosen = tuple(files[epoch] for epoch in epochs)
        name, counted = folder.resolve().name, counted_in(chosen[0])
        return CheckpointSeries(name, chosen, tuple(epochs), drops, counted=counted)


def series_of_files(files: Sequence[str], name: str = "", drops: Sequence[int] = ()) -> CheckpointSeries:
    """Return the series of files in their order; the last number in each name is the epoch where these increase.

    Args:
        files: The checkpoints.
        name: Name of the run; '' for the name of the first file's folder.
        drops: Epochs at which the learning rate dropped.

    Returns:
        The series.

    Raises:
        BadInput: A file is missing.
    """
    paths = [Path(file) for file in files]
    if missing := [file for file in paths if not checkpoint_exists(file)]:
        raise BadInput(f"no checkpoint {missing[0]}")
    numbers = [int((re.findall(r"\d+", split_word(file)[0].stem) or ["-1"])[-1]) for file in paths]
    counted = all(a < b for a, b in pairwise(numbers)) and numbers[0] >= 0
    name = name or paths[0].resolve().parent.name
    epochs, word = tuple(numbers) if counted else None, counted_in(paths[0])
    return CheckpointSeries(name, tuple(paths), epochs, tuple(drops), "checkpoints", counted=word)


def series_of_folders(
    folders: Sequence[str], selection: FolderSelection, labels: Sequence[str] = ()
) -> tuple[CheckpointSeries, ...]:
    """Return the series of several folders, each a run.

    Args:
        folders: The folders.
        selection: The checkpoints in each of them.
        labels: A name for each run; empty for the parts in which the names of the folders differ.

    Returns:
        The series.

    Raises:
        BadUsage: A folder is there twice, or there is not one label for each.
        BadInput: See `FolderSelection.series`.
    """
    runs = [selection.series(Path(folder)) for folder in folders]
    places = [run.folder.resolve() for run in runs]
    if twice := [place for k, place in enumerate(places) if place in places[:k]]:
        raise BadUsage(f"{named('model_folder')} names {twice[0]} twice")
    names = list(labels) or short_names([Path(folder).absolute().name for folder in folders])
    return named_apart(runs, names, list(map(str, folders)))


def named_apart(
    runs: Sequence[CheckpointSeries], names: Sequence[str], long_names: Sequence[str]
) -> tuple[CheckpointSeries, ...]:
    """Give each run its name, and a slug of its own.

    Args:
        runs: The runs.
        names: Their names.
        long_names: Names that are used where two of `names` are the same.

    Raises:
        BadUsage: There is not one name for each run.
    """
    if len(names) != len(runs):
        raise BadUsage(f"{named('labels')} gives {len(names)} names for {len(runs)} runs")
    if len(set(names)) < len(names):
        names = long_names
    slugs: list[str] = []
    for name in names:
        slug = re.sub(r"[^\w.=+-]", "_", name)
        slugs.append(slug if slug not in slugs else f"{slug}_{len(slugs) + 1}")
    return tuple(replace(run, name=n, slug=slug) for run, n, slug in zip(runs, names, slugs, strict=True))


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the parts, between underscores, that all of them have."""
    if len(names) < 2:
        return list(names)
    parts = [name.split("_") for name in names]
    common = set(parts[0]).intersection(*parts[1:])
    return [
        " ".join(part for part in own if part not in common) or name for own, name in zip(parts, names, strict=True)
    ]


def learning_rate_drops(folder: Path, epochs: Sequence[int]) -> tuple[int, ...]:
    """Return the epochs at which the learning rate is far below the rate at the checkpoint before.

    The saved states of the optimizer hold the rates. A smooth schedule has no drops: a state of train.py says which it
    is, and of others most rates have to be the same.

    Args:
        folder: The folder of the states.
        epochs: The epochs of the series.
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
