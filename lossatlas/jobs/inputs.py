"""What commands read before they compute: networks, data and losses, by name or of a user's; and how these travel.

brought = bring(networks, "weights", data, loss)      # on rank 0; raises BadUsage and BadInput, writes nothing
trained = Trained.of(model, net, data)                # travels to the other ranks
net, data = trained.unpack()                          # on every rank
"""

import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput, BadUsage, say
from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES
from lossatlas.jobs import file_names
from lossatlas.mpi.communicator import World, mpi_library
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.parameter_space import Point


TRACED = 64  # samples on which it is checked that alignment changes nothing
FEW = 4  # samples on which a loss and a network of ours are tried; of a user's they are more


@dataclass(frozen=True)
class LoadedInputs:
    """Networks and data as they are read, the network being at the origin.

    targets: where the axes point to, None where they do not point to a network; towards: the digests of these checkpoints
    by file. record: what tells the network from others. training: where they are wanted, training samples for the statistics
    of BatchNorm.
    """

    net: "nn.Module"
    model: config.Model
    data: "dict[str, AnyData]"
    chosen: config.DataConfig
    loss: str | UserFunction
    dir_type: str
    origin: "Point"
    targets: "Sequence[Point | None]"
    towards: Mapping[str, str]
    record: Mapping[str, Any]
    training: "AnyData | None" = None

    @property
    def first(self) -> "AnyData":
        """The split of which the curvature is."""
        return next(iter(self.data.values()))


def load_inputs(
    nets: config.NetworkConfig,
    dir_type: str,
    chosen: config.DataConfig,
    loss_name: str | UserFunction,
    train_too: bool = False,
) -> LoadedInputs:
    """Read networks and data, and try them out; training samples too, whichever are asked for. Raises BadUsage and BadInput."""
    from lossatlas.evaluation.parallel_batches import is_training
    from lossatlas.jobs.input_check import CHECKED, check_inputs, loss_of_some_samples
    from lossatlas.models import read_state
    from lossatlas.models.checkpoint import digest
    from lossatlas.parameter_space import position

    states = {file: read_state(file) for file in (nets.file, nets.file2, nets.file3) if file}
    data = load_data(chosen, states.get(nets.file, {}), nets.model)
    first = data[chosen.splits[0]]
    net = network_for(nets.model, first)
    if not nets.file:
        say(f"note: no --model_file, so the network is taken as {nets.model} gives it")
        states[""] = {name: value.detach().clone() for name, value in net.state_dict().items()}

    given = is_training(net)

    def at(file: str) -> "Point":
        load_to_evaluate(net, states[file], file, bool(file) or given)
        return position(net, dir_type)

    towards = {file: digest(states[file]) for file in (nets.file2, nets.file3) if file}
    if nets.align:
        for file in towards:
            states[file] = align(net, states, nets.file, file, first)
            towards[file] += ", aligned"

    targets = [at(file) if file else None for file in (nets.file2, nets.file3)]
    origin = at(nets.file)
    own, loss = isinstance(nets.model, UserFunction) or isinstance(loss_name, UserFunction), loss_of(loss_name)
    found = check_inputs(net, loss, first, f"{nets.model} with the loss {loss_name}", CHECKED if own else FEW)
    record = {
        **function_record("model", nets.model),
        LOSS_OF_SOME_SAMPLES: float(found.mean()) if own else loss_of_some_samples(net, loss, first),
        "checkpoint": digest(states[nets.file]),
        "dir_type": dir_type,
    }
    training = (data.get("train") or load_split(chosen, "train")) if train_too else None
    return LoadedInputs(net, nets.model, data, chosen, loss_name, dir_type, origin, targets, towards, record, training)


def load_to_evaluate(net: "nn.Module", state: "Mapping[str, Tensor]", file: str, training: bool) -> None:
    """Load a state into a network.

    A network that changes its weights when its mode is switched (adapters that merge) gets them in the mode in which they were
    written, and stays in it: it is evaluated with its flags set, see `reference.check_modes`. Checkpoints are written in
    training mode; what a factory gives is in the mode that the factory has left.

    Args:
        net: The network.
        state: Its new tensors.
        file: What they are called in messages.
        training: Whether they were written in training mode.
    """
    from lossatlas.evaluation.parallel_batches import changes_weights_with_mode
    from lossatlas.models import load_into

    if changes_weights_with_mode(net):
        net.train(training)
    load_into(net, state, file)


def align(
    net: "nn.Module", states: "Mapping[str, dict[str, Tensor]]", origin: str, file: str, data: "AnyData"
) -> "dict[str, Tensor]":
    """The state of a checkpoint, its hidden units in the order that fits best to the one in the middle."""
    from lossatlas.jobs.alignment import aligned
    from lossatlas.models import load_into

    few = next(data.batches(TRACED))
    if not isinstance(few, list | tuple) or len(few) != 2:
        raise BadInput(
            "--align traces a network that is called with the first of (inputs, targets): these are no such pairs"
        )
    own = {}
    for name in (origin, file):
        load_into(net, states[name], name)
        own[name] = {key: value.clone() for key, value in net.state_dict().items()}
    result, count = aligned(net, own[origin], own[file], few[0])
    there = origin or "the network in the middle"
    say(
        f"aligned {file} to {there}: {count} hidden units change places{'' if count else ', they were in the best order found'}"
    )
    return result


def check_user_functions(*loaded: Any) -> None:
    """What of a user's cannot be imported is better said at once."""
    for one in loaded:
        if isinstance(one, UserFunction):
            one.function  # noqa: B018


def function_record(what: str, name: str | UserFunction) -> dict[str, Any]:
    """What tells a network or a loss from others: its name; for a user's function what it is called with, and its code.

    What such a file imports shows in the loss of some samples alone, which is recorded beside it.
    """
    return {what: str(name), f"{what}_code": name.code} if isinstance(name, UserFunction) else {what: name}


def loss_of(name: str | UserFunction) -> "Loss":
    """A loss by name, or a user's. Raises BadInput, BadUsage."""
    from lossatlas.data import as_loss

    return as_loss(name.function if isinstance(name, UserFunction) else name)


def shape_of(data: "AnyData") -> tuple[int, ...]:
    """Of one input."""
    return tuple(next(data.batches(1))[0].shape[1:])


def load_splits(chosen: config.DataConfig, model: config.Model) -> "dict[str, AnyData]":
    try:
        return {split: load_split(chosen, split) for split in chosen.splits}
    except BadInput as error:
        if isinstance(model, UserFunction) and isinstance(chosen.dataset, str):
            raise BadInput(f"{error} (data of your own: --dataset FILE.py:FUNCTION)") from error
        raise


def load_data(chosen: config.DataConfig, state: "dict[str, Tensor]", model: config.Model) -> "dict[str, AnyData]":
    """Every split that is asked for. A user's own data have as many classes as the checkpoint has outputs."""
    from lossatlas.data import Dataset, FixedBatches, Streamed
    from lossatlas.data.memory import in_words
    from lossatlas.datasets.registry import OWN
    from lossatlas.models import classes_in

    for split, file in zip(("train", "test"), chosen.files, strict=True):
        if file and split not in chosen.splits:
            say(f"note: --{split}loader {file} is not used: --split asks for {' and '.join(chosen.splits)}")
    data = load_splits(chosen, model)
    for split, d in data.items():
        if isinstance(d, Streamed):
            size = in_words(d.sample_bytes * len(d))
            say(f"the {split} data, {len(d):,} samples of {size} in all, are read when they are needed")
    if isinstance(model, UserFunction):  # what its targets mean is the loss's business
        return data
    for d in data.values():
        few = next(d.batches(2))
        if isinstance(d, FixedBatches) or not isinstance(few, list | tuple) or len(few) != 2:
            raise BadInput(f"{model} of the zoo takes pairs of inputs and labels, and --dataset gives something else")
    first = data[chosen.splits[0]]
    if chosen.classes or not isinstance(chosen.dataset, str) or chosen.dataset in OWN or any(chosen.files):
        with checking_shapes(model, first):
            classes = chosen.classes or classes_in(model, shape_of(first), state)
        if classes is not None:  # otherwise loading the checkpoint says what does not fit
            data = {split: replace(d, classes=classes) for split, d in data.items()}
    for split, d in data.items():
        if isinstance(d, Dataset) and not d.targets.is_floating_point() and int(d.targets.max()) >= d.classes:
            raise BadInput(f"the {split} data have the label {int(d.targets.max())}, the network {d.classes} classes")
    return data


def network_for(model: config.Model, data: "AnyData") -> "nn.Module":
    """A network of the zoo for samples of this shape, or a user's, in evaluation mode.

    One that changes its weights when its mode is switched stays in the mode in which its factory gives it. Raises BadInput
    where there is no such network.
    """
    from lossatlas.evaluation.parallel_batches import changes_weights_with_mode
    from lossatlas.models import build

    if isinstance(model, UserFunction):
        net = build(model)
        return net if changes_weights_with_mode(net) else net.eval()
    with checking_shapes(model, data):
        return build(model, shape_of(data), data.classes).eval()


@contextmanager
def checking_shapes(model: config.Model, data: "AnyData") -> Iterator[None]:
    """Raise BadInput where there is no such network for these inputs."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
        shape = "x".join(map(str, shape_of(data)))
        raise BadInput(f"there is no {model} for inputs of {shape}: {error}") from error


def device_of(cuda: bool, local_rank: int = 0) -> str:
    """'cpu', or this rank's CUDA device. Raises BadUsage where there is none."""
    import torch

    if not cuda:
        return "cpu"
    if not torch.cuda.is_available():
        raise BadUsage(f"--cuda: no CUDA device on {socket.gethostname()}: leave the flag out to use the CPU")
    return f"cuda:{local_rank % torch.cuda.device_count()}"


def provenance(
    world: World, command: str, threads: int, seed: int, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a file records of the run that made it; nothing of it is compared when the file is continued.

    Args:
        options: All options of the command by name.
    """
    import torch

    import lossatlas

    return {
        "command": command,
        "started": datetime.now().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "ranks": world.size,
        "threads_per_rank": threads,
        "seed": seed,
        "versions": {
            "lossatlas": lossatlas.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "h5py": version("h5py"),
            **({"mpi": mpi_library()} if world.comm is not None else {}),
        },
        **({"config": dict(options)} if options else {}),
    }


def load_split(chosen: config.DataConfig, split: str) -> "AnyData":
    from lossatlas.datasets.registry import from_factory, get, load, load_file

    file = chosen.files[0 if split == "train" else 1]
    if file:
        return load_file(file, split, limit=chosen.limit, data_split=chosen.data_split if split == "train" else 1)
    if isinstance(chosen.dataset, UserFunction):
        return from_factory(
            chosen.dataset, split, limit=chosen.limit, data_split=chosen.data_split, stream=chosen.streamed
        )
    if chosen.download:
        get(chosen.dataset, chosen.datapath)
    return load(
        chosen.dataset,
        split,
        datapath=chosen.datapath,
        raw=chosen.raw,
        limit=chosen.limit,
        data_split=chosen.data_split,
        image_size=chosen.image_size,
        stream=chosen.streamed,
    )


def output_path(given: str | None, default: Path, beside: str | None) -> Path:
    """The file that is given, or the default; the latter beside another output when its own folder is read-only."""
    if given:
        return Path(given)
    if beside and not default.exists() and not file_names.writable_folder(default):
        say(f"note: {default.parent} is read-only, so {default.name} is written beside {beside}")
        return Path(beside).with_name(default.name)
    return default
