"""Bring the hidden units of one network into the order of another, before what lies between them is looked at.

Weight matching of Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (arXiv 2209.04836, algorithm 1): one group of units after
the other gets the order in which the weights of the two networks have the largest inner product, an assignment problem,
until none changes any more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.losses import output_of
from lossatlas.errors import BadInput, note
from lossatlas.evaluation.parallel_batches import evaluation_copy
from lossatlas.evaluation.parameter_buffers import named_tensors
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import fitted
from lossatlas.parameter_space.directions import names_of
from lossatlas.parameter_space.points import converted, movable
from lossatlas.parameter_space.symmetry import UnitGroup, axis_order, permuted, trace_symmetries

ROUNDS, AGAIN = 100, 5
CHANGED = 1e-6  # of the size of the output, in float64: more is no permutation of hidden units
ROUNDED, HALF = 1e-5, 0.1  # the same for the network itself, in float32 and in half precision


def matched(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], groups: Sequence[UnitGroup], seed: int = 0
) -> list[Tensor]:
    """For each group the order of the second network's units in which its parameters are most like the first one's.

    No step makes them less alike. Where a tensor has one group on two axes, as a residual stream's own layers may, a step is
    no exact solution, and the best order may be missed. seed: of the order in which groups take their turns.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = ({name: value.detach().double() for name, value in point.items()} for point in (first, second))
    orders = [torch.arange(group.count) for group in groups]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(ROUNDS):
        changed = False
        for k in torch.randperm(len(groups), generator=generator).tolist():
            best, trial = total(a, b, groups, orders, k), list(orders)
            for _ in range(AGAIN):  # for such a tensor: its other axis has the order of the time before
                gain = likeness(a, b, groups, trial, k)
                trial[k] = torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])
                found = total(a, b, groups, trial, k)
                if found > best + 1e-12 * abs(best):
                    best, orders[k], changed = found, trial[k], True
        if not changed:
            return orders
    return orders


def total(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Tensor], k: int
) -> float:
    """The inner product of all tensors that the k-th group is in, everything being in its order."""
    names = {location.tensor for location in groups[k].locations} & a.keys()
    own = permuted({name: b[name] for name in names}, groups, orders)
    return sum(float((a[name] * own[name]).sum()) for name in sorted(names))


def likeness(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Tensor], k: int
) -> Tensor:
    """(units, units): the inner product of unit i of the first network and unit j of the second, the other groups being in
    their order."""
    group = groups[k]
    result = torch.zeros(group.count, group.count, dtype=torch.float64)
    for place in group.locations:
        name, axis, start, inner = place
        if name not in a:
            continue
        other = b[name]
        for each, order in zip(groups, orders, strict=True):
            for there in each.locations:
                if there[0] == name and there[1] != axis:  # what lies beside it along its axis does not matter
                    other = other.index_select(there[1], axis_order(each, there, order, other.shape[there[1]]))
        parts = [
            value.movedim(axis, 0)[start : start + group.count * inner].reshape(group.count, -1)
            for value in (a[name], other)
        ]
        result += parts[0] @ parts[1].T
    return result


def aligned(
    net: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor], inputs: Any, seed: int = 0
) -> tuple[dict[str, Tensor], int]:
    """The second network's state with its hidden units in the order of the first one's, and how many were moved.

    Units that the network's operations do not let move stay where they are, which is said with their number and the cause.
    net: of the kind that both are, in eval mode; it is not changed. inputs: a batch, as the network is called with.

    Raises BadInput where the operations cannot be traced, where there is nothing that could change places, and where the
    network would compute something else.
    """
    found = trace_symmetries(net, inputs)
    groups, left = found.groups, found.report()
    if not groups:
        why = f" ({left})" if left else ""
        raise BadInput(f"no units of this network can be shown to change places: there is nothing to align{why}")
    if left:
        note(left)
    parameters = [name for name, _ in net.named_parameters()]
    ours, theirs = ({name: state[name] for name in parameters if name in state} for state in (first, second))
    orders = matched(ours, theirs, groups, seed)
    result, names = permuted(second, groups, orders), names_of(net)
    for name in [*parameters, *dict(net.named_buffers())]:  # tensors with several names
        result |= {other: result[name] for other in names[name] if other in result and name in result}
    check_same(net, second, result, inputs)
    return result, sum(int((order != torch.arange(len(order))).sum()) for order in orders)


def check_same(net: nn.Module, second: Mapping[str, Tensor], result: Mapping[str, Tensor], inputs: Any) -> None:
    """Raise BadInput where the network does not compute the same with both states: in float64, and itself, in place."""
    try:
        before, after = (output_in_double(net, state, inputs) for state in (second, result))
        errors = [(difference(before, after), CHANGED)]
    except RuntimeError:  # a network that makes float32 tensors of its own
        errors = []
    with evaluated_in_place(net) as own:
        before, after = (output(own, state, fitted(inputs, own)) for state in (second, result))
    half = any(p.dtype in (torch.bfloat16, torch.float16) for p in net.parameters())
    if not errors or torch.isfinite(before).all():  # otherwise float32 is too small for this network's outputs
        errors.append((difference(before, after), HALF if half else ROUNDED))
    for error, allowed in errors:
        if not error <= allowed:
            raise BadInput(
                f"aligned, the network would compute something else (by {error:.1e}): its units cannot be permuted"
            )


def difference(before: Tensor, after: Tensor) -> float:
    return float((after - before).norm() / before.norm().clamp(min=1e-300))


def output_in_double(net: nn.Module, state: Mapping[str, Tensor], inputs: Any) -> Tensor:
    """Output of a copy of a network with another state, in float64."""
    twin = evaluation_copy(net)._apply(lambda t: converted(t, t.device, torch.float64))
    return output(twin, state, inputs.double() if inputs.is_floating_point() else inputs)


@torch.no_grad()
def output(net: nn.Module, state: Mapping[str, Tensor], inputs: Any) -> Tensor:
    """Output of a network, as float64, after its tensors are changed in place to those of a state."""
    for name, tensor in named_tensors(net).items():
        if name in state and movable(tensor):
            tensor.data.copy_(state[name])
    return output_of(net(inputs)).double()
