"""Train a network of the zoo, or one of your own.

    python train.py --model resnet20 --dataset fashion_mnist_mini --epochs 5 --out trained_nets/mine.safetensors
    python train.py --model resnet56_noshort --dataset cifar10 --epochs 300 --augment --schedule step --save nets
    python train.py --model nets.py:make --dataset data.py:load --loss_name losses.py:smooth --epochs 20 --save runs

--out writes the trained network, with a JSON beside it that says how it was made. --save keeps checkpoints
<folder>/<name of the recipe>/model_<epoch>.t7, named as in the release of Li et al., for trajectories and for --resume.
"""

import math
import platform
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lossatlas import config, programs
from lossatlas.commands import options
from lossatlas.commands.training_output import check_output_folder, write_json
from lossatlas.errors import BadInput, BadUsage, Incomplete, exit_code, named, say
from lossatlas.io import atomic_write
from lossatlas.io.lock import Lock
from lossatlas.jobs.inputs import file_names
from lossatlas.mpi.rank_resources import use_threads
from lossatlas.option_fields import changed, natural, not_negative, option, positive, resolved, share
from lossatlas.user_code import UserFunction, is_user_function

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.training.loop import TrainingRecipe

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
    optimizer: str = option("sgd", "SGD with momentum, or Adam", choices=("sgd", "adam"))
    lr: float = option(0.1, "peak learning rate", kind=not_negative)
    momentum: float = option(0.9, "momentum of SGD", kind=share)
    weight_decay: float = option(5e-4, "weight decay", kind=not_negative)
    schedule: str = option(
        "cosine",
        "learning rate over the epochs; step: it is multiplied by --lr_decay after 1/2, 3/4 and 11/12 of the epochs",
        choices=("cosine", "step", "constant"),
    )
    lr_decay: float = option(0.1, "factor of --schedule step", kind=not_negative)
    warmup: int = option(200, "number of steps of linear warm-up", kind=natural, metavar="N")
    augment: bool = option(False, "shift images by up to 4 pixels, and mirror them, at random")
    noaug: bool = option(False, "no augmentation, which is the default")
    seed: int = option(0, "seed of the weights and of the order of samples", kind=natural, old=("rand_seed",))
    bfloat16: bool = option(False, "forward and backward pass in bfloat16, weights in float32")


@dataclass(frozen=True)
class TrainOptions(config.ModelOptions, config.DatasetOptions, TrainingOptions, config.DeviceOptions):
    """The options of this command."""

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
    name = file_names.base_name(options.model_choice(args), "")
    name += "".join(f"_{file_names.plain(each)}" for each in (*args.model_args, *args.dataset_args))
    name += f"_{args.optimizer}_lr={args.lr}"
    name += f"_lr_decay={args.lr_decay}" if args.lr_decay != 0.1 else ""
    name += f"_bs={args.batch_size}_wd={args.weight_decay}_mom={args.momentum}_save_epoch={args.save_epoch}"
    loss = options.loss_choice(args)
    name += f"_loss={file_names.loss_word(loss)}" if loss != "crossentropy" else ""
    name += "" if args.augment else "_noaug"
    name += "_rawdata" if args.raw_data else ""
    name += f"_randlabel={args.label_corrupt_prob}" if args.label_corrupt_prob > 0 else ""
    return name + (f"_idx={args.idx}" if args.idx else "")


@dataclass(kw_only=True)
class TrainingRun:
    """A training run that reports its progress and saves checkpoints.

    Attributes:
        net: Network that is trained in place.
        test: Data on which it is measured after every epoch.
        recipe: Recipe of the training.
        loss: Its loss.
        folder: Folder of the checkpoints; None to keep none.
        save_epoch: Epochs between checkpoints.
        origin: Hashes of the data, of the initial checkpoint and of the user's code.
        curve: Test loss and accuracy after each epoch.
        started: Time of the start, in seconds of the monotonic clock.
        last: Time of the last report within an epoch.
    """

    net: "nn.Module"
    test: "AnyData"
    recipe: "TrainingRecipe"
    loss: "Loss"
    folder: Path | None
    save_epoch: int
    origin: dict[str, str]
    curve: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        """Print the loss of a batch every few seconds."""
        if time.monotonic() - self.last >= REPORT_EVERY:
            self.last = time.monotonic()
            say(f"epoch {epoch + 1}/{self.recipe.epochs} step {step} loss {loss:.4f}")

    def on_epoch(self, epoch: int, optimizer: "torch.optim.Optimizer") -> None:
        """Measure the network, print the result, and save a checkpoint where one is due."""
        from lossatlas.training.loop import measure

        loss, accuracy = measure(self.net, self.test, self.loss)
        self.curve.append({"epoch": epoch, "test_loss": loss, "test_acc": _none_for_nan(accuracy)})
        say(
            f"epoch {epoch}/{self.recipe.epochs}: test loss {loss:.4f}{_in_percent(accuracy)}, "
            f"{time.monotonic() - self.started:.0f} s"
        )
        if epoch % self.save_epoch == 0 or epoch == self.recipe.epochs:
            self._save(epoch, optimizer)

    def on_start(self, optimizer: "torch.optim.Optimizer") -> None:
        """Save the network before its first step, where a trajectory begins."""
        if self.folder is not None and not (self.folder / "opt_state_0.t7").exists():
            self._save(0, optimizer)

    def _save(self, epoch: int, optimizer: "torch.optim.Optimizer") -> None:
        """Write a checkpoint, after the optimizer's state, without which the run could not be continued from it."""
        from lossatlas.models.checkpoint import put_torch
        from lossatlas.training.loop import measure

        if self.folder is None:
            return
        accuracy = self.curve[-1]["test_acc"] if self.curve else measure(self.net, self.test, self.loss)[1]
        state = {
            "optimizer": optimizer.state_dict(),
            "curve": self.curve,
            "recipe": {**asdict(self.recipe), **self.origin},
        }
        put_torch(self.folder / f"opt_state_{epoch}.t7", state)
        content = {"state_dict": self.net.state_dict(), "epoch": epoch, "acc": accuracy}
        put_torch(self.folder / f"model_{epoch}.t7", content)

    def restore(self) -> tuple[int, dict | None]:
        """Load the last checkpoint of the folder into the network.

        Returns:
            The number of epochs done, and the optimizer's state; 0 and None where there is no checkpoint.

        Raises:
            BadInput: The checkpoint is of another program, or was made by another recipe.
        """
        from lossatlas.models import load_into, read_state
        from lossatlas.models.checkpoint import read_content

        assert self.folder is not None
        epochs = [int(m[1]) for f in self.folder.iterdir() if (m := re.fullmatch(r"model_(\d+)\.t7", f.name))]
        if not epochs:
            return 0, None
        last = max(epochs)
        load_into(self.net, read_state(self.folder / f"model_{last}.t7"), f"model_{last}.t7")
        saved: Any = read_content(self.folder / f"opt_state_{last}.t7")
        if not isinstance(saved, dict) or "recipe" not in saved:
            raise BadInput(f"{self.folder}/opt_state_{last}.t7 was written by another program: it cannot be continued")
        asked = {**asdict(self.recipe), **self.origin}
        for name in {**asked, **saved["recipe"]}:
            if asked.get(name) != saved["recipe"].get(name):
                raise BadInput(
                    f"{self.folder} was trained with {name} = {saved['recipe'].get(name)}, now it is {asked.get(name)}"
                )
        self.curve += saved["curve"]
        say(f"continuing after epoch {last}")
        return last, saved["optimizer"]


def _none_for_nan(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def _in_percent(accuracy: float | None) -> str:
    return "" if accuracy is None or math.isnan(accuracy) else f", accuracy {accuracy:.2f} %"


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
    import torch

    from lossatlas.jobs.inputs.named_inputs import loss_of
    from lossatlas.training.loop import measure, train

    check(args, cuda_available=torch.cuda.is_available())
    if args.out:
        locks.enter_context(Lock(args.out))
    use_threads(args.threads)
    model, loss_name = options.model_choice(args), options.loss_choice(args)
    own_model, loss = isinstance(model, UserFunction), loss_of(loss_name)
    data, test = load_data(args)
    net = make_network(args, model, data)
    recipe = _recipe(args)
    _check_batches(args, net, data)
    _note_long_warmup(recipe, data)
    folder = prepare_folder(args)
    if folder is not None:
        say(f"checkpoints go to {folder}")
        locks.enter_context(Lock(folder / "checkpoints"))
    training = TrainingRun(
        net=net,
        test=test,
        recipe=recipe,
        loss=loss,
        folder=folder,
        save_epoch=args.save_epoch,
        origin=_hashes(args, data),
    )
    start, optimizer_state = training.restore() if args.resume else (0, None)
    train(
        net,
        data,
        recipe,
        training.on_step,
        training.on_epoch,
        on_start=training.on_start,
        loss=loss,
        channels_last=not own_model,
        start=start,
        optimizer_state=optimizer_state,
    )
    measured = measure(net, data, loss)
    if args.out:
        _write_network(args, args.out, command, training, data, measured)
    _say_result(args.out or folder, training, measured)


def _say_result(target: str | Path | None, training: TrainingRun, measured: tuple[float, float]) -> None:
    last = training.curve[-1]
    say(
        f"{target}: train loss {measured[0]:.4f}{_in_percent(measured[1])}, "
        f"test loss {last['test_loss']:.4f}{_in_percent(last['test_acc'])}"
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
        loss=str(options.loss_choice(args)),
        augment=args.augment,
        label_corrupt_prob=args.label_corrupt_prob,
    )


def _hashes(args: TrainOptions, data: "AnyData") -> dict[str, str]:
    """Hashes of all that decides the result beside the recipe."""
    from lossatlas.jobs.inputs.named_inputs import function_record
    from lossatlas.models import read_state
    from lossatlas.models.checkpoint import digest

    hashes = {"data": data.digest, **({"init": digest(read_state(args.init))} if args.init else {})}
    for kind, choice in (("model", options.model_choice(args)), ("loss", options.loss_choice(args))):
        if isinstance(choice, UserFunction):
            hashes |= function_record(kind, choice)
    return hashes


def _check_batches(args: TrainOptions, net: "nn.Module", data: "AnyData") -> None:
    """Refuse a batch of one sample where the network has BatchNorm, which has no variance of it."""
    from lossatlas.data import FixedBatches

    single = not isinstance(data, FixedBatches) and 1 in (args.batch_size, len(data) % args.batch_size)
    if single and any("BatchNorm" in type(m).__name__ for m in net.modules()):
        raise BadUsage(
            f"{named('batch_size', args.batch_size)} leaves one of {len(data)} samples for a batch, on which BatchNorm "
            "cannot be trained"
        )


def _note_long_warmup(recipe: "TrainingRecipe", data: "AnyData") -> None:
    from lossatlas.training.loop import batches_per_epoch

    steps = recipe.epochs * batches_per_epoch(data, recipe.batch_size)
    if recipe.warmup > steps // 2:
        say(
            f"note: {min(recipe.warmup, steps)} of the {steps} steps are warm-up, with a smaller rate: see "
            f"{named('warmup')}"
        )


def _write_network(
    args: TrainOptions,
    out: str,
    command: Sequence[str],
    training: TrainingRun,
    data: "AnyData",
    measured: tuple[float, float],
) -> None:
    """The trained network, and a JSON that records how it was made."""
    import torch

    from lossatlas.models import save_state

    save_state(out, training.net)
    hashes = training.origin
    about = {
        "command": programs.command_line(command[0], command[1:]),
        "model": str(options.model_choice(args)),
        "dataset": data.name,
        **({"init_sha256": hashes["init"]} if args.init else {}),
        "data_sha256": {"train": hashes["data"], "test": training.test.digest},
        "train_loss": measured[0],
        "train_acc": _none_for_nan(measured[1]),
        **{key: training.curve[-1][key] for key in ("test_loss", "test_acc")},
        "config": resolved(args),
        "recipe": asdict(training.recipe),
        "epochs": training.curve,
        "seconds": round(time.monotonic() - training.started),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    write_json(Path(out).with_suffix(".json"), about)


def load_data(args: TrainOptions) -> "tuple[AnyData, AnyData]":
    """Load training and test data.

    Args:
        args: Command line.

    Returns:
        Training data and test data; the training data twice, with a note, where a user's function gives no test data.

    Raises:
        BadUsage: The data set is unknown.
        BadInput: Files are missing or damaged, or the user's function fails.
    """
    from lossatlas.datasets.registry import from_factory, get, load

    if not is_user_function(args.dataset):
        if args.download:
            get(args.dataset, args.datapath)
        return (
            load(args.dataset, "train", datapath=args.datapath, raw=args.raw_data, limit=args.limit),
            load(args.dataset, "test", datapath=args.datapath, raw=args.raw_data),
        )
    factory = UserFunction.parse("dataset", args.dataset, args.dataset_args)
    data = from_factory(factory, "train", limit=args.limit)
    try:
        return data, from_factory(factory, "test")
    except BadInput as error:
        say(f"note: no test data, so the test loss is measured on the training data ({error})")
        return data, data


def make_network(args: TrainOptions, model: "config.ModelChoice", data: "AnyData") -> "nn.Module":
    """Make the network that is trained, on its device, with its initial weights.

    Args:
        args: Command line.
        model: Name in the zoo, or a user's function.
        data: Training data, whose shape and classes the network has.

    Returns:
        The network; all its parameters need gradients if it is of the zoo.

    Raises:
        BadUsage: The model is unknown, or the number of classes.
        BadInput: The user's function fails, or the initial checkpoint does not fit.
    """
    from lossatlas.data import Dataset
    from lossatlas.jobs.inputs.named_inputs import shape_of
    from lossatlas.models import build, load_into, read_state
    from lossatlas.training.loop import initialize

    if isinstance(model, UserFunction):
        net = build(model, seed=args.seed)
    else:
        classes = args.classes or data.classes
        if not classes and isinstance(data, Dataset) and not data.targets.is_floating_point():
            classes = int(data.targets.max()) + 1
        if not classes:
            raise BadUsage(f"{named('classes')} is missing: the data do not say how many outputs the network has")
        net = build(model, shape_of(data), classes).requires_grad_(True)
    if args.init:
        load_into(net, read_state(args.init), args.init)
    elif not isinstance(model, UserFunction):
        initialize(net, args.seed)
    return net.to("cuda" if args.cuda else "cpu")


def check(args: TrainOptions, *, cuda_available: bool) -> None:
    """Check the options before data are loaded.

    Raises:
        BadUsage: Options are missing or contradict each other.
        BadInput: The folder of the output is missing.
    """
    out, save = named("out"), named("save")
    if args.cuda and not cuda_available:
        raise BadUsage(f"{named('cuda')}: no CUDA device here: leave the flag out to use the CPU")
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
