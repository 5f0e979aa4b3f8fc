"""Record a training of Lightning, of the package `lightning` or `pytorch_lightning`.

from lossatlas.integrations.lightning import RecorderCallback

recording = RecorderCallback("run/")
Trainer(callbacks=[recording], ...).fit(model, loader)
recording.recorder.trajectory().plot()
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lossatlas.errors import BadUsage, named
from lossatlas.run_recorder import Recorder


def callbacks_of_lightning() -> tuple[type, ...]:
    """Return the class `Callback` of each package that is installed; a Trainer accepts only its own package's."""
    packages = ("lightning", "lightning.pytorch"), ("pytorch_lightning", "pytorch_lightning")
    found = tuple(import_module(module).Callback for package, module in packages if find_spec(package))
    if not found:
        raise ImportError("lossatlas.integrations.lightning needs Lightning: pip install lightning")
    return found


if TYPE_CHECKING:

    class Callback:
        """Stand-in of the class of Lightning."""
else:
    Callback = type("Callback", callbacks_of_lightning(), {})

TAKEN = ("loss", "step", "now")  # arguments of Recorder.step, which metrics of these names would overwrite


class RecorderCallback(Callback):
    """Recorder of the checkpoints and losses of a training, every few epochs or every few steps of the optimizer.

    A checkpoint is numbered by the epochs that are done, or by the steps. Its loss is the mean over the batches since
    the checkpoint before (of the first process); what the module logs is recorded as metrics, except for names in
    `TAKEN`. The last state is always recorded.

    Args:
        folder: The folder of this run, see `lossatlas.Recorder`.
        every_n_epochs: Epochs between checkpoints.
        every_n_steps: Steps between checkpoints, instead of epochs.
        keep: The most checkpoints that are kept.

    Attributes:
        recorder: The recorder, once the training has begun.

    Raises:
        BadUsage: The numbers have no meaning.
    """

    def __init__(
        self, folder: str | Path, every_n_epochs: int = 1, every_n_steps: int | None = None, keep: int | None = None
    ) -> None:
        super().__init__()
        for name, value in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise BadUsage(f"{named(name, value)}: a whole number, at least 1")
        if every_n_steps is not None and every_n_epochs != 1:
            raise BadUsage(
                f"{named('every_n_epochs', every_n_epochs)} or {named('every_n_steps', every_n_steps)}, not both"
            )
        self.folder, self.keep = Path(folder), keep
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self._recorder: Recorder | None = None
        self._sum: Tensor | float = 0.0
        self._batches = 0

    @property
    def recorder(self) -> Recorder:
        """The recorder of the run.

        Raises:
            BadUsage: The training has not begun.
        """
        if self._recorder is None:
            raise BadUsage("nothing is recorded before Trainer.fit: open a recorded run by lossatlas.Recorder.open")
        return self._recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin or continue the run."""
        done = trainer.current_epoch if self.every_n_steps is None else trainer.global_step
        every = self.every_n_steps or self.every_n_epochs
        self._recorder = Recorder(pl_module, self.folder, every, keep=self.keep, start=done)
        self._sum, self._batches = 0.0, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the loss of a batch; record the network if its step is due.

        Args:
            trainer: The Trainer, which knows its step and how many batches it accumulates.
            pl_module: The module that is trained.
            outputs: Result of the training step: the loss, or a mapping with the key "loss".
            batch: The batch, unused.
            batch_idx: Number of the batch in its epoch, unused.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            # Lightning divides the loss of automatic optimization by the number of batches that it accumulates.
            factor = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self._sum = self._sum + loss.detach() * factor
            self._batches += 1
        if self.every_n_steps is not None:
            self._step(trainer, trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the network if its epoch is due."""
        if self.every_n_steps is None:
            self._step(trainer, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the last state where it was not due."""
        done = trainer.current_epoch if self.every_n_steps is None else trainer.global_step
        if done not in self.recorder.steps:
            self._step(trainer, done, now=True)

    def _step(self, trainer: Any, number: int, *, now: bool = False) -> None:
        """Record the network if it is due; a new mean of losses begins then."""
        if not now and not self.recorder.is_due(number):
            return
        metrics = {name: value for name, value in trainer.callback_metrics.items() if name not in TAKEN}
        loss = self._sum / self._batches if self._batches else None
        self.recorder.step(loss, step=number, now=now, **metrics)
        self._sum, self._batches = 0.0, 0
