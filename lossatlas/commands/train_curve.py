"""Train the control points of a curve of low loss between two networks, as Garipov et al. (arXiv 1802.10026).

    lossatlas train-curve --model resnet20 --model_file A.safetensors --model_file2 B.safetensors \\
        --dataset fashion_mnist_mini --epochs 20 --out bend.safetensors
    lossatlas surface --model resnet20 --model_file A.safetensors --model_file2 B.safetensors \\
        --curve bezier --control_points bend.safetensors --x=0:1:61 --bn recalibrate ...               the loss along it
    lossatlas surface ... --model_file2 B.safetensors --model_file3 bend.safetensors --orthogonalize \\
        --x=-0.2:1.2:29 --y=-0.5:1.5:41 --bn recalibrate                                     the plane it lies in

Every step draws a point of the curve and lowers the loss of the network there. At the end the largest loss along the
curve and along the straight line is measured, with BatchNorm statistics that are recomputed at every point.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lossatlas import config, programs
from lossatlas.choices import CurveKind
from lossatlas.commands import job_choices, options
from lossatlas.config.option_fields import above_zero, natural, not_negative, option, positive, resolved_options
from lossatlas.errors import BadUsage, Incomplete, exit_code, named, say
from lossatlas.io.lock import Lock
from lossatlas.training.outputs import check_output_folder, write_json

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.jobs.curves.curve_job import CurveLosses, TrainedCurve
    from lossatlas.training.loop import TrainingRecipe

FEW_STEPS = 200  # fewer hardly bend a curve


@dataclass(frozen=True)
class CurveTrainingOptions:
    """The curve, and how it is trained."""

    HEADING: ClassVar[str] = "curve"

    kind: CurveKind = option("bezier", "kind of the curve")
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
    """Two networks, their data, the training of the curve, and the device."""


def parser() -> options.Parser[CurveOptions]:
    return options.Parser(__doc__, CurveOptions)


def check_options(args: CurveOptions) -> None:
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
    from lossatlas.jobs.curves.curve_job import control_point_files

    check_output_folder(args.out)
    ends = [each for each in (args.model_file, args.model_file2) if each]
    taken = {Path(job_choices.in_folder(each, args.model_folder)).resolve() for each in ends}
    for k in range(args.repeat):
        for file in control_point_files(args.out, k, repeats=args.repeat, count=args.bends):
            if file.resolve() in taken:
                raise BadUsage(f"{out} would replace {file}, one of the ends: choose another name")


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
    check_options(args)
    from lossatlas.jobs.curves.curve_job import control_point_files, losses_along, train_curve, write_control_points
    from lossatlas.jobs.curves.named_ends import load_ends
    from lossatlas.mpi.rank_resources import device_of, use_threads

    def on_epoch(epoch: int, loss: float) -> None:
        say(f"epoch {epoch}/{args.epochs}: loss {loss:.4g} at places drawn at random")

    use_threads(args.threads)
    files = [control_point_files(args.out, k, repeats=args.repeat, count=args.bends) for k in range(args.repeat)]
    for file in (file for each in files for file in each):
        locks.enter_context(Lock(file))
    nets, data = job_choices.two_networks(args), job_choices.data_choice(args)
    ends = load_ends(nets, data, job_choices.loss_choice(args), device=device_of(args.cuda))
    if (steps := args.epochs * -(-len(ends.train) // args.batch_size)) < FEW_STEPS:
        say(f"note: {steps} steps in all are few: more {named('epochs')}, or smaller batches, give a lower curve")
    straight = losses_along(ends, "polygonal", ends.points)
    _say_largest("the straight line", straight)
    results = []
    for repeat, each in enumerate(files):
        curve = train_curve(ends, args.kind, args.bends, recipe=_recipe(args, repeat), on_epoch=on_epoch)
        number = f" {repeat + 1} of {args.repeat}" if args.repeat > 1 else ""
        _say_largest(f"the {args.kind} curve{number} (seed {curve.recipe.seed})", curve.losses)
        results.append(curve.losses)
        write_control_points(ends.net, curve.control_points, each)
        record = {"ends": ends.names, "config": resolved_options(args), **_record(curve), "straight": straight}
        line = programs.command_line(command[0], command[1:])
        names = [file.name for file in each]
        write_json(each[0].with_suffix(".json"), {"command": line, "kind": args.kind, "bends": names, **record})
        say(f"wrote {', '.join(map(str, each))}")
    if args.repeat > 1:
        _say_repeats(results, straight)


def _record(curve: "TrainedCurve") -> dict[str, Any]:
    """Return the record beside the first control point of a curve: its settings, and its losses."""
    return {"recipe": asdict(curve.recipe), "losses": curve.losses}


def _recipe(args: CurveOptions, repeat: int) -> "TrainingRecipe":
    from lossatlas.training.loop import TrainingRecipe

    return TrainingRecipe(
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        warmup=0,
        seed=args.seed + repeat,
        loss=str(job_choices.loss_choice(args)),
    )


def _say_largest(curve: str, losses: "CurveLosses") -> None:
    """Print the largest loss along a curve, and its place on it."""
    from lossatlas.jobs.curves.curve_job import CURVE_POINTS, largest_loss

    largest = [
        f"{split} {largest_loss(each):.4g} at {each.index(largest_loss(each)) / (CURVE_POINTS - 1):.2f}"
        for split, each in losses.items()
    ]
    say(f"largest loss along {curve}: {', '.join(largest)}")


def _say_repeats(results: "Sequence[CurveLosses]", straight: "CurveLosses") -> None:
    """Print mean, range and standard deviation of the largest losses of several curves."""
    import torch

    from lossatlas.jobs.curves.curve_job import largest_loss

    for split in straight:
        largest = torch.tensor([largest_loss(losses[split]) for losses in results], dtype=torch.float64)
        say(
            f"largest {split} loss along {len(results)} curves: {largest.mean():.4g} on average, {largest.min():.4g} "
            f"to {largest.max():.4g}, standard deviation {largest.std():.2g}; on the straight line "
            f"{largest_loss(straight[split]):.4g}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    return exit_code(lambda: run(args, ["train_curve", *command]))
