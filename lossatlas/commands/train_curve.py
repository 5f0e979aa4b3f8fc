"""Train a curve of low loss between two networks, as Garipov et al. (arXiv 1802.10026): its ends stay, its bends are trained.

    lossatlas train-curve --model resnet20 --model_file A.safetensors --model_file2 B.safetensors \\
        --dataset fashion_mnist_mini --epochs 20 --out bend.safetensors
    lossatlas surface --model resnet20 --model_file A.safetensors --model_file2 B.safetensors \\
        --curve bezier --control_points bend.safetensors --x=0:1:61 --bn recalibrate ...               the loss along it
    lossatlas surface ... --model_file2 B.safetensors --model_file3 bend.safetensors --orthogonalize \\
        --x=-0.2:1.2:29 --y=-0.5:1.5:41 --bn recalibrate                                     the plane it lies in

Every step draws a place on the curve, and lowers the loss of the network there. At the end the largest loss along the
curve, and along the straight line, is measured, with BatchNorm statistics of every place itself.
"""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lossatlas import config, programs
from lossatlas.commands import options
from lossatlas.errors import BadInput, BadUsage, Incomplete, exit_code, say
from lossatlas.io.atomic_write import set_aside, write_file
from lossatlas.io.lock import Lock
from lossatlas.option_fields import above_zero, natural, not_negative, option, positive, resolved

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.parameter_space import Point

PLACES = 21  # at which the loss along a curve is measured
FEW = 200  # steps that hardly bend a curve


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


def check(args: CurveOptions) -> None:
    if not args.model_file2:
        raise BadUsage("--model_file2 is missing: name the network at the other end")
    if not args.out.endswith(".safetensors"):
        raise BadUsage(f"--out {args.out}: the name has to end in .safetensors")
    if not Path(args.out).resolve().parent.is_dir():
        raise BadInput(f"no folder {Path(args.out).parent} for --out: make it first")
    ends = [each for each in (args.model_file, args.model_file2) if each]
    taken = {Path(options.in_folder(each, args.model_folder)).resolve() for each in ends}
    for k in range(args.repeat):
        for file in names(args.out, k, args.repeat, args.bends):
            if file.resolve() in taken:
                raise BadUsage(f"--out {args.out} would replace {file}, one of the ends: choose another name")


def names(out: str, repeat: int, repeats: int, bends: int) -> list[Path]:
    """Where the bends of a repeat go."""
    stem = out.removesuffix(".safetensors") + (f"_{repeat + 1}" if repeats > 1 else "")
    return [Path(f"{stem}{f'_bend{k + 1}' if bends > 1 else ''}.safetensors") for k in range(bends)]


def run(args: CurveOptions, command: Sequence[str]) -> None:
    with ExitStack() as held:
        try:
            curves(args, command, held)
        except KeyboardInterrupt as error:
            raise Incomplete(f"{str(error) or 'interrupted'}: curves that were finished are kept") from None


def curves(args: CurveOptions, command: Sequence[str], held: ExitStack) -> None:
    """held: lets go of the locks on the outputs."""
    import torch

    from lossatlas.jobs.inputs import device_of, load_inputs, loss_of
    from lossatlas.parameter_space.directions import target_direction
    from lossatlas.training.loop import TrainingRecipe

    check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = device_of(args.cuda)
    files = [names(args.out, k, args.repeat, args.bends) for k in range(args.repeat)]
    for file in (file for each in files for file in each):
        held.enter_context(Lock(file))
    nets, chosen, loss_name = options.two_networks(args), options.data_choice(args), options.loss_choice(args)
    loaded = load_inputs(nets, "weights", chosen, loss_name, train_too=True)
    loss, train, end = loss_of(loss_name), loaded.training, loaded.targets[0]
    assert train is not None
    assert end is not None
    net = loaded.net.to(device)
    ends = [{name: value.to(device) for name, value in point.items()} for point in (loaded.origin, end)]
    if not any(bool(d.any()) for d in target_direction(ends[0], ends[1]).values()):
        raise BadInput(f"{nets.file2} is the same network as {nets.file}: there is nothing between them")
    data = {"train": train, **loaded.data}
    if (steps := args.epochs * -(-len(train) // args.batch_size)) < FEW:
        say(f"note: {steps} steps in all are few: more --epochs, or smaller batches, give a lower curve")
    straight = along(net, "polygonal", ends, data, loss)
    say_largest("the straight line", straight)
    named = [loaded.record["checkpoint"], *loaded.towards.values()]
    results = []
    for repeat, bend_files in enumerate(files):
        recipe = TrainingRecipe(
            args.epochs,
            args.batch_size,
            args.lr,
            args.momentum,
            args.weight_decay,
            warmup=0,
            seed=args.seed + repeat,
            loss=str(loss_name),
        )
        bends = trained(net, args.kind, ends, args.bends, train, loss, recipe)
        if not all(bool(value.isfinite().all()) for bend in bends for value in bend.values()):
            raise BadInput(f"the bends are not finite after training with --lr {args.lr:g}: use a smaller rate")
        found = along(net, args.kind, [ends[0], *bends, ends[1]], data, loss)
        number = f" {repeat + 1} of {args.repeat}" if args.repeat > 1 else ""
        say_largest(f"the {args.kind} curve{number} (seed {recipe.seed})", found)
        results.append(found)
        write(net, bends, bend_files, found, straight, args, command, asdict(recipe), named)
    if args.repeat > 1:
        for split in data:
            tops = torch.tensor([largest(found[split]) for found in results], dtype=torch.float64)
            say(
                f"largest {split} loss along {args.repeat} curves: {tops.mean():.4g} on average, {tops.min():.4g} to "
                f"{tops.max():.4g}, standard deviation {tops.std():.2g}; on the straight line {largest(straight[split]):.4g}"
            )


def trained(
    net: "nn.Module",
    kind: str,
    ends: "Sequence[Point]",
    count: int,
    data: "AnyData",
    loss: "Loss",
    recipe: Any,
) -> "list[Point]":
    """The bends of a curve, which begins as the straight line."""
    import torch
    from torch import nn
    from torch.func import functional_call

    from lossatlas.parameter_space.curves import shares
    from lossatlas.training.loop import train

    class Curve(nn.Module):
        """The network at a place of the curve that is drawn at every call; its parameters are the bends."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = [net]  # not a part of it: it is not trained
            self.keys = list(ends[0])
            self.bends = nn.ModuleList()
            for k in range(count):
                part = (k + 1) / (count + 1)
                start = [(1 - part) * ends[0][key] + part * ends[1][key] for key in self.keys]
                self.bends.append(nn.ParameterList([nn.Parameter(value.clone()) for value in start]))

        def train(self, mode: bool = True) -> "Curve":
            self.inner[0].train(mode)
            return super().train(mode)

        def forward(self, *arguments: Any, **named: Any) -> Any:
            parts = shares(kind, float(torch.rand(())), count + 2)
            own, bends = {}, list[Any](self.bends)
            for k, key in enumerate(self.keys):
                inner: Any = sum(part * bend[k] for part, bend in zip(parts[1:-1], bends, strict=True))
                own[key] = parts[0] * ends[0][key] + inner + parts[-1] * ends[1][key]
            return functional_call(self.inner[0], own, arguments, named)

    def on_epoch(epoch: int, _: Any) -> None:
        say(f"epoch {epoch}/{recipe.epochs}: loss {sum(losses) / max(1, len(losses)):.4g} at places drawn at random")
        losses.clear()

    losses: list[float] = []
    curve = Curve()
    train(curve, data, recipe, lambda e, s, value: losses.append(value), on_epoch, loss=loss, channels_last=False)
    net.eval()
    found: Any = curve.bends
    return [{key: bend[k].detach().clone() for k, key in enumerate(curve.keys)} for bend in found]


def along(
    net: "nn.Module", kind: str, points: "Sequence[Point]", data: "dict[str, AnyData]", loss: "Loss"
) -> dict[str, list[float]]:
    """The mean losses at PLACES along a curve, each with BatchNorm statistics of its own, by split."""
    import numpy as np

    from lossatlas.evaluation.recalibration import batchnorm_layers
    from lossatlas.jobs.loss_surface import evaluator_of, new_surface
    from lossatlas.jobs.problem import Problem
    from lossatlas.landscape import Grid, Tolerance
    from lossatlas.parameter_space import CurvePlane

    device = next(net.parameters()).device
    surface = new_surface(
        net,
        data,
        loss,
        Grid(np.linspace(0, 1, PLACES)),
        device=device,
        tolerance=Tolerance(),
        batch_size=128,
        request={},
        about={},
        recalibrated=config.BN_SAMPLES if batchnorm_layers(net) else 0,
    )
    plan = {**surface.plan, "points_per_call": 1, "lanes": 1}
    evaluator = evaluator_of(Problem(net, CurvePlane(kind, points), data, loss, device, data["train"]), plan)
    rows = evaluator([(float(t), 0.0) for t in surface.grid.x])
    fields = surface.with_cells(range(PLACES), rows).fields
    return {split: fields[f"{split}_loss"].tolist() for split in data}


def largest(losses: list[float]) -> float:
    """One that is not a number is larger than all."""
    return max(losses, key=lambda value: math.inf if math.isnan(value) else value)


def say_largest(what: str, found: dict[str, list[float]]) -> None:
    tops = [
        f"{split} {largest(losses):.4g} at {losses.index(largest(losses)) / (PLACES - 1):.2f}"
        for split, losses in found.items()
    ]
    say(f"largest loss along {what}: {', '.join(tops)}")


def write(
    net: "nn.Module",
    bends: "Sequence[Point]",
    files: Sequence[Path],
    found: dict[str, list[float]],
    straight: dict[str, list[float]],
    args: CurveOptions,
    command: Sequence[str],
    recipe: dict[str, Any],
    ends: Sequence[str],
) -> None:
    """A checkpoint for each bend, with the statistics of BatchNorm of the last step, and a JSON beside the first one."""
    from lossatlas.models import save_state
    from lossatlas.parameter_space.points import moved

    for file in (*files, files[0].with_suffix(".json")):
        if old := set_aside(file):
            say(f"note: the file that was there is now {old}")
    for bend, file in zip(bends, files, strict=True):
        with moved(net, bend):
            save_state(file, net)
    about = {
        "command": programs.command_line(command[0], command[1:]),
        "kind": args.kind,
        "bends": [file.name for file in files],
        "ends": ends,
        "config": resolved(args),
        "recipe": recipe,
        "losses": found,
        "straight": straight,
    }
    write_file(files[0].with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())
    say(f"wrote {', '.join(map(str, files))}")


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    return exit_code(lambda: run(args, ["train_curve", *command]))
