"""Compute the loss of a network on a line or a plane through its parameters, and store it as HDF5.

    python plot_surface.py --model resnet56 --dataset fashion_mnist_mini --limit 500 \\
        --model_file trained_nets/resnet56_fashion_mnist.safetensors \\
        --x=-1:1:21 --y=-1:1:21 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --plot

    mpirun -n 4 python plot_surface.py --mpi --cuda ...      one CUDA device for each rank of a node

Run the same command again to continue after an interruption.
"""

import argparse
import platform
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from errors import BadInput, BadUsage
from h5_util import Directions, read_directions, write_directions
from recorder import Log, compare, fill, resume, rows_of
from scheduler import World, follow
from surface import Grid, Surface

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from dataloader import Dataset


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
    """What every rank needs to compute cells; travels from rank 0 to the others, tensors as numpy arrays."""

    model: str
    state: dict[str, np.ndarray]
    data: dict[str, tuple[np.ndarray, np.ndarray, int]]
    dir_type: str
    directions: tuple[Sequence[np.ndarray], Sequence[np.ndarray] | None]
    loss: str
    plan: dict[str, Any]
    threads: int
    surface: Surface


def run(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> int:
    say = print if world.root else lambda line: None
    if world.note:
        say(f"note: {world.note}")
    if not world.root:
        job = world.share(None)
        if job is None:
            return 0
        follow(world, lambda: make_work(job, world))
        return 0
    surf_file, dir_file, directions, job = prepare(world, args, command, say)
    surface = job.surface
    if args.verbose or args.dry_run:
        for name, value in {
            **surface.request,
            **job.plan,
            "threads per rank": job.threads,
            "ranks": world.size,
            "direction file": dir_file,
            "surface file": surf_file,
        }.items():
            say(f"{name} = {value}")  # fmt: skip
    if args.dry_run:
        world.share(None)
        say(f"would compute {len(surface.pending)} of {surface.grid.size} cells")
        return 0
    world.share(job)
    log.beside(surf_file)
    log.line(f"started: {shlex.join(command)}")
    say(f"{surf_file}: {surface.grid}, {surface.done.sum()} of {surface.grid.size} cells done; "
        f"{world.size} rank{'s' * (world.size > 1)} x {job.threads} threads on {job.plan['device']}")  # fmt: skip
    surface = fill(world, surf_file, surface, lambda: make_work(job, world), dir_file=dir_file,
                   embed=directions if args.self_contained else None, say=say)  # fmt: skip
    log.line("complete")
    report(surface, surf_file, say)
    if args.plot:
        draw(surf_file, surface, args)
    return 0


def prepare(
    world: World, args: argparse.Namespace, command: Sequence[str], say: Callable[[str], None]
) -> tuple[Path, Path, Directions, Job]:
    """On rank 0: read everything once, write the direction file, and say what is to be computed."""
    import torch

    from evaluation import choose_path
    from losses import LOSSES
    from models import build, load_into, read_state
    from models.checkpoint import digest
    from net_plotter import tensors

    if args.cuda and not torch.cuda.is_available():
        raise BadUsage("--cuda: no CUDA device here: leave the flag out to use the CPU")
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    grid = Grid.parse(args.x, args.y)
    nets, choice, chosen = options.networks(args), options.direction_choice(args), options.data_choice(args)
    data = {split: load_split(chosen, split) for split in chosen.splits}
    first = data[chosen.splits[0]]
    states = {file: read_state(file) for file in (nets.file, nets.file2, nets.file3) if file}
    net = build(nets.model, first.inputs.shape[1:], first.classes)

    def at(file: str) -> "dict[str, Tensor]":
        load_into(net, states[file], file)
        return {name: value.clone() for name, value in tensors(net, choice.dir_type).items()}

    targets = [at(file) if file else None for file in (nets.file2, nets.file3)]
    origin = at(nets.file)
    metrics = tuple(LOSSES[args.loss_name](net.eval(), (first.inputs[:1], first.targets[:1])).metrics)
    record = {"model": nets.model, "checkpoint": digest(states[nets.file]), "dir_type": choice.dir_type}
    dir_file = place(choice.dir_file, options.direction_name(nets, choice), args.surf_file, say)
    directions = find_directions(dir_file, record, nets, choice, net, origin, targets, states, say, dry=args.dry_run)
    surf_file = place(args.surf_file, options.surface_name(dir_file, args.x, args.y, chosen, args.loss_name), None, say)
    if not surf_file.resolve().parent.is_dir():
        raise BadInput(f"no folder {surf_file.parent} for the surface file: make it first")
    folded, reason = choose_path(net, first.inputs[:8])
    if args.verbose and not folded:
        say(f"BatchNorm is not folded: {reason}")
    plan = {
        "device": "cuda" if args.cuda else "cpu",
        "precision": "float32",
        "path": "folded" if folded else "unfolded",
        "batch_size": args.batch_size or (1024 if args.cuda else 64),
        "points_per_call": 1,
        "order": "file",
    }
    request = {**record, "dataset": chosen.dataset, "loss": args.loss_name, "split": args.split,
               "directions": directions.sha256,
               **{f"{split}_data": d.digest for split, d in data.items()}}  # fmt: skip
    threads = args.threads or world.cores
    fresh = Surface.empty(grid, {split: len(d) for split, d in data.items()}, metrics, plan=plan, request=request,
                          about=provenance(world, command, threads, args))  # fmt: skip
    surface = fresh if args.force else resume(surf_file, fresh, dir_file)
    plan = dict(surface.plan)
    if args.batch_size not in (0, plan["batch_size"]):
        say(f"note: {surf_file} was started with batch size {plan['batch_size']}, which stays")
    if surface.about.get("threads_per_rank", threads) != threads:
        say(f"note: {surf_file} was started with {surface.about['threads_per_rank']} threads per rank, now {threads}: "
            "the last digits may differ")  # fmt: skip
    job = Job(
        nets.model,
        {name: value.numpy() for name, value in net.state_dict().items()},
        {split: (d.inputs.numpy(), d.targets.numpy(), d.classes) for split, d in data.items()},
        choice.dir_type,
        (directions.x, directions.y if grid.y is not None else None),
        args.loss_name,
        plan,
        threads,
        surface,
    )
    return surf_file, dir_file, directions, job


def load_split(chosen: options.DataChoice, split: str) -> "Dataset":
    from dataloader import get, load, load_file

    file = chosen.files[0 if split == "train" else 1]
    if file:
        return load_file(file, split, limit=chosen.limit)
    if chosen.download:
        get(chosen.dataset, chosen.datapath)
    return load(chosen.dataset, split, datapath=chosen.datapath, raw=chosen.raw, limit=chosen.limit,
                data_split=chosen.data_split, image_size=chosen.image_size)  # fmt: skip


def place(given: str | None, default: Path, beside: str | None, say: Callable[[str], None]) -> Path:
    """The file that is given, or the default; the latter beside another output when its own folder is read-only."""
    if given:
        return Path(given)
    if beside and not default.exists() and not options.writable_folder(default):
        say(f"note: {default.parent} is read-only, so {default.name} is written beside {beside}")
        return Path(beside).with_name(default.name)
    return default


def find_directions(
    dir_file: Path,
    record: dict[str, Any],
    nets: options.Networks,
    choice: options.DirectionChoice,
    net: "nn.Module",
    origin: "dict[str, Tensor]",
    targets: "Sequence[dict[str, Tensor] | None]",
    states: "dict[str, dict[str, Tensor]]",
    say: Callable[[str], None],
    *,
    dry: bool = False,
) -> Directions:
    """The directions in the file, when it fits, otherwise new ones, which are written there first (unless `dry`)."""
    from models.checkpoint import digest
    from net_plotter import as_arrays, as_point

    about: dict[str, Any] = dict(record)
    axes = {"x": (choice.x, nets.file2), "y": (choice.y, nets.file3)}
    for letter, (axis, file) in axes.items():
        if axis is not None:
            about[letter] = f"towards {digest(states[file])}" if file else (
                "the x direction" if letter == "y" and choice.same_dir
                else f"random, norm={axis.norm or 'none'}, ignore={axis.ignore or 'none'}, "
                     f"seed={choice.seed}, idx={choice.idx}")  # fmt: skip
    if dir_file.exists():
        found = read_directions(dir_file)
        if not found.about:
            say(f"note: {dir_file} records no provenance; it is used as it is")
        elif choice.dir_file is None:
            compare(dir_file, found.about, about, "give another --dir_file, or remove this one")
        if choice.y is not None and found.y is None:
            raise BadInput(f"{dir_file} holds one direction, and --y needs a second: give another --dir_file")
        for letter, arrays in (("x", found.x), ("y", found.y)):
            if arrays is not None:
                as_point(arrays, net, choice.dir_type, f"the {letter} direction in {dir_file}")
        return found
    vectors: list[dict[str, Tensor]] = []
    for k, (axis, target) in enumerate(zip((choice.x, choice.y), targets, strict=True)):
        if axis is not None:
            vectors.append(vectors[0] if k and choice.same_dir else new_direction(origin, axis, target, choice, k))
    axes_arrays = [as_arrays(vector, net, choice.dir_type) for vector in vectors]
    directions = Directions(axes_arrays[0], axes_arrays[1] if len(axes_arrays) > 1 else None, about)
    if not dir_file.resolve().parent.is_dir():
        raise BadInput(f"no folder {dir_file.parent} for the direction file: make it first")
    if not dry:
        write_directions(dir_file, directions)
    return directions


def new_direction(
    origin: "dict[str, Tensor]",
    axis: options.Axis,
    target: "dict[str, Tensor] | None",
    choice: options.DirectionChoice,
    k: int,
) -> "dict[str, Tensor]":
    from net_plotter import random_direction, target_direction

    if target is not None:
        return target_direction(origin, target)
    seed = int(np.random.SeedSequence([choice.seed, choice.idx, k]).generate_state(2, np.uint32)[0])
    return random_direction(origin, axis.norm, axis.ignore, seed)


def provenance(world: World, command: Sequence[str], threads: int, args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {
        "command": shlex.join(["python", *command]),
        "started": datetime.now().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "ranks": world.size,
        "threads_per_rank": threads,
        "seed": args.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def make_work(job: Job, world: World) -> Callable[[list[int]], np.ndarray]:
    """On every rank, in the thread that computes: the network, the plane and the evaluator."""
    import torch

    from dataloader import Dataset
    from evaluation import Evaluator
    from losses import LOSSES
    from models import build
    from net_plotter import Affine, as_point, tensors

    torch.set_num_threads(job.threads)
    device = "cpu"
    if job.plan["device"] == "cuda":
        if not torch.cuda.is_available():
            raise BadInput(f"no CUDA device on {socket.gethostname()}")
        device = f"cuda:{world.local_rank % torch.cuda.device_count()}"
        # float32 is meant: no TF32, and the same algorithm on every rank.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    data = {
        split: Dataset(split, split, as_tensor(inputs), as_tensor(targets), classes)
        for split, (inputs, targets, classes) in job.data.items()
    }
    first = next(iter(data.values()))
    net = build(job.model, first.inputs.shape[1:], first.classes)
    net.load_state_dict({name: as_tensor(value) for name, value in job.state.items()})
    dx, dy = (None if d is None else as_point(d, net, job.dir_type, "the direction") for d in job.directions)
    assert dx is not None
    plane = Affine(tensors(net, job.dir_type), dx, dy)
    evaluator = Evaluator(net, plane, data, LOSSES[job.loss], batch_size=job.plan["batch_size"], device=device,
                          folded=job.plan["path"] == "folded")  # fmt: skip
    work = rows_of(evaluator, job.surface)

    def guarded(cells: list[int]) -> np.ndarray:
        try:
            return work(cells)
        except torch.OutOfMemoryError as error:
            raise BadUsage(f"out of memory on {device} with --batch_size {job.plan['batch_size']}: "
                           "give a smaller one and another --surf_file") from error  # fmt: skip

    return guarded


def as_tensor(array: np.ndarray) -> "Tensor":
    """Without a copy, unless the array came read-only from another rank."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())


def report(surface: Surface, surf_file: Path, say: Callable[[str], None]) -> None:
    for name, array in surface.fields.items():
        if name.endswith(("_loss", "_acc")):
            known = array[np.isfinite(array)]
            odd = array.size - known.size
            say(f"{name}: {known.min():.6g} to {known.max():.6g}{f', {odd} cells not finite' * bool(odd)}"
                if known.size else f"{name}: no finite value")  # fmt: skip
    for statistics in list(surface.statistics.values())[:1]:
        if (count := int(np.nansum(statistics["clamped"] > 0))) > 0:
            say(f"note: at {count} cells BatchNorm variances were negative and set to zero")
    say(f"complete: {surf_file}")


def draw(surf_file: Path, surface: Surface, args: argparse.Namespace) -> None:
    if surface.grid.y is None:
        import plot_1D

        plot_1D.draw([surf_file], axes=plot_1D.Axes(log=args.log, loss_max=args.loss_max), show=args.show)
    else:
        import plot_2D

        plot_2D.draw([surf_file], vmin=args.vmin, vmax=args.vmax, vlevel=args.vlevel, proj_file=args.proj_file,
                     log=args.log, show=args.show)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.surf_file)
    return options.launch(args.mpi, lambda world: run(world, args, ["plot_surface.py", *command], log), log.line)


if __name__ == "__main__":
    options.leave(main())
