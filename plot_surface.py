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
    from lossatlas.evaluation import Evaluator

CHECKED_SAMPLES = 256  # on which a reduced precision is compared with float32
SHORTEST_BLOCK = 0.02  # seconds; cells that take less are sent out together


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

    def with_plan(self, plan: dict[str, Any]) -> "Job":
        return replace(self, plan=plan, surface=replace(self.surface, plan=plan))


def run(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> int:
    if not world.root:
        import lossatlas.evaluation  # noqa: F401  takes seconds, in which rank 0 reads the data

        job = world.share(None)
        if job is not None:
            follow(world, lambda: make_work(job, evaluator_of(job, world)))
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
        job, evaluator = world.computing.submit(tuned, job, world, len(pending), args.batch_size).result()
        pending = job.surface.pending(job.tolerance)
    if args.verbose:
        tell(setting, job.surface, job.threads, world)
    world.share(job)
    # From here on the evaluator alone holds networks and data.
    dir_file, embed, surface = setting.dir_file, setting.directions if setting.embed else None, job.surface
    job = replace(job, problem=None)
    del setting
    log.line(f"started: {shlex.join(command)}")
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
    metrics = tuple(loss(setting.net, sample_of(few)).metrics)
    folded, reason = choose_path(setting.net, loss, few)
    if args.verbose and not folded:
        say(f"BatchNorm is not folded: {reason}")
    fresh = Surface.empty(grid, {split: len(d) for split, d in setting.data.items()}, metrics,
                          plan=new_plan(args, folded), request=setting.record,
                          about=provenance(world, command, threads, args.seed))  # fmt: skip
    surface = fresh if args.force else resume(setting.surf_file, fresh, setting.dir_file)
    surface = replace(surface, about={**surface.about, "tolerance": args.tolerance or "none"})
    if setting.curvature is not None and "second_derivatives" not in surface.about:
        surface = replace(surface, about={**surface.about, **setting.curvature.along(setting.used)})
    say_what_stays(setting.surf_file, surface, args, threads)
    problem = Problem.of(setting)
    return setting, Job(problem, setting.loss, dict(surface.plan), tolerance, threads, surface)


def new_plan(args: argparse.Namespace, folded: bool) -> dict[str, Any]:
    """What decides the last digits of a new surface; what is 0 is still to be measured."""
    return {
        "device": "cuda" if args.cuda else "cpu",
        "precision": args.precision or "float32",
        "path": "folded" if folded else "unfolded",
        "batch_size": args.batch_size,
        "points_per_call": 0,
        "lanes": 0,
        "order": "of the file; with a tolerance a random one",
    }


def evaluator_of(job: Job, world: World) -> "Evaluator":
    """On every rank: the network, the plane and the data on this rank's device."""
    import torch

    from lossatlas.evaluation import Evaluator

    torch.set_num_threads(job.threads)
    device = device_of(job.plan["device"] == "cuda", world.local_rank)
    assert job.problem is not None
    net, plane, data = job.problem.unpack()
    try:
        return Evaluator(net, plane, data, loss_of(job.loss), batch_size=job.plan["batch_size"], device=device,
                         precision=job.plan["precision"], folded=job.plan["path"] == "folded",
                         points_per_call=job.plan["points_per_call"] or 1,
                         lanes=job.plan.get("lanes", 1) or 1, tolerance=job.tolerance)  # fmt: skip
    except torch.cuda.OutOfMemoryError as error:
        raise BadUsage(f"the data and the directions do not fit into the memory of {device}: use --limit") from error
    except RuntimeError as error:
        if job.plan["precision"] in ("bfloat16", "float16"):
            raise BadUsage(f"--precision {job.plan['precision']}: this network does not compute in it on {device}: "
                           f"{str(error).splitlines()[0][:150]}") from error  # fmt: skip
        raise


def tuned(job: Job, world: World, cells: int, batch_size: int) -> "tuple[Job, Evaluator]":
    """This rank's evaluator; a new plan is completed by measurements, and what a reduced precision changes is measured."""
    from lossatlas.evaluation.tuning import lanes_of, tune

    evaluator = evaluator_of(job, world)
    plan, about = dict(job.plan), dict(job.surface.about)
    if plan["points_per_call"] == 0:
        if batch_size:
            evaluator.lanes = lanes_of(evaluator)
        else:
            many = plan["precision"] in ("float32", "float64", "tf32")
            x, y = job.surface.grid.x, [0.0] if job.surface.grid.y is None else job.surface.grid.y
            corners = [(float(a), float(b)) for a in (x[0], x[-1]) for b in (y[0], y[-1])]
            about["seconds_per_cell"] = tune(evaluator, cells, many=many, far=corners)
        for name in ("batch_size", "points_per_call", "lanes"):
            plan[name] = getattr(evaluator, name)
        if plan["precision"] not in ("float32", "float64"):
            about["precision_error"] = precision_error(job, plan, evaluator)
    job = job.with_plan(plan)
    return replace(job, surface=replace(job.surface, about=about)), evaluator


def cells_per_block(surface: Surface, cells: int, ranks: int) -> int:
    """Whole calls; several where cells are so short that messages would count, if every rank still gets its blocks."""
    company, seconds = surface.plan["points_per_call"], surface.about.get("seconds_per_cell", SHORTEST_BLOCK)
    wanted = min(SHORTEST_BLOCK / seconds, cells / (8 * ranks))
    company = company or 1  # 0 where nothing was left to measure it for
    return max(1, int(wanted / company)) * company


def precision_error(job: Job, plan: dict[str, Any], evaluator: "Evaluator") -> dict[str, Any]:
    """What a reduced precision changes, against float32 on a few samples at the middle, on the way out, in a corner."""
    from lossatlas.evaluation import Evaluator

    grid = job.surface.grid
    assert job.problem is not None
    net, plane, data = job.problem.unpack()
    data = {split: d.first(CHECKED_SAMPLES) for split, d in data.items()}
    common: dict[str, Any] = {"batch_size": plan["batch_size"], "device": evaluator.device,
                              "folded": plan["path"] == "folded"}  # fmt: skip
    exact, reduced = (Evaluator(net, plane, data, loss_of(job.loss), precision=precision, **common)
                      for precision in ("float32", plan["precision"]))  # fmt: skip
    x, y = grid.x, np.zeros(1) if grid.y is None else grid.y
    points = [(float(x[i]), float(y[min(i * len(y) // len(x), len(y) - 1)])) for i in (len(x) // 2, len(x) // 4, 0)]
    sizes = {split: len(d) for split, d in data.items()}
    curve = Surface.empty(Grid(np.arange(3.0)), sizes, evaluator.metrics)
    found, wanted = (curve.with_cells(range(3), e(points)).fields for e in (reduced, exact))
    errors = {name: [float(abs(f - w) / abs(w)) for f, w in zip(found[name], wanted[name], strict=True)]
              for name in wanted if name.endswith("_loss")}  # fmt: skip
    for name, values in errors.items():
        say(f"{plan['precision']} changes {name} by " + ", ".join(
            f"{error:.1e} at ({a:.3g}, {b:.3g})" for error, (a, b) in zip(values, points, strict=True))
            + f" (relative to float32, {len(next(iter(data.values())))} samples)")  # fmt: skip
    return {"points": points, "relative": errors, "samples": CHECKED_SAMPLES}


def make_work(job: Job, evaluator: "Evaluator | None") -> Callable[[list[int]], tuple[np.ndarray, str]]:
    """The function from cells to rows and a note, in the thread that computes."""
    import torch

    assert evaluator is not None
    torch.set_num_threads(job.threads)
    before = np.stack([np.stack([array.ravel() for array in statistics.values()], axis=1)
                       for statistics in job.surface.statistics.values()], axis=1)  # fmt: skip

    def work(cells: list[int]) -> tuple[np.ndarray, str]:
        points, note = [job.surface.grid.point(cell) for cell in cells], ""
        while True:
            try:
                return evaluator(points, before[cells]), note
            except torch.cuda.OutOfMemoryError as error:
                if evaluator.batch_size == 1:
                    raise BadUsage(f"one sample does not fit into the memory of {evaluator.device}") from error
                note = f"out of memory on {evaluator.device}: batch size {evaluator.batch_size // 2} from cell {cells[0]} on"
                evaluator.batch_size //= 2
                evaluator.forget_graphs()
                torch.cuda.empty_cache()

    return work


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
