"""Train a network of the zoo, or one of your own.

    python train.py --model resnet20 --dataset fashion_mnist_mini --epochs 5 --out trained_nets/mine.safetensors
    python train.py --model resnet56_noshort --dataset cifar10 --epochs 300 --augment --schedule step --save trained_nets
    python train.py --model nets.py:make --dataset data.py:load --loss_name losses.py:smooth --epochs 20 --save runs

--out writes the trained network, with a JSON beside it that says how it was made. --save keeps checkpoints
<folder>/<name of the recipe>/model_<epoch>.t7, named as in the release of Li et al., for trajectories and for --resume.
"""

import json
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
from lossatlas.errors import BadInput, BadUsage, Incomplete, exit_code, say
from lossatlas.io import atomic_write
from lossatlas.io.atomic_write import write_file
from lossatlas.io.lock import Lock
from lossatlas.jobs import file_names
from lossatlas.option_fields import changed, natural, not_negative, option, positive, resolved, share
from lossatlas.user_code import UserFunction, is_user_function

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.training.loop import TrainingRecipe


ENDINGS = (".safetensors", ".t7", ".pt", ".pth")


@dataclass(frozen=True)
class TrainingOptions:
    """How the network is trained."""

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
    """The folder of a recipe's checkpoints, as the original release names it."""
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


@dataclass
class TrainingRun:
    """Reports and saves while a network is being trained."""

    args: TrainOptions
    net: "nn.Module"
    test: "AnyData"
    recipe: "TrainingRecipe"
    loss: "Loss"
    folder: Path | None
    origin: dict[str, str]  # hashes of the data, and of the weights it started from
    curve: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def on_step(self, epoch: int, step: int, loss: float) -> None:
        if time.monotonic() - self.last >= 10:
            self.last = time.monotonic()
            say(f"epoch {epoch + 1}/{self.recipe.epochs} step {step} loss {loss:.4f}")

    def on_epoch(self, epoch: int, optimizer: "torch.optim.Optimizer") -> None:
        from lossatlas.training.loop import measure

        loss, accuracy = measure(self.net, self.test, self.loss)
        self.curve.append({"epoch": epoch, "test_loss": loss, "test_acc": finite_or_none(accuracy)})
        say(
            f"epoch {epoch}/{self.recipe.epochs}: test loss {loss:.4f}{in_percent(accuracy)}, "
            f"{time.monotonic() - self.started:.0f} s"
        )
        if self.folder is not None and (epoch % self.args.save_epoch == 0 or epoch == self.recipe.epochs):
            self.save(epoch, optimizer)

    def on_start(self, optimizer: "torch.optim.Optimizer") -> None:
        """The network before its first step, from which a trajectory starts."""
        if self.folder is not None and not (self.folder / "opt_state_0.t7").exists():
            self.save(0, optimizer)

    def save(self, epoch: int, optimizer: "torch.optim.Optimizer") -> None:
        """The state of the optimizer first: a checkpoint without it could not be continued."""
        from lossatlas.models.checkpoint import put_torch
        from lossatlas.training.loop import measure

        assert self.folder is not None
        accuracy = self.curve[-1]["test_acc"] if self.curve else measure(self.net, self.test, self.loss)[1]
        state = {
            "optimizer": optimizer.state_dict(),
            "curve": self.curve,
            "recipe": {**asdict(self.recipe), **self.origin},
        }
        put_torch(self.folder / f"opt_state_{epoch}.t7", state)
        content = {"state_dict": self.net.state_dict(), "epoch": epoch, "acc": accuracy}
        put_torch(self.folder / f"model_{epoch}.t7", content)


def finite_or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def in_percent(accuracy: float | None) -> str:
    return "" if accuracy is None or math.isnan(accuracy) else f", accuracy {accuracy:.2f} %"


def run(args: TrainOptions, command: Sequence[str]) -> None:
    with ExitStack() as held:
        try:
            trained(args, command, held)
        except KeyboardInterrupt as error:
            kept = (
                f"{args.save} keeps the checkpoints up to then, and the same command with --resume goes on"
                if args.save
                else "nothing of it is kept: --save FOLDER, with --save_epoch N, keeps checkpoints"
            )
            raise Incomplete(f"{str(error) or 'interrupted'}: {kept}") from None


def trained(args: TrainOptions, command: Sequence[str], held: ExitStack) -> None:
    """held: lets go of the locks on the outputs."""
    import torch

    from lossatlas.data import FixedBatches
    from lossatlas.jobs.inputs import function_record, loss_of
    from lossatlas.models import load_into, read_state, save_state
    from lossatlas.models.checkpoint import digest
    from lossatlas.training.loop import TrainingRecipe, initialize, measure, train

    check(args, torch.cuda.is_available())
    if args.out:
        held.enter_context(Lock(args.out))
    if args.threads:
        torch.set_num_threads(args.threads)
    model, loss_name = options.model_choice(args), options.loss_choice(args)
    own, loss = isinstance(model, UserFunction), loss_of(loss_name)
    data, test = load_data(args)
    net = built(args, model, data)
    if args.init:
        load_into(net, read_state(args.init), args.init)
    elif not own:
        initialize(net, args.seed)
    net.to("cuda" if args.cuda else "cpu")
    recipe = TrainingRecipe(
        args.epochs,
        args.batch_size,
        args.lr,
        args.momentum,
        args.weight_decay,
        args.schedule,
        args.warmup,
        args.seed,
        args.bfloat16,
        args.optimizer,
        args.lr_decay,
        str(loss_name),
        args.augment,
        args.label_corrupt_prob,
    )
    origin = {"data": data.digest, **({"init": digest(read_state(args.init))} if args.init else {})}
    for what, loaded in (("model", model), ("loss", loss_name)):
        if isinstance(loaded, UserFunction):
            origin |= function_record(what, loaded)
    one = not isinstance(data, FixedBatches) and 1 in (args.batch_size, len(data) % args.batch_size)
    if one and any("BatchNorm" in type(m).__name__ for m in net.modules()):
        raise BadUsage(
            f"--batch_size {args.batch_size} leaves one of {len(data)} samples for a batch, on which BatchNorm "
            "cannot be trained"
        )
    steps = recipe.epochs * (
        len(data.contents) if isinstance(data, FixedBatches) else -(-len(data) // recipe.batch_size)
    )
    if recipe.warmup > steps // 2:
        say(f"note: {min(recipe.warmup, steps)} of the {steps} steps are warm-up, with a smaller rate: see --warmup")
    folder = prepare_folder(args)
    if folder is not None:
        say(f"checkpoints go to {folder}")
        held.enter_context(Lock(folder / "checkpoints"))
    state = TrainingRun(args, net, test, recipe, loss, folder, origin)
    start, optimizer_state = restore(state) if args.resume else (0, None)
    train(
        net,
        data,
        recipe,
        state.on_step,
        state.on_epoch,
        on_start=state.on_start,
        loss=loss,
        channels_last=not own,
        start=start,
        optimizer_state=optimizer_state,
    )
    train_loss, train_accuracy = measure(net, data, loss)
    if args.out:
        save_state(args.out, net)
        about = {
            "command": programs.command_line(command[0], command[1:]),
            "model": str(model),
            "dataset": data.name,
            **({"init_sha256": origin["init"]} if args.init else {}),
            "data_sha256": {"train": origin["data"], "test": test.digest},
            "train_loss": train_loss,
            "train_acc": finite_or_none(train_accuracy),
            **{key: state.curve[-1][key] for key in ("test_loss", "test_acc")},
            "config": resolved(args),
            "recipe": asdict(recipe),
            "epochs": state.curve,
            "seconds": round(time.monotonic() - state.started),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_file(Path(args.out).with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())
    last = state.curve[-1]
    say(
        f"{args.out or state.folder}: train loss {train_loss:.4f}{in_percent(train_accuracy)}, "
        f"test loss {last['test_loss']:.4f}{in_percent(last['test_acc'])}"
    )


def load_data(args: TrainOptions) -> "tuple[AnyData, AnyData]":
    """Training and test data; where a function of a user's gives none for testing, the training data, which is said."""
    from lossatlas.datasets.registry import from_factory, get, load

    if not is_user_function(args.dataset):
        if args.download:
            get(args.dataset, args.datapath)
        return (
            load(args.dataset, "train", datapath=args.datapath, raw=args.raw_data, limit=args.limit),
            load(args.dataset, "test", datapath=args.datapath, raw=args.raw_data),
        )
    factory = UserFunction.parse("--dataset", args.dataset, args.dataset_args)
    data = from_factory(factory, "train", limit=args.limit)
    try:
        return data, from_factory(factory, "test")
    except BadInput as error:
        say(f"note: no test data, so what is called test is measured on the training data ({error})")
        return data, data


def built(args: TrainOptions, model: "config.Model", data: "AnyData") -> "nn.Module":
    """Raises BadUsage, BadInput."""
    from lossatlas.data import Dataset
    from lossatlas.jobs.inputs import shape_of
    from lossatlas.models import build

    if isinstance(model, UserFunction):
        return build(model, seed=args.seed)
    classes = args.classes or data.classes
    if not classes and isinstance(data, Dataset) and not data.targets.is_floating_point():
        classes = int(data.targets.max()) + 1
    if not classes:
        raise BadUsage("--classes is missing: the data do not say how many outputs the network has")
    return build(model, shape_of(data), classes).requires_grad_(True)


def check(args: TrainOptions, cuda: bool) -> None:
    if args.cuda and not cuda:
        raise BadUsage("--cuda: no CUDA device here: leave the flag out to use the CPU")
    if not args.out and not args.save:
        raise BadUsage("say where the network goes: --out FILE.safetensors, or --save FOLDER, or both")
    if args.out and Path(args.out).suffix not in ENDINGS:
        raise BadUsage(f"--out {args.out}: the name has to end in {', '.join(ENDINGS)}")
    if args.out and not Path(args.out).resolve().parent.is_dir():
        raise BadInput(f"no folder {Path(args.out).parent} for --out: make it first")
    if args.resume and not args.save:
        raise BadUsage("--resume continues from checkpoints: name their folder with --save")
    if args.augment and args.noaug:
        raise BadUsage("--augment and --noaug contradict each other")


def prepare_folder(args: TrainOptions) -> Path | None:
    if not args.save:
        return None
    folder = Path(args.save) / folder_name(args)
    atomic_write.make_folder(folder)
    if list(folder.glob("model_*.t7")) and not args.resume:
        raise BadInput(
            f"{folder} holds checkpoints already: --resume continues them, --idx N starts a repeat beside them"
        )
    return folder


def restore(state: TrainingRun) -> tuple[int, dict | None]:
    """The last checkpoint of a run, loaded: the epochs done, and the optimizer's state."""
    from lossatlas.models import load_into, read_state
    from lossatlas.models.checkpoint import read_content

    assert state.folder is not None
    epochs = [int(m[1]) for f in state.folder.iterdir() if (m := re.fullmatch(r"model_(\d+)\.t7", f.name))]
    if not epochs:
        return 0, None
    last = max(epochs)
    load_into(state.net, read_state(state.folder / f"model_{last}.t7"), f"model_{last}.t7")
    saved: Any = read_content(state.folder / f"opt_state_{last}.t7")
    if not isinstance(saved, dict) or "recipe" not in saved:
        raise BadInput(f"{state.folder}/opt_state_{last}.t7 was written by another program: it cannot be continued")
    asked = {**asdict(state.recipe), **state.origin}
    for name in {**asked, **saved["recipe"]}:
        if asked.get(name) != saved["recipe"].get(name):
            raise BadInput(
                f"{state.folder} was trained with {name} = {saved['recipe'].get(name)}, now it is {asked.get(name)}"
            )
    state.curve += saved["curve"]
    say(f"continuing after epoch {last}")
    return last, saved["optimizer"]


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    return exit_code(lambda: run(args, ["train", *command]))
