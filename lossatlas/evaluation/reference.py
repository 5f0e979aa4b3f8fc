"""A user's own network as the reference for every loss: evaluated in place, and restored bit for bit.

    with untouched(net):                            # an entry point: a digest before and after
        with evaluated_in_place(net) as model:  # evaluation mode, float64 outputs; may be moved in place
            model(inputs)

Copies of a module whose tensors are replaced do not reach tensors in lists, closures or partials, or storage that is
shared through `.data`. The module itself, moved in place, does.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lossatlas import programs
from lossatlas.choices import DirType
from lossatlas.data.plain_tensors import raw_bytes
from lossatlas.errors import BadInput, BadUsage
from lossatlas.evaluation.memory_trim import trim_memory
from lossatlas.evaluation.parallel_batches import changes_weights_with_mode, deep_copy, is_training
from lossatlas.evaluation.precision import in_float64
from lossatlas.mpi.agreement import on_all
from lossatlas.mpi.communicator import World
from lossatlas.parameter_space.offloaded import is_dispatched, weights_on_host
from lossatlas.parameter_space.points import Point, is_sharded, movable, named_tensors, tensors
from lossatlas.parameter_space.scratch import Scratch
from lossatlas.signatures import check_keywords

P = ParamSpec("P")
R = TypeVar("R")
SEARCH_DEPTH = 3  # nested containers in attributes that are searched for tensors
LARGEST_OUTPUT = 1 << 24  # numbers of an output of a large network that is converted to float64 as a whole
SNAPSHOT_BYTES = 1 << 26  # of tensors: a smaller network can be restored after any change
CHANGED = (
    "the network was changed while it was evaluated, and {}: its copies share tensors with it (a __deepcopy__ of its "
    "own), or its forward pass writes into them; give a copy that shares nothing"
)


def check_movable(net: nn.Module) -> None:
    """Check that a network has parameters that can be moved.

    Args:
        net: The network.

    Raises:
        BadInput: Its parameters are lazy, on the meta device, quantized, or it has none in floating point.
    """
    kind, every = type(net).__name__, list(net.parameters())
    if any(nn.parameter.is_lazy(p) for p in every):
        raise BadInput(f"{kind} has lazy parameters without a shape yet: call it once on a batch first")
    if any(p.is_meta for p in every):
        raise BadInput(f"{kind} has parameters on the meta device, which hold no values: load its weights first")
    if not any(movable(p) for p in every):
        quantized = any("quantized" in type(module).__module__ for module in net.modules())
        why = (
            "its quantized weights are no parameters: give the network before quantization"
            if quantized
            else "it has none"
        )
        raise BadInput(f"{kind} has no floating-point parameters that could be moved: {why}")


def restoring(function: Callable[Concatenate[nn.Module, P], R]) -> Callable[Concatenate[nn.Module, P], R]:
    """Decorate a function of a network (and more) so that it leaves the network unchanged, see `untouched`."""

    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def guarded(*arguments: Any, **keywords: Any) -> R:
        if not arguments and "net" not in keywords:
            raise BadUsage(f"{function.__name__}() needs a network, as its first argument")
        net, *others = arguments if arguments else (keywords.pop("net"),)
        if not isinstance(net, nn.Module):
            raise BadUsage(
                f"{function.__name__}(net, ...): the first argument is a {type(net).__name__}, and no nn.Module"
            )
        ranks = keywords.get("ranks") if "ranks" in parameters else None
        on_all(World.of_communicator(ranks), lambda: check_keywords(function.__name__, parameters, keywords))
        with untouched(net) as own:
            return function(own, *others, **keywords)

    return cast("Callable[Concatenate[nn.Module, P], R]", guarded)


@contextmanager
def untouched(net: nn.Module) -> Iterator[nn.Module]:
    """Check that the network is the same after the block as before, in every bit.

    Args:
        net: The network. Weights that accelerate keeps away from its device are on the host within the block.

    Yields:
        The network.

    Raises:
        BadInput: The network has no parameters to move, they are spread over processes, or the network was changed. One
            up to SNAPSHOT_BYTES is restored.
    """
    if is_sharded(net):
        raise BadInput(
            f"{type(net).__name__} has parameters spread over processes (DTensor, FSDP), which cannot be moved: give "
            "the network before they are spread, or one that accelerate has placed on several devices (device_map); "
            f"the command {programs.program('surface')} --ranks_per_model N computes losses of such networks"
        )
    with weights_on_host(net):
        if is_dispatched(net):
            trim_memory()  # of weights that were read from files
        check_movable(net)
        before = network_digest(net)
        snapshot = Snapshot(net) if sum(map(byte_count, tensors_of(net))) <= SNAPSHOT_BYTES else None
        try:
            yield net
        finally:
            if network_digest(net) != before:
                if snapshot is not None:
                    snapshot.restore()
                restored = snapshot is not None and network_digest(net) == before
                raise BadInput(CHANGED.format("is restored" if restored else "could not be restored"))


@torch.no_grad()
def check_modes(net: nn.Module, losses: Callable[[nn.Module], Tensor]) -> None:
    """Check that `eval()` changes nothing but the mode of a network.

    Networks are evaluated with their flags set and without `eval()`, because that may change tensors: adapters merge
    their weights.

    Args:
        net: The network.
        losses: Maps a network to the losses of some samples.

    Raises:
        BadInput: The losses after `eval()` differ from those with the flags set, or the network cannot be copied.
    """
    if not (is_training(net) and changes_weights_with_mode(net)):
        return
    try:
        copied = deep_copy(net).eval()
    except Exception as error:
        raise BadInput(
            f"{type(net).__name__} changes itself when its mode is switched, and cannot be copied ({error}): "
            "call its eval() first"
        ) from error
    with evaluated_in_place(net) as own:
        here = losses(own).double()
    there = losses(copied).double()
    if not torch.allclose(here, there, rtol=1e-3, atol=1e-3 * float(there.abs().mean())):
        raise BadInput(
            f"{type(net).__name__} computes something else after its eval() than it does with training=False (mean "
            f"losses {float(there.mean()):.6g} and {float(here.mean()):.6g}): call its eval() first"
        )


class KeptTensors:
    """Copies of the tensors of a network in scratch files, from which it is restored instead of copies in memory.

    Args:
        net: The network, as it is to be restored.
        scratch: Makes the files.
        copies: The copies in a file that is there, in the order of `tensors_of`; None to make them.

    Attributes:
        file: The copies.
        scratch: Makes files.
        active: The network is being evaluated, see `evaluated_in_place`.
    """

    def __init__(self, net: nn.Module, scratch: Scratch, copies: Mapping[str, Tensor] | None = None) -> None:
        self.originals = {str(id(t)): t for t in tensors_of(net)}  # a reference, so that no other tensor gets the id
        self.scratch, self.active = scratch, False
        self.file: Mapping[str, Tensor] = scratch.copy(self.originals) if copies is None else copies
        self.copies = dict(zip(self.originals, self.file.values(), strict=True))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Mark the network as being evaluated within the block."""
        self.active = True
        try:
            yield
        finally:
            self.active = False

    def of(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor, or a new one in memory where the network did not have it."""
        found = self.copies.get(str(id(tensor)))
        return tensor.detach().clone() if found is None else found

    def point(self, net: nn.Module, dir_type: DirType) -> Point:
        """Return the copies of the tensors that a direction covers, by name and in their own types."""
        own = named_tensors(net, every_name=True)
        return {name: self.of(own[name]) for name in tensors(net, dir_type)}


KEPT_TENSORS: "WeakKeyDictionary[nn.Module, KeptTensors]" = WeakKeyDictionary()  # by network


def keep_on_disk(net: nn.Module, copies: Mapping[str, Tensor] | None = None) -> KeptTensors:
    """Restore a network, from now on, from scratch files wherever a copy in memory would do it otherwise.

    Args:
        net: The network, as it is to be restored. It must not change between evaluations.
        copies: The copies of its tensors in a file that is there, in the order of `tensors_of`; None to make them.

    Returns:
        The copies of its tensors.

    Raises:
        CannotWrite: The disk lacks the space for them.
    """
    KEPT_TENSORS[net] = kept = KeptTensors(net, Scratch.in_folder(), copies)
    return kept


@contextmanager
def restored_from_disk(net: nn.Module) -> Iterator[KeptTensors]:
    """Restore a network from scratch files within the block, see `keep_on_disk`."""
    try:
        yield keep_on_disk(net)
    finally:
        KEPT_TENSORS.pop(net, None)


class Snapshot:
    """The tensors, attributes, modes and hooks of a network, to be restored.

    Args:
        net: The network. Its tensors are copied, or taken from KEPT_TENSORS.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.modes = [(module, module.training) for module in net.modules()]
        kept = KEPT_TENSORS.get(net)
        self.values = [(t, t.detach().clone() if kept is None else kept.of(t)) for t in tensors_of(net)]
        self.gradients = [(p, p.requires_grad, p.grad) for p in net.parameters()]
        self.attributes = [(vars(module), dict(vars(module))) for module in net.modules()]
        self.containers = [
            (value, value.copy())
            for _, own in self.attributes
            for value in own.values()
            if isinstance(value, dict | list | set)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore everything, the tensors bit for bit."""
        for own, before in self.attributes:
            for name in own.keys() - before.keys():
                del own[name]
            own.update({name: value for name, value in before.items() if own.get(name, self) is not value})
        for container, content in self.containers:
            if not holds_same_objects(container, content):
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
        for tensor, value in self.values:
            if 0 in tensor.stride() and torch.equal(tensor, value):  # expanded: its elements share their memory
                continue
            tensor.data.copy_(value)  # `.data`, so that the user's autograd graphs stay valid
        for module, training in self.modes:
            if module.training != training:
                module.training = training
        for parameter, required, gradient in self.gradients:
            parameter.requires_grad_(required)
            parameter.grad = gradient


def holds_same_objects(container: Any, content: Any) -> bool:
    """Return whether a container still holds the objects that its shallow copy holds."""
    if isinstance(container, dict):
        return list(map(id, container.values())) == list(map(id, content.values())) and list(container) == list(content)
    return [*map(id, container)] == [*map(id, content)]


@contextmanager
def evaluated_in_place(net: nn.Module) -> Iterator[nn.Module]:
    """Give the network itself in evaluation mode with float64 outputs, and restore it afterwards, also after an error.

    Within the block, its tensors may be moved in place. Modes are set as flags, see `check_modes`. Of nested blocks for
    a network that is restored from disk, the outermost restores it; its outputs of more than LARGEST_OUTPUT numbers
    keep their type.

    Args:
        net: The network.

    Yields:
        The network.

    Raises:
        BadInput: The network takes no forward hooks (TorchScript).
    """
    kept = KEPT_TENSORS.get(net)
    if kept is not None and kept.active:
        yield net
        return
    before = Snapshot(net)
    largest = None if kept is None else LARGEST_OUTPUT
    try:
        handle = net.register_forward_hook(partial(in_float64, largest=largest))
    except RuntimeError as error:  # of TorchScript
        raise BadInput(f"{type(net).__name__} takes no hooks: give the module from which it was scripted") from error
    try:
        for module in net.modules():
            if module.training:
                module.training = False
        net.requires_grad_(False)
        with nullcontext() if kept is None else kept.in_use():
            yield net
    finally:
        handle.remove()
        before.restore()


def tensors_of(net: nn.Module) -> list[Tensor]:
    """Return every tensor of a network once: parameters, buffers, and those in the attributes of its modules."""
    found: dict[int, Tensor] = {}

    def search(value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            found.setdefault(id(value), value)
        elif depth and isinstance(value, Mapping):
            for item in value.values():
                search(item, depth - 1)
        elif depth and isinstance(value, list | tuple | set):
            for item in value:
                search(item, depth - 1)

    for tensor in (*net.parameters(), *net.buffers()):
        search(tensor, 0)
    for module in net.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                search(value, SEARCH_DEPTH)
    return [t for t in found.values() if not nn.parameter.is_lazy(t) and t.layout == torch.strided]


def network_digest(net: nn.Module) -> str:
    """Return a SHA-256 of every tensor of a network and of the mode of its modules."""
    result = hashlib.sha256()
    for tensor in tensors_of(net):
        result.update(f"{tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}\n".encode())
        result.update(raw_bytes(tensor))
    result.update(str([module.training for module in net.modules()]).encode())
    return result.hexdigest()


def byte_count(tensor: Tensor) -> int:
    """Return the size of a tensor in bytes."""
    return tensor.numel() * tensor.element_size()
