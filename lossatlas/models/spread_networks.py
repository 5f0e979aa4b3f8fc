"""Networks whose weights a user's function spreads over a group of ranks (DTensor, FSDP2), see `mpi.model_groups`.

The leader of the group has the whole weights in a mapped temporary file, and a module of the same form in front of the
network: tools read, move and restore the weights in the file as those of any network. A forward pass of that module is
one of all ranks of the group, each of which takes its parts of the weights from the file first where they have changed.
"""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.mpi.mapped_files import shared_files
from lossatlas.mpi.model_groups import ModelGroup
from lossatlas.mpi.rank_resources import threads_of, use_threads
from lossatlas.parameter_space.offloaded import POINT, SPREAD
from lossatlas.parameter_space.points import is_sharded, named_tensors
from lossatlas.parameter_space.scratch import Format, MappedPoint, Scratch, layout_of
from lossatlas.process import forbid_library_exit
from lossatlas.user_code import UserFunction

STAMP = ""  # the name of a tensor by which ranks see that they map the same file
FOREVER = timedelta(days=3650)  # a rank may wait for the next request for as long as its leader has no work


@dataclass(frozen=True)
class MakeNetwork:
    """Request to make a network on every rank of a group.

    Attributes:
        function: The user's function.
        seed: The seed of torch's generator.
    """

    function: UserFunction
    seed: int


@dataclass(frozen=True)
class ForwardPass:
    """Request for a forward pass on every rank of a group.

    Attributes:
        network: Which of the networks that the group has made.
        point: Number of the point to which the weights in the file have been moved; None where it is not known.
        arguments: Positional arguments of the network, with tensors on the CPU.
        keywords: Keyword arguments.
    """

    network: int
    point: int | None
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


class SpreadNetwork:
    """A network on one rank of a group.

    Args:
        net: The network, whose parameters are spread over the ranks of the group. It is put into evaluation mode.
        group: The group.

    Raises:
        BadInput: No parameter is spread, a part of a parameter is not what torch makes of the whole one, or the ranks
            do not reach a common file.
        CannotWrite: The disk lacks the space for the weights.
    """

    def __init__(self, net: nn.Module, group: ModelGroup) -> None:
        if not is_sharded(net):
            raise BadInput(
                f"{named('model')} gives a network whose parameters are not spread over its {group.ranks.size} ranks "
                f"(DTensor, fully_shard): leave {named('ranks_per_model')} out"
            )
        if any(type(module).__name__ == "FullyShardedDataParallel" for module in net.modules()):
            raise BadInput(f"{named('model')} wraps its network by FullyShardedDataParallel: use fully_shard instead")
        for module in net.modules():
            module.training = False
        self.net, self.group = net, group
        self.own = named_tensors(net, every_name=False)
        self.loaded: int | None = None
        self.full = self.shared()
        self.check()

    def shared(self) -> MappedPoint:
        """Return the whole tensors in a file that all ranks of the group map."""
        ranks = self.group.ranks
        formats: list[Format] = [(STAMP, (1,), torch.int64)]
        formats += [(name, tuple(value.shape), value.dtype) for name, value in self.own.items()]
        made = Scratch.in_folder().empty(formats) if ranks.root else None
        for name, value in self.own.items():
            whole = whole_tensor(value)
            if made is not None:
                made[name].copy_(whole)
        (file,) = shared_files(ranks, [] if made is None else [made.file], [layout_of(formats)[1]])
        full = MappedPoint(file, formats) if made is None else made
        stamp = ranks.share(int(torch.randint(1, 1 << 62, (1,))))
        if ranks.root:
            full[STAMP].fill_(stamp)
        ranks.share(None)
        if int(full[STAMP]) != stamp:
            raise BadInput(f"{named('ranks_per_model')}: ranks of a group do not reach each other's temporary files")
        return full

    def check(self) -> None:
        """Raise BadInput where the parts of this rank are not those of the whole tensors."""
        for name, value in self.own.items():
            if not torch.equal(shard_of(self.full[name], value), local_tensor(value)):
                raise BadInput(f"the parts of '{name}' of {type(self.net).__name__} are not those that DTensor makes")

    @torch.no_grad()
    def forward(self, request: ForwardPass) -> Any:
        """Compute the network on all ranks of the group at the point to which the weights in the file were moved.

        Args:
            request: The inputs.

        Returns:
            The output of the network, with whole tensors.
        """
        from torch.distributed.fsdp import FSDPModule
        from torch.utils._pytree import tree_map

        if request.point is None or request.point != self.loaded:
            for name, value in self.own.items():
                local_tensor(value).copy_(shard_of(self.full[name], value))
        self.loaded = request.point
        device = next(iter(self.own.values())).device

        def here(item: Any) -> Any:
            return item.to(device) if isinstance(item, Tensor) else item

        arguments, keywords = tree_map(here, request.arguments), tree_map(here, dict(request.keywords))
        output = self.net(*arguments, **keywords)
        for module in self.net.modules():
            if isinstance(module, FSDPModule):  # which keeps the whole parameters of the outermost module
                module.reshard()
        return tree_map(lambda item: whole_tensor(item) if isinstance(item, Tensor) else item, output)


class GroupForward:
    """The forward pass of the module in front of a network that is spread over ranks; called on the leader.

    Args:
        network: The network on this rank.
        number: Its number in the group.
    """

    def __init__(self, network: SpreadNetwork, number: int) -> None:
        self.network, self.number = network, number
        self.front: nn.Module | None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        from torch.utils._pytree import tree_leaves, tree_map

        assert self.front is not None
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.front.parameters()):
            raise BadUsage(
                f"a network that is spread over ranks ({named('ranks_per_model')}) has losses, and no gradients: "
                "choose other directions"
            )
        devices = [leaf.device for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]

        def on_cpu(item: Any) -> Any:
            return item.detach().cpu() if isinstance(item, Tensor) else item

        request = ForwardPass(
            self.number, vars(self.front)[POINT], tree_map(on_cpu, arguments), tree_map(on_cpu, keywords)
        )
        self.network.group.ranks.share(request)
        output, back = self.network.forward(request), devices[0] if devices else torch.device("cpu")
        return tree_map(lambda item: item.to(back) if isinstance(item, Tensor) else item, output)


MADE: list[SpreadNetwork] = []  # the networks of the group, in the same order on all of its ranks


def make_spread(function: UserFunction, seed: int, group: ModelGroup) -> nn.Module:
    """Make a network on all ranks of a group; called on the leader.

    Args:
        function: The user's function.
        seed: The seed of torch's generator.
        group: The group.

    Returns:
        A module of the form of the network, with whole parameters in a mapped file.

    Raises:
        BadUsage: This version of torch is too old.
        BadInput: The function fails, or returns no network that is spread over the group.
        CannotWrite: The disk lacks the space for the weights.
    """
    from torch.distributed.tensor import distribute_tensor

    if "src_data_rank" not in inspect.signature(distribute_tensor).parameters:
        raise BadUsage(f"{named('ranks_per_model')} needs torch 2.7 or newer, this is {torch.__version__}")
    group.ranks.share(MakeNetwork(function, seed))
    network = made_on_rank(MakeNetwork(function, seed), group)
    forward = GroupForward(network, len(MADE) - 1)
    whole = {id(value): network.full[name] for name, value in network.own.items()}
    forward.front = front_of(network.net, whole)
    vars(forward.front).update({"forward": forward, SPREAD: True, POINT: None})
    return forward.front


def made_on_rank(request: MakeNetwork, group: ModelGroup) -> SpreadNetwork:
    """Make a network on this rank, at the same time as on the others of its group.

    Raises:
        BadInput: As `make_spread`.
        CannotWrite: As `make_spread`.
    """
    if not distributed.is_initialized():
        start_processes(group)
    with torch.random.fork_rng():
        torch.manual_seed(request.seed)
        net = request.function()
    if not isinstance(net, nn.Module):
        raise BadInput(f"{named('model')} {request.function} gives {type(net).__name__}, not a torch.nn.Module")
    MADE.append(SpreadNetwork(net, group))
    return MADE[-1]


def start_processes(group: ModelGroup) -> None:
    """Start torch.distributed with the ranks of a group, so that a user's function finds them as all processes."""
    ranks = group.ranks
    here, store = "127.0.0.1", None
    if ranks.root:
        store = distributed.TCPStore(here, 0, ranks.size, is_master=True, wait_for_workers=False)
    port = ranks.share(store.port if store is not None else None)
    if store is None:
        store = distributed.TCPStore(here, port, ranks.size)
    forbid_library_exit()
    if group.cuda:
        torch.cuda.set_device(ranks.local_rank)
    use_threads(threads_of(group.threads, ranks.cores))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if group.cuda else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=FOREVER,
    )


def serve_group(group: ModelGroup) -> None:
    """Do what the leader of a group asks this rank for, until it asks for nothing more."""
    while (request := group.ranks.share(None)) is not None:
        if isinstance(request, MakeNetwork):
            made_on_rank(request, group)
        else:
            MADE[request.network].forward(request)
    end_processes()


def end_group(group: ModelGroup) -> None:
    """End the group: the other ranks leave `serve_group`; called on the leader."""
    group.ranks.share(None)
    end_processes()


def end_processes() -> None:
    """End torch.distributed, whose threads would outlive the interpreter."""
    MADE.clear()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor as a whole; for a DTensor all ranks of its mesh call this together."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def local_tensor(tensor: Tensor) -> Tensor:
    """Return the part of a tensor on this rank, in the memory of the network."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def shard_of(whole: Tensor, like: Tensor) -> Tensor:
    """Return the part of a whole tensor that a rank has in a tensor of the network."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None).to_local()


def front_of(net: nn.Module, whole: Mapping[int, Tensor]) -> nn.Module:
    """Return a module of the form of a network, without its hooks.

    Args:
        net: The network.
        whole: The whole tensors, by the id of the network's.
    """
    modules: dict[int, nn.Module] = {}
    tensors: dict[int, Tensor] = {}

    def tensor_for(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        if id(value) not in tensors:
            found = whole[id(value)]
            tensors[id(value)] = nn.Parameter(found, value.requires_grad) if isinstance(value, nn.Parameter) else found
        return tensors[id(value)]

    def of(module: nn.Module) -> nn.Module:
        if id(module) in modules:
            return modules[id(module)]
        made = modules[id(module)] = object.__new__(type(module))  # FSDP2 gives its classes a `__new__` of their own
        own = {name: type(value)() if name.endswith("_hooks") else value for name, value in vars(module).items()}
        own["_parameters"] = {name: tensor_for(value) for name, value in module._parameters.items()}
        own["_buffers"] = {name: tensor_for(value) for name, value in module._buffers.items()}
        own["_modules"] = {name: None if child is None else of(child) for name, child in module._modules.items()}
        own["_non_persistent_buffers_set"] = copy.copy(module._non_persistent_buffers_set)
        vars(made).update(own)
        return made

    return of(net)
