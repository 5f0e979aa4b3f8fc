"""How sharp a minimum is beyond a plane: how far the loss rises within a distance, at worst and on average.

    python sharpness.py --model resnet20 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --sharpness_file sharp.h5 --plot
    mpirun -n 4 python sharpness.py --mpi ...           the samples are spread over the ranks
    python plot_sharpness.py --sharpness_file A.h5 B.h5 --labels small large

Worst case: the largest rise of the mean loss in a ball of radius rho around the parameters (Foret et al., SAM), and among
changes of that length relative to each parameter (Kwon et al., adaptive SAM), found by projected gradient ascent, and the largest
of all that were seen: what is printed is reached, and the maximum may be larger. Average case: the mean over random directions of
that length. Critical sharpness: 2 over the smallest rate at which a step against the gradient does not lower the loss. The changes
with the largest rises are written as directions, so that plot_surface.py can go along them.

Run the same command again to continue after an interruption: what is finished is in the file.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.commands import options
from lossatlas.errors import BadInput, BadUsage, CannotWrite, Stop, say
from lossatlas.io import Directions, Findings, read_directions, write_directions, write_findings
from lossatlas.io.atomic_write import set_aside
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Log
from lossatlas.io.recorder import signals, stopped_by
from lossatlas.io.resume import resume_findings
from lossatlas.jobs import distributed_hessian, file_names
from lossatlas.jobs.distributed_hessian import HessianJob, check_enough_samples, collective_calls, output_lock
from lossatlas.jobs.inputs import (
    LoadedInputs,
    PackedInputs,
    device_of,
    function_record,
    load_inputs,
    output_path,
    provenance,
)
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import lead
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor

    from lossatlas.hessian import Hessian
    from lossatlas.hessian.sharpness_measures import Rise

KINDS = ("plain", "adaptive")
PLAIN, ADAPTIVE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
WORST = "change"  # how a direction file names it
COLUMNS = ("radius", "worst", "steps", "average", "average_se")


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    options.add_network(p)
    options.add_data(p, splits=("train", "test"))
    g = p.add_argument_group("what to compute")
    options.add_selection(g, "change")
    for name, usual, what in (
        ("rho", PLAIN, "radii of the ball"),
        ("adaptive_rho", ADAPTIVE, "radii for relative changes"),
    ):
        g.add_argument(
            f"--{name}",
            type=options.above_zero,
            nargs="*",
            default=list(usual),
            metavar="R",
            help=f"{what} (default: {' '.join(map(str, usual))})",
        )
    g.add_argument(
        "--steps",
        type=options.positive,
        default=20,
        metavar="N",
        help="gradients for each radius at most (default: %(default)s)",
    )
    g.add_argument(
        "--directions",
        type=options.positive,
        default=10,
        metavar="N",
        help="random directions for the average (default: %(default)s)",
    )
    g.add_argument("--seed", type=options.natural, default=0, help="of the random directions (default: %(default)s)")
    g = options.add_ranks(p)
    options.add_products(g)
    g.add_argument(
        "--sharpness_file", metavar="OUT.h5", help="file to write, or to continue (default: beside the checkpoint)"
    )
    g.add_argument("--force", action="store_true", help="start over even if the file exists")
    g.add_argument("--dry_run", action="store_true", help="print what would be computed and stop")
    g = p.add_argument_group("figures")
    g.add_argument("--plot", action="store_true", help="draw the figure")
    g.add_argument("--show", action="store_true", help="open a window too")
    return p


@dataclass(frozen=True)
class SharpnessTask:
    """Everything that this command is told. radii: by kind, increasing."""

    model: config.Model
    model_file: str
    data: config.DataConfig
    loss: str | UserFunction
    hessian: config.HessianConfig
    radii: dict[str, list[float]]
    steps: int
    directions: int
    seed: int
    run: config.RunConfig
    sharpness_file: str | None
    force: bool
    dry_run: bool
    plot: bool
    show: bool
    command: str

    @classmethod
    def of(cls, args: argparse.Namespace, command: Sequence[str]) -> "SharpnessTask":
        """Raises BadUsage."""
        radii = {"plain": sorted(set(args.rho)), "adaptive": sorted(set(args.adaptive_rho))}
        if not any(radii.values()):
            raise BadUsage("--rho and --adaptive_rho are both empty: give a radius")
        own = ("steps", "directions", "seed", "sharpness_file", "force", "dry_run", "plot", "show")
        return cls(
            options.model_choice(args),
            options.model_file(args),
            options.data_choice(args),
            options.loss_choice(args),
            config.HessianConfig(tuple(args.only), tuple(args.without), False, 0.0, 0, False),
            radii,
            run=options.run_choice(args),
            **{name: getattr(args, name) for name in own},
            command=shlex.join(["python", *command]),
        )


def run(world: World, order: Callable[[], SharpnessTask], log: Log) -> int:
    """order: gives what is asked for, on rank 0 alone, where wrong usage is said."""

    def leading() -> int:
        task = order()
        with ExitStack() as held:
            return lead_sharpness(world, task, log, held)

    return distributed_hessian.run_collective(world, leading)


def lead_sharpness(world: World, task: SharpnessTask, log: Log, held: ExitStack) -> int:
    """On rank 0: see `run`. held: lets go of the lock on the output."""
    with chdir("."):  # a user's code may go elsewhere
        path, job, findings, lock, loaded = prepare(world, task, log, held)
    if not task.force:
        findings = resume_findings(path, findings, task.seed, "give another --sharpness_file")
    if task.dry_run:
        from lossatlas.hessian.sharpness_measures import RADIUS_FRACTIONS

        for name, value in {**findings.request, **findings.plan, "sharpness file": path}.items():
            say(f"{name} = {value}")
        radii = sum(map(len, task.radii.values()))
        losses = radii * (task.directions + 2 * len(RADIUS_FRACTIONS) + 1)
        say(
            f"at most {radii * task.steps} gradients and {losses} losses, and some 40 losses for the critical sharpness"
        )
        world.share(None)
        return 0
    world.share(job)
    with chdir("."):
        calls, hessian = collective_calls(job, world)
    around = DistributedSharpness(hessian, lead(world, calls))
    ranks = f"{world.size} rank{'s' * (world.size > 1)}"
    say(
        f"{path}: {around.size:,} parameters, {job.samples} samples; "
        f"{ranks} x {job.run.threads} threads on {job.run.device}"
    )
    log.line(f"started: {task.command}")
    if task.force and (old := set_aside(path)):
        say(f"note: the file that was there is now {old}")
    write_findings(path, findings)  # a place that cannot be written is better noticed now than after an hour
    with chdir("."):
        findings = computed(task, around, findings, Path(os.path.abspath(path)), lock)
    world.share(None)
    log.line("complete")
    finish(findings, path, task, loaded, hessian)
    return 0


def computed(
    task: SharpnessTask, around: "DistributedSharpness", findings: Findings, path: Path, lock: Lock
) -> Findings:
    """All of it; saved after each radius. A signal ends it between two of them."""
    import torch

    from lossatlas.hessian.sharpness_measures import Rise, critical_sharpness, sharpness

    def save(found: Findings) -> None:
        nonlocal findings
        lock.check()
        write_findings(path, found)
        findings = found

    with signals() as caught:
        around = replace(around, caught=caught)
        for kind, radii in task.radii.items():
            rows = findings.arrays.get(f"{kind}/rises", np.zeros((0, len(COLUMNS))))
            change = torch.from_numpy(findings.arrays.get(f"{kind}/change", np.zeros(0, np.float32)))
            known = [Rise(*(row[0], row[1], int(row[2]), change, row[3], row[4])) for row in rows.tolist()]

            def each(rise: "Rise", kind: str = kind) -> None:
                row = [rise.radius, rise.worst, rise.steps, rise.average, rise.average_se]
                before = findings.arrays.get(f"{kind}/rises", np.zeros((0, len(COLUMNS))))
                largest = rise.change.cpu().numpy()
                save(findings.with_arrays({f"{kind}/rises": np.vstack([before, row]), f"{kind}/change": largest}))
                say(line_of(kind, row))

            for row in rows.tolist():
                say(f"{line_of(kind, row)}, in the file already")
            if radii:
                sharpness(
                    around,
                    radii,
                    adaptive=kind == "adaptive",
                    steps=task.steps,
                    directions=task.directions,
                    seed=task.seed,
                    known=known,
                    each=each,
                )
        if "critical" not in findings.arrays:
            value, _ = critical_sharpness(around)
            save(findings.with_arrays({"critical": value}))
    return findings


def line_of(kind: str, row: Sequence[float]) -> str:
    radius, worst, _, average, error = row
    return f"{kind}, rho {radius:g}: the loss rises by at least {worst:.4g} at worst, by {average:.4g} +- {error:.2g} on average"


@dataclass(frozen=True)
class DistributedSharpness:
    """The loss around a network; every value and gradient is the work of all ranks. caught: signals that ask for an end."""

    hessian: "Hessian"
    together: Callable[..., Any]
    caught: Sequence[int] = ()

    @property
    def size(self) -> int:
        return self.hessian.size

    def weights(self) -> "Tensor":
        return self.hessian.weights()

    def loss_at(self, change: "Tensor | None") -> float:
        return float(self.all_of("loss", change))

    def gradient_at(self, change: "Tensor | None") -> "tuple[float, Tensor]":
        value, gradient = self.all_of("gradient", change)
        return float(value), gradient

    def all_of(self, what: str, change: "Tensor | None") -> Any:
        """Raises Incomplete where a signal has come."""
        if self.caught:
            raise stopped_by(self.caught[0], ": run the same command again to continue")
        return self.together(what, None if change is None else change.cpu().numpy())


def prepare(
    world: World, task: SharpnessTask, log: Log, held: ExitStack
) -> "tuple[Path, HessianJob, Findings, Lock, LoadedInputs]":
    """On rank 0: read everything once. Writes nothing but the lock."""
    from lossatlas.hessian import usual_batch_size

    if not task.dry_run:
        device_of(task.run.cuda)
    model, file = task.model, task.model_file
    path = output_path(task.sharpness_file, Path(f"{file_names.base_name(model, file)}_sharpness.h5"), None)
    lock = output_lock("sharpness", path, task.dry_run, log, held)
    check_worst(worst_file(path))
    loaded = load_inputs(config.NetworkConfig(model, file, None, None), "weights", task.data, task.loss)
    check_enough_samples(loaded, world)
    samples, threads = loaded.first, task.run.threads or world.cores
    size = task.run.batch_size or usual_batch_size(-(-len(samples) // world.size), task.run.device, threads)
    run = replace(task.run, threads=threads, batch_size=size)
    job = HessianJob(PackedInputs.of(loaded), task.loss, task.hessian, run, len(samples), None, "output")
    from lossatlas.evaluation.precision import product_precision

    request = {
        **{name: value for name, value in loaded.record.items() if name != "dir_type"},
        "dataset": samples.name,
        **function_record("loss", task.loss),
        "split": task.data.split,
        "data": samples.digest,
        "parameters": list(task.hessian.parameters) or "all",
        **({"without": list(task.hessian.without)} if task.hessian.without else {}),
        "precision": product_precision(run.precision, loaded.net),
        "rho": task.radii["plain"],
        "adaptive_rho": task.radii["adaptive"],
        "steps": task.steps,
        "directions": task.directions,
        "seed": task.seed,
    }
    plan = {"device": run.device, "batch_size": size, "ranks": world.size}
    about = {**provenance(world, task.command, threads, task.seed), "sketches": {"data": samples.sketch}}
    return path, job, Findings({}, request, plan, about, "sharpness"), lock, loaded


def worst_file(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.h5')}_worst.h5")


def check_worst(path: Path) -> None:
    """Raise BadInput where something else has this name."""
    if path.exists() and not str(read_directions(path).about.get("x", "")).startswith(WORST):
        raise BadInput(f"{path} is no direction of sharpness.py, and would be replaced: give another --sharpness_file")


def finish(findings: Findings, path: Path, task: SharpnessTask, loaded: LoadedInputs, hessian: "Hessian") -> None:
    """Say what was found, write the worst changes as directions, and draw."""
    import torch

    from lossatlas.figures.sharpness_plots import table
    from lossatlas.parameter_space import as_arrays

    say(table([findings], [""])[-1])  # the rest has been said
    kinds = [kind for kind in KINDS if task.radii[kind]]
    about = {name: value for name, value in findings.request.items() if name in ("model", "checkpoint")}
    arrays = []
    for letter, kind in zip("xy", kinds, strict=False):
        change = torch.from_numpy(findings.arrays[f"{kind}/change"].astype(np.float32))
        moved = dict(zip(hessian.names, [piece.clone() for piece in hessian.unflatten(change)], strict=True))
        radius = findings.arrays[f"{kind}/rises"][-1, 0]
        about[letter] = f"{WORST} with the largest rise of the loss that was found within rho = {radius:g} ({kind})"
        arrays.append(as_arrays(moved, loaded.net, "weights"))
    worst = worst_file(path)
    write_directions(
        worst, Directions(arrays[0], arrays[1] if len(arrays) > 1 else None, about), new=not worst.exists()
    )
    say(f"complete: {path}")
    for number, kind in enumerate(kinds, 1):
        say(
            f"the worst {kind} change: plot_surface.py ... --xdirection {worst}:{number} (coordinate 1 is where it ends)"
        )
    if task.plot:
        from lossatlas.commands import plot_sharpness

        try:
            plot_sharpness.draw([path], show=task.show)
        except CannotWrite:
            raise
        except Stop as error:  # the file is complete all the same
            say(f"note: not drawn: {error}")


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.sharpness_file)
    return launch.launch(
        args.mpi, lambda world: run(world, lambda: SharpnessTask.of(args, ["sharpness.py", *command]), log), log.line
    )
