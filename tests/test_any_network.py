"""Every kind of network gets the losses and the curvature of exactly that network, and stays as it is.

Whatever is compared comes from the module itself: a fresh one from the same factory, whose own tensors are moved in
place. A further kind is a further line of tests/networks_of_all_kinds.py.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_of_all_kinds import DATA, KINDS, Kind, built
from torch import Tensor, nn

import lossatlas
from lossatlas.errors import BadInput, BadUsage

X, Y = (-0.5, 0.0, 1.0), (0.0, 1.0)
CELLS = ((0, 1), (1, 2), (1, 0))  # row and column: the origin, a corner, another corner
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}
TRACED = ("MLP", "CNN", "BatchNorm", "MLP in train mode")

pytestmark = pytest.mark.filterwarnings("ignore")


def cases(chosen: Callable[[Kind], bool]) -> list[Any]:
    """A kind and a precision for each test."""
    return [
        pytest.param(entry, dtype, id=f"{entry.name}-{dtype}", marks=[pytest.mark.full] * entry.slow)
        for entry in KINDS
        if chosen(entry)
        for dtype in entry.dtypes
    ]


def data_of(entry: Kind, dtype: str) -> Any:
    return DATA[entry.data](getattr(torch, dtype), torch.Generator().manual_seed(5))


def precision_of(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


# --- the module itself, moved in place


def tensors_of(entry: Kind, net: nn.Module) -> dict[str, Tensor]:
    """What moves: floating-point and complex parameters, and buffers of them with the states."""
    every = dict(net.named_parameters()) | (dict(net.named_buffers()) if entry.dir_type == "states" else {})
    return {name: value for name, value in every.items() if value.is_floating_point() or value.is_complex()}


def directions_of(entry: Kind, dtype: str) -> list[dict[str, Tensor]]:
    """Two directions, each tensor about as long as a third of the weights."""
    g, found = torch.Generator().manual_seed(9), []
    for _ in range(2):
        direction = {}
        for name, value in tensors_of(entry, built(entry, dtype)).items():
            wide = torch.complex128 if value.is_complex() else torch.float64
            size = 0.3 * float(value.detach().to(wide).abs().square().mean().sqrt()) + 0.03
            direction[name] = (size * torch.randn(value.shape, generator=g, dtype=wide)).to(value.dtype)
        found.append(direction | {name: direction[other] for name, other in entry.same.items()})
    return found


def mean_loss(entry: Kind, net: Any, batch: Any) -> Tensor:
    """By plain torch; outputs in reduced precision reach the loss in float32."""
    if callable(entry.loss):
        return entry.loss(net, batch).mean()
    named = isinstance(batch, dict)
    target = batch["labels"] if named else batch[-1]
    output = net(**{k: v for k, v in batch.items() if k != "labels"}) if named else net(*batch[:-1])
    if isinstance(output, dict):
        output = output["logits"]
    output = output[0] if isinstance(output, tuple) else output
    output = output if output.dtype == torch.float64 else output.float()
    return F.mse_loss(output, target) if entry.loss == "mse" else F.cross_entropy(output, target)


def true_loss(entry: Kind, dtype: str, a: float, b: float, dx: dict[str, Tensor], dy: dict[str, Tensor]) -> float:
    """Of a fresh network, moved in the mode in which it was passed, then in eval mode."""
    net = built(entry, dtype)
    own = tensors_of(entry, net)
    there = {name: value.detach() + a * dx[name] + b * dy[name] for name, value in own.items()}
    for name, value in there.items():
        own[name].data.copy_(value.clamp(min=0) if name.endswith("running_var") else value)
    net.eval()
    with torch.set_grad_enabled(callable(entry.loss)):
        return float(mean_loss(entry, net, data_of(entry, dtype)).detach())


def true_extremes(entry: Kind) -> tuple[float, float]:
    """Largest and smallest eigenvalue of the matrix of finite differences (columns) of the module's own gradient."""
    net = built(entry, "float64").eval()
    weights = [p.requires_grad_() for p in net.parameters() if p.is_floating_point() or p.is_complex()]

    def gradient() -> Tensor:
        found = torch.autograd.grad(mean_loss(entry, net, data_of(entry, "float64")), weights, allow_unused=True)
        return torch.cat(
            [real(torch.zeros_like(w) if g is None else g).reshape(-1) for g, w in zip(found, weights, strict=True)]
        )

    columns, step = [], 1e-5
    for weight in weights:
        numbers = real(weight.data)  # the module's own
        for k in np.ndindex(*numbers.shape):
            before, ends = float(numbers[k]), []
            for sign in (1, -1):
                numbers[k] = before + sign * step
                ends.append(gradient())
            numbers[k] = before
            columns.append((ends[0] - ends[1]) / (2 * step))
    matrix = torch.stack(columns)
    assert len(matrix) <= 2000
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-5, atol=1e-6)
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return float(values[-1]), float(values[0])


def real(tensor: Tensor) -> Tensor:
    """Real numbers, in the same memory unless it is sparse; a complex number is two."""
    tensor = tensor.to_dense() if tensor.is_sparse else tensor
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


# --- everything that a module holds


def held(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    """(path, digest) of each tensor, number and flag that can be reached from a module, through whatever holds it."""
    if isinstance(value, bool | int | float | str | None):
        yield path, repr(value)
    elif id(value) in seen:
        yield path, f"the object {id(value)}"
    else:
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield path, digest(value)
        elif isinstance(value, torch.Generator):
            yield path, hashlib.sha256(value.get_state().numpy().tobytes()).hexdigest()
        elif isinstance(value, nn.Module):
            yield path, f"{type(value).__name__} {value.training}"
        for name, each in inside(value).items():
            yield from held(each, f"{path}.{name}", seen)


def inside(value: Any) -> dict[str, Any]:
    """What an object holds, by name."""
    if isinstance(value, nn.Module):
        slots = {n: getattr(value, n) for n in getattr(type(value), "__slots__", ()) if hasattr(value, n)}
        return {**dict(value.named_parameters()), **dict(value.named_buffers()), **vars(value), **slots}
    if isinstance(value, dict):
        return {key if isinstance(key, str) else f"{k}": each for k, (key, each) in enumerate(value.items())}
    if isinstance(value, list | tuple | set):
        return {"length": len(value), **{str(k): each for k, each in enumerate(value)}}
    if isinstance(value, functools.partial):
        return {"function": value.func, "arguments": value.args, "options": value.keywords}
    if isinstance(value, MethodType):
        return {"self": value.__self__}
    if isinstance(value, FunctionType):
        return {str(k): cell.cell_contents for k, cell in enumerate(value.__closure__ or ())}
    return {"groups": value.param_groups} if isinstance(value, torch.optim.Optimizer) else {}


def digest(tensor: Tensor) -> str:
    """Of a tensor: which object, its form, its bytes, its gradient and its hooks."""
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return "uninitialized"
    values = tensor.detach()
    values = values.int_repr() if values.is_quantized else values
    numbers = values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    layout = f"{tuple(tensor.shape)} {tensor.stride()} {tensor.dtype} {tensor.data_ptr()}"
    form = f"{id(tensor)} {layout} {tensor.requires_grad}"
    grad = None if not tensor.is_leaf else tensor.grad
    return f"{form} {hashlib.sha256(numbers).hexdigest()[:16]} {grad} {len(tensor._backward_hooks or ())}"


def everything(net: nn.Module) -> dict[str, str]:
    return dict(held(net, "net", set()))


def assert_unchanged(net: nn.Module, before: dict[str, str], after: str) -> None:
    now = everything(net)
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    assert not changed, f"{after} changed {changed[:5]}: {before.get(changed[0])} -> {now.get(changed[0])}"


# --- the table


def surface(entry: Kind, net: nn.Module, dtype: str, directions: Any) -> lossatlas.Landscape:
    return lossatlas.surface(
        net,
        data_of(entry, dtype),
        x=X,
        y=Y,
        loss=entry.loss,
        directions=directions,
        dir_type=entry.dir_type,
        batch_size=8,
        progress=False,
    )


def curvature(entry: Kind, net: nn.Module) -> lossatlas.Curvature:
    return lossatlas.spectrum(
        net,
        data_of(entry, "float64"),
        loss=entry.loss,
        top=1,
        bottom=1,
        tolerance=1e-5,
        trace_error=9.0,
        max_trace_products=2,
        steps=4,
        precision="float64",
        batch_size=8,
        progress=False,
    )


def outcome(function: Callable[[], Any]) -> tuple[Any, str]:
    """What a call gives, and the line with which it is refused; '' if it is not."""
    try:
        return function(), ""
    except (BadInput, BadUsage) as error:
        return None, str(error) or "refused without a word"


def assert_refused(line: str, pattern: str) -> None:
    """In one line that says why."""
    assert pattern, f"refused: {line}"
    assert line, f"not refused, as in '{pattern}'"
    assert "\n" not in line, line
    assert re.search(pattern, line), f"{line!r} does not say '{pattern}'"


def test_the_table_has_every_kind_once():
    names = [entry.name for entry in KINDS]
    assert len(names) == len(set(names))
    assert len(names) >= 65


@pytest.mark.parametrize(("entry", "dtype"), cases(lambda entry: True))
def test_losses_are_those_of_the_network(entry, dtype):
    """At three cells of a plane along given directions, or they are refused; nothing that the network holds changes."""
    net, directions = built(entry, dtype), []
    before = everything(net)
    if entry.either or not entry.refused:
        directions = directions_of(entry, dtype)
    found, line = outcome(lambda: surface(entry, net, dtype, directions or None))
    assert_unchanged(net, before, "surface")
    if line or not directions:
        assert_refused(line, entry.refused)
        return
    true = [true_loss(entry, dtype, X[column], Y[row], *directions) for row, column in CELLS]
    assert len({round(value, 4) for value in true}) == len(CELLS), "these cells tell nothing apart"
    tolerance = entry.tolerance or TOLERANCE[dtype]
    np.testing.assert_allclose([found.loss[cell] for cell in CELLS], true, rtol=tolerance, atol=0)


CURVED = cases(lambda entry: entry.curvature and "float64" in entry.dtypes)


@pytest.mark.few(4)
@pytest.mark.slow
@pytest.mark.parametrize(("entry", "dtype"), [case for case in CURVED if case.values[1] == "float64"])
def test_extreme_eigenvalues_are_those_of_the_network(entry, dtype):
    """Or they are refused in one line, where derivatives are not those of the loss."""
    net = built(entry, dtype)
    before, why = everything(net), entry.no_curvature or entry.refused
    found, line = outcome(lambda: curvature(entry, net))
    assert_unchanged(net, before, "spectrum")
    if line or (why and not entry.either):
        assert_refused(line or f"only {found.eigenvalues}", why)
        return
    largest, smallest = true_extremes(entry)
    size = max(abs(largest), abs(smallest))
    np.testing.assert_allclose(found.eigenvalues[[0, -1]], [largest, smallest], rtol=0, atol=1e-4 * size)


@pytest.mark.few(8)
@pytest.mark.slow
@pytest.mark.parametrize(("entry", "dtype"), cases(lambda entry: entry.name != "lazy, not materialized"))
def test_maps_trajectories_and_alignment_leave_the_network_as_it_is(entry, dtype):
    """They may refuse it, in one line. Losses and spectra are looked at where they are compared."""
    net, batch = built(entry, dtype), data_of(entry, dtype)
    before, states = everything(net), [state_of(entry, dtype, seed) for seed in (2, 3, 4, 1)]
    _, line = outcome(lambda: lossatlas.trajectory(net, states, dir_type=entry.dir_type))
    assert_unchanged(net, before, "trajectory")
    assert not line or entry.either or entry.refused, line
    if isinstance(batch, tuple) and len(batch) == 2:
        _, line = outcome(lambda: lossatlas.align(net, states[0], batch[0]))
        assert_unchanged(net, before, "align")
        assert not line or entry.name not in TRACED, line
    options = {
        "x": (0.0, 0.5),
        "tolerance": 0.1,
        "max_products": 6,
        "loss": entry.loss,
        "progress": False,
        "batch_size": 8,
    }
    outcome(lambda: lossatlas.eigenvalues(net, batch, **options))
    assert_unchanged(net, before, "eigenvalues")


def state_of(entry: Kind, dtype: str, seed: int) -> dict[str, Tensor]:
    state = built(entry, dtype, seed).state_dict()
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize("name", ["MLP", "BatchNorm", "LSTM", "decoder with tied embeddings", "weights in a list"])
def test_losses_along_random_directions_are_those_of_the_network(name):
    """With the directions as the surface returns them."""
    entry = next(entry for entry in KINDS if entry.name == name)
    found = surface(entry, built(entry, "float64"), "float64", None)
    names = [n for n, _ in built(entry, "float64").named_parameters()]
    arrays = (found.directions.x, found.directions.y)
    dx, dy = ({n: torch.as_tensor(a) for n, a in zip(names, axis, strict=True)} for axis in arrays)
    true = [true_loss(entry, "float64", X[column], Y[row], dx, dy) for row, column in CELLS]
    np.testing.assert_allclose([found.loss[cell] for cell in CELLS], true, rtol=1e-6, atol=0)
