"""Options that commands share, each defined once, and the small frozen configurations they become."""

import guard

import argparse
import hashlib
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factories import Factory, is_factory
from lossatlas.errors import BadUsage, CannotWrite, Incomplete, as_line, code_of, exit_code, first_of, say
from lossatlas.landscape import Grid
from lossatlas.landscape.grid import shown
from lossatlas.launchers import first_launched, rank_launched
from lossatlas.record.lock import release_all
from scheduler import World, connect, hand_over

if TYPE_CHECKING:
    from lossatlas.figures import Files
    from lossatlas.space import Selection

PRECISIONS = ("float32", "float64", "tf32", "bfloat16", "float16")
NORMS = ("filter", "layer", "weight", "dfilter", "dlayer", "unit")
LOSS_NAMES = ("crossentropy", "mse")
SCHEMES, CURVES = ("linear2x", "barycentric"), ("bezier", "polygonal")
Model = str | Factory  # in the zoo, or of a user
SEED = 123  # of the random directions, as in the original release
MOST_DIGITS, MOST_THREADS = 15, 1024  # of a whole number; of a rank
LONGEST_NAME = 200  # bytes; file systems allow 255, and figures append to the name


class Parser(argparse.ArgumentParser):
    """Prints a wrong usage once, not once per rank, and never guesses abbreviated options."""

    def __init__(self, doc: str) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> None:  # type: ignore[override]
        once(BadUsage.code)
        line = " ".join(message.encode(errors="backslashreplace").decode().split())
        if line.endswith("expected one argument"):  # argparse takes -1:1:51 for an option
            line += "; what begins with a minus is written with =, as in --x=-1:1:51"
        print(f"error: {line} (python {self.prog} --help lists the options)", file=sys.stderr, flush=True)
        guard.take_others_along(BadUsage.code)
        raise SystemExit(BadUsage.code)

    def print_help(self, file: Any = None) -> None:
        guard.apart()
        super().print_help(file)


def once(code: int) -> None:
    """Go on in the launcher's first process alone, which says what is wrong; the others end after it has."""
    if not first_launched():
        time.sleep(2)
        guard.take_others_along(code)
        raise SystemExit(code)


def is_whole(text: str) -> bool:
    """Whether it is a whole number of 0 or more that an array can be as large as."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def positive(text: str) -> int:
    if not is_whole(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is no positive whole number")
    return int(text)


def natural(text: str) -> int:
    if not is_whole(text):
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is no whole number of 0 or more")
    return int(text)


def threads(text: str) -> int:
    if natural(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} threads are more than {MOST_THREADS}")
    return int(text)


def finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number")
    return value


def not_negative(text: str) -> float:
    value = finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is negative")
    return value


def above_zero(text: str) -> float:
    value = finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
    return value


def pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {error}") from None
    return text


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 to 1")
    return value


@dataclass(frozen=True)
class DataChoice:
    """Which samples: see dataloader.load. `files` are tensors given by name instead of a data set."""

    dataset: str | Factory
    datapath: str | None
    raw: bool
    data_split: int
    limit: int | None
    splits: tuple[str, ...]
    files: tuple[str | None, str | None]
    download: bool
    image_size: int
    classes: int | None
    split_idx: int
    stream: str = "auto"

    @property
    def streamed(self) -> bool | None:
        """Whether samples are read when they are needed; None where that depends on the memory."""
        return {"auto": None, "always": True, "never": False}[self.stream]

    @property
    def split(self) -> str:
        return "both" if len(self.splits) > 1 else self.splits[0]


@dataclass(frozen=True)
class Axis:
    """What a direction is, and how it is normalized.

    kind: random, gradient, eigenvector or file. number: which eigenvector, or which vector of the file.
    """

    norm: str
    ignore: str
    kind: str = "random"
    number: int = 1
    file: str = ""

    @classmethod
    def parse(cls, option: str, text: str, norm: str, ignore: str) -> "Axis":
        """From 'random', 'gradient', 'eigenvector[:K]' or 'FILE.h5[:K]'. Raises BadUsage."""
        name, colon, last = text.rpartition(":")
        name, number = (name, last) if colon and is_whole(last) else (text, "1")
        if int(number) < 1 or (name in ("random", "gradient") and name != text):
            raise BadUsage(f"{option} {text}: eigenvectors and vectors of files are numbered from 1, others not at all")
        if name in ("random", "gradient", "eigenvector"):
            return cls(norm, ignore, name, int(number))
        if not name.endswith(".h5"):
            raise BadUsage(f"{option} {text}: give random, gradient, eigenvector, eigenvector:K, FILE.h5 or FILE.h5:K")
        return cls(norm, ignore, "file", int(number), name)


@dataclass(frozen=True)
class DirectionChoice:
    """Which directions: a file, targets, or random ones. y is None for a curve. scheme, curve, repeat, per_layer: see
    add_schemes.
    """

    dir_type: str
    x: Axis
    y: Axis | None
    same_dir: bool
    seed: int
    idx: int
    dir_file: str | None
    orthogonal: bool = False
    curvature: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    scheme: str = ""
    curve: str = ""
    bends: tuple[str, ...] = ()
    repeat: int = 0
    per_layer: bool = False

    @property
    def selection(self) -> "Selection":
        """Which tensors are moved."""
        from lossatlas.space import Selection

        return Selection(self.only, self.without)


@dataclass(frozen=True)
class Networks:
    """The network in the middle, and those that directions point to. file: '' where its factory gives a trained one.

    align: those get the order of hidden units that fits best to the one in the middle.
    """

    model: Model
    file: str
    file2: str | None
    file3: str | None
    align: bool = False


@dataclass(frozen=True)
class Run:
    """How the ranks compute. threads, batch_size: 0 where the program chooses."""

    cuda: bool
    threads: int
    batch_size: int
    precision: str

    @property
    def device(self) -> str:
        return "cuda" if self.cuda else "cpu"


@dataclass(frozen=True)
class Output:
    """Where a surface goes, and what happens to one that is there."""

    surf_file: str | None
    self_contained: bool
    force: bool
    verbose: bool
    dry_run: bool


@dataclass(frozen=True)
class Looks:
    """Whether and how the finished file is drawn."""

    plot: bool
    show: bool
    log: bool
    vmin: float | None
    vmax: float | None
    vlevel: float | None
    loss_max: float | None
    proj_file: str | None


@dataclass(frozen=True)
class GridTask:
    """Everything that a command which fills a grid is told. command: the line that started it."""

    networks: Networks
    directions: DirectionChoice
    data: DataChoice
    loss: str | Factory
    x: str
    y: str | None
    run: Run
    output: Output
    looks: Looks
    command: str
    path: tuple[str, ...] = ()  # checkpoints, of which the k-th is the cell x = k
    recalibrated: int = 0  # training samples for the statistics of BatchNorm at every point; 0 where they are kept

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.x, self.y)


def grid_task(args: argparse.Namespace, command: Sequence[str]) -> GridTask:
    """Raises BadUsage where options do not fit together."""
    looks = Looks(**{name: getattr(args, name) for name in Looks.__dataclass_fields__})
    output = Output(**{name: getattr(args, name) for name in Output.__dataclass_fields__})
    return GridTask(
        networks(args),
        direction_choice(args),
        data_choice(args),
        loss_choice(args),
        args.x,
        args.y,
        run_choice(args),
        output,
        looks,
        shlex.join(["python", *command]),
        recalibrated=recalibrated_on(args),
    )


def recalibrated_on(args: argparse.Namespace) -> int:
    """How many samples give the statistics of BatchNorm at every point; 0 where they are kept. Raises BadUsage."""
    if args.bn_samples and args.bn == "keep":
        raise BadUsage(f"--bn_samples {args.bn_samples} belongs to --bn recalibrate: add that, or leave it out")
    return (args.bn_samples or 1000) if args.bn == "recalibrate" else 0


def run_choice(args: argparse.Namespace) -> Run:
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    return Run(args.cuda, args.threads, args.batch_size, args.precision or "float32")


@dataclass(frozen=True)
class HessianChoice:
    """Which Hessian, and when an eigenvalue of it is resolved: see add_curvature.

    parameters, without: patterns of names, see `lossatlas.hessian.Hessian`.
    """

    parameters: tuple[str, ...]
    without: tuple[str, ...]
    matrices_only: bool
    tolerance: float
    most: int
    compiled: bool


def hessian_choice(args: argparse.Namespace) -> HessianChoice:
    parameters, without = args.parameters or args.only, args.without
    return HessianChoice(tuple(parameters), tuple(without), args.matrices_only, args.tolerance, args.most, args.compile)


def add_network(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    g = p.add_argument_group("network")
    g.add_argument(
        "--model",
        default="resnet56",
        help="name in the zoo, or FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION that "
        "makes a network of your own, see docs/your-own.md (default: %(default)s)",
    )
    g.add_argument("--model_args", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of that function")
    g.add_argument("--model_folder", default="", help="folder that the model files are in")
    g.add_argument(
        "--model_file",
        help="checkpoint in the middle: .safetensors, or a torch state dict; may be left out where "
        "a function of your own gives a trained network",
    )
    return g


def model_choice(args: argparse.Namespace) -> Model:
    """A name in the zoo, or a user's function. Raises BadUsage."""
    if is_factory(args.model):
        return Factory.parse("--model", args.model, args.model_args)
    if args.model.endswith(".py"):
        raise BadUsage(
            f"--model {args.model}: name the function in it that makes the network, as in --model {args.model}:make"
        )
    if args.model_args:
        raise BadUsage(f"--model_args {args.model_args[0]}: {args.model} is a network of the zoo, which takes none")
    return args.model


def model_file(args: argparse.Namespace) -> str:
    """The checkpoint in the middle, '' where the user's function gives a trained network. Raises BadUsage."""
    if args.model_file:
        return in_folder(args.model_file, args.model_folder)
    model_choice(args)
    if not is_factory(args.model):
        raise BadUsage("--model_file is missing: name the checkpoint in the middle")
    return ""


def base_name(model: Model, file: str) -> str:
    """What names of output files begin with: the checkpoint, or the function that gives the network."""
    return file or (f"{Path(model.where).stem}_{model.name}" if isinstance(model, Factory) else model)


def add_networks(p: argparse.ArgumentParser, third: bool = True) -> None:
    g = add_network(p)
    g.add_argument("--model_file2", help="checkpoint at x = 1: the x direction points there")
    if third:
        g.add_argument("--model_file3", help="checkpoint at y = 1: the y direction points there")
    g.add_argument(
        "--align",
        action="store_true",
        help="bring the hidden units of those two into the order that fits best to the first one's, which changes nothing "
        "of what they compute (weight matching of Git Re-Basin)",
    )


def in_folder(name: str, folder: str) -> str:
    """The file of this name, in --model_folder where it is there alone."""
    inside = Path(folder) / name
    return str(inside) if folder and inside.exists() and not Path(name).exists() else name


def networks(args: argparse.Namespace) -> Networks:
    def place(name: str | None) -> str | None:
        return in_folder(name, args.model_folder) if name else None

    if args.model_file3 and not args.y:
        raise BadUsage("--model_file3 is the network at y = 1: give --y too")
    if args.align and not args.model_file2:
        raise BadUsage("--align orders the hidden units of another network: give --model_file2 too")
    third = None if args.same_dir else place(args.model_file3)  # as in the original, --same_dir wins
    return Networks(model_choice(args), model_file(args), place(args.model_file2), third, args.align)


def add_data(p: argparse.ArgumentParser, splits: Sequence[str] = ("train", "test", "both")) -> None:
    g = p.add_argument_group("data")
    g.add_argument(
        "--dataset",
        default="cifar10",
        help="mnist, fashion_mnist, fashion_mnist_mini (bundled), cifar10, cifar100, "
        "imagefolder or npz, or FILE.py:FUNCTION that gives data of your own (default: %(default)s)",
    )
    g.add_argument("--dataset_args", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of that function")
    g.add_argument("--datapath", help="folder that holds the data set (a file for npz)")
    g.add_argument("--download", action="store_true", help="fetch the data set when it is not there")
    g.add_argument("--image_size", type=positive, default=224, help="of an image folder (default: %(default)s)")
    g.add_argument(
        "--stream",
        choices=("auto", "always", "never"),
        default="auto",
        help="read samples of an image folder, or of "
        "a data set of your own, when they are needed: auto where they do not fit into memory, and where a "
        "tolerance needs only some of them (default: %(default)s)",
    )
    g.add_argument("--classes", type=positive, help="number of classes of your own data (default: the checkpoint's)")
    g.add_argument("--split", choices=splits, default="train", help="default: %(default)s")
    g.add_argument("--limit", type=positive, metavar="N", help="the first N samples in file order")
    g.add_argument("--raw_data", action="store_true", help="do not normalize")
    g.add_argument("--data_split", type=positive, default=1, metavar="K", help="keep one K-th of the training data")
    g.add_argument(
        "--split_idx",
        type=natural,
        default=0,
        help="accepted as in the original release, where it only enters the file name",
    )
    g.add_argument(
        "--trainloader", metavar="FILE", help="training data as tensors: .npz or .pt with inputs and targets"
    )
    g.add_argument("--testloader", metavar="FILE", help="the same for test data")
    g.add_argument(
        "--loss_name",
        "-l",
        type=loss_name,
        default="crossentropy",
        metavar="LOSS",
        help="crossentropy or mse, or FILE.py:FUNCTION of your own (default: %(default)s)",
    )


def loss_name(text: str) -> str:
    if not is_factory(text) and text not in LOSS_NAMES:
        raise argparse.ArgumentTypeError(
            f"invalid choice: '{text}' (choose from {', '.join(LOSS_NAMES)}, or give FILE.py:FUNCTION)"
        )
    return text


def loss_choice(args: argparse.Namespace) -> str | Factory:
    """A name, or a user's function. Raises BadUsage."""
    return Factory.parse("--loss_name", args.loss_name) if is_factory(args.loss_name) else args.loss_name


def data_choice(args: argparse.Namespace) -> DataChoice:
    splits = ("train", "test") if args.split == "both" else (args.split,)
    dataset = args.dataset
    if is_factory(dataset):
        dataset = Factory.parse("--dataset", dataset, args.dataset_args)
    elif args.dataset_args:
        raise BadUsage(f"--dataset_args {args.dataset_args[0]}: {dataset} is no function of your own, and takes none")
    return DataChoice(
        dataset,
        args.datapath,
        args.raw_data,
        args.data_split,
        args.limit,
        splits,
        (args.trainloader, args.testloader),
        args.download,
        args.image_size,
        args.classes,
        args.split_idx,
        args.stream,
    )


def add_grid(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("grid")
    g.add_argument("--x", default="-1:1:51", metavar="MIN:MAX:NUM", help="default: %(default)s")
    g.add_argument("--y", metavar="MIN:MAX:NUM", help="leave out for a curve")


def add_selection(g: argparse._ActionsContainer, what: str) -> None:
    g.add_argument(
        "--only",
        type=pattern,
        nargs="+",
        default=[],
        metavar="PATTERN",
        help=f"{what} the parameters whose names contain one of these regular expressions, such as lora_ or layer3",
    )
    g.add_argument(
        "--except",
        dest="without",
        type=pattern,
        nargs="+",
        default=[],
        metavar="PATTERN",
        help=f"{what} no parameter whose name contains one of these",
    )


def add_directions(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("directions")
    g.add_argument(
        "--dir_type",
        choices=("weights", "states"),
        default="weights",
        help="move the parameters, or the statistics of BatchNorm too (default: %(default)s)",
    )
    for axis in "xy":
        g.add_argument(f"--{axis}norm", choices=("", *NORMS), default="", help=f"normalization of the {axis} direction")
        g.add_argument(
            f"--{axis}ignore",
            choices=("", "biasbn"),
            default="",
            help="biasbn: zero for biases and BatchNorm; otherwise the original release's rule holds, the "
            "direction there is the weights themselves, in x and y alike",
        )
    for axis in "xy":
        g.add_argument(
            f"--{axis}direction",
            default="random",
            metavar="WHAT",
            help=f"the {axis} direction: random, gradient, "
            "eigenvector:K (the K-th top one of the Hessian), or FILE.h5:K (the K-th vector of a spectrum or "
            "direction file); without a norm, gradient and eigenvectors have unit length (default: random)",
        )
    add_selection(g, "move")
    g.add_argument("--orthogonalize", action="store_true", help="take out of the y direction its part along x")
    g.add_argument(
        "--curvature",
        action="store_true",
        help="print and store the second derivatives of the loss along the "
        "axes; done anyway where a direction comes from the curvature",
    )
    g.add_argument("--same_dir", action="store_true", help="use the x direction for y too")
    g.add_argument("--seed", type=natural, default=SEED, help="of the random directions (default: %(default)s)")
    g.add_argument("--idx", type=natural, default=0, help="number of a repeat: other directions, other file names")
    g.add_argument("--dir_file", help="direction file to use, or to write if it does not exist")
    p.set_defaults(scheme="", curve="", bend=[], repeat=0, per_layer=False, bn="keep", bn_samples=0)


def add_statistics(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("BatchNorm")
    g.add_argument(
        "--bn",
        choices=("keep", "recalibrate"),
        default="keep",
        help="keep the checkpoint's running statistics, or estimate them again at every point, without which barriers "
        "between networks are partly an artefact (default: %(default)s)",
    )
    g.add_argument(
        "--bn_samples",
        type=positive,
        default=None,
        metavar="N",
        help="training samples they are estimated from, the same at every point (default: 1000)",
    )


def add_schemes(p: argparse.ArgumentParser) -> None:
    """What is no plane."""
    g = p.add_argument_group("instead of a plane")
    g.add_argument(
        "--repeat",
        type=positive,
        metavar="N",
        help="curves along N random directions, those of --idx 0 to N-1, in one file, which plot_1D.py draws with the "
        "confidence of their mean",
    )
    g.add_argument(
        "--per_layer",
        action="store_true",
        help="a curve for each layer, which moves alone along its part of the x direction; plot_layers.py draws them",
    )
    g.add_argument(
        "--scheme",
        choices=SCHEMES,
        help="between the network and two random ones, scaled back to its size: the two interpolations of the notebook "
        "'Visualizing the loss landscape' in Julia",
    )
    g.add_argument(
        "--curve",
        choices=CURVES,
        help="from the network to --model_file2 along a curve of low loss, which train_curve.py has found; x is the place on it",
    )
    g.add_argument("--bend", nargs="+", default=[], metavar="FILE", help="its bends, in order")


def check_schemes(args: argparse.Namespace) -> None:
    """Raise BadUsage where these do not fit to the rest."""
    chosen = [name for name in ("repeat", "per_layer", "scheme", "curve") if getattr(args, name)]
    if bool(args.curve) != bool(args.bend):
        raise BadUsage("--curve and --bend belong together: the kind of the curve, and its bends")
    if not chosen:
        return
    option = f"--{chosen[0]}"
    if len(chosen) > 1:
        raise BadUsage(f"{option} and --{chosen[1]} exclude each other")
    if chosen[0] == "scheme" and not args.y:
        raise BadUsage("--scheme is a surface: give --y too")
    if chosen[0] != "scheme" and args.y:
        raise BadUsage(f"{option} is {'a curve' if args.curve else 'a row of curves'}: leave --y out")
    if args.per_layer and not args.xnorm and args.xdirection == "random" and not args.model_file2:
        say(
            "note: without --xnorm every layer moves by a vector of its own size, whatever its weights: see --xnorm filter"
        )
    if args.curve and (not args.model_file2 or args.xdirection != "random" or args.dir_file or args.curvature):
        raise BadUsage("--curve leads to --model_file2: give that, and no --xdirection, --dir_file and --curvature")
    if chosen[0] in ("repeat", "scheme"):
        check_random(args, chosen[0])


def check_random(args: argparse.Namespace, chosen: str) -> None:
    """Of what draws its directions, or networks, itself. Raises BadUsage."""
    option = f"--{chosen}"
    if chosen == "repeat" and args.repeat < 2:
        raise BadUsage("--repeat 1: a spread needs at least 2 directions")
    if args.model_file2 or args.model_file3 or args.xdirection != "random" or args.ydirection != "random":
        raise BadUsage(f"{option} draws random directions: leave out other networks, --xdirection and --ydirection")
    if chosen == "repeat" and (args.dir_file or args.idx or args.same_dir):
        raise BadUsage("--repeat draws its directions from --seed alone: leave out --dir_file, --idx and --same_dir")
    if chosen == "scheme" and (args.same_dir or args.orthogonalize or args.curvature or args.dir_type != "weights"):
        raise BadUsage(
            "--scheme moves the weights between three networks: leave out --same_dir, --orthogonalize, --curvature"
        )
    if chosen == "scheme" and (args.xnorm or args.ynorm or args.xignore or args.yignore):
        raise BadUsage("--scheme has its own normalization: leave out --xnorm, --ynorm, --xignore and --yignore")


def direction_choice(args: argparse.Namespace) -> DirectionChoice:
    check_schemes(args)
    x = Axis.parse("--xdirection", args.xdirection, args.xnorm, args.xignore)
    y = Axis.parse("--ydirection", args.ydirection, args.ynorm, args.yignore) if args.y else None
    if args.ydirection != "random" and (y is None or args.same_dir):
        raise BadUsage(f"--ydirection {args.ydirection} needs --y, and no --same_dir")
    if args.orthogonalize and (y is None or args.same_dir):
        raise BadUsage("--orthogonalize takes the x direction out of the y direction: it needs --y, and no --same_dir")
    for axis, target in (("x", args.model_file2), ("y", args.model_file3)):
        if target and getattr(args, f"{axis}direction") != "random":
            raise BadUsage(
                f"--{axis}direction and the network {target} both ask for the {axis} direction: leave one out"
            )
    made = {axis.kind for axis in (x, y) if axis is not None} - {"random"}
    if args.dir_type == "states" and (made or args.curvature):
        raise BadUsage("gradient, eigenvectors and curvature belong to the parameters alone: use --dir_type weights")
    return DirectionChoice(
        args.dir_type,
        x,
        y,
        args.same_dir,
        args.seed,
        args.idx,
        args.dir_file,
        args.orthogonalize,
        args.curvature or bool(made & {"gradient", "eigenvector", "file"}),
        tuple(args.only),
        tuple(args.without),
        args.scheme or "",
        args.curve or "",
        tuple(in_folder(file, args.model_folder) for file in args.bend),
        args.repeat or 0,
        args.per_layer,
    )


def add_ranks(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    g = p.add_argument_group("run")
    g.add_argument("--mpi", "-m", action="store_true", help="share the work among the ranks of mpirun")
    g.add_argument("--cuda", "-c", action="store_true", help="one CUDA device for each rank of a node")
    g.add_argument(
        "--ngpu", type=positive, default=1, help="accepted; a rank uses one device, start more ranks instead"
    )
    g.add_argument("--threads", type=threads, default=0, help="CPU threads of each rank (default: its share of cores)")
    return g


def add_run(p: argparse.ArgumentParser) -> None:
    add_output(add_way(p))


def add_way(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How losses are computed."""
    g = add_ranks(p)
    g.add_argument(
        "--batch_size",
        type=natural,
        default=0,
        help="default: the fastest of a short measurement; with "
        "a number nothing is measured, so that equal commands give equal last digits",
    )
    g.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the forward pass (default: float32); what a lower one changes is measured, printed and stored",
    )
    g.add_argument(
        "--tolerance",
        metavar="REL[,ABS]",
        help="use as many samples, in a random order, as bring the standard error of a cell below max(REL x loss, ABS), "
        "as in 0.02,0.05; cells near each other help each other; a later run with a smaller tolerance, or none, adds samples",
    )
    g.add_argument(
        "--adaptive",
        metavar="REL[,ABS]",
        help="do not compute cells that those around them predict within max(REL x loss, ABS), which is checked on cells that "
        "are computed; they are marked as interpolated",
    )
    return g


def add_curvature(p: argparse.ArgumentParser, tolerance: float) -> argparse._ArgumentGroup:
    """What commands that compute Hessian products share."""
    g = p.add_argument_group("Hessian")
    g.add_argument(
        "--parameters",
        type=pattern,
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="parameters whose names contain these regular expressions (default: what --only and "
        "--except say, otherwise all)",
    )
    g.add_argument(
        "--matrices_only", action="store_true", help="leave out biases and BatchNorm, as the original release does"
    )
    g.add_argument(
        "--tolerance",
        type=above_zero,
        default=tolerance,
        metavar="REL",
        help="an eigenvalue is resolved when its residual is below REL x |eigenvalue|, or below what rounding "
        "leaves (2e-6 of the largest in float32), and none farther out than that is left out "
        "(default: %(default)s)",
    )
    g.add_argument(
        "--most",
        type=positive,
        default=300,
        metavar="N",
        help="products at most for each run of Lanczos (default: %(default)s)",
    )
    g.add_argument(
        "--compile",
        action="store_true",
        help="let torch.compile fuse the products: a quarter less time for each, "
        "after half a minute or more at the start",
    )
    return g


def add_products(g: argparse._ArgumentGroup) -> None:
    g.add_argument("--batch_size", type=natural, default=0, help="default: 128, with --cuda 256")
    g.add_argument("--precision", choices=("float32", "float64"), help="default: float32")


def add_output(g: argparse._ArgumentGroup) -> None:
    g.add_argument("--surf_file", help="surface file to write, or to continue")
    g.add_argument("--self_contained", action="store_true", help="copy the directions into the finished surface file")
    g.add_argument(
        "--force",
        action="store_true",
        help="start over even if the surface file exists, which is kept under another name",
    )
    g.add_argument("--verbose", action="store_true", help="print the resolved configuration")
    g.add_argument("--dry_run", action="store_true", help="print the resolved configuration and stop")


def add_plot(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("figures")
    g.add_argument("--plot", action="store_true", help="draw the figures when the surface is complete")
    g.add_argument("--proj_file", help="trajectory to draw on the contours (proj_xcoord, proj_ycoord)")
    add_contours(g)
    g.add_argument("--loss_max", type=finite, help="top of the loss axis of curves")
    add_looks(g)


def add_contours(g: argparse._ActionsContainer) -> None:
    g.add_argument("--vmin", type=finite, help="lowest contour (default: chosen from the data)")
    g.add_argument("--vmax", type=finite, help="highest contour (default: chosen from the data)")
    g.add_argument("--vlevel", type=finite, help="distance of contours (default: chosen from the data)")


def add_camera(g: argparse._ActionsContainer) -> None:
    g.add_argument("--elev", type=finite, default=32, help="height of the camera, degrees (default: %(default)s)")
    g.add_argument("--azim", type=finite, default=-60, help="the camera's angle, degrees (default: %(default)s)")
    g.add_argument(
        "--layout", choices=("grid", "overlay"), default="grid", help="3-D surfaces side by side, or one over the other"
    )


def add_looks(g: argparse._ActionsContainer) -> None:
    g.add_argument("--log", action="store_true", help="logarithmic scale even where a linear one would do")
    g.add_argument("--show", action="store_true", help="open windows too")


def add_files(g: argparse._ActionsContainer) -> None:
    g.add_argument("--format", default="pdf,png", metavar="LIST", help="of pdf, png, svg (default: %(default)s)")
    g.add_argument("--dpi", type=positive, help="of pictures (default: 200)")
    g.add_argument(
        "--columns",
        type=int,
        choices=(1, 2),
        default=0,
        help="of a paper's page, 3.4 or 7 inches wide (default: any width)",
    )
    g.add_argument("--title", default="", help="above the figure")


def drawn_as(args: argparse.Namespace) -> dict[str, Any]:
    """What add_contours, add_looks and add_files have read, as functions that draw take it. Raises BadUsage."""
    names = ("vmin", "vmax", "vlevel", "log", "show", "title")
    return {**{name: getattr(args, name) for name in names}, "files_as": files_of(args)}


def files_of(args: argparse.Namespace) -> "Files":
    """Raises BadUsage."""
    from lossatlas.figures import Files

    formats = tuple(dict.fromkeys(args.format.split(",")))
    if unknown := [each for each in formats if each not in ("pdf", "png", "svg")]:
        raise BadUsage(f"--format {args.format}: '{unknown[0]}' is none of pdf, png, svg")
    if args.dpi is not None and not 20 <= args.dpi <= 2400:
        raise BadUsage(f"--dpi {args.dpi}: at least 20, at most 2400")
    return Files(formats, args.dpi or 0, args.columns)


def direction_name(nets: Networks, choice: DirectionChoice) -> Path:
    """The direction file's name when none is given, as the original release builds it."""
    name = base_name(nets.model, nets.file)
    if nets.file2:
        name = joined(name, nets.file2)
    name += f"_{choice.dir_type}"
    name += named_axis("x", choice.x)
    if choice.y is not None:
        if nets.file3:
            name = joined(name, nets.file3)
        else:
            name += named_axis("y", choice.y)
            name += "_same_dir" if choice.same_dir else ""
        name += "_orthogonal" if choice.orthogonal else ""
    for word, patterns in (("only", choice.only), ("except", choice.without)):
        name += f"_{word}={'+'.join(map(plain, patterns))}" if patterns else ""
    name += "_aligned" if nets.align else ""
    name += f"_{choice.scheme}" if choice.scheme else ""
    name += f"_{choice.curve}_{Path(choice.bends[0]).stem}" if choice.curve else ""
    if choice.idx:
        name += f"_idx={choice.idx}"
    if choice.seed != SEED:
        name += f"_seed={choice.seed}"
    return shortened(Path(name + ".h5"))


def plain(pattern: str) -> str:
    """A regular expression as a part of a file name."""
    return re.sub(r"[^\w.=+-]", "_", pattern)


def named_axis(letter: str, axis: Axis) -> str:
    what = {
        "random": "",
        "file": f"_{letter}={Path(axis.file).stem}:{axis.number}",
        "eigenvector": f"_{letter}=eigenvector{axis.number}",
    }.get(axis.kind, f"_{letter}={axis.kind}")
    ignore = f"_{letter}ignore={axis.ignore}" if axis.ignore else ""
    return what + ignore + (f"_{letter}norm={axis.norm}" if axis.norm else "")


def joined(first: str, second: str) -> str:
    """`first`, and what tells `second` from it: its name, with its folder when that is another one.

    For files in folders side by side this is the original's name, which lies beside the folders.
    """
    a, b = Path(first), Path(second)
    if a.parent != b.parent and a.parent.parent == b.parent.parent and a.parent.name and b.parent.name:
        return f"{a.parent}_{a.name}_{b.parent.name}_{b.name}"
    return f"{first}_{b.name}" if a.parent == b.parent else f"{first}_{b.parent.name}_{b.name}"


def surface_name(dir_file: Path, task: GridTask) -> Path:
    """The surface file's name when none is given: the original's, with what it leaves out."""
    name, data = dir_file.name, task.data
    ranges = [[float(part) for part in text.split(":")] for text in (task.x, task.y) if text]
    name += "_" + "x".join(f"[{low},{high},{int(number)}]" for low, high, number in ranges)
    name += f"_repeat={task.directions.repeat}" if task.directions.repeat else ""
    name += "_per_layer" if task.directions.per_layer else ""
    name += "_rawdata" if data.raw else ""
    name += f"_datasplit={data.data_split}_splitidx={data.split_idx}" if data.data_split > 1 else ""
    name += f"_loss={loss_word(task.loss)}" if task.loss != "crossentropy" else ""
    name += f"_limit={data.limit}" if data.limit else ""
    name += "" if data.splits == ("train",) else f"_split={'+'.join(data.splits)}"
    name += "" if task.run.precision == "float32" else f"_precision={task.run.precision}"
    name += f"_bn={task.recalibrated}" if task.recalibrated else ""
    return shortened(dir_file.with_name(name + ".h5"))


def loss_word(loss: str | Factory) -> str:
    return loss.name if isinstance(loss, Factory) else loss


def shortened(path: Path) -> Path:
    """The same path, or one with a hash in place of the end of a name that is too long for figures beside it."""
    name = os.fsencode(path.name)
    if len(name) <= LONGEST_NAME:
        return path
    kept = name[: LONGEST_NAME - 20].decode(errors="ignore")
    return path.with_name(f"{kept}_{hashlib.sha256(name).hexdigest()[:12]}.h5")


def writable_folder(path: Path) -> bool:
    return os.access(path.resolve().parent, os.W_OK)


def make_folder(folder: Path) -> None:
    """Make a folder for output. Raises CannotWrite."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror}") from error


def launch(mpi: bool, body: Callable[[World], int | None], log: Callable[[str], None] = lambda line: None) -> int:
    """Run a command's body on every rank. Whatever ends it anywhere prints one line and ends every rank with its code."""
    world = World()

    def body_of_this_rank() -> int | None:
        nonlocal world
        world = joined_ranks(mpi)
        try:
            return body(world)
        except BaseException as what:
            guard.deaf()
            error = first_of(what)
            if not world.root:
                hand_over(world, error)
            if isinstance(error, KeyboardInterrupt):
                raise Incomplete(f"{str(error) or 'interrupted'}: run the same command again to continue") from None
            raise

    code = exit_code(body_of_this_rank, lambda line: log(line) if world.root else None)
    guard.deaf()
    if code:
        release_all()
        world.abort(code)
        guard.take_others_along(code)
    return code


def joined_ranks(mpi: bool) -> World:
    """The ranks, joined. Where every process finds the same error the first one says it, otherwise the one that cannot."""
    try:
        return connect(mpi)
    except BaseException as error:
        guard.deaf()
        if not first_launched():
            time.sleep(2)  # by then the first has ended everyone, if it found the same
            first = first_of(error)
            print(f"error: rank {rank_launched()}: {as_line(first)}", file=sys.stderr, flush=True)
            guard.take_others_along(code_of(first))
        raise
