"""Compute the loss of a network on a line or a plane through its parameters, and store it as HDF5.

    python plot_surface.py --model resnet56 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet56_fashion_mnist.safetensors \\
        --x=-1:1:21 --y=-1:1:21 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --plot

    mpirun -n 4 python plot_surface.py --mpi --cuda ...      one CUDA device for each rank of a node

Run the same command again to continue after an interruption.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from factories import Factory
from lossatlas.errors import BadUsage, Stop, say
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.record.continuation import resume
from lossatlas.record.progress import Log
from lossatlas.record.recorder import fill
from preparation import Problem, Setting, device_of, loss_of, provenance, read_setting, say_what_stays, tell
from scheduler import World, follow, serve

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.computing.surfaces import Scene
    from lossatlas.evaluation import Evaluator


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    options.add_networks(p)
    options.add_data(p)
    options.add_directions(p)
    options.add_run(p)
    options.add_plot(p)
    return p


@dataclass(frozen=True)
class Job:
    """What every rank needs to compute cells; travels from rank 0 to the others."""

    problem: Problem | None
    loss: str | Factory
    plan: dict[str, Any]
    tolerance: Tolerance
    threads: int
    surface: Surface


def run(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> int:
    if not world.root:
        import lossatlas.evaluation  # noqa: F401  takes seconds, in which rank 0 reads the data

        job = world.share(None)
        if job is not None:
            follow(world, lambda: make_work(job, scene_of(job, world).evaluator(job.plan, job.tolerance)))
        return 0
    if world.note:
        say(f"note: {world.note}")
    setting, job = world.computing.submit(prepare, world, args, command, log).result()
    surf_file, pending = setting.surf_file, job.surface.pending(job.tolerance)
    if args.dry_run:
        tell(setting, job.surface, job.threads, world)
        world.share(None)
        say(f"would compute {len(pending)} of {job.surface.grid.size} cells")
        return 0
    setting.write_directions()
    evaluator = None
    if len(pending):
        job, evaluator = world.computing.submit(measured, job, world, len(pending), args.batch_size).result()
        pending = job.surface.pending(job.tolerance)
    if args.verbose:
        tell(setting, job.surface, job.threads, world)
    world.share(job)
    # From here on the evaluator alone holds networks and data.
    dir_file, embed, surface = setting.dir_file, setting.directions if setting.embed else None, job.surface
    job = replace(job, problem=None)
    del setting
    log.line(f"started: {shlex.join(command)}")
    from lossatlas.computing.surfaces import cells_per_block

    size, ranks = surface.grid.size, f"{world.size} rank{'s' * (world.size > 1)}"
    say(f"{surf_file}: {surface.grid}, {size - len(pending)} of {size} cells done; "
        f"{ranks} x {job.threads} threads on {job.plan['device']}{way(surface.plan)}")  # fmt: skip
    surface = fill(partial(serve, world), surf_file, surface, lambda: make_work(job, evaluator), dir_file=dir_file, embed=embed,
                   pending=pending, cells_per_block=cells_per_block(surface, len(pending), world.size),
                   expected=surface.about.get("seconds_per_cell", math.inf) / world.size)  # fmt: skip
    log.line("complete")
    report(surface, surf_file)
    if args.plot:
        try:
            draw(surf_file, dir_file, surface, args)
        except Stop as error:  # the surface is complete all the same
            say(f"note: not drawn: {error}")
    return 0


def way(plan: Mapping[str, Any]) -> str:
    """How a rank computes, as the plan says; nothing where it is not measured yet."""
    if not plan.get("batch_size"):
        return ""
    if plan.get("points_per_call", 1) > 1:
        return f", {plan['points_per_call']} points at once"
    lanes = plan.get("lanes", 1)
    return f", batches of {plan['batch_size']}" + (f", {lanes} side by side" if lanes > 1 else " one after the other")


def prepare(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> tuple[Setting, Job]:
    """On rank 0: read everything once and say what is to be computed. Writes nothing."""
    import torch

    from lossatlas.computing.surfaces import new_plan, refuse_tolerance
    from lossatlas.evaluation import choose_path, sample_of

    device_of(args.cuda)
    if args.precision == "tf32" and not args.cuda:
        raise BadUsage("--precision tf32: TF32 is a mode of CUDA devices: add --cuda, or choose another precision")
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    grid, tolerance = Grid.parse(args.x, args.y), Tolerance.parse(args.tolerance) if args.tolerance else Tolerance()
    threads = args.threads or world.cores
    torch.set_num_threads(threads)
    setting = read_setting(args, grid, options.surface_name, log)
    first = next(iter(setting.data.values()))
    loss, few = loss_of(setting.loss), next(first.batches(8))
    found = loss(setting.net, sample_of(few))
    metrics, spread = tuple(found.metrics), found.spread
    folded, reason = choose_path(setting.net, loss, few)
    if args.verbose and not folded:
        say(f"BatchNorm is not folded: {reason}")
    if not tolerance.exact:
        refuse_tolerance(setting.data, spread)
    fresh = Surface.empty(
        grid,
        {split: len(d) for split, d in setting.data.items()},
        metrics,
        plan=new_plan("cuda" if args.cuda else "cpu", args.precision or "float32", folded, args.batch_size),
        request=setting.record,
        about=provenance(world, command, threads, args.seed),
    )
    surface = fresh if args.force else resume(setting.surf_file, fresh, setting.dir_file)
    surface = replace(surface, about={**surface.about, "tolerance": args.tolerance or "none"})
    if setting.curvature is not None and "second_derivatives" not in surface.about:
        surface = replace(surface, about={**surface.about, **setting.curvature.along(setting.used)})
    say_what_stays(setting.surf_file, surface, args, threads)
    problem = Problem.of(setting)
    return setting, Job(problem, setting.loss, dict(surface.plan), tolerance, threads, surface)


def scene_of(job: Job, world: World) -> "Scene":
    """On every rank: the network, the plane and the data on this rank's device."""
    import torch

    from lossatlas.computing.surfaces import Scene

    torch.set_num_threads(job.threads)
    assert job.problem is not None
    net, plane, data = job.problem.unpack()
    return Scene(net, plane, data, loss_of(job.loss), device_of(job.plan["device"] == "cuda", world.local_rank))


def measured(job: Job, world: World, cells: int, batch_size: int) -> "tuple[Job, Evaluator]":
    """On rank 0: its evaluator, and the job with a complete plan."""
    from lossatlas.computing.surfaces import precision_lines, tuned

    known = "precision_error" in job.surface.about
    surface, evaluator = tuned(scene_of(job, world), job.surface, job.tolerance, cells, batch_size)
    if "precision_error" in surface.about and not known:
        for line in precision_lines(surface.plan["precision"], surface.about["precision_error"]):
            say(line)
    return replace(job, plan=dict(surface.plan), surface=surface), evaluator


def make_work(job: Job, evaluator: "Evaluator | None") -> Callable[[list[int]], tuple[np.ndarray, str]]:
    """The function from cells to rows and a note, in the thread that computes."""
    import torch

    from lossatlas.computing.surfaces import work_of

    assert evaluator is not None
    torch.set_num_threads(job.threads)
    return work_of(job.surface, evaluator)


def report(surface: Surface, surf_file: Path) -> None:
    for name, array in surface.fields.items():
        if name.endswith(("_loss", "_acc")):
            known = array[np.isfinite(array)]
            odd = array.size - known.size
            say(f"{name}: {known.min():.6g} to {known.max():.6g}{f', {odd} cells not finite' * bool(odd)}"
                if known.size else f"{name}: no finite value")  # fmt: skip
    for split, statistics in surface.statistics.items():
        used = statistics["n"][np.isfinite(statistics["n"])]  # cells of other programs record none
        share = used.mean() / surface.populations[split] if used.size else 1.0
        if share < 1:
            say(f"the tolerance took {100 * share:.2g} % of the {split} samples: all of them would take about "
                f"{1 / share:.3g} times as long")  # fmt: skip
    for statistics in list(surface.statistics.values())[:1]:
        if (count := int(np.nansum(statistics["clamped"] > 0))) > 0:
            say(f"note: at {count} cells BatchNorm variances were negative and set to zero")
    say(f"complete: {surf_file}")


def draw(surf_file: Path, dir_file: Path, surface: Surface, args: argparse.Namespace) -> None:
    if surface.grid.y is None:
        import plot_1D

        plot_1D.draw([surf_file], axes=plot_1D.Axes(log=args.log, loss_max=args.loss_max), show=args.show)
    else:
        import plot_2D

        plot_2D.draw([surf_file], vmin=args.vmin, vmax=args.vmax, vlevel=args.vlevel, proj_file=args.proj_file,
                     dir_file=str(dir_file),
                     log=args.log, show=args.show)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.surf_file)
    return options.launch(args.mpi, lambda world: run(world, args, ["plot_surface.py", *command], log), log.line)


if __name__ == "__main__":
    options.leave(main())
