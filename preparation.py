"""What a command that fills a grid reads before it computes: networks, data, directions; and what every rank is sent.

setting = read_setting(args, grid)       # on rank 0; raises BadUsage and BadInput, writes nothing
problem = Problem.of(setting)      # travels to the other ranks
net, plane, data = problem.unpack()      # on every rank
"""

import argparse
import platform
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from factories import Factory
from lossatlas.errors import BadInput, BadUsage, Stop, say
from lossatlas.landscape import Grid, Surface
from lossatlas.record import Directions, read_surface, write_directions
from lossatlas.record.continuation import NOT_COMPUTED, compare
from lossatlas.record.directions import embeds_directions
from lossatlas.record.progress import Log
from net_plotter import Curvature, find_directions
from scheduler import World

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData, Dataset, Loss
    from lossatlas.space import Affine


CHECKED, FEW = 64, 4  # samples on which a loss is looked at before anything is computed: a user's, and one of ours


@dataclass(frozen=True)
class Setting:
    """What rank 0 has read.

    used: the directions without those that the grid does not need. new: they are not in their file yet. record: what
    tells this from other work. curvature: where the second derivatives along the axes are wanted.
    """

    surf_file: Path
    dir_file: Path
    directions: Directions
    used: Directions
    new: bool
    embed: bool
    net: "nn.Module"
    model: options.Model
    dir_type: str
    data: "dict[str, AnyData]"
    loss: str | Factory
    record: dict[str, Any]
    curvature: Curvature | None

    def write_directions(self) -> None:
        if self.new:
            write_directions(self.dir_file, self.directions)
            say(f"new directions are in {self.dir_file}")


def read_setting(args: argparse.Namespace, grid: Grid, name_of: options.SurfaceName, log: Log) -> Setting:
    """Read everything once and find the directions. name_of: the surface file's name when none is given."""
    from lossatlas.space import tensors
    from models import load_into, read_state
    from models.checkpoint import digest

    nets, choice, chosen = options.networks(args), options.direction_choice(args), options.data_choice(args)
    loss_name = options.loss_choice(args)
    for brought in (nets.model, chosen.dataset, loss_name):
        if isinstance(brought, Factory):
            brought.function  # noqa: B018  what cannot be imported is better said at once
    dir_file = place(choice.dir_file, options.direction_name(nets, choice), args.surf_file)
    surf_file = place(args.surf_file, name_of(dir_file, args, chosen), None)
    if not args.dry_run:
        log.beside(surf_file)
    for what, path in (("surface", surf_file), ("direction", dir_file)):
        if not path.resolve().parent.is_dir():
            raise BadInput(f"no folder {path.parent} for the {what} file: make it first")
    states = {file: read_state(file) for file in (nets.file, nets.file2, nets.file3) if file}
    data = load_data(chosen, states.get(nets.file, {}), nets.model)
    first = data[chosen.splits[0]]
    net = network_for(nets.model, first)
    if not nets.file:
        states[""] = {name: value.detach().clone() for name, value in net.state_dict().items()}

    def at(file: str) -> "dict[str, Tensor]":
        load_into(net, states[file], file)
        return {name: value.clone() for name, value in tensors(net, choice.dir_type).items()}

    targets = [at(file) if file else None for file in (nets.file2, nets.file3)]
    origin = at(nets.file)
    value = try_out(net, nets.model, first, loss_name)
    record = {
        **recorded("model", nets.model, value),
        "checkpoint": digest(states[nets.file]),
        "dir_type": choice.dir_type,
    }
    curvature = Curvature(net, first, loss_name, device_of(args.cuda))
    towards = {file: digest(states[file]) for file in (nets.file2, nets.file3) if file}
    found = find_directions(
        dir_file, record, nets, choice, net, origin, targets, towards, curvature, planned=args.dry_run
    )
    directions, new = found or (Directions([]), True)
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"--dir_file and --surf_file are the same file, {surf_file}: give two")
    used = Directions(directions.x, directions.y if grid.y is not None else None)
    record |= {"dataset": first.name, **recorded("loss", loss_name), "split": args.split,
               "directions": used.sha256 if found else NOT_COMPUTED,
               **{f"{split}_data": d.digest for split, d in data.items()}}  # fmt: skip
    embed = args.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file))
    return Setting(surf_file, dir_file, directions, used, new, embed, net, nets.model, choice.dir_type, data, loss_name, record,
                   curvature if choice.curvature and not args.dry_run else None)  # fmt: skip


def recorded(what: str, name: str | Factory, value: float | None = None) -> dict[str, Any]:
    """What tells a network or a loss from others: its name; for a user's function what it is called with, and its code.

    value: of a user's network, the loss of the first samples, because a file does not show what it imports.
    """
    if not isinstance(name, Factory):
        return {what: name}
    more = {} if value is None else {"loss_of_first_samples": value}
    return {what: str(name), f"{what}_code": name.code, **more}


def loss_of(name: str | Factory) -> "Loss":
    """A loss by name, or a user's. Raises BadInput, BadUsage."""
    from lossatlas.data import as_loss

    return as_loss(name.function if isinstance(name, Factory) else name)


def try_out(net: "nn.Module", model: options.Model, data: "AnyData", loss_name: str | Factory) -> float:
    """The mean loss of the first samples, which tells from other losses and networks.

    Raises BadInput where a network cannot take the data, its loss cannot be computed, or is random.
    """
    import torch

    from lossatlas.data.losses import check_loss
    from lossatlas.evaluation import sample_of
    from lossatlas.evaluation.lanes import copied
    from lossatlas.evaluation.precision import in_float64

    own = isinstance(model, Factory) or isinstance(loss_name, Factory)
    loss, few = loss_of(loss_name), next(data.batches(CHECKED if own else FEW))
    model_of_loss = copied(net).eval()
    model_of_loss.register_forward_hook(in_float64)
    try:
        found = check_loss(loss, model_of_loss, few, sample_of)
    except Stop as error:
        raise type(error)(f"{model}: {error}") from error
    except Exception as error:
        raise BadInput(f"{model} cannot take {described(few)}: {one_line(error)}") from error
    weights = torch.ones_like(found.per_sample) if found.weights is None else found.weights
    return float((weights * found.per_sample).sum() / weights.sum())


def described(samples: Any) -> str:
    """The shapes in a batch, for messages."""
    from lossatlas.data.structures import leaves

    parts = [
        (path, "x".join(map(str, leaf.shape[1:])) or "numbers")
        for path, leaf in leaves(samples)
        if hasattr(leaf, "shape")
    ]
    if [path for path, _ in parts] == ["[0]", "[1]"]:
        return f"inputs of {parts[0][1]}"
    return "a batch of " + ", ".join(f"{path or 'one tensor'}: {shape}" for path, shape in parts)


def one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]


@dataclass(frozen=True)
class Trained:
    """A network and its data, as numpy arrays that travel without being copied.

    data: (samples, classes) by split, or (list of batches, classes) where these are fixed; what has four axes as
    (N, H, W, C).
    """

    model: options.Model
    state: dict[str, np.ndarray]
    data: dict[str, tuple[Any, int]]

    @classmethod
    def of(cls, model: options.Model, net: "nn.Module", data: "Mapping[str, AnyData]") -> "Trained":
        from lossatlas.data import Dataset
        from lossatlas.data.structures import mapped

        def packed(samples: Any) -> Any:
            return mapped(samples, lambda tensor: as_array(channels_last(tensor)))

        return cls(
            model,
            {name: as_array(value) for name, value in net.state_dict().items()},
            {
                split: (
                    packed(d.samples) if isinstance(d, Dataset) else Fixed([packed(batch) for batch in d.contents]),
                    d.classes,
                )
                for split, d in data.items()
            },
        )

    def unpack(self) -> "tuple[nn.Module, dict[str, AnyData]]":
        """All of it shares the arrays' memory."""
        import torch

        from lossatlas.data import Dataset, FixedBatches
        from lossatlas.data.structures import mapped
        from models import build

        def unpacked(samples: Any) -> Any:
            return mapped(own(samples), channels_first)

        data: dict[str, AnyData] = {}
        for split, (packed, classes) in self.data.items():
            data[split] = FixedBatches(split, split, [unpacked(batch) for batch in packed.batches], classes) \
                if isinstance(packed, Fixed) else Dataset(split, split, unpacked(packed), classes)  # fmt: skip
        first = next(iter(data.values()))
        if isinstance(self.model, Factory):
            net = build(self.model)
        else:
            assert isinstance(first, Dataset)
            with torch.device("meta"):  # neither drawn at random nor stored: what it holds is assigned
                net = build(self.model, first.inputs.shape[1:], first.classes)
        own_tensors = {name: as_tensor(value) for name, value in self.state.items()}
        net.load_state_dict(own_tensors, assign=not isinstance(self.model, Factory))  # assigning would untie weights
        return net.requires_grad_(False), data


@dataclass(frozen=True)
class Fixed:
    """Batches of shapes that differ, packed."""

    batches: list[Any]


@dataclass(frozen=True)
class Problem:
    """A network, its directions and its data, in the same form."""

    trained: Trained
    dir_type: str
    directions: tuple[Sequence[np.ndarray], Sequence[np.ndarray] | None]

    @classmethod
    def of(cls, setting: Setting) -> "Problem":
        directions = (setting.used.x, setting.used.y)
        return cls(Trained.of(setting.model, setting.net, setting.data), setting.dir_type, directions)

    def unpack(self) -> "tuple[nn.Module, Affine, dict[str, AnyData]]":
        """All of it shares the arrays' memory."""
        from lossatlas.space import Affine, as_point, tensors

        net, data = self.trained.unpack()
        dx, dy = (None if d is None else as_point(d, net, self.dir_type, "the direction") for d in self.directions)
        assert dx is not None
        return net, Affine(tensors(net, self.dir_type), dx, dy), data


def channels_last(inputs: "Tensor") -> "Tensor":
    """Images (N, C, H, W) as contiguous (N, H, W, C), without a copy where they lie like this; others as they are."""
    return inputs.permute(0, 2, 3, 1).contiguous() if inputs.dim() == 4 else inputs


def channels_first(inputs: "Tensor") -> "Tensor":
    return inputs.permute(0, 3, 1, 2) if inputs.dim() == 4 else inputs


def own(samples: Any) -> Any:
    """Samples whose arrays can be written, copied where they came read-only from another rank."""
    if isinstance(samples, np.ndarray):
        return samples if samples.flags.writeable else samples.copy()
    if isinstance(samples, Mapping):
        return {name: own(value) for name, value in samples.items()}
    if isinstance(samples, list | tuple):
        items = [own(value) for value in samples]
        return type(samples)(*items) if hasattr(samples, "_fields") else type(samples)(items)
    return samples


def as_array(tensor: "Tensor") -> Any:
    """The tensor's memory as a numpy array; a tensor where numpy has no such type."""
    import torch

    return tensor if tensor.dtype == torch.bfloat16 else tensor.detach().numpy()


def as_tensor(array: Any) -> "Tensor":
    """Without a copy, unless the array came read-only from another rank."""
    import torch

    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def load_data(chosen: options.DataChoice, state: "dict[str, Tensor]", model: options.Model) -> "dict[str, AnyData]":
    """Every split that is asked for. A user's own data have as many classes as the checkpoint has outputs."""
    from dataloader import OWN
    from lossatlas.data import Dataset
    from models import classes_in

    for split, file in zip(("train", "test"), chosen.files, strict=True):
        if file and split not in chosen.splits:
            say(f"note: --{split}loader {file} is not used: --split asks for {' and '.join(chosen.splits)}")
    data: dict[str, AnyData] = {split: load_split(chosen, split) for split in chosen.splits}
    if isinstance(model, Factory):  # what its targets mean is the loss's business
        return data
    for d in data.values():
        if not isinstance(d, Dataset) or not isinstance(d.samples, tuple) or len(d.samples) != 2:
            raise BadInput(f"{model} of the zoo takes pairs of inputs and labels, and --dataset gives something else")
    sets = {split: d for split, d in data.items() if isinstance(d, Dataset)}
    if chosen.classes or not isinstance(chosen.dataset, str) or chosen.dataset in OWN or any(chosen.files):
        first = sets[chosen.splits[0]]
        with fitting(model, first):
            classes = chosen.classes or classes_in(model, first.inputs.shape[1:], state)
        if classes is not None:  # otherwise loading the checkpoint says what does not fit
            sets = {split: replace(d, classes=classes) for split, d in sets.items()}
    for split, d in sets.items():
        if not d.targets.is_floating_point() and int(d.targets.max()) >= d.classes:
            raise BadInput(f"the {split} data have the label {int(d.targets.max())}, the network {d.classes} classes")
    return {**data, **sets}


def network_for(model: options.Model, data: "AnyData") -> "nn.Module":
    """A network of the zoo for samples of this shape, or a user's. Raises BadInput where that is not possible."""
    from lossatlas.data import Dataset
    from models import build

    if isinstance(model, Factory) or not isinstance(data, Dataset):
        return build(model).eval()
    with fitting(model, data):
        return build(model, data.inputs.shape[1:], data.classes)


@contextmanager
def fitting(model: options.Model, data: "Dataset") -> Iterator[None]:
    """Raise BadInput where there is no such network for these inputs."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
        shape = "x".join(map(str, data.inputs.shape[1:]))
        raise BadInput(f"there is no {model} for inputs of {shape}: {error}") from error


def device_of(cuda: bool, local_rank: int = 0) -> str:
    """'cpu', or this rank's CUDA device. Raises BadUsage where there is none."""
    import torch

    if not cuda:
        return "cpu"
    if not torch.cuda.is_available():
        raise BadUsage(f"--cuda: no CUDA device on {socket.gethostname()}: leave the flag out to use the CPU")
    return f"cuda:{local_rank % torch.cuda.device_count()}"


def provenance(world: World, command: Sequence[str], threads: int, seed: int) -> dict[str, Any]:
    import torch

    return {
        "command": shlex.join(["python", *command]),
        "started": datetime.now().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "ranks": world.size,
        "threads_per_rank": threads,
        "seed": seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def say_what_stays(surf_file: Path, surface: Surface, args: argparse.Namespace, threads: int) -> None:
    """Tell where a continued file's plan differs from this run. Raises BadInput for another precision."""
    plan = surface.plan
    cure = "give another --surf_file, or --force to start over"
    compare(surf_file, {"precision": plan["precision"]}, {"precision": args.precision or "float32"}, cure)
    if "most" in plan:  # products of an eigenvalue map
        compare(surf_file, {"most": plan["most"]}, {"most": args.most}, cure)
        compare(surf_file, {"seed": plan["seed"]}, {"seed": args.seed}, cure)
    if args.batch_size not in (0, plan["batch_size"]):
        say(f"note: {surf_file} was started with batch size {plan['batch_size']}, which stays")
    before = surface.about.get("threads_per_rank", threads)
    if before != threads:
        say(f"note: {surf_file} was started with {before} threads per rank, now {threads}: the last digits may differ")


def tell(setting: Setting, surface: Surface, threads: int, world: World) -> None:
    """Print the resolved configuration; what is 0 or empty in the plan is still to be measured."""
    for name, value in {
        **surface.request,
        **surface.plan,
        "threads per rank": threads,
        "ranks": world.size,
        "direction file": setting.dir_file,
        "surface file": setting.surf_file,
    }.items():
        open_yet = name in surface.plan and value in (0, "") and value is not False and name != "seed"
        say(f"{name} = {'to be measured' if open_yet else value}")


def is_surface(path: Path) -> bool:
    """Whether a readable surface file is there."""
    if not path.exists():
        return False
    try:
        read_surface(path)
    except BadInput:
        return False
    return True


def load_split(chosen: options.DataChoice, split: str) -> "AnyData":
    from dataloader import from_factory, get, load, load_file

    file = chosen.files[0 if split == "train" else 1]
    if file:
        return load_file(file, split, limit=chosen.limit, data_split=chosen.data_split if split == "train" else 1)
    if isinstance(chosen.dataset, Factory):
        return from_factory(chosen.dataset, split, limit=chosen.limit, data_split=chosen.data_split)
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
