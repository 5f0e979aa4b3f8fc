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
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from errors import BadInput, BadUsage, Stop, say
from h5_util import Directions, embeds_directions, read_directions, read_surface, write_directions
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
    if not world.root:
        job = world.share(None)
        if job is None:
            return 0
        follow(world, lambda: make_work(job, world))
        return 0
    if world.note:
        say(f"note: {world.note}")
    task = prepare(world, args, command, log)
    job, surface = task.job, task.job.surface
    if args.verbose or args.dry_run:
        for name, value in {
            **surface.request,
            **job.plan,
            "threads per rank": job.threads,
            "ranks": world.size,
            "direction file": task.dir_file,
            "surface file": task.surf_file,
        }.items():
            say(f"{name} = {value}")  # fmt: skip
    if args.dry_run:
        world.share(None)
        say(f"would compute {len(surface.pending)} of {surface.grid.size} cells")
        return 0
    task.write_directions()
    world.share(job)
    log.line(f"started: {shlex.join(command)}")
    say(f"{task.surf_file}: {surface.grid}, {surface.done.sum()} of {surface.grid.size} cells done; "
        f"{world.size} rank{'s' * (world.size > 1)} x {job.threads} threads on {job.plan['device']}")  # fmt: skip
    surface = fill(world, task.surf_file, surface, lambda: make_work(job, world), dir_file=task.dir_file,
                   embed=task.directions if task.embed else None)  # fmt: skip
    log.line("complete")
    report(surface, task.surf_file)
    if args.plot:
        try:
            draw(task.surf_file, task.dir_file, surface, args)
        except Stop as error:  # the surface is complete all the same
            say(f"note: not drawn: {error}")
    return 0


@dataclass(frozen=True)
class Task:
    """What rank 0 has prepared. new: the directions are not in their file yet."""

    surf_file: Path
    dir_file: Path
    directions: Directions
    new: bool
    embed: bool
    job: Job

    def write_directions(self) -> None:
        if self.new:
            write_directions(self.dir_file, self.directions)
            say(f"new directions are in {self.dir_file}")


def prepare(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> Task:
    """On rank 0: read everything once and say what is to be computed. Writes nothing."""
    import torch

    from evaluation import choose_path
    from losses import LOSSES
    from models import load_into, read_state
    from models.checkpoint import digest
    from net_plotter import tensors

    if args.cuda and not torch.cuda.is_available():
        raise BadUsage("--cuda: no CUDA device here: leave the flag out to use the CPU")
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    grid = Grid.parse(args.x, args.y)
    nets, choice, chosen = options.networks(args), options.direction_choice(args), options.data_choice(args)
    dir_file = place(choice.dir_file, options.direction_name(nets, choice), args.surf_file)
    surf_file = place(args.surf_file, options.surface_name(dir_file, args.x, args.y, chosen, args.loss_name), None)
    if not args.dry_run:
        log.beside(surf_file)
    for what, path in (("surface", surf_file), ("direction", dir_file)):
        if not path.resolve().parent.is_dir():
            raise BadInput(f"no folder {path.parent} for the {what} file: make it first")
    states = {file: read_state(file) for file in (nets.file, nets.file2, nets.file3) if file}
    data = load_data(chosen, states[nets.file])
    first = data[chosen.splits[0]]
    net = network_for(nets.model, first)

    def at(file: str) -> "dict[str, Tensor]":
        load_into(net, states[file], file)
        return {name: value.clone() for name, value in tensors(net, choice.dir_type).items()}

    targets = [at(file) if file else None for file in (nets.file2, nets.file3)]
    origin = at(nets.file)
    try:
        metrics = tuple(LOSSES[args.loss_name](net.eval(), (first.inputs[:1], first.targets[:1])).metrics)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        shape = "x".join(map(str, first.inputs.shape[1:]))
        raise BadInput(f"{nets.model} cannot take inputs of {shape}: {str(error).splitlines()[0][:150]}") from error
    record = {"model": nets.model, "checkpoint": digest(states[nets.file]), "dir_type": choice.dir_type}
    directions, new = find_directions(dir_file, record, nets, choice, net, origin, targets, states)
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"--dir_file and --surf_file are the same file, {surf_file}: give two")
    folded, reason = choose_path(net, first.inputs[:8])
    if args.verbose and not folded:
        say(f"BatchNorm is not folded: {reason}")
    used = Directions(directions.x, directions.y if grid.y is not None else None)
    request = {**record, "dataset": first.name, "loss": args.loss_name, "split": args.split, "directions": used.sha256,
               **{f"{split}_data": d.digest for split, d in data.items()}}  # fmt: skip
    threads = args.threads or world.cores
    fresh = Surface.empty(grid, {split: len(d) for split, d in data.items()}, metrics, plan=new_plan(args, folded), request=request,
                          about=provenance(world, command, threads, args))  # fmt: skip
    surface = fresh if args.force else resume(surf_file, fresh, dir_file)
    say_what_stays(surf_file, surface, args.batch_size, threads)
    embed = args.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file))
    job = Job(
        nets.model,
        {name: value.numpy() for name, value in net.state_dict().items()},
        {split: (d.inputs.numpy(), d.targets.numpy(), d.classes) for split, d in data.items()},
        choice.dir_type,
        (used.x, used.y),
        args.loss_name,
        dict(surface.plan),
        threads,
        surface,
    )
    return Task(surf_file, dir_file, directions, new, embed, job)


def new_plan(args: argparse.Namespace, folded: bool) -> dict[str, Any]:
    """What decides the last digits of a new surface."""
    return {
        "device": "cuda" if args.cuda else "cpu",
        "precision": "float32",
        "path": "folded" if folded else "unfolded",
        "batch_size": args.batch_size or (1024 if args.cuda else 64),
        "points_per_call": 1,
        "order": "file",
    }


def say_what_stays(surf_file: Path, surface: Surface, batch_size: int, threads: int) -> None:
    """Tell where a continued file's plan differs from this run."""
    if batch_size not in (0, surface.plan["batch_size"]):
        say(f"note: {surf_file} was started with batch size {surface.plan['batch_size']}, which stays")
    before = surface.about.get("threads_per_rank", threads)
    if before != threads:
        say(f"note: {surf_file} was started with {before} threads per rank, now {threads}: the last digits may differ")


def load_data(chosen: options.DataChoice, state: "dict[str, Tensor]") -> "dict[str, Dataset]":
    """Every split that is asked for. A user's own data have as many classes as the checkpoint has outputs."""
    from dataloader import OWN

    for split, file in zip(("train", "test"), chosen.files, strict=True):
        if file and split not in chosen.splits:
            say(f"note: --{split}loader {file} is not used: --split asks for {' and '.join(chosen.splits)}")
    data = {split: load_split(chosen, split) for split in chosen.splits}
    if chosen.classes or chosen.dataset in OWN or any(chosen.files):
        outputs = [value.shape[0] for value in state.values() if value.dim() >= 1]
        classes = chosen.classes or outputs[-1]
        data = {split: replace(d, classes=classes) for split, d in data.items()}
    for split, d in data.items():
        if int(d.targets.max()) >= d.classes:
            raise BadInput(f"the {split} data have the label {int(d.targets.max())}, the network {d.classes} classes")
    return data


def network_for(model: str, data: "Dataset") -> "nn.Module":
    """A network of the zoo for samples of this shape. Raises BadInput where that is not possible."""
    from models import build

    shape = data.inputs.shape[1:]
    try:
        return build(model, shape, data.classes)
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
        raise BadInput(f"there is no {model} for inputs of {'x'.join(map(str, shape))}: {error}") from error


def is_surface(path: Path) -> bool:
    """Whether a readable surface file is there."""
    if not path.exists():
        return False
    try:
        read_surface(path)
    except BadInput:
        return False
    return True


def load_split(chosen: options.DataChoice, split: str) -> "Dataset":
    from dataloader import get, load, load_file

    file = chosen.files[0 if split == "train" else 1]
    if file:
        return load_file(file, split, limit=chosen.limit)
    if chosen.download:
        get(chosen.dataset, chosen.datapath)
    return load(chosen.dataset, split, datapath=chosen.datapath, raw=chosen.raw, limit=chosen.limit,
                data_split=chosen.data_split, image_size=chosen.image_size)  # fmt: skip


def place(given: str | None, default: Path, beside: str | None) -> Path:
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
) -> tuple[Directions, bool]:
    """The directions in the file when it fits, otherwise new ones; and whether they are still to be written."""
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
    found = read_directions(dir_file) if dir_file.exists() else None
    if found is not None:
        check_record(dir_file, found, about, choice)
        for letter, arrays in (("x", found.x), ("y", found.y)):
            if arrays is not None:
                as_point(arrays, net, choice.dir_type, f"the {letter} direction in {dir_file}")
        if choice.y is None or found.y is not None:
            return found, False
        if choice.dir_file is not None:
            raise BadInput(f"{dir_file} holds one direction, and --y needs a second: give another --dir_file")
    vectors: list[dict[str, Tensor]] = []
    for k, (axis, target) in enumerate(zip((choice.x, choice.y), targets, strict=True)):
        if axis is not None:
            vectors.append(vectors[0] if k and choice.same_dir else new_direction(origin, axis, target, choice, k))
    arrays_of = [as_arrays(vector, net, choice.dir_type) for vector in vectors]
    if found is not None:  # a file of one direction gets the second
        arrays_of[0] = list(found.x)
    return Directions(arrays_of[0], arrays_of[1] if len(arrays_of) > 1 else None, about), True


def check_record(dir_file: Path, found: Directions, about: dict[str, Any], choice: options.DirectionChoice) -> None:
    """Compare what a direction file records with what is asked for, on the axes that are used.

    A file that the user names is used as it is, and differences are said; but where --seed or --idx ask for directions
    that it does not hold, or where the name was not the user's choice, that is an error.
    """
    if not found.about:
        say(f"note: {dir_file} records no provenance; it is used as it is")
        return
    asked = {name: value for name, value in about.items() if name != "y" or found.y is not None}
    recorded = {name: found.about.get(name) for name in asked}
    if choice.dir_file is None or choice.idx or choice.seed != options.SEED:
        compare(dir_file, recorded, asked, "give another --dir_file, or remove this one")
    for name, value in asked.items():
        if recorded[name] != value:
            say(f"note: {dir_file} was made with {name} = {recorded[name]}, not {value}; it is used as it is")


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
    try:
        evaluator = Evaluator(net, plane, data, LOSSES[job.loss], batch_size=job.plan["batch_size"], device=device,
                              folded=job.plan["path"] == "folded")  # fmt: skip
    except torch.cuda.OutOfMemoryError as error:
        raise BadUsage(f"the data and the directions do not fit into the memory of {device}: use --limit") from error
    work = rows_of(evaluator, job.surface)

    def guarded(cells: list[int]) -> np.ndarray:
        try:
            return work(cells)
        except torch.cuda.OutOfMemoryError as error:
            raise BadUsage(f"out of memory on {device} with --batch_size {job.plan['batch_size']}: "
                           "give a smaller one and another --surf_file") from error  # fmt: skip

    return guarded


def as_tensor(array: np.ndarray) -> "Tensor":
    """Without a copy, unless the array came read-only from another rank."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())


def report(surface: Surface, surf_file: Path) -> None:
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
