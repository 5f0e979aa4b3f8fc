"""Compute the smallest and the largest Hessian eigenvalue of a network on a line or a plane through its parameters.

    python plot_hessian_eigen.py --model resnet20 --dataset fashion_mnist_mini --limit 96 \\
        --model_file trained_nets/resnet20_small_batch.safetensors \\
        --x=-0.5:0.5:21 --xnorm filter --xignore biasbn --surf_file eigen.h5 --plot

    mpirun -n 4 python plot_hessian_eigen.py --mpi --cuda ...      one CUDA device for each rank of a node

Run the same command again to continue after an interruption. The Hessian is that of the mean loss with respect to all
parameters; --matrices_only leaves out those with one axis (biases, BatchNorm), as the original release does.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import options
from factories import Factory
from lossatlas.errors import Stop, say
from lossatlas.landscape import Grid, Surface, unresolved
from lossatlas.record.continuation import resume
from lossatlas.record.progress import Log
from lossatlas.record.recorder import fill
from preparation import Problem, Setting, device_of, loss_of, provenance, read_setting, say_what_stays, tell
from scheduler import World, follow, serve

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.hessian import Hessian
    from lossatlas.space import Affine


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    options.add_networks(p)
    options.add_data(p, splits=("train", "test"))
    options.add_directions(p)
    g = options.add_curvature(p, tolerance=1e-2)
    g.add_argument("--chain", type=options.positive, default=1, metavar="N", help="accepted from earlier versions, where N "
                   "neighbouring cells were one block; each cell is computed by itself now: a start that may not miss an "
                   "eigenvalue saves nothing (benchmarks/eigen_map.py)")  # fmt: skip
    g = options.add_ranks(p)
    options.add_products(g)
    options.add_output(g)
    options.add_plot(p)
    return p


@dataclass(frozen=True)
class Job:
    """What every rank needs to compute cells; travels from rank 0 to the others."""

    problem: Problem
    loss: str | Factory
    parameters: Sequence[str]
    matrices_only: bool
    tolerance: float
    threads: int
    surface: Surface


def run(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> int:
    if not world.root:
        import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

        job = world.share(None)
        if job is not None:
            follow(world, lambda: make_work(job, *operator_of(job, world)))
        return 0
    if world.note:
        say(f"note: {world.note}")
    setting, job = world.computing.submit(prepare, world, args, command, log).result()
    surf_file, pending = setting.surf_file, job.surface.pending()
    if args.dry_run:
        tell(setting, job.surface, job.threads, world)
        world.share(None)
        say(f"would compute {len(pending)} of {job.surface.grid.size} cells")
        return 0
    setting.write_directions()
    operator = None
    if len(pending):
        job, operator = world.computing.submit(checked, job, world).result()
    if args.verbose:
        tell(setting, job.surface, job.threads, world)
    world.share(job)
    surface = job.surface
    log.line(f"started: {shlex.join(command)}")
    say(f"{surf_file}: {surface.grid}, {surface.grid.size - len(pending)} of {surface.grid.size} cells done; "
        f"{world.size} rank{'s' * (world.size > 1)} x {job.threads} threads on {surface.plan['device']}")  # fmt: skip
    surface = fill(partial(serve, world), surf_file, surface, lambda: make_work(job, *operator), dir_file=setting.dir_file,  # type: ignore[misc]
                   embed=setting.directions if setting.embed else None, pending=pending)  # fmt: skip
    log.line("complete")
    report(surface, surf_file)
    if args.plot:
        try:
            draw(surf_file, surface, args)
        except Stop as error:  # the surface is complete all the same
            say(f"note: not drawn: {error}")
    return 0


def prepare(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> tuple[Setting, Job]:
    """On rank 0: read everything once and say what is to be computed. Writes nothing."""
    import torch

    device_of(args.cuda)
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    from lossatlas.computing.eigenvalues import FIELDS
    from lossatlas.hessian import usual_batch_size

    grid, threads = Grid.parse(args.x, args.y), args.threads or world.cores
    torch.set_num_threads(threads)
    setting = read_setting(args, grid, file_name, log)
    request = {**setting.record, "parameters": args.parameters or "all", "matrices_only": args.matrices_only,
               "tolerance": args.tolerance}  # fmt: skip
    device, samples = "cuda" if args.cuda else "cpu", len(next(iter(setting.data.values())))
    plan = {
        "device": device,
        "precision": args.precision or "float32",
        "path": "",
        "compiled": args.compile,
        "batch_size": args.batch_size or usual_batch_size(samples, device, threads),
        "most": args.most,
        "seed": args.seed,
    }
    fresh = Surface.of_values(grid, FIELDS, plan=plan, request=request,
                              about=provenance(world, command, threads, args.seed))  # fmt: skip
    surface = fresh if args.force else resume(setting.surf_file, fresh, setting.dir_file)
    say_what_stays(setting.surf_file, surface, args, threads)
    if setting.curvature is not None and "second_derivatives" not in surface.about:
        surface = replace(surface, about={**surface.about, **setting.curvature.along(setting.used)})
    job = Job(Problem.of(setting), setting.loss, args.parameters, args.matrices_only, args.tolerance, threads, surface)
    return setting, job


def file_name(dir_file: Path, args: argparse.Namespace, data: options.DataChoice) -> Path:
    """The file's name when none is given: that of a surface, and what is special."""
    what = "_hessian_eigen" + "_matrices" * args.matrices_only + "".join(f"_{part}" for part in args.parameters)
    base = options.surface_name(dir_file, args, data)
    return options.shortened(base.with_name(f"{base.stem}{what.replace('/', '_')}.h5"))


def operator_of(job: Job, world: World) -> "tuple[Hessian, Affine]":
    """On every rank: the Hessian on this rank's device, and the plane."""
    import torch

    from lossatlas.hessian import Hessian
    from lossatlas.space import Affine

    plan = job.surface.plan
    torch.set_num_threads(job.threads)
    device = device_of(plan["device"] == "cuda", world.local_rank)
    net, plane, data = job.problem.unpack()
    if plan["precision"] == "float64":
        net = net.double()
        plane = Affine(*(None if d is None else {name: value.double() for name, value in d.items()}
                         for d in (plane.origin, plane.dx, plane.dy)))  # type: ignore[arg-type]  # fmt: skip
    return Hessian(net, next(iter(data.values())), loss_of(job.loss), parameters=job.parameters,
                   matrices_only=job.matrices_only, batch_size=plan["batch_size"], device=device,
                   folded=None if not plan["path"] else plan["path"] == "folded", compiled=plan["compiled"]), plane  # fmt: skip


def checked(job: Job, world: World) -> "tuple[Job, tuple[Hessian, Affine]]":
    """This rank's operator; a new plan learns the way of the products. Raises BadInput for a network that is random."""
    from lossatlas.hessian import check_deterministic

    operator, plane = operator_of(job, world)
    operator.place(plane.point(0.0, 0.0))
    check_deterministic(operator)
    surface = job.surface
    if not surface.plan["path"]:
        about = {**surface.about, "why_not_folded": operator.why_not_folded or "it is"}
        surface = replace(
            surface, plan={**surface.plan, "path": "folded" if operator.folded else "unfolded"}, about=about
        )
    return replace(job, surface=surface), (operator, plane)


def make_work(job: Job, operator: "Hessian", plane: "Affine") -> Callable[[list[int]], tuple[np.ndarray, str]]:
    """The function from cells to rows and a note, in the thread that computes."""
    import torch

    from lossatlas.computing.eigenvalues import work_of

    torch.set_num_threads(job.threads)
    plan = job.surface.plan
    return work_of(job.surface.grid, operator, plane, tolerance=job.tolerance, most=plan["most"], seed=plan["seed"])


def report(surface: Surface, surf_file: Path) -> None:
    fields = surface.fields
    for name in ("max_eig", "min_eig"):
        known = fields[name][np.isfinite(fields[name])]
        odd = surface.grid.size - known.size
        say(f"{name}: {known.min():.6g} to {known.max():.6g}{f', {odd} cells not finite' * bool(odd)}"
            if known.size else f"{name}: no finite value")  # fmt: skip
        loose = int(unresolved(surface, name).sum())
        if loose:
            say(
                f"note: {name} is not resolved at {loose} of {surface.grid.size} cells: more products with --most and --force"
            )
    say(f"{int(np.nansum(fields['products']))} products, {np.nanmean(fields['products']):.1f} a cell")
    say(f"complete: {surf_file}")


def draw(surf_file: Path, surface: Surface, args: argparse.Namespace) -> None:
    if surface.grid.y is None:
        import plot_1D

        plot_1D.draw([surf_file], axes=plot_1D.Axes(log=args.log), show=args.show)
    else:
        import plot_2D

        plot_2D.draw([surf_file], vmin=args.vmin, vmax=args.vmax, vlevel=args.vlevel, log=args.log, show=args.show)


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.surf_file)
    return options.launch(args.mpi, lambda world: run(world, args, ["plot_hessian_eigen.py", *command], log), log.line)


if __name__ == "__main__":
    options.leave(main())
