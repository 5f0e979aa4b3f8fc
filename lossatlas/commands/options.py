"""Options as a command line and as configuration files, and the configurations of jobs that are made of them.

class ViewOptions(config.ShowOptions): ...          # a command inherits the groups of options that it takes
args = Parser(__doc__, ViewOptions).parse_args()    # a ViewOptions, from the command line and --config files
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from lossatlas import config, process, programs
from lossatlas.commands.config_files import read_config, written_config
from lossatlas.config import (
    AxisConfig,
    DataConfig,
    DirectionConfig,
    GridConfig,
    HessianConfig,
    ModelChoice,
    NetworkConfig,
    OutputConfig,
    PlotConfig,
    RunConfig,
)
from lossatlas.errors import BadUsage, did_you_mean, named, option_names, printable, say
from lossatlas.io import read_projection
from lossatlas.mpi.launch import once
from lossatlas.option_fields import Option, definitions, part, resolved
from lossatlas.user_code import UserFunction, is_user_function, short_form

if TYPE_CHECKING:
    from lossatlas.figures import Camera, FigureFiles

T = TypeVar("T")
ABOUT_CONFIG = (
    "read options from this YAML or JSON file, by their names without dashes; a later file overrides an earlier one, and the "
    "command line overrides all files (--no_NAME turns off a flag that a file turns on)"
)


class Parser(argparse.ArgumentParser, Generic[T]):
    """The command line of a dataclass of options. Wrong usage is printed once, not once per rank, as one line.

    Args:
        doc: The text above the list of options.
        options: The dataclass, of which `parse_args` makes an instance.
    """

    def __init__(self, doc: str | None, options: type[T]) -> None:
        super().__init__(
            programs.program(),
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self.options = options
        groups: dict[str, argparse._ArgumentGroup] = {}
        for each in definitions(options):
            if each.heading not in groups:
                groups[each.heading] = self.add_argument_group(each.heading)
            add_option(groups[each.heading], each)
        group = self.add_argument_group("configuration")
        group.add_argument("--config", action="append", metavar="FILE.yaml", help=ABOUT_CONFIG)
        group.add_argument(
            "--print_config", action="store_true", help="print all options as YAML, which --config accepts, and stop"
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> T:  # type: ignore[override]
        """Read the options from configuration files and from the command line, which overrides the files."""
        given = vars(super().parse_args(args))
        files, shown = given.pop("config", []), given.pop("print_config", False)
        known = definitions(self.options)
        try:
            with option_names():
                values: dict[str, Any] = {}
                for file in files:
                    values |= read_config(file, known)
                values |= {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
                if missing := [each for each in known if each.required and not values.get(each.field)]:
                    names = ", ".join("/".join(filter(None, (each.spelling, each.short))) for each in missing)
                    self.error(f"the following arguments are required: {names}")
                options = self.options(**values)
                check_figures(options)
        except BadUsage as error:
            self.refuse(printable(str(error)))
        if shown:
            once(0)
            process.detach()
            print(written_config(options), end="", flush=True)
            raise SystemExit(0)
        return options

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.encode(errors="backslashreplace").decode().split())
        if line.startswith("unrecognized arguments: --"):
            word = line.split()[2].partition("=")[0]
            names = [name.removeprefix("--") for name in self._option_string_actions]
            near = get_close_matches(word.removeprefix("--"), names, 1, 0.6)
            line += f"; did you mean --{near[0]}?" if near else ""
        if chosen := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", line):
            line += did_you_mean(chosen[1], re.findall(r"[^', ]+", chosen[2]))
        if line.endswith("expected one argument"):  # argparse takes -1:1:51 for an option
            line += "; what begins with a minus is written with =, as in --x=-1:1:51"
        self.refuse(f"{line} ({programs.shell()} --help lists the options)")

    def refuse(self, line: str) -> NoReturn:
        """Print why the command does not run, and end all ranks."""
        once(BadUsage.code)
        print(f"error: {line}", file=sys.stderr, flush=True)
        process.end_waiting_ranks(BadUsage.code)
        raise SystemExit(BadUsage.code)

    def format_help(self) -> str:
        return programs.in_own_words(super().format_help())

    def print_help(self, file: Any = None) -> None:
        process.detach()
        super().print_help(file)


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    """Render the definition of an option into argparse; earlier names, and --no_NAME, are valid but not listed."""
    text = option.explanation.replace("%", "%%")
    if option.positional:  # argparse reads and checks argparse.SUPPRESS where it is left out
        kind = typed(lambda given: given if given == argparse.SUPPRESS else option.one_of(given))
        metavar = option.metavar or option.field
        number = "*" if option.many else "?"  # a configuration file may give the values
        group.add_argument(option.field, nargs=number, metavar=metavar, help=text, type=kind)
        return
    settings: dict[str, Any] = {"dest": option.field, "action": "store_true"}
    reading: dict[str, Any] = {} if option.kind is str else {"type": typed(option.kind)}
    if not option.flag:
        settings = {"dest": option.field, "metavar": option.metavar or None, **reading}
        settings |= {"choices": option.choices} if option.choices else {}
        settings |= {"nargs": option.many} if option.many else {}
    group.add_argument(option.spelling, *([option.short] if option.short else []), help=text, **settings)
    for name in option.old:
        group.add_argument(f"--{name}", help=argparse.SUPPRESS, **settings)
    if option.flag:
        group.add_argument(f"--no_{option.name}", dest=option.field, action="store_false", help=argparse.SUPPRESS)


def typed(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """The kind of a value, with errors as argparse prints them."""

    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


# Configurations of jobs -----------------------------------------------------------------------------------------------


def grid_task(args: config.GridCommandOptions, command: Sequence[str]) -> GridConfig:
    """Return the configuration of a command over a grid. Raises BadUsage where options do not fit together, BadInput."""
    if args.plot and args.proj_file is not None:  # before hours are spent
        read_projection(args.proj_file)
    return GridConfig(
        networks=networks(args, bool(args.y)),
        directions=direction_choice(args, bool(args.y)),
        data=data_choice(args),
        loss=loss_choice(args),
        x=args.x,
        y=args.y,
        run=run_choice(args),
        output=part(OutputConfig, args),
        figures=part(PlotConfig, args),
        command=programs.command_line(command[0], command[1:]),
        recalibrated=recalibrated_on(args),
        resolved=resolved(args),
    )


def recalibrated_on(args: config.GridCommandOptions) -> int:
    """Return the number of samples for the BatchNorm statistics of every point; 0 where they are kept. Raises BadUsage."""
    if not isinstance(args, config.BatchNormOptions):
        return 0
    if args.bn_samples and args.bn == "keep":
        raise BadUsage(f"--bn_samples {args.bn_samples} belongs to --bn recalibrate: add that, or leave it out")
    return (args.bn_samples or config.BN_SAMPLES) if args.bn == "recalibrate" else 0


def run_choice(args: config.BatchOptions) -> RunConfig:
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    return part_of(RunConfig, args)


def part_of(target: type[T], args: Any, **more: Any) -> T:
    """A configuration whose fields have the names of options."""
    names: Any = target.__dict__["__dataclass_fields__"]
    return target(**{name: getattr(args, name) for name in names if name not in more}, **more)


def hessian_choice(args: Any) -> HessianConfig:
    """Return the parameters of the Hessian and the accuracy of its eigenvalues that the options choose."""
    return part_of(HessianConfig, args, parameters=args.parameters or args.only, compiled=args.compile)


def model_choice(args: config.ModelOptions) -> ModelChoice:
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


def model_file(args: config.NetworkOptions) -> str:
    """The checkpoint at the centre, '' where the user's function gives a trained network. Raises BadUsage."""
    if args.model_file:
        return in_folder(args.model_file, args.model_folder)
    model_choice(args)
    if not is_user_function(args.model):
        raise BadUsage("--model_file is missing: name the checkpoint in the middle")
    return ""


def in_folder(name: str, folder: str) -> str:
    """The file of this name, in --model_folder where it is there alone."""
    from lossatlas.io.checkpoint_names import checkpoint_exists

    inside = Path(folder) / name
    return str(inside) if folder and checkpoint_exists(inside) and not checkpoint_exists(name) else name


def two_networks(args: config.TwoNetworksOptions) -> NetworkConfig:
    """The network at the centre, and the one at x = 1. Raises BadUsage."""
    if args.align and not args.model_file2:
        raise BadUsage("--align orders the hidden units of another network: give --model_file2 too")
    second = in_folder(args.model_file2, args.model_folder) if args.model_file2 else None
    return NetworkConfig(model_choice(args), model_file(args), second, None, args.align)


def networks(args: config.PlaneOptions, second_axis: bool) -> NetworkConfig:
    """All networks. As in the original release, --same_dir overrides the third one. Raises BadUsage."""
    if args.model_file3 and not second_axis:
        raise BadUsage("--model_file3 is the network at y = 1: give --y too")
    third = in_folder(args.model_file3, args.model_folder) if args.model_file3 and not args.same_dir else None
    nets = two_networks(args)
    return NetworkConfig(nets.model, nets.file, nets.file2, third, nets.align)


def loss_choice(args: config.DatasetOptions) -> str | UserFunction:
    """A name, or a user's function. A model `hf:FOLDER` has losses of its own instead of crossentropy. Raises BadUsage."""
    if is_user_function(args.loss_name):
        return UserFunction.parse("loss_name", args.loss_name)
    if args.loss_name == "crossentropy" and short_form("model", getattr(args, "model", "")) is not None:
        return "multiple_choice" if args.dataset.startswith("choices:") else "next_token"
    return args.loss_name


def dataset_choice(args: config.DatasetOptions) -> str | UserFunction:
    """A name, or a user's function; `text:FILE` and `choices:FILE` have the tokenizer of `hf:FOLDER`. Raises BadUsage."""
    if not is_user_function(args.dataset):
        if args.dataset_args:
            raise BadUsage(
                f"--dataset_args {args.dataset_args[0]}: {args.dataset} is no function of your own, and takes none"
            )
        return args.dataset
    found, model = UserFunction.parse("dataset", args.dataset, args.dataset_args), getattr(args, "model", "")
    if not found.short or short_form("model", model) is None:
        return found
    return replace(found, arguments={"tokenizer": model.partition(":")[2], **found.arguments})


def data_choice(args: config.DataOptions) -> DataConfig:
    """Return the data set and the samples of it that the options choose. Raises BadUsage."""
    return part_of(
        DataConfig,
        args,
        dataset=dataset_choice(args),
        raw=args.raw_data,
        splits=("train", "test") if args.split == "both" else (args.split,),
        files=(args.trainloader, args.testloader),
    )


def check_schemes(args: config.PlaneOptions, schemes: config.SchemeOptions, second_axis: bool) -> None:
    """Raise BadUsage where these do not fit to the rest."""
    chosen = [name for name in ("repeat", "per_layer", "scheme", "curve") if getattr(schemes, name)]
    if bool(schemes.curve) != bool(schemes.control_points):
        raise BadUsage("--curve and --control_points belong together: the kind of the curve, and its control points")
    if not chosen:
        return
    option = f"--{chosen[0]}"
    if len(chosen) > 1:
        raise BadUsage(f"{option} and --{chosen[1]} exclude each other")
    if chosen[0] == "scheme" and not second_axis:
        raise BadUsage("--scheme is a surface: give --y too")
    if chosen[0] != "scheme" and second_axis:
        raise BadUsage(f"{option} is {'a curve' if schemes.curve else 'a row of curves'}: leave --y out")
    if schemes.per_layer and not args.xnorm and args.xdirection == "random" and not args.model_file2:
        say(
            "note: without --xnorm every layer moves by a vector of its own size, whatever its weights: see --xnorm filter"
        )
    if schemes.curve and (not args.model_file2 or args.xdirection != "random" or args.dir_file or args.curvature):
        raise BadUsage("--curve leads to --model_file2: give that, and no --xdirection, --dir_file and --curvature")
    if chosen[0] in ("repeat", "scheme"):
        check_random(args, schemes, chosen[0])


def check_random(args: config.PlaneOptions, schemes: config.SchemeOptions, chosen: str) -> None:
    """Raise BadUsage for options that do not fit to schemes which draw their own directions or networks."""
    option = f"--{chosen}"
    if chosen == "repeat" and schemes.repeat == 1:
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


def direction_choice(args: config.PlaneOptions, second_axis: bool) -> DirectionConfig:
    """Return the directions that the options choose; second_axis: the surface has a y axis. Raises BadUsage."""
    schemes = args if isinstance(args, config.SchemeOptions) else config.SchemeOptions()
    check_schemes(args, schemes, second_axis)
    x = AxisConfig.parse("--xdirection", args.xdirection, args.xnorm, args.xignore)
    y = AxisConfig.parse("--ydirection", args.ydirection, args.ynorm, args.yignore) if second_axis else None
    if args.ydirection != "random" and (y is None or args.same_dir):
        raise BadUsage(f"--ydirection {args.ydirection} needs --y, and no --same_dir")
    if args.orthogonalize and (y is None or args.same_dir):
        raise BadUsage("--orthogonalize takes the x direction out of the y direction: it needs --y, and no --same_dir")
    for axis, asked, target in (("x", args.xdirection, args.model_file2), ("y", args.ydirection, args.model_file3)):
        if target and asked != "random":
            raise BadUsage(
                f"--{axis}direction and the network {target} both ask for the {axis} direction: leave one out"
            )
    made = {axis.kind for axis in (x, y) if axis is not None} - {"random"}
    if args.dir_type == "states" and (made or args.curvature):
        raise BadUsage("gradient, eigenvectors and curvature belong to the parameters alone: use --dir_type weights")
    return part_of(
        DirectionConfig,
        args,
        dir_type=args.dir_type or "weights",
        x=x,
        y=y,
        orthogonalize=args.orthogonalize,
        curvature=args.curvature or bool(made & {"gradient", "eigenvector", "file"}),
        scheme=schemes.scheme or "",
        curve=schemes.curve or "",
        control_points=tuple(in_folder(file, args.model_folder) for file in schemes.control_points),
        repeat=schemes.repeat or 0,
        per_layer=schemes.per_layer,
        dir_type_given=args.dir_type is not None,
    )


# Figures --------------------------------------------------------------------------------------------------------------


def check_figures(args: Any) -> None:
    """Check the options of figures before anything is computed. Raises BadUsage."""
    if getattr(args, "cmap", None) is not None:
        from lossatlas.figures.palette import check_colour_map

        check_colour_map(args.cmap)
    low, high, step = (getattr(args, name, None) for name in ("vmin", "vmax", "vlevel"))
    if low is not None and high is not None and low >= high:
        raise BadUsage(f"{named('vmin')} {low:g} is not below {named('vmax')} {high:g}: the range is empty")
    if step is not None and step <= 0:
        raise BadUsage(f"{named('vlevel')} {step:g}: give a distance above 0")


def plot_keywords(args: Any) -> dict[str, Any]:
    """Options of ContourOptions, DisplayOptions and FigureOptions as functions that draw take them. Raises BadUsage."""
    return {**file_keywords(args), **scale_keywords(args)}


def file_keywords(args: Any) -> dict[str, Any]:
    """Options of FigureOptions and ShowOptions as functions that draw take them. Raises BadUsage."""
    return {**look_keywords(args), "title": args.title, "files_as": files_of(args)}


def look_keywords(args: config.ShowOptions) -> dict[str, Any]:
    """Options of ShowOptions as functions that draw take them."""
    return {"show": args.show, "look": args.look, "cmap": args.cmap}


def scale_keywords(args: Any) -> dict[str, Any]:
    """Options of ContourOptions and `log` as functions that draw take them."""
    return {name: getattr(args, name) for name in ("vmin", "vmax", "vlevel", "colours", "log")}


def camera_of(args: config.CameraOptions, usual: "Camera | None" = None) -> "Camera":
    """Return the camera that the options choose; what they leave open is as of `usual`."""
    from lossatlas.figures import Camera

    usual = usual or Camera()
    return Camera(
        usual.elevation if args.elev is None else args.elev, usual.azimuth if args.azim is None else args.azim
    )


def files_of(args: config.FigureOptions) -> "FigureFiles":
    """Return the formats and sizes of figure files that the options choose. Raises BadUsage."""
    from lossatlas.figures import FigureFiles

    formats = tuple(dict.fromkeys(args.format.split(",")))
    if unknown := [each for each in formats if each not in ("pdf", "png", "svg")]:
        raise BadUsage(f"--format {args.format}: '{unknown[0]}' is none of pdf, png, svg")
    if args.dpi is not None and not 20 <= args.dpi <= 2400:
        raise BadUsage(f"--dpi {args.dpi}: at least 20, at most 2400")
    return FigureFiles(formats, args.dpi or 0, args.columns or 0)
