"""Names of tensors in checkpoints, without the words that wrappers put before or between the names of a network.

`torch.compile`, FSDP and activation checkpointing add a component anywhere in a name, DataParallel and DDP one at the
front. Programs that keep the network in an attribute (Lightning) add the name of the attribute; it is removed only
where the names fit the network then, and in no other way.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lossatlas.parameter_space.offloaded import with_offloaded
from lossatlas.parameter_space.selection import names_of

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
HABIT = ("module", "model", "net", "network")  # attributes in which programs keep the network
COUNTERS = ("num_batches_tracked", "n_averaged")  # of BatchNorm and of AveragedModel: their absence does not matter


@dataclass(frozen=True)
class Match:
    """Names of a checkpoint, mapped to the names of a network.

    Attributes:
        names: The name in the checkpoint of each name of the network that it has.
        missing: Names of the network that are needed and that it lacks.
        extra: Names of the checkpoint that belong to nothing.
        tried: The transformation, in words; '' for none.
        others: Prefixes that fit as well, or the ones that would fit where none of `HABIT` does.
    """

    names: Mapping[str, str]
    missing: Sequence[str]
    extra: Sequence[str]
    tried: str = ""
    others: Sequence[str] = ()


def state_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network's state dict by name, without other entries, as `get_extra_state` makes."""
    state = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    return with_offloaded(net, state)


def is_counter(name: str) -> bool:
    """Return whether a tensor counts batches or averages, and is no weight."""
    return name.endswith(COUNTERS)


def without_wrappers(name: str) -> str:
    """Remove the components that torch.compile, FSDP and activation checkpointing add to a name.

    Example:
        >>> without_wrappers("_orig_mod.layer._fsdp_wrapped_module.weight")
        'layer.weight'
    """
    return WRAPPERS.sub("", name)


def plain_name(name: str) -> str:
    """Remove the components of all wrappers, also 'module.' at the front."""
    name = without_wrappers(name)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def match_names(net: nn.Module, own: Collection[str], there: Collection[str], needed: Collection[str]) -> Match:
    """Find the names of a network in a checkpoint.

    Args:
        net: The network.
        own: Its names.
        there: The names in the checkpoint.
        needed: The names of the network that the checkpoint has to have.

    Returns:
        The match: the names as they are if they fit, otherwise without wrappers, otherwise without the one prefix that
        makes them fit. Where nothing fits, the match with the fewest missing names.
    """
    tied = names_of(net)
    needed = [name for name in needed if not is_counter(name)]
    plain_own = {name: plain_name(name) for name in own}
    plain_there = {plain_name(name): name for name in there}
    prefixes = sorted({prefix for name in plain_there for prefix in _habits(name)})

    def match(look_up: Mapping[str, str], spelled: Mapping[str, str], tried: str) -> Match:
        names = {}
        for name in own:
            keys = (spelled[twin] for twin in (name, *tied.get(name, ())) if twin in spelled)
            if found := next((look_up[key] for key in keys if key in look_up), None):
                names[name] = found
        used, values = set(names.values()), set(look_up.values())
        extra = [name for name in there if name in values and name not in used and not is_counter(name)]
        return Match(names, [name for name in needed if name not in names], extra, tried)

    candidates = [match({name: name for name in there}, {name: name for name in own}, "")]
    if len(set(plain_own.values())) == len(plain_own) and len(plain_there) == len(there):
        candidates.append(match(plain_there, plain_own, "without the prefixes of wrappers"))
        if any(not each.missing for each in candidates):
            return next(each for each in candidates if not each.missing)
        cut = {p: {n.removeprefix(p): full for n, full in plain_there.items() if n.startswith(p)} for p in prefixes}
        inner = [match(cut[p], plain_own, f"without the prefix '{p}'") for p in prefixes]
        if full := [each for each in inner if not each.missing]:
            others = [p for p, each in zip(prefixes, inner, strict=True) if not each.missing]
            return Match(full[0].names, [], full[0].extra, full[0].tried, others[1:] and others)
        candidates += inner
    best = min(candidates, key=lambda each: (len(each.missing), len(each.tried) > 0))
    if not best.missing:
        return best
    return Match(best.names, best.missing, best.extra, best.tried, _fitting(plain_own, needed, plain_there))


def _habits(name: str) -> Iterator[str]:
    """Yield the prefixes of a name that consist of `HABIT` alone."""
    parts = name.split(".")
    for k, part in enumerate(parts[:-1]):
        if part not in HABIT:
            return
        yield ".".join(parts[: k + 1]) + "."


def _fitting(plain_own: Mapping[str, str], needed: Sequence[str], there: Collection[str]) -> list[str]:
    """Return any other prefixes under which all needed names are there, without the dot at the end."""
    keys = [plain_own[name] for name in needed]
    if not keys:
        return []
    longest = max(keys, key=len)
    found = {name.removesuffix(longest) for name in there if name.endswith(f".{longest}")}
    return sorted(p.removesuffix(".") for p in found if all(p + key in there for key in keys))
