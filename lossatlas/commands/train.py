"""Train a network of the zoo, or one of your own.

    python train.py --model resnet20 --dataset fashion_mnist_mini --epochs 5 --out trained_nets/mine.safetensors
    python train.py --model resnet56_noshort --dataset cifar10 --epochs 300 --augment --schedule step --save nets
    python train.py --model nets.py:make --dataset data.py:load --loss_name losses.py:smooth --epochs 20 --save runs

--out writes the trained network, with a JSON beside it that says how it was made. --save keeps checkpoints
<folder>/<name of the recipe>/model_<epoch>.t7, named as in the release of Li et al., for trajectories and for --resume.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lossatlas import config, programs
from lossatlas.choices import OptimizerName, Schedule
from lossatlas.commands import job_choices, options
from lossatlas.config.option_fields import changed, natural, not_negative, option, positive, resolved_options, share
from lossatlas.errors import BadInput, BadUsage, Incomplete, exit_code, named, say
from lossatlas.io import atomic_write
from lossatlas.io.lock import Lock
from lossatlas.jobs.inputs import file_names
from lossatlas.mpi.rank_resources import device_of, use_threads
from lossatlas.training.outputs import check_output_folder
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch

    from lossatlas.data import AnyData
    from lossatlas.training.loop import TrainingRecipe
    from lossatlas.training.run_checkpoints import EpochResult
    from lossatlas.training.training_run import TrainingRun

ENDINGS = (".safetensors", ".t7", ".pt", ".pth")
REPORT_EVERY = 10  # seconds between lines within an epoch


@dataclass(frozen=True)
class TrainingOptions:
    """The training recipe."""

    HEADING: ClassVar[str] = "training"

    init: str | None = option(None, "start from this checkpoint instead of random weights", metavar="FILE")
    label_corrupt_prob: float = option(
        0.0, "replace this fraction of the labels by random ones", kind=share, metavar="P"
    )
    epochs: int = option(10, "number of epochs", kind=positive, metavar="N")
    batch_size: int = option(128, "samples per batch", kind=positive, metavar="N")
    optimizer: OptimizerName = option("sgd", "SGD with momentum, or Adam")
    lr: float = option(0.1, "peak learning rate", kind=not_negative)
    momentum: float = option(0.9, "momentum of SGD", kind=share)
    weight_decay: float = option(5e-4, "weight decay", kind=not_negative)
    schedule: Schedule = option(
        "cosine",
        "learning rate over the epochs; step: it is multiplied by --lr_decay after 1/2, 3/4 and 11/12 of the epochs",
    )
    lr_decay: float = option(0.1, "factor of --schedule step", kind=not_negative)
    warmup: int = option(200, "number of steps of linear warm-up", kind=natural, metavar="N")
    augment: bool = option(False, "shift images by up to 4 pixels, and mirror them, at random")
    noaug: bool = option(False, "no augmentation, which is the default")
    seed: int = option(0, "seed of the weights and of the order of samples", kind=natural, old=("rand_seed",))
    bfloat16: bool = option(False, "forward and backward pass in bfloat16, weights in float32")


@dataclass(frozen=True)
class TrainOptions(config.ModelOptions, config.DatasetOptions, TrainingOptions, config.DeviceOptions):
    """Training data, network and recipe, and the files of the run."""

    HEADING: ClassVar[str] = "output"

    dataset: str = changed(config.DatasetOptions, "dataset", default="fashion_mnist_mini")
    classes: int | None = changed(
        config.DatasetOptions, "classes", help="number of classes of your own data (default: from the labels)"
    )
    limit: int | None = changed(config.DatasetOptions, "limit", help="use the first N training samples")
    out: str | None = option(
        None,
        "network to write (.safetensors, or a torch file .t7, .pt, .pth), with a JSON file beside it",
        metavar="FILE",
    )
    save: str | None = option(None, "write checkpoints below this folder", metavar="FOLDER")
    save_epoch: int = option(10, "write a checkpoint every N epochs", kind=positive, metavar="N")
    resume: bool = option(False, "continue from the last checkpoint below --save")
    idx: int = option(0, "number of a repeat, which is part of the folder's name", kind=natural, metavar="N")


def parser() -> options.Parser[TrainOptions]:
    return options.Parser(__doc__, TrainOptions)


def folder_name(args: TrainOptions) -> str:
    """Name of the folder of a recipe's checkpoints, as the release of Li et al. forms it."""
    name = Path(file_names.base_name(job_choices.model_choice(args), "")).name
    name += "".join(f"_{file_names.plain(each)}" for each in (*args.model_args, *args.dataset_args))
    name += f"_{args.optimizer}_lr={args.lr}"
    name += f"_lr_decay={args.lr_decay}" if args.lr_decay != 0.1 else ""
    name += f"_bs={args.batch_size}_wd={args.weight_decay}_mom={args.momentum}_save_epoch={args.save_epoch}"
    loss = job_choices.loss_choice(args)
    name += f"_loss={file_names.loss_word(loss)}" if loss != "crossentropy" else ""
    name += "" if args.augment else "_noaug"
    name += "_rawdata" if args.raw_data else ""
    name += f"_randlabel={args.label_corrupt_prob}" if args.label_corrupt_prob > 0 else ""
    return name + (f"_idx={args.idx}" if args.idx else "")


@dataclass
class ProgressLines:
    """Lines about the progress of a training.

    Attributes:
        epochs: Epochs of the recipe.
        last: Time of the last line within an epoch, in seconds of the monotonic clock.
    """

    epochs: int
    last: float = field(default_factory=time.monotonic)

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """Print the loss of a batch every few seconds."""
        if time.monotonic() - self.last >= REPORT_EVERY:
            self.last = time.monotonic()
            say(f"epoch {epoch + 1}/{self.epochs} step {step} loss {loss:.4f}")

    def on_epoch(self, result: "EpochResult", seconds: float) -> None:
        """Print the result of an epoch.

        Args:
            result: The result.
            seconds: The seconds since the start.
        """
        accuracy = _in_percent(result.test_acc)
        say(f"epoch {result.epoch}/{self.epochs}: test loss {result.test_loss:.4f}{accuracy}, {seconds:.0f} s")


def _in_percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f", accuracy {accuracy:.2f} %"


def run(args: TrainOptions, command: Sequence[str]) -> None:
    """Train the network that the command line describes.

    Args:
        args: Command line.
        command: Its words, which the JSON records.

    Raises:
        BadUsage: Options contradict each other, or do not suit the data.
        BadInput: A file is missing, damaged or of another kind.
        CannotWrite: A file cannot be written.
        Incomplete: A signal ended the training.
    """
    with ExitStack() as locks:
        try:
            _train(args, command, locks)
        except KeyboardInterrupt as error:
            save, every = named("save", "FOLDER"), named("save_epoch", "N")
            kept = (
                f"{args.save} keeps the checkpoints up to then, and the same command with {named('resume')} goes on"
                if args.save
                else f"nothing of it is kept: {save}, with {every}, keeps checkpoints"
            )
            raise Incomplete(f"{str(error) or 'interrupted'}: {kept}") from None


def _train(args: TrainOptions, command: Sequence[str], locks: ExitStack) -> None:
    """Train, measure and write; `locks` keeps the locks on the outputs."""
    from lossatlas.training.loop import measure
    from lossatlas.training.trained_network import write_trained_network
    from lossatlas.training.training_run import none_for_nan

    check_options(args)
    device = device_of(args.cuda)
    if args.out:
        locks.enter_context(Lock(args.out))
    use_threads(args.threads)
    training = _prepare(args, device, locks)
    if args.resume and (done := training.restore()):
        say(f"continuing after epoch {done}")
    model = job_choices.model_choice(args)
    training.train(channels_last=not isinstance(model, UserFunction))
    loss, accuracy = measure(training.net, training.data, training.loss)
    if args.out:
        write_trained_network(
            args.out,
            training,
            command=programs.command_line(command[0], command[1:]),
            model=str(model),
            config=resolved_options(args),
            train_loss=loss,
            train_accuracy=accuracy,
        )
    last = training.curve[-1]
    say(
        f"{args.out or training.folder}: train loss {loss:.4f}{_in_percent(none_for_nan(accuracy))}, "
        f"test loss {last.test_loss:.4f}{_in_percent(last.test_acc)}"
    )


def _prepare(args: TrainOptions, device: "torch.device", locks: ExitStack) -> "TrainingRun":
    """Load the data, make the network and the folder of its checkpoints; `locks` keeps the lock on the folder."""
    from lossatlas.jobs.inputs.configured_data import loss_of
    from lossatlas.training.training_inputs import check_batches, initial_network, load_training_data, origin_of
    from lossatlas.training.training_run import TrainingRun

    model, loss_name = job_choices.model_choice(args), job_choices.loss_choice(args)
    loss, dataset = loss_of(loss_name), job_choices.dataset_choice(args)
    data, test = load_training_data(
        dataset, datapath=args.datapath, raw=args.raw_data, limit=args.limit, download=args.download
    )
    net = initial_network(model, data, classes=args.classes, init=args.init, seed=args.seed, device=device)
    recipe, lines = _recipe(args), ProgressLines(args.epochs)
    check_batches(net, data, args.batch_size)
    _note_long_warmup(recipe, data)
    folder = prepare_folder(args)
    if folder is not None:
        say(f"checkpoints go to {folder}")
        locks.enter_context(Lock(folder / "checkpoints"))
    return TrainingRun(
        net=net,
        data=data,
        test=test,
        recipe=recipe,
        loss=loss,
        origin=origin_of(data, args.init, model, loss_name),
        folder=folder,
        save_epoch=args.save_epoch,
        report_step=lines.on_step,
        report_epoch=lines.on_epoch,
    )


def _recipe(args: TrainOptions) -> "TrainingRecipe":
    from lossatlas.training.loop import TrainingRecipe

    return TrainingRecipe(
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        schedule=args.schedule,
        warmup=args.warmup,
        seed=args.seed,
        bfloat16=args.bfloat16,
        optimizer=args.optimizer,
        lr_decay=args.lr_decay,
        loss=str(job_choices.loss_choice(args)),
        augment=args.augment,
        label_corrupt_prob=args.label_corrupt_prob,
    )


def _note_long_warmup(recipe: "TrainingRecipe", data: "AnyData") -> None:
    from lossatlas.training.loop import batches_per_epoch

    steps = recipe.epochs * batches_per_epoch(data, recipe.batch_size)
    if recipe.warmup > steps // 2:
        say(
            f"note: {min(recipe.warmup, steps)} of the {steps} steps are warm-up, with a smaller rate: see "
            f"{named('warmup')}"
        )


def check_options(args: TrainOptions) -> None:
    """Check the options before data are loaded.

    Raises:
        BadUsage: Options are missing or contradict each other.
        BadInput: The folder of the output is missing.
    """
    out, save = named("out"), named("save")
    if not args.out and not args.save:
        raise BadUsage(f"say where the network goes: {out} FILE.safetensors, or {save} FOLDER, or both")
    if args.out and Path(args.out).suffix not in ENDINGS:
        raise BadUsage(f"{named('out', args.out)}: the name has to end in {', '.join(ENDINGS)}")
    if args.out:
        check_output_folder(args.out)
    if args.resume and not args.save:
        raise BadUsage(f"{named('resume')} continues from checkpoints: name their folder with {save}")
    if args.augment and args.noaug:
        raise BadUsage(f"{named('augment')} and {named('noaug')} contradict each other")


def prepare_folder(args: TrainOptions) -> Path | None:
    """Make the folder of the checkpoints.

    Returns:
        The folder; None where no checkpoints are kept.

    Raises:
        BadInput: It holds checkpoints, and the run is not asked to continue them.
        CannotWrite: It cannot be made.
    """
    if not args.save:
        return None
    folder = Path(args.save) / folder_name(args)
    atomic_write.make_folder(folder)
    if list(folder.glob("model_*.t7")) and not args.resume:
        raise BadInput(
            f"{folder} holds checkpoints already: {named('resume')} continues them, {named('idx')} N starts a repeat "
            "beside them"
        )
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    return exit_code(lambda: run(args, ["train", *command]))
