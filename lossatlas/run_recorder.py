"""Record a training run inside one's own training loop, and draw its trajectory afterwards.

recorder = lossatlas.Recorder(net, "run/")
for epoch in range(epochs):
    loss = train_one_epoch(net)
    recorder.step(loss=loss)
recorder.trajectory().plot()
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput, BadUsage, CannotWrite, Stop, first_line, named, note
from lossatlas.evaluation.reference import check_movable
from lossatlas.io.atomic_write import make_folder, set_aside
from lossatlas.io.run_folder import LOG, Entry, RunLog, bytes_of_log, read_log, thinned, write_log
from lossatlas.models.checkpoint import read_state, state_digest, write_tensors
from lossatlas.models.state_names import match_names, state_tensors, without_wrappers
from lossatlas.parameter_space.offloaded import offloaded_tensors
from lossatlas.parameter_space.points import is_sharded

if TYPE_CHECKING:
    from lossatlas.data import DataLike
    from lossatlas.results import Trajectory

FEWEST = 3  # checkpoints that are kept: a plane needs as many


class Recorder:
    """Recorder of the checkpoints and losses of a training run in a folder.

    The network is recorded when the recorder is made (step 0, where a trajectory begins) and then by `step`. The folder
    holds `model_<step>.safetensors`, with the parameters and buffers bit for bit, and `recorder.json`. Recording
    changes nothing of the training: neither the network, its mode and gradients, nor the state of random generators.

    A folder that a recorder wrote is continued where the network fits; any other folder that is not empty is refused.
    Wrappers (DDP, FSDP, torch.compile, AveragedModel) are seen through. Under `torch.distributed` every process makes
    the recorder and calls `step`; the first one writes.

    Args:
        net: The network that is trained.
        folder: The folder of this run; it is made where it is missing.
        every: Record every n-th step.
        keep: The most checkpoints that are kept, at least 3: when there are more, their distance doubles. The first and
            the last are always kept. By default all are.
        start: The number of steps that the network has behind it, where the training does not begin or continue at the
            recorded end: checkpoints of later steps are set aside, under other names.

    Raises:
        BadUsage: An argument has no meaning.
        BadInput: The folder belongs to something else, or holds the run of another network.
        CannotWrite: The folder cannot be written.

    Example:
        >>> import tempfile, torch, lossatlas
        >>> net, x = torch.nn.Linear(2, 1), torch.randn(8, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        >>> recorder = lossatlas.Recorder(net, tempfile.mkdtemp())
        >>> for epoch in range(4):
        ...     loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
        ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
        ...     recorder.step(loss=loss)
        True
        True
        True
        True
        >>> recorder.steps
        [0, 1, 2, 3, 4]
        >>> recorder.trajectory().coordinates.shape
        (5, 2)
    """

    _written: bytes | None  # the log as this recorder wrote or found it

    def __init__(
        self, net: nn.Module, folder: str | Path, every: int = 1, *, keep: int | None = None, start: int | None = None
    ) -> None:
        self._prepare(net, folder, every, keep)
        start = None if start is None else as_whole("start", start, 0)
        log = self._agreed()
        continued = log is not None and start is None
        self._log = log or RunLog((), self.every)
        last = self._log.entries[-1].step if continued and self._log.entries else None
        self._count = (start or 0) if last is None else last
        state = recorded_state(net) if last is None else None
        if not self._writes:
            return
        self._written = bytes_of_log(self.folder)
        make_folder(self.folder)
        if continued:
            self._written = write_log(self.folder, self._log)  # an error now, not after the first epoch
            changed = ""
            if self.checkpoints and not is_sharded(self.net):
                same = state_digest(read_state(self.checkpoints[-1])) == state_digest(recorded_state(self.net) or {})
                changed = "" if same else "; the network is not the one recorded there: start=0 begins a new run"
            note(
                f"{self.folder} is continued after step {self._count}, with {len(self.steps)} checkpoints so "
                f"far{changed}"
            )
        elif log is not None:
            self._set_aside(self._count, same=state)
        if state is not None and self._count not in self.steps:
            self._write(Entry(self._count, f"model_{self._count}.safetensors", time.time()), state)

    @classmethod
    def open(cls, net: nn.Module, folder: str | Path, every: int = 1, *, keep: int | None = None) -> "Recorder":
        """Open a recorded run without writing anything; `step` continues it.

        Args:
            net: A network of the same architecture.
            folder: The folder of the run.
            every: Record every n-th step, as in the constructor.
            keep: The most checkpoints that are kept, as in the constructor.

        Raises:
            BadInput: There is no run, or that of another network.
        """
        recorder = cls.__new__(cls)
        recorder._prepare(net, folder, every, keep)
        log = recorder._existing()
        if log is None:
            raise BadInput(f"{folder} holds no recorded run: there is no {LOG}")
        recorder._log, recorder._written = log, bytes_of_log(recorder.folder)
        recorder._count = recorder.steps[-1] if recorder.steps else 0
        return recorder

    def _prepare(self, net: nn.Module, folder: str | Path, every: int, keep: int | None) -> None:
        if not isinstance(net, nn.Module):
            raise BadUsage(f"a recorder takes the network, a torch.nn.Module, not {type(net).__name__}")
        if not isinstance(folder, str | Path):
            raise BadUsage(f"{named('folder', folder)}: give the path of a folder")
        if Path(folder).is_file():
            raise BadUsage(f"{named('folder', str(folder))} is a file: give the path of a folder")
        self.every = as_whole("every", every, 1)
        self.keep = None if keep is None else as_whole("keep", keep, FEWEST)
        if offloaded_tensors(net):
            raise BadInput(
                f"{type(net).__name__} has weights that accelerate keeps away from the device that computes "
                "(device_map, cpu_offload, disk_offload), which no optimizer trains: record a network whose weights "
                "are all on devices, such as one that is not placed by accelerate"
            )
        check_movable(net)
        self.net, self.folder = net, Path(folder)
        self._writes, self._outdated = process_rank() == 0, False
        self._written = None

    def _agreed(self) -> RunLog | None:
        """Return the log of the folder as the writing process finds it; others need it only if all gather the state."""
        if not is_sharded(self.net):
            return self._existing() if self._writes else None
        found: list[Any] = [None]
        if self._writes:
            try:
                found = [self._existing()]
            except Stop as error:
                found = [error]
        torch.distributed.broadcast_object_list(found, src=0)
        if isinstance(found[0], Stop):
            raise found[0]
        return found[0]

    def _existing(self) -> RunLog | None:
        """Return the log of the folder, None for a new one.

        Raises:
            BadInput: As `read_log`, or the folder holds something else or the run of another network.
        """
        log = read_log(self.folder)
        if log is None:
            others = sorted(p.name for p in self.folder.iterdir()) if self.folder.is_dir() else []
            if others := [name for name in others if not name.startswith(".")]:
                raise BadInput(
                    f"{self.folder} holds {others[0]} and is no recorded run: give a new folder, such as "
                    f"{self.folder / 'recorded'}"
                )
            return None
        if log.entries:
            self._check_fit(self.folder / log.entries[-1].file)
        return log

    def _check_fit(self, file: Path) -> None:
        """Compare names and shapes with a checkpoint; sharded networks are not compared."""
        from safetensors import SafetensorError, safe_open

        if is_sharded(self.net):
            return
        own = {name: list(value.shape) for name, value in state_tensors(self.net).items()}
        try:
            with safe_open(file, "pt") as there:
                recorded = {name: there.get_slice(name).get_shape() for name in there.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{file} is not readable: {error}") from error
        match = match_names(self.net, own, recorded, own)
        wrong = [name for name, name_there in match.names.items() if own[name] != recorded[name_there]]
        if name := next(iter((*wrong, *match.missing, *match.extra)), ""):
            name_there = match.names.get(name, name)
            shapes = [
                f"{tuple(names[key])}" if key in names else "missing"
                for names, key in ((recorded, name_there), (own, name))
            ]
            raise BadInput(
                f"{self.folder} holds the run of another network ('{name}' is {shapes[0]} there, {shapes[1]} here): "
                "give another folder"
            )

    def step(
        self,
        loss: float | Tensor | None = None,
        *,
        step: int | None = None,
        now: bool = False,
        **metrics: float | Tensor,
    ) -> bool:
        """Count a step of the training, and record the network if it is due.

        A step that cannot be recorded (a full disk) is a warning, not an error, so that the training goes on.

        Args:
            loss: The loss of this step or epoch.
            step: The number of the step; by default one more than the last time. After a step back (the training was
                resumed from an earlier point), the checkpoints of later steps are set aside under other names.
            now: Record in any case.
            **metrics: Further numbers, such as an accuracy.

        Returns:
            Whether this step was due; under torch.distributed as the first process counts.

        Raises:
            BadUsage: The loss or a metric is no number, or the step no whole number.
        """
        number = self._count + 1 if step is None else as_whole("step", step, 0)
        values = {name: as_number(name, value) for name, value in {"loss": loss, **metrics}.items()}
        back, due = number < self._count, now or self.is_due(number)
        self._count = number
        if not due and not back:
            return False
        try:
            state = recorded_state(self.net) if due else None  # all processes take part where the network is sharded
            if self._writes and self._is_current():
                if back:
                    self._set_aside(number)
                if state is not None:
                    entry = Entry(number, f"model_{number}.safetensors", time.time(), values.pop("loss"), values)
                    self._write(entry, state)
        except (Stop, OSError, MemoryError, RuntimeError) as error:
            reason = first_line(error)
            note(f"step {number} was NOT recorded in {self.folder}, the training goes on: {reason}")
        return due

    def _is_current(self) -> bool:
        """Return whether nobody else has written the log since this recorder; if not, warn, and recording ends."""
        if not self._outdated and (there := bytes_of_log(self.folder)) is not None and there != self._written:
            self._outdated = True
            note(
                f"another recorder writes {self.folder}, or has written it since: this one records nothing more; give "
                "each training a folder of its own"
            )
        return not self._outdated

    def is_due(self, step: int) -> bool:
        """Return whether `step(step=...)` would record this step."""
        if step < self._count:
            return step % self.every == 0
        return step // self.every > self._count // self.every

    def _write(self, entry: Entry, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint and then the log, and remove the checkpoints that are no longer kept."""
        file = self.folder / entry.file
        if entry.file not in {each.file for each in self._log.entries} and (aside := set_aside(file)):
            note(f"{file} is not in {LOG} and is kept as {aside.name}")  # of a run that was killed, or of the user
        write_tensors(file, state)
        entries = {each.step: each for each in (*self._log.entries, entry)}
        steps, interval = thinned(sorted(entries), max(self._log.interval, self.every), self.keep)
        log = RunLog(tuple(entries[step] for step in steps), interval)
        self._written = write_log(self.folder, log)
        self._log = log
        for step in set(entries) - set(steps):
            (self.folder / entries[step].file).unlink(missing_ok=True)

    def _set_aside(self, number: int, same: Mapping[str, Tensor] | None = None) -> None:
        """Rename the checkpoints from a step on, to which the training has gone back; the one of this state stays."""
        later = [entry for entry in self._log.entries if entry.step >= number]
        if (
            later
            and same
            and later[0].step == number
            and state_digest(read_state(self.folder / later[0].file)) == state_digest(same)
        ):
            later = later[1:]
        if not later:
            return
        self._log = replace(self._log, entries=tuple(e for e in self._log.entries if e not in later))
        self._written = write_log(self.folder, self._log)
        names = [aside.name for entry in later if (aside := set_aside(self.folder / entry.file))]
        note(
            f"{self.folder}: the training is at step {number} again, so {len(later)} checkpoints recorded from there "
            f"on are set aside, as {', '.join(names[:2])}{', ...' * (len(names) > 2)}"
        )

    def amend(self, step: int, loss: float | Tensor | None = None, **metrics: float | Tensor) -> bool:
        """Add the loss or metrics of a recorded step that became known after it.

        Args:
            step: The number of the step.
            loss: Its loss.
            **metrics: Further numbers.

        Returns:
            Whether the step is a recorded one.

        Raises:
            BadUsage: The loss or a metric is no number.
        """
        values = {name: as_number(name, value) for name, value in {"loss": loss, **metrics}.items()}
        entries = {entry.step: entry for entry in self._log.entries}
        if step not in entries or not self._writes or not self._is_current():
            return False
        before, given = entries[step], values.pop("loss")
        entries[step] = replace(
            before, loss=before.loss if loss is None else given, metrics={**before.metrics, **values}
        )
        self._log = replace(self._log, entries=tuple(entries.values()))
        try:
            self._written = write_log(self.folder, self._log)
        except CannotWrite as error:
            note(f"the loss of step {step} was NOT recorded, the training goes on: {error}")
        return True

    @property
    def _entries(self) -> tuple[Entry, ...]:
        """The entries of the log; a process that does not write reads what the first one has written."""
        log = self._log if self._writes else read_log(self.folder)
        return () if log is None else log.entries

    @property
    def checkpoints(self) -> list[Path]:
        """The recorded checkpoints, in the order of training."""
        return [self.folder / entry.file for entry in self._entries]

    @property
    def steps(self) -> list[int]:
        """The number of the step of each checkpoint."""
        return [entry.step for entry in self._entries]

    @property
    def losses(self) -> np.ndarray:
        """(checkpoints,) losses that the training gave; NaN where it gave none, as at step 0."""
        return np.array([entry.loss for entry in self._entries])

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """(checkpoints,) values of each further metric; NaN where it was not given."""
        entries = self._entries
        names = dict.fromkeys(name for entry in entries for name in entry.metrics)
        return {name: np.array([entry.metrics.get(name, np.nan) for entry in entries]) for name in names}

    def trajectory(self, data: "DataLike | None" = None, **options: Any) -> "Trajectory":
        """Project the recorded checkpoints onto a plane, see `lossatlas.trajectory`.

        Args:
            data: Training samples: compute the loss surface under the path too.
            **options: Further arguments of `lossatlas.trajectory`.

        Returns:
            The trajectory, which has `plot()`.

        Raises:
            BadUsage: Fewer than three checkpoints are recorded.
            BadInput: The checkpoints span no plane.
        """
        from lossatlas.trajectories import trajectory

        return trajectory(self.net, self.checkpoints, data, **{"epochs": self.steps, **options})

    def __repr__(self) -> str:
        steps = self.steps
        span = f", steps {steps[0]} to {steps[-1]}" if steps else ""
        return f"<Recorder of {type(unwrapped(self.net)).__name__} in {self.folder}: {len(steps)} checkpoints{span}>"


def process_rank() -> int:
    """Return the rank of this process under torch.distributed, otherwise 0."""
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def unwrapped(net: nn.Module) -> nn.Module:
    """Return the network within DataParallel, DDP, torch.compile and AveragedModel."""
    from torch.optim.swa_utils import AveragedModel

    while True:
        wrapper = isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel)
        inner = getattr(net, "module" if wrapper else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def plain_state(net: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a network under the names that it has without wrappers."""
    return {without_wrappers(name): value for name, value in state_tensors(unwrapped(net)).items()}


def recorded_state(net: nn.Module) -> dict[str, Tensor] | None:
    """Return the tensors to write, on the process that writes; None on the others. A sharded network is gathered."""
    if is_sharded(net):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        return {without_wrappers(n): v for n, v in state.items() if isinstance(v, Tensor)} if state else None
    return plain_state(net) if process_rank() == 0 else None


def as_whole(name: str, value: object, least: int) -> int:
    """Return a whole number, also one of numpy.

    Raises:
        BadUsage: The value is no whole number, or is below `least`.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or int(value) < least:  # type: ignore[call-overload]
        raise BadUsage(f"{named(name, value)}: give a whole number, at least {least}")
    return int(value)  # type: ignore[call-overload]


def as_number(name: str, value: float | Tensor | None) -> float:
    """Return a loss or metric as a number, NaN for None.

    Raises:
        BadUsage: The value is no number.
    """
    if value is None:
        return float("nan")
    try:
        return float(value.detach()) if isinstance(value, Tensor) else float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
        raise BadUsage(f"{named(name)} has to be a number, not {what}: give its mean, or leave it out") from error
