"""Record a training of Hugging Face's Trainer.

from lossatlas.integrations.transformers import RecorderCallback

recording = RecorderCallback("run/", every_n_steps=50)
Trainer(model, TrainingArguments(logging_steps=50, ...), callbacks=[recording], ...).train()
recording.recorder.trajectory().plot()
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.errors import BadUsage, named
from lossatlas.run_recorder import Recorder

if TYPE_CHECKING:

    class TrainerCallback:
        """Stand-in of the class of transformers."""
else:
    if not find_spec("transformers"):
        raise ImportError("lossatlas.integrations.transformers needs transformers: pip install transformers accelerate")
    TrainerCallback = import_module("transformers.trainer_callback").TrainerCallback

TAKEN = ("loss", "step", "now")  # arguments of Recorder.step and amend
OF_THE_WHOLE = ("train_", "total_flos")  # beginnings of names that the Trainer logs once, at the end


class RecorderCallback(TrainerCallback):
    """Recorder of the checkpoints and losses of a training every few steps of the optimizer.

    A checkpoint is numbered by its step. Its loss is the one that the Trainer logs at this step, which is the mean
    since the log before; where the Trainer logs none (`logging_steps`), it is NaN. Other numbers that it logs at the
    step, such as the learning rate and results of evaluations, are recorded as metrics. The last state is always
    recorded.

    Args:
        folder: The folder of this run, see `lossatlas.Recorder`; one of its own, not the Trainer's `output_dir`.
        every_n_steps: Steps between checkpoints.
        keep: The most checkpoints that are kept.

    Attributes:
        recorder: The recorder, once the training has begun.

    Raises:
        BadUsage: `every_n_steps` has no meaning.
    """

    def __init__(self, folder: str | Path, every_n_steps: int = 100, keep: int | None = None) -> None:
        super().__init__()
        if not isinstance(every_n_steps, int) or every_n_steps < 1:
            raise BadUsage(f"{named('every_n_steps', every_n_steps)}: a whole number, at least 1")
        self.folder, self.every_n_steps, self.keep = Path(folder), every_n_steps, keep
        self._recorder: Recorder | None = None

    @property
    def recorder(self) -> Recorder:
        """The recorder of the run.

        Raises:
            BadUsage: The training has not begun.
        """
        if self._recorder is None:
            raise BadUsage("nothing is recorded before Trainer.train: open a recorded run by lossatlas.Recorder.open")
        return self._recorder

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Begin or continue the run.

        Args:
            args: Arguments of the Trainer, unused.
            state: State of the Trainer, with the step at which the training begins.
            control: Control of the Trainer, unused.
            model: The network that is trained.
            **_: Further objects of the Trainer, unused.
        """
        self._recorder = Recorder(model, self.folder, self.every_n_steps, keep=self.keep, start=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the network if its step is due.

        Args:
            args: Arguments of the Trainer, unused.
            state: State of the Trainer, with the number of steps done.
            control: Control of the Trainer, unused.
            **_: Further objects of the Trainer, unused.
        """
        self.recorder.step(step=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Add what the Trainer logs at a recorded step; an evaluation before the training is left out.

        Args:
            args: Arguments of the Trainer, unused.
            state: State of the Trainer, with the number of steps done.
            control: Control of the Trainer, unused.
            logs: Logged numbers by name; "loss" is the mean training loss since the last log.
            **_: Further objects of the Trainer, unused.
        """
        if self._recorder is None or not logs:
            return
        numbers = {
            name: value
            for name, value in logs.items()
            if isinstance(value, int | float) and name not in TAKEN and not name.startswith(OF_THE_WHOLE)
        }
        self._recorder.amend(state.global_step, logs.get("loss"), **numbers)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the last state where it was not due.

        Args:
            args: Arguments of the Trainer, unused.
            state: State of the Trainer, with the number of steps done.
            control: Control of the Trainer, unused.
            **_: Further objects of the Trainer, unused.
        """
        if state.global_step not in self.recorder.steps:
            self.recorder.step(step=state.global_step, now=True)
