"""Permute the hidden units of one network to match another network's units, before interpolating between them.

Weight matching of Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (arXiv 2209.04836, Algorithm 1): each group of units
in turn gets the permutation that maximizes the inner product of the two networks' weights, a linear assignment problem,
until no permutation changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.losses import output_of
from lossatlas.errors import BadInput, note
from lossatlas.evaluation.parallel_batches import evaluation_copy
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import fitted
from lossatlas.parameter_space.points import converted, movable, named_tensors
from lossatlas.parameter_space.selection import names_of
from lossatlas.parameter_space.symmetry import UnitGroup, axis_order, permuted, trace_symmetries

ROUNDS, REPEATS = 100, 5  # passes over all groups; repeated steps for a group that is on two axes of a tensor
CHANGED = 1e-6  # allowed relative change of the output, in float64
ROUNDED, HALF = 1e-5, 0.1  # the same for the network itself, in float32 and in half precision


def matched(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], groups: Sequence[UnitGroup], seed: int = 0
) -> list[Tensor]:
    """Find the permutation of each group of units that maximizes the inner product of two networks' parameters.

    The inner product never decreases. Where a group is on two axes of a tensor, as in layers within a residual stream,
    a step is not an exact solution, and the best permutation may be missed.

    Args:
        first: The parameters of the first network by name.
        second: The parameters of the second network by name.
        groups: The groups of units.
        seed: The seed of the order in which groups are visited.

    Returns:
        For each group the order (units,) of the second network's units.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = ({name: value.detach().double() for name, value in point.items()} for point in (first, second))
    orders = [torch.arange(group.count) for group in groups]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(ROUNDS):
        changed = False
        for k in torch.randperm(len(groups), generator=generator).tolist():
            best, trial = total(a, b, groups, orders, k), list(orders)
            for _ in range(REPEATS):  # for such a tensor, whose other axis has the order of the previous step
                gain = likeness(a, b, groups, trial, k)
                trial[k] = torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])
                product = total(a, b, groups, trial, k)
                if product > best + 1e-12 * abs(best):
                    best, orders[k], changed = product, trial[k], True
        if not changed:
            return orders
    return orders


def total(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Tensor], k: int
) -> float:
    """Return the inner product of the tensors of two networks that have units of one group.

    Args:
        a: Parameters of the first network by name, float64.
        b: Parameters of the second network by name.
        groups: The groups of units.
        orders: For each group the order (units,) in which the second network is permuted.
        k: Index of the group.
    """
    names = {location.tensor for location in groups[k].locations} & a.keys()
    own = permuted({name: b[name] for name in names}, groups, orders)
    return sum(float((a[name] * own[name]).sum()) for name in sorted(names))


def likeness(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Tensor], k: int
) -> Tensor:
    """Return the inner products of each unit of the first network with each unit of the second.

    Args:
        a: Parameters of the first network by name, float64.
        b: Parameters of the second network by name.
        groups: The groups of units.
        orders: For each group the order (units,) in which the second network is permuted, except group k.
        k: Index of the group.

    Returns:
        (units, units) of unit i of the first network and unit j of the second.
    """
    group = groups[k]
    result = torch.zeros(group.count, group.count, dtype=torch.float64)
    for place in group.locations:
        name, axis, start, inner = place
        if name not in a:
            continue
        other = b[name]
        for each, order in zip(groups, orders, strict=True):
            for occurrence in each.locations:
                if occurrence[0] == name and occurrence[1] != axis:  # groups on the same axis do not matter
                    size = other.shape[occurrence[1]]
                    other = other.index_select(occurrence[1], axis_order(each, occurrence, order, size))
        parts = [
            value.movedim(axis, 0)[start : start + group.count * inner].reshape(group.count, -1)
            for value in (a[name], other)
        ]
        result += parts[0] @ parts[1].T
    return result


def aligned(
    net: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor], inputs: Any, seed: int = 0
) -> tuple[dict[str, Tensor], int]:
    """Permute the hidden units of the second network to match the units of the first.

    Units that the network's operations do not allow to be permuted are left; a note gives their number and the cause.

    Args:
        net: A network of this architecture in evaluation mode; it is not changed.
        first: The state of the first network.
        second: The state of the second network.
        inputs: A batch, with which the network is called.
        seed: See `matched`.

    Returns:
        The permuted state of the second network, and the number of units that changed their position.

    Raises:
        BadInput: The operations cannot be traced, no units can be permuted, or the result computes something else.
    """
    symmetries = trace_symmetries(net, inputs)
    groups, fixed = symmetries.groups, symmetries.report()
    if not groups:
        why = f" ({fixed})" if fixed else ""
        raise BadInput(f"no units of this network can be shown to be permutable: there is nothing to align{why}")
    if fixed:
        note(fixed)
    parameters = [name for name, _ in net.named_parameters()]
    ours, theirs = ({name: state[name] for name in parameters if name in state} for state in (first, second))
    orders = matched(ours, theirs, groups, seed)
    result, names = permuted(second, groups, orders), names_of(net)
    for name in named_tensors(net, every_name=False):  # tensors with several names
        result |= {other: result[name] for other in names[name] if other in result and name in result}
    check_same(net, second, result, inputs)
    return result, sum(int((order != torch.arange(len(order))).sum()) for order in orders)


def check_same(net: nn.Module, second: Mapping[str, Tensor], result: Mapping[str, Tensor], inputs: Any) -> None:
    """Check that a permutation of units has not changed the function of a network.

    Args:
        net: A network of this architecture; it is not changed.
        second: State of the second network.
        result: Its state after the permutation.
        inputs: Inputs of the network.

    Raises:
        BadInput: Outputs with both states differ, of a copy in float64 or of the network itself.
    """
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
    """Return the relative difference of two outputs in the Euclidean norm."""
    return float((after - before).norm() / before.norm().clamp(min=1e-300))


def output_in_double(net: nn.Module, state: Mapping[str, Tensor], inputs: Any) -> Tensor:
    """Return the output of a copy of a network with another state, in float64."""
    double = evaluation_copy(net)._apply(lambda t: converted(t, t.device, torch.float64))
    return output(double, state, inputs.double() if inputs.is_floating_point() else inputs)


@torch.no_grad()
def output(net: nn.Module, state: Mapping[str, Tensor], inputs: Any) -> Tensor:
    """Copy a state into the tensors of a network, and return its output as float64."""
    for name, tensor in named_tensors(net, every_name=True).items():
        if name in state and movable(tensor):
            tensor.data.copy_(state[name])
    return output_of(net(inputs)).double()
