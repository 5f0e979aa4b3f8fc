"""Train a curve of low loss between two networks, as Garipov et al. (arXiv 1802.10026): its ends stay, its bends are trained.

    lossatlas train-curve --model resnet20 --model_file A.safetensors --model_file2 B.safetensors \\
        --dataset fashion_mnist_mini --epochs 20 --out bend.safetensors
    lossatlas surface --model resnet20 --model_file A.safetensors --model_file2 B.safetensors \\
        --curve bezier --control_points bend.safetensors --x=0:1:61 --bn recalibrate ...               the loss along it
    lossatlas surface ... --model_file2 B.safetensors --model_file3 bend.safetensors --orthogonalize \\
        --x=-0.2:1.2:29 --y=-0.5:1.5:41 --bn recalibrate                                     the plane it lies in

Every step draws a point of the curve and lowers the loss of the network there. At the end the largest loss along the
curve and along the straight line is measured, with BatchNorm statistics that are recomputed at every point.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lossatlas import config, programs
from lossatlas.commands import options
from lossatlas.commands.training_output import check_output_folder, write_json
from lossatlas.errors import BadInput, BadUsage, Incomplete, exit_code, named, say
from lossatlas.io.lock import Lock
from lossatlas.jobs.inputs.output_files import keep_aside
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.mpi.rank_resources import use_threads
from lossatlas.option_fields import above_zero, natural, not_negative, option, positive, resolved

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.parameter_space import Point
    from lossatlas.training.loop import TrainingRecipe

Losses = dict[str, list[float]]  # along a curve, by split
POINTS = 21  # of a curve, at which the loss is measured
FEW_STEPS = 200  # fewer hardly bend a curve


@dataclass(frozen=True)
class CurveTrainingOptions:
    """The curve, and how it is trained."""

    HEADING: ClassVar[str] = "curve"

    kind: str = option("bezier", "kind of the curve", choices=config.CURVES)
    bends: int = option(1, "number of control points between the ends", kind=positive, metavar="N")
    out: str = option(
        "",
        "control point to write; with several, or with repeats: OUT_bend1, OUT_2_bend1, ...",
        required=True,
        metavar="FILE.safetensors",
    )
    repeat: int = option(
        1,
        "train N curves, each with another seed; their largest losses are reported together",
        kind=positive,
        metavar="N",
    )
    epochs: int = option(20, "number of epochs", kind=positive, metavar="N")
    batch_size: int = option(128, "samples per batch", kind=positive, metavar="N")
    lr: float = option(0.02, "peak learning rate", kind=above_zero)
    momentum: float = option(0.9, "momentum of SGD", kind=not_negative)
    weight_decay: float = option(0.0, "weight decay of the control points (default: none)", kind=not_negative)
    seed: int = option(0, "seed of the places on the curve and of the order of samples", kind=natural)


@dataclass(frozen=True)
class CurveOptions(config.TwoNetworksOptions, config.DataOptions, CurveTrainingOptions, config.DeviceOptions):
    """The options of this command."""


def parser() -> options.Parser[CurveOptions]:
    return options.Parser(__doc__, CurveOptions)


@dataclass(frozen=True, kw_only=True)
class CurveEnds:
    """Two networks, and all that the curve between them needs.

    Attributes:
        net: Network of their architecture, on its device.
        points: Tensors of the two ends by name, on the device.
        names: Hashes of their checkpoints.
        train: Training data.
        data: Data by split, on which losses are measured, the training data among them.
        loss: Loss per sample.
    """

    net: "nn.Module"
    points: "tuple[Point, Point]"
    names: tuple[str, ...]
    train: "AnyData"
    data: "dict[str, AnyData]"
    loss: "Loss"


def check(args: CurveOptions) -> None:
    """Check the options before networks are loaded.

    Raises:
        BadUsage: The second network is missing, or the output would replace one of the two.
        BadInput: The folder of the output is missing.
    """
    if not args.model_file2:
        raise BadUsage(f"{named('model_file2')} is missing: name the network at the other end")
    out = named("out", args.out)
    if not args.out.endswith(".safetensors"):
        raise BadUsage(f"{out}: the name has to end in .safetensors")
    check_output_folder(args.out)
    ends = [each for each in (args.model_file, args.model_file2) if each]
    taken = {Path(options.in_folder(each, args.model_folder)).resolve() for each in ends}
    for k in range(args.repeat):
        for file in bend_files(args.out, k, args.repeat, args.bends):
            if file.resolve() in taken:
                raise BadUsage(f"{out} would replace {file}, one of the ends: choose another name")


def bend_files(out: str, repeat: int, repeats: int, bends: int) -> list[Path]:
    """Name the files of the bends of one curve.

    Args:
        out: Output that the user names, which ends in .safetensors.
        repeat: Number of the curve, from 0.
        repeats: Curves in all.
        bends: Bends of each curve.

    Returns:
        A file for each bend.

    Example:
        >>> [str(file) for file in bend_files("a.safetensors", 1, 2, 1)]
        ['a_2.safetensors']
    """
    stem = out.removesuffix(".safetensors") + (f"_{repeat + 1}" if repeats > 1 else "")
    return [Path(f"{stem}{f'_bend{k + 1}' if bends > 1 else ''}.safetensors") for k in range(bends)]


def run(args: CurveOptions, command: Sequence[str]) -> None:
    """Train the curves that the command line describes.

    Args:
        args: Command line.
        command: Its words, which the JSON records.

    Raises:
        BadUsage: Options contradict each other.
        BadInput: A file is missing, damaged or of another kind, or the training diverged.
        CannotWrite: A file cannot be written.
        Incomplete: A signal ended the training.
    """
    with ExitStack() as locks:
        try:
            _train_curves(args, command, locks)
        except KeyboardInterrupt as error:
            raise Incomplete(f"{str(error) or 'interrupted'}: curves that were finished are kept") from None


def _train_curves(args: CurveOptions, command: Sequence[str], locks: ExitStack) -> None:
    """Train each curve, measure it and write it; `locks` keeps the locks on the outputs."""

    from lossatlas.training.curve_training import train_bends

    def on_epoch(epoch: int, loss: float) -> None:
        say(f"epoch {epoch}/{args.epochs}: loss {loss:.4g} at places drawn at random")

    check(args)
    use_threads(args.threads)
    files = [bend_files(args.out, k, args.repeat, args.bends) for k in range(args.repeat)]
    for file in (file for each in files for file in each):
        locks.enter_context(Lock(file))
    ends = _load_ends(args)
    if (steps := args.epochs * -(-len(ends.train) // args.batch_size)) < FEW_STEPS:
        say(f"note: {steps} steps in all are few: more {named('epochs')}, or smaller batches, give a lower curve")
    straight = losses_along(ends, "polygonal", ends.points)
    _say_largest("the straight line", straight)
    results = []
    for repeat, each in enumerate(files):
        recipe = _recipe(args, repeat)
        bends = train_bends(
            ends.net, ends.points, args.kind, args.bends, ends.train, recipe, loss=ends.loss, on_epoch=on_epoch
        )
        if not all(bool(value.isfinite().all()) for bend in bends for value in bend.values()):
            raise BadInput(
                f"the bends are not finite after training with {named('lr')} {args.lr:g}: use a smaller rate"
            )
        losses = losses_along(ends, args.kind, [ends.points[0], *bends, ends.points[1]])
        number = f" {repeat + 1} of {args.repeat}" if args.repeat > 1 else ""
        _say_largest(f"the {args.kind} curve{number} (seed {recipe.seed})", losses)
        results.append(losses)
        _write_bends(ends.net, bends, each)
        _write_record(each, args, command, recipe, ends.names, losses, straight)
    if args.repeat > 1:
        _say_repeats(results, straight)


def _load_ends(args: CurveOptions) -> CurveEnds:
    from lossatlas.jobs.inputs.named_inputs import load_inputs, loss_of
    from lossatlas.mpi.rank_resources import device_of
    from lossatlas.parameter_space.directions import target_direction

    device = device_of(args.cuda)
    nets, loss_name = options.two_networks(args), options.loss_choice(args)
    loaded = load_inputs(nets, "weights", options.data_choice(args), loss_name, train_too=True)
    train, end = loaded.training, loaded.targets[0]
    assert train is not None
    assert end is not None
    net = loaded.net.to(device)
    first, last = ({name: value.to(device) for name, value in point.items()} for point in (loaded.origin, end))
    if not any(bool(d.any()) for d in target_direction(first, last).values()):
        raise BadInput(f"{nets.file2} is the same network as {nets.file}: there is nothing between them")
    names = (loaded.record["checkpoint"], *loaded.towards.values())
    return CurveEnds(
        net=net,
        points=(first, last),
        names=names,
        train=train,
        data={"train": train, **loaded.data},
        loss=loss_of(loss_name),
    )


def _recipe(args: CurveOptions, repeat: int) -> "TrainingRecipe":
    from lossatlas.training.loop import TrainingRecipe

    return TrainingRecipe(
        args.epochs,
        args.batch_size,
        args.lr,
        args.momentum,
        args.weight_decay,
        warmup=0,
        seed=args.seed + repeat,
        loss=str(options.loss_choice(args)),
    )


def losses_along(ends: CurveEnds, kind: str, points: "Sequence[Point]") -> Losses:
    """Measure the mean losses along a curve, with BatchNorm statistics that are recomputed at each point.

    Args:
        ends: The two networks.
        kind: "bezier" or "polygonal".
        points: The ends and the bends between them, in their order.

    Returns:
        Losses at `POINTS` points by split.
    """
    import numpy as np

    from lossatlas.evaluation.recalibration import batchnorm_layers
    from lossatlas.jobs.sweep.loss_plan import evaluator_of
    from lossatlas.jobs.sweep.loss_quantity import LossQuantity
    from lossatlas.jobs.sweep.problem import Problem
    from lossatlas.landscape import Grid
    from lossatlas.parameter_space import CurvePlane

    net, data, loss = ends.net, ends.data, ends.loss
    device = next(net.parameters()).device
    quantity = LossQuantity(batch_size=128, recalibrated=config.BN_SAMPLES if batchnorm_layers(net) else 0)
    grid = Grid(np.linspace(0, 1, POINTS))
    surface = quantity.new_surface(net, data, loss, grid, device=str(device), request={}, about={})
    plan: ExecutionPlan = {**surface.plan, "points_per_call": 1, "lanes": 1}
    evaluator = evaluator_of(Problem(net, CurvePlane(kind, points), data, loss, device, data["train"]), plan)
    rows = evaluator([(float(t), 0.0) for t in surface.grid.x])
    fields = surface.with_cells(range(POINTS), rows).fields
    return {split: fields[f"{split}_loss"].tolist() for split in data}


def _largest(losses: list[float]) -> float:
    """The largest loss; NaN counts as larger than all."""
    return max(losses, key=lambda value: math.inf if math.isnan(value) else value)


def _say_largest(curve: str, losses: Losses) -> None:
    largest = [
        f"{split} {_largest(each):.4g} at {each.index(_largest(each)) / (POINTS - 1):.2f}"
        for split, each in losses.items()
    ]
    say(f"largest loss along {curve}: {', '.join(largest)}")


def _say_repeats(results: Sequence[Losses], straight: Losses) -> None:
    """Print mean, range and standard deviation of the largest losses of several curves."""
    import torch

    for split in straight:
        largest = torch.tensor([_largest(losses[split]) for losses in results], dtype=torch.float64)
        say(
            f"largest {split} loss along {len(results)} curves: {largest.mean():.4g} on average, {largest.min():.4g} to "
            f"{largest.max():.4g}, standard deviation {largest.std():.2g}; on the straight line "
            f"{_largest(straight[split]):.4g}"
        )


def _write_bends(net: "nn.Module", bends: "Sequence[Point]", files: Sequence[Path]) -> None:
    """A checkpoint for each bend, with the BatchNorm statistics of the last step; previous files are set aside."""
    from lossatlas.models import save_state
    from lossatlas.parameter_space.points import moved

    for file in (*files, files[0].with_suffix(".json")):
        keep_aside(file)
    for bend, file in zip(bends, files, strict=True):
        with moved(net, bend):
            save_state(file, net)


def _write_record(
    files: Sequence[Path],
    args: CurveOptions,
    command: Sequence[str],
    recipe: "TrainingRecipe",
    ends: Sequence[str],
    losses: Losses,
    straight: Losses,
) -> None:
    """A JSON beside the first bend that records how the curve was made, and its losses."""
    about = {
        "command": programs.command_line(command[0], command[1:]),
        "kind": args.kind,
        "bends": [file.name for file in files],
        "ends": ends,
        "config": resolved(args),
        "recipe": asdict(recipe),
        "losses": losses,
        "straight": straight,
    }
    write_json(files[0].with_suffix(".json"), about)
    say(f"wrote {', '.join(map(str, files))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    return exit_code(lambda: run(args, ["train_curve", *command]))
