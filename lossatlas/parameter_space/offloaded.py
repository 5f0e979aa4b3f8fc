"""Weights that accelerate keeps away from the device that computes: in memory of the host, or in files.

    with weights_on_host(net):      # its parameters are tensors of the host, which may be moved in place
        net(inputs)                 # each module takes copies of its own to its device, as accelerate does

Such a network (`device_map`, `cpu_offload`, `disk_offload`) has parameters on the meta device between forward passes.
Hooks of the same effect stand in for accelerate's within the block. accelerate is imported for a network that has its
hooks alone, which was made with it.
"""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput
from lossatlas.parameter_space.scratch import Scratch

Address = tuple[int, torch.Size, torch.dtype]  # address, shape and type of values
HOOK = "_hf_hook"  # the attribute of a module in which accelerate keeps its hooks
SPREAD = "_lossatlas_spread"  # the attribute of a network whose weights are spread over several ranks
POINT = "_lossatlas_point"  # and the number of the point to which they were moved; None where it is not known
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class OffloadedTensor:
    """A parameter or buffer on the meta device, whose values a hook of accelerate gives.

    Attributes:
        name: Its name in the network.
        module: The module that has the hook.
        owner: The module that has it, which is this one or below it.
        leaf: Its name there.
        hook: The hook of accelerate.
        key: Its name in the hook's weights.
    """

    name: str
    module: nn.Module
    owner: nn.Module
    leaf: str
    hook: Any
    key: str

    @property
    def table(self) -> dict[str, Any]:
        """The parameters or the buffers of its module."""
        return self.owner._parameters if self.leaf in self.owner._parameters else self.owner._buffers

    @property
    def placeholder(self) -> Tensor:
        """The tensor without values, on the meta device."""
        found = self.table[self.leaf]
        assert found is not None
        return found

    def read(self) -> Tensor:
        """Return its values: those in memory of the host themselves, or new ones from a file."""
        value: Tensor = self.hook.weights_map[self.key]
        return value.detach()


@dataclass
class HostTensors:
    """Offloaded tensors as tensors of the host, one for all names of a tied weight.

    accelerate gives every name a placeholder of its own once the network was called. Names that share memory are tied.
    Of names in files, those are tied that have the same values and that hooks or Hugging Face models call tied.

    Attributes:
        net: The network.
        scratch: Makes files for weights that are in files.
        by_placeholder: The tensors by the id of a placeholder.
        by_memory: The tensors by address, shape and type of the values in memory.
        in_files: The names and tensors of weights that are in files.
    """

    net: nn.Module
    scratch: Scratch
    by_placeholder: dict[int, Tensor] = field(default_factory=dict)
    by_memory: dict[Address, Tensor] = field(default_factory=dict)
    in_files: list[tuple[OffloadedTensor, Tensor]] = field(default_factory=list)

    def of(self, tensor: OffloadedTensor) -> Tensor:
        """Return the tensor of the host for an offloaded one.

        Raises:
            BadInput: It may be tied to another one, and nothing says so.
            CannotWrite: The disk lacks the space for a copy.
        """
        placeholder = tensor.placeholder
        if id(placeholder) not in self.by_placeholder:
            first, second = tensor.read(), tensor.read()
            if first.data_ptr() == second.data_ptr():
                made = self.by_memory.setdefault(memory_of_values(first), like(tensor, first))
            else:
                made = self.from_file(tensor, first)
            self.by_placeholder[id(placeholder)] = made
        return self.by_placeholder[id(placeholder)]

    def from_file(self, tensor: OffloadedTensor, values: Tensor) -> Tensor:
        """Return a mapped copy of weights that were read from a file, or that of the weight to which they are tied."""
        for other, there in self.in_files:
            if same_values(values, there):
                if is_called_tied(self.net, tensor) or is_called_tied(self.net, other):
                    return there
                raise BadInput(
                    f"the offloaded weights '{other.name}' and '{tensor.name}' have the same values, and accelerate "
                    "has not kept whether they are one parameter: keep one of them in memory (device_map)"
                )
        made = like(tensor, self.scratch.copy({tensor.key: values})[tensor.key])
        self.in_files.append((tensor, made))
        return made


def memory_of_values(values: Tensor) -> Address:
    """Return address, shape and type of values in memory."""
    return values.data_ptr(), values.shape, values.dtype


def same_values(values: Tensor, there: Tensor) -> bool:
    """Return whether two matrices, or tensors of more axes, have the same values and are not constant."""
    if (values.shape, values.dtype) != (there.shape, there.dtype) or values.dim() < 2 or not values.numel():
        return False
    same = torch.equal(values[0], there[0]) and torch.equal(values, there)
    return same and bool((values != values.flatten()[0]).any())


def is_called_tied(net: nn.Module, tensor: OffloadedTensor) -> bool:
    """Return whether a hook of accelerate, or a model of Hugging Face, calls a weight one of several names."""
    if tensor.key in getattr(tensor.hook, "tied_params_names", ()):
        return True
    prefixes = [(f"{path}." if path else "", module) for path, module in net.named_modules()]
    return any(
        re.fullmatch(re.escape(prefix) + key, tensor.name)
        for prefix, module in prefixes
        for key in getattr(module, "_tied_weights_keys", None) or ()
    )


def like(tensor: OffloadedTensor, values: Tensor) -> Tensor:
    """Return values as the parameter or buffer that the placeholder is."""
    if isinstance(tensor.placeholder, nn.Parameter):
        return nn.Parameter(values, tensor.placeholder.requires_grad)
    return values


class HostHook:
    """A stand-in for a hook of accelerate whose module has weights on the host.

    Args:
        hook: The hook of accelerate.
        names: The weights, by their names below the module.
    """

    def __init__(self, hook: Any, names: list[str]) -> None:
        self.device, self.names = hook.execution_device, names
        self.same_device, self.skip_keys, self.no_grad = hook.io_same_device, hook.skip_keys, hook.no_grad
        self.input_device: Any = None
        self.replaced: list[tuple[dict[str, Any], str, Tensor]] = []

    def pre_forward(self, module: nn.Module, *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
        """Take the weights and the inputs to the device of the module."""
        from accelerate.utils import find_device, send_to_device

        if self.same_device:
            self.input_device = find_device([arguments, keywords])
        for name in self.names:
            path, _, leaf = name.rpartition(".")
            owner = module.get_submodule(path)
            table: dict[str, Any] = owner._parameters if leaf in owner._parameters else owner._buffers
            self.replaced.append((table, leaf, table[leaf]))
            table[leaf] = table[leaf].to(self.device)
        return send_to_device(arguments, self.device), send_to_device(keywords, self.device, skip_keys=self.skip_keys)

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Give the module its weights on the host again, and take the output to the device of the inputs."""
        from accelerate.utils import send_to_device

        while self.replaced:
            table, leaf, value = self.replaced.pop()
            table[leaf] = value
        if self.same_device and self.input_device is not None:
            return send_to_device(output, self.input_device, skip_keys=self.skip_keys)
        return output


def hooks_of(module: nn.Module) -> tuple[Any, ...]:
    """Return the hooks of accelerate of a module."""
    hook = vars(module).get(HOOK)
    return () if hook is None else tuple(getattr(hook, "hooks", (hook,)))


def placed(net: nn.Module, device: "str | torch.device") -> nn.Module:
    """Move a network to a device, unless accelerate has placed its modules."""
    return net if is_dispatched(net) else net.to(device)


def is_dispatched(net: nn.Module) -> bool:
    """Return whether the modules of a network have devices of their own, by accelerate or over a group of ranks."""
    return is_spread(net) or any(
        getattr(hook, "execution_device", None) is not None for module in net.modules() for hook in hooks_of(module)
    )


def is_spread(net: nn.Module) -> bool:
    """Return whether a network computes on a group of ranks, each with a part of its weights."""
    return SPREAD in vars(net)


def announce_point(net: nn.Module) -> None:
    """Let the ranks of a network that computes on several know that its weights have moved to another point."""
    if is_spread(net):
        vars(net)[POINT] = next(NUMBERS)


def offloaded_tensors(net: nn.Module) -> list[OffloadedTensor]:
    """Return the parameters and buffers of a network that accelerate keeps away from the device that computes."""
    found: list[OffloadedTensor] = []
    for prefix, module in net.named_modules(remove_duplicate=False):
        for hook in hooks_of(module):
            if not getattr(hook, "offload", False) or getattr(hook, "weights_map", None) is None:
                continue
            below = bool(hook.place_submodules)
            parameters = module.named_parameters(recurse=below, remove_duplicate=False)
            for key, value in (*parameters, *module.named_buffers(recurse=below, remove_duplicate=False)):
                if value.is_meta and key in hook.weights_map:
                    path, _, leaf = key.rpartition(".")
                    name = f"{prefix}.{key}" if prefix else key
                    found.append(OffloadedTensor(name, module, module.get_submodule(path), leaf, hook, key))
    return found


def with_offloaded(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a network by name, with the values of those that are offloaded."""
    held = {each.name: each for each in offloaded_tensors(net)}
    return {name: held[name].read() if name in held else value for name, value in state.items()}


@contextmanager
def weights_on_host(net: nn.Module) -> Iterator[None]:
    """Give a network its offloaded weights as tensors of the host within the block; other networks stay as they are.

    Weights in memory of the host are the network's own. Those in files are copied to a temporary file that is mapped.

    Args:
        net: The network. Its weights are to be what they were when the block ends.

    Raises:
        BadInput: Weights in files may be tied, and nothing says so.
        CannotWrite: The disk lacks the space for a copy of weights that are in files.
    """
    tensors = offloaded_tensors(net)
    placeholders = [(each.table, each.leaf, each.placeholder) for each in tensors]
    hooks = [(module, vars(module)[HOOK]) for module in net.modules() if HOOK in vars(module)]
    try:
        load_on_host(net)
        yield
    finally:
        for table, leaf, value in placeholders:
            table[leaf] = value
        for module, hook in hooks:
            setattr(module, HOOK, hook)


def load_on_host(net: nn.Module) -> None:
    """Replace offloaded tensors of a network by tensors of the host, and accelerate's hooks by `HostHook`.

    Args:
        net: The network; one without offloaded tensors stays as it is.

    Raises:
        BadInput: Weights in files may be tied, and nothing says so.
        CannotWrite: The disk lacks the space for a copy of weights that are in files.
    """
    tensors = offloaded_tensors(net)
    if not tensors:
        return
    own = {memory_of_values(p): p for p in net.parameters() if not p.is_meta}  # accelerate leaves some tied names
    host = HostTensors(net, Scratch.in_folder(), by_memory=dict[Address, Tensor](own))
    loaded = [(each, host.of(each)) for each in tensors]  # all before the first placeholder goes
    names: dict[int, list[str]] = {}
    for each, value in loaded:
        each.table[each.leaf] = value
        names.setdefault(id(each.hook), []).append(each.key)
    for module in {id(each.module): each.module for each in tensors}.values():
        stand_in(module, names)


def stand_in(module: nn.Module, names: Mapping[int, list[str]]) -> None:
    """Replace the hooks of a module that offload by `HostHook`.

    Args:
        module: The module.
        names: The weights of each hook, by its id.
    """
    hook = vars(module)[HOOK]
    made = tuple(HostHook(each, names[id(each)]) if id(each) in names else each for each in hooks_of(module))
    if hasattr(hook, "hooks"):
        several = copy.copy(hook)
        several.hooks = made
        setattr(module, HOOK, several)
    else:
        (only,) = made
        setattr(module, HOOK, only)
