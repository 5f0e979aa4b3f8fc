"""Configurations of jobs, made of the options of commands, with user functions resolved and files found."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from lossatlas import config, programs
from lossatlas.choices import LOSS_NAMES, DirectionKind, is_word
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
from lossatlas.config.option_fields import part, resolved_options
from lossatlas.errors import BadUsage, named, say
from lossatlas.io import read_projection
from lossatlas.jobs.inputs.direction_rules import DirectionFacts, check_direction_facts
from lossatlas.user_code import UserFunction, is_user_function, short_form

T = TypeVar("T")


def grid_task(args: config.GridCommandOptions, command: Sequence[str]) -> GridConfig:
    """Return the configuration of a command over a grid.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: The trajectory that is to be drawn cannot be read.
    """
    if args.proj_file is not None and args.z:
        raise BadUsage(
            f"{named('proj_file')} is drawn on a plane, and {named('z')} makes a volume: leave one of them out"
        )
    if args.plot and args.proj_file is not None:  # before hours are spent
        read_projection(args.proj_file)
    return GridConfig(
        networks=networks(args),
        directions=direction_choice(args, 1 + bool(args.y) + bool(args.z)),
        data=data_choice(args),
        loss=loss_choice(args),
        x=args.x,
        y=args.y,
        z=args.z,
        run=run_choice(args),
        output=part(OutputConfig, args),
        figures=part(PlotConfig, args),
        command=programs.command_line(command[0], command[1:]),
        recalibrated=recalibrated_on(args),
        resolved=resolved_options(args),
    )


def recalibrated_on(args: config.GridCommandOptions) -> int:
    """Return the number of samples for the BatchNorm statistics of a point; 0 where they are kept.

    Raises:
        BadUsage: A number is given, and the statistics are kept.
    """
    if not isinstance(args, config.BatchNormOptions):
        return 0
    if args.bn_samples and args.bn == "keep":
        raise BadUsage(
            f"{named('bn_samples', args.bn_samples)} belongs to {named('bn', 'recalibrate')}: add that, or leave it out"
        )
    return (args.bn_samples or config.BN_SAMPLES) if args.bn == "recalibrate" else 0


def run_choice(args: config.BatchOptions) -> RunConfig:
    """Return device, threads, batches and memory that the options choose."""
    if args.ngpu > 1:
        say(
            f"note: {named('ngpu', args.ngpu)}: every rank uses one device; start {args.ngpu} times as many ranks "
            "instead"
        )
    return config_of(RunConfig, args, memory=args.memory if isinstance(args, config.EvaluationOptions) else "fast")


def config_of(target: type[T], args: Any, **more: Any) -> T:
    """Return a configuration whose fields have the names of options."""
    names: Any = target.__dict__["__dataclass_fields__"]
    return target(**{name: getattr(args, name) for name in names if name not in more}, **more)


def hessian_choice(args: Any) -> HessianConfig:
    """Return the parameters of the Hessian and the accuracy of its eigenvalues that the options choose."""
    return config_of(HessianConfig, args, parameters=args.parameters or args.only, compiled=args.compile)


def model_choice(args: config.ModelOptions) -> ModelChoice:
    """Return a name in the zoo, or a user's function.

    Raises:
        BadUsage: As `UserFunction.parse`, a file is given without a function, or a network of the zoo gets arguments.
    """
    if is_user_function(args.model):
        return UserFunction.parse("model", args.model, args.model_args)
    if args.model.endswith(".py"):
        raise BadUsage(
            f"{named('model', args.model)}: name the function in it that makes the network, as in "
            f"{named('model', args.model + ':make')}"
        )
    if args.model_args:
        raise BadUsage(
            f"{named('model_args', args.model_args[0])}: {args.model} is a network of the zoo, which takes none"
        )
    return args.model


def model_file(args: config.NetworkOptions) -> str:
    """Return the checkpoint at the centre.

    Returns:
        The checkpoint; '' where the user's function gives a trained network.

    Raises:
        BadUsage: As `model_choice`, or there is no checkpoint for a network of the zoo.
    """
    if args.model_file:
        return in_folder(args.model_file, args.model_folder)
    model_choice(args)
    if not is_user_function(args.model):
        raise BadUsage(f"{named('model_file')} is missing: name the checkpoint in the middle")
    return ""


def in_folder(name: str, folder: str) -> str:
    """Return the file of this name, in --model_folder where it is there alone."""
    from lossatlas.io.checkpoint_names import checkpoint_exists

    inside = Path(folder) / name
    return str(inside) if folder and checkpoint_exists(inside) and not checkpoint_exists(name) else name


def two_networks(args: config.TwoNetworksOptions) -> NetworkConfig:
    """Return the network at the centre, and the one at x = 1.

    Raises:
        BadUsage: As `model_file`, or there is no second network to be aligned.
    """
    if args.align and not args.model_file2:
        raise BadUsage(f"{named('align')} orders the hidden units of another network: give {named('model_file2')} too")
    second = in_folder(args.model_file2, args.model_folder) if args.model_file2 else None
    return NetworkConfig(model_choice(args), model_file(args), second, None, args.align)


def networks(args: config.PlaneOptions) -> NetworkConfig:
    """Return all networks.

    As in the original release, --same_dir overrides the third one.

    Raises:
        BadUsage: As `two_networks`.
    """
    third = in_folder(args.model_file3, args.model_folder) if args.model_file3 and not args.same_dir else None
    nets = two_networks(args)
    return NetworkConfig(nets.model, nets.file, nets.file2, third, nets.align)


def loss_choice(args: config.DatasetOptions) -> config.LossChoice:
    """Return the name of a loss, or a user's function.

    A model `hf:FOLDER` has its own loss for crossentropy.

    Raises:
        BadUsage: As `UserFunction.parse`.
    """
    if is_user_function(args.loss_name):
        return UserFunction.parse("loss_name", args.loss_name)
    if args.loss_name == "crossentropy" and short_form("model", getattr(args, "model", "")) is not None:
        return "multiple_choice" if args.dataset.startswith("choices:") else "next_token"
    assert is_word(args.loss_name, LOSS_NAMES)  # see `option_fields.loss_name`
    return args.loss_name


def dataset_choice(args: config.DatasetOptions) -> str | UserFunction:
    """Return the name of a data set, or a user's function.

    `text:` and `choices:` get the tokenizer of `hf:FOLDER`.

    Raises:
        BadUsage: As `UserFunction.parse`, or a data set that is no function gets arguments.
    """
    if not is_user_function(args.dataset):
        if args.dataset_args:
            raise BadUsage(
                f"{named('dataset_args', args.dataset_args[0])}: {args.dataset} is no function of your own, and takes "
                "none"
            )
        return args.dataset
    found, model = UserFunction.parse("dataset", args.dataset, args.dataset_args), getattr(args, "model", "")
    if not found.short or short_form("model", model) is None:
        return found
    return replace(found, arguments={"tokenizer": model.partition(":")[2], **found.arguments})


def data_choice(args: config.DataOptions) -> DataConfig:
    """Return the data set and the samples of it that the options choose.

    Raises:
        BadUsage: As `dataset_choice`.
    """
    return config_of(
        DataConfig,
        args,
        dataset=dataset_choice(args),
        raw=args.raw_data,
        splits=("train", "test") if args.split == "both" else (args.split,),
        files=(args.trainloader, args.testloader),
    )


def direction_facts(
    args: config.PlaneOptions, schemes: config.SchemeOptions, *, axes: int, kinds: Sequence[DirectionKind]
) -> DirectionFacts:
    """State what the options ask for.

    Args:
        args: Options of the plane.
        schemes: Options of points other than a plane's.
        axes: The number of axes.
        kinds: Kinds of the three directions.
    """
    return DirectionFacts(
        axes=axes,
        plane="" if isinstance(args, config.GridOptions) else named("axes", 2),
        xdirection=kinds[0],
        ydirection=kinds[1],
        zdirection=kinds[2],
        model_file2=bool(args.model_file2),
        model_file3=bool(args.model_file3),
        dir_type=args.dir_type,
        orthogonalize=args.orthogonalize,
        curvature=args.curvature,
        same_dir=args.same_dir,
        repeat=schemes.repeat,
        per_layer=schemes.per_layer,
        scheme=bool(schemes.scheme),
        curve=bool(schemes.curve),
        ranks_per_model=isinstance(args, config.ModelGroupOptions) and args.ranks_per_model > 1,
        control_points=bool(schemes.control_points),
        dir_file=bool(args.dir_file),
        idx=args.idx,
        xnorm=bool(args.xnorm),
        ynorm=bool(args.ynorm),
        xignore=bool(args.xignore),
        yignore=bool(args.yignore),
        znorm=bool(args.znorm),
        zignore=bool(args.zignore),
    )


def direction_choice(args: config.PlaneOptions, axes: int) -> DirectionConfig:
    """Return the directions that the options choose.

    Args:
        args: The options.
        axes: The number of axes.

    Raises:
        BadUsage: A direction is malformed, or the options contradict each other.
    """
    schemes = args if isinstance(args, config.SchemeOptions) else config.SchemeOptions()
    x = AxisConfig.parse(named("xdirection"), args.xdirection, args.xnorm, args.xignore)
    second = AxisConfig.parse(named("ydirection"), args.ydirection, args.ynorm, args.yignore)
    third = AxisConfig.parse(named("zdirection"), args.zdirection, args.znorm, args.zignore)
    check_direction_facts(direction_facts(args, schemes, axes=axes, kinds=(x.kind, second.kind, third.kind)))
    if schemes.per_layer and not args.xnorm and args.xdirection == "random" and not args.model_file2:
        say(
            f"note: without {named('xnorm')} every layer moves by a vector of its own size, whatever its weights: see "
            f"{named('xnorm', 'filter')}"
        )
    y, z = second if axes > 1 else None, third if axes > 2 else None
    made = {axis.kind for axis in (x, y, z) if axis is not None} - {"random"}
    spread = isinstance(args, config.ModelGroupOptions) and args.ranks_per_model > 1  # it has no derivatives
    return config_of(
        DirectionConfig,
        args,
        dir_type=args.dir_type or "weights",
        x=x,
        y=y,
        z=z,
        orthogonalize=args.orthogonalize,
        curvature=args.curvature or (not spread and bool(made & {"gradient", "eigenvector", "file"})),
        scheme=schemes.scheme or "",
        curve=schemes.curve or "",
        control_points=tuple(in_folder(file, args.model_folder) for file in schemes.control_points),
        repeat=schemes.repeat or 0,
        per_layer=schemes.per_layer,
        dir_type_given=args.dir_type is not None,
    )
