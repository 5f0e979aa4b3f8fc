"""Options that commands share, each defined once, and the small frozen configurations they become."""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas import process
from lossatlas.errors import BadUsage, say
from lossatlas.landscape.grid import shown
from lossatlas.user_code import UserFunction, is_user_function

if TYPE_CHECKING:
    from lossatlas.figures import FigureFiles
from lossatlas.config import (
    CURVES,
    LOSS_NAMES,
    MOST_THREADS,
    NORMS,
    PRECISIONS,
    SCHEMES,
    SEED,
    AxisConfig,
    DataConfig,
    DirectionConfig,
    GridConfig,
    HessianConfig,
    Model,
    NetworkConfig,
    OutputConfig,
    PlotConfig,
    RunConfig,
    is_whole,
)
from lossatlas.mpi.launch import once


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
        process.end_waiting_ranks(BadUsage.code)
        raise SystemExit(BadUsage.code)

    def print_help(self, file: Any = None) -> None:
        process.detach()
        super().print_help(file)


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


def grid_task(args: argparse.Namespace, command: Sequence[str]) -> GridConfig:
    """Raises BadUsage where options do not fit together."""
    looks = PlotConfig(**{name: getattr(args, name) for name in PlotConfig.__dataclass_fields__})
    output = OutputConfig(**{name: getattr(args, name) for name in OutputConfig.__dataclass_fields__})
    return GridConfig(
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


def run_choice(args: argparse.Namespace) -> RunConfig:
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    return RunConfig(args.cuda, args.threads, args.batch_size, args.precision)


def hessian_choice(args: argparse.Namespace) -> HessianConfig:
    parameters, without = args.parameters or args.only, args.without
    return HessianConfig(tuple(parameters), tuple(without), args.matrices_only, args.tolerance, args.most, args.compile)


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
    if is_user_function(args.model):
        return UserFunction.parse("model", args.model, args.model_args)
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
    if not is_user_function(args.model):
        raise BadUsage("--model_file is missing: name the checkpoint in the middle")
    return ""


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


def networks(args: argparse.Namespace) -> NetworkConfig:
    def place(name: str | None) -> str | None:
        return in_folder(name, args.model_folder) if name else None

    if args.model_file3 and not args.y:
        raise BadUsage("--model_file3 is the network at y = 1: give --y too")
    if args.align and not args.model_file2:
        raise BadUsage("--align orders the hidden units of another network: give --model_file2 too")
    third = None if args.same_dir else place(args.model_file3)  # as in the original, --same_dir wins
    return NetworkConfig(model_choice(args), model_file(args), place(args.model_file2), third, args.align)


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
    if not is_user_function(text) and text not in LOSS_NAMES:
        raise argparse.ArgumentTypeError(
            f"invalid choice: '{text}' (choose from {', '.join(LOSS_NAMES)}, or give FILE.py:FUNCTION)"
        )
    return text


def loss_choice(args: argparse.Namespace) -> str | UserFunction:
    """A name, or a user's function. Raises BadUsage."""
    return UserFunction.parse("loss_name", args.loss_name) if is_user_function(args.loss_name) else args.loss_name


def data_choice(args: argparse.Namespace) -> DataConfig:
    splits = ("train", "test") if args.split == "both" else (args.split,)
    dataset = args.dataset
    if is_user_function(dataset):
        dataset = UserFunction.parse("dataset", dataset, args.dataset_args)
    elif args.dataset_args:
        raise BadUsage(f"--dataset_args {args.dataset_args[0]}: {dataset} is no function of your own, and takes none")
    return DataConfig(
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
        help="move the parameters, or the statistics of BatchNorm too (default: weights, and states between networks "
        "whose statistics differ)",
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
    if chosen == "scheme" and (args.same_dir or args.orthogonalize or args.curvature or args.dir_type == "states"):
        raise BadUsage(
            "--scheme moves the weights between three networks: leave out --same_dir, --orthogonalize, --curvature"
        )
    if chosen == "scheme" and (args.xnorm or args.ynorm or args.xignore or args.yignore):
        raise BadUsage("--scheme has its own normalization: leave out --xnorm, --ynorm, --xignore and --yignore")


def direction_choice(args: argparse.Namespace) -> DirectionConfig:
    check_schemes(args)
    x = AxisConfig.parse("--xdirection", args.xdirection, args.xnorm, args.xignore)
    y = AxisConfig.parse("--ydirection", args.ydirection, args.ynorm, args.yignore) if args.y else None
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
    return DirectionConfig(
        args.dir_type or "weights",
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
        dir_type_given=args.dir_type is not None,
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


def add_run_and_output(p: argparse.ArgumentParser) -> None:
    add_output(add_evaluation(p))


def add_evaluation(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
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
    add_display(g)


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


def add_display(g: argparse._ActionsContainer) -> None:
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


def plot_keywords(args: argparse.Namespace) -> dict[str, Any]:
    """What add_contours, add_looks and add_files have read, as functions that draw take it. Raises BadUsage."""
    names = ("vmin", "vmax", "vlevel", "log", "show", "title")
    return {**{name: getattr(args, name) for name in names}, "files_as": files_of(args)}


def files_of(args: argparse.Namespace) -> "FigureFiles":
    """Raises BadUsage."""
    from lossatlas.figures import FigureFiles

    formats = tuple(dict.fromkeys(args.format.split(",")))
    if unknown := [each for each in formats if each not in ("pdf", "png", "svg")]:
        raise BadUsage(f"--format {args.format}: '{unknown[0]}' is none of pdf, png, svg")
    if args.dpi is not None and not 20 <= args.dpi <= 2400:
        raise BadUsage(f"--dpi {args.dpi}: at least 20, at most 2400")
    return FigureFiles(formats, args.dpi or 0, args.columns)
