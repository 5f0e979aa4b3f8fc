from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn

from lossatlas.data import LOSSES, Losses
from lossatlas.evaluation import Evaluator, autotuning, choose_path
from lossatlas.evaluation.parameter_buffers import FlatLayout
from lossatlas.hessian import Hessian
from lossatlas.landscape import STATISTICS, Grid, Surface
from lossatlas.parameter_space import AffinePlane, MappedPlane, moved, random_direction, tensors

POINTS = [(0.0, 0.0), (0.5, -0.3), (-1.0, 1.0), (3.0, 2.0)]


def plane_of(net, dir_type="weights", norm="filter"):
    at = tensors(net, dir_type)
    return AffinePlane(at, random_direction(at, norm, "", 1), random_direction(at, norm, "biasbn", 2))


def first(data):
    return next(data.batches(4))


def naive(net, plane, data, points, loss="crossentropy"):
    """Set the weights, loop over single samples in float64, average."""
    net, found = net.double(), []
    for a, b in points:
        with moved(net, {name: value.double() for name, value in plane.point(a, b).items()}), torch.no_grad():
            losses, right = [], 0
            for x, y in zip(data.inputs, data.targets, strict=True):
                logits = net(x[None].double())
                if loss == "mse":
                    losses.append(((logits.softmax(1)[0] - torch.eye(10)[y]) ** 2).mean().item())
                else:
                    losses.append(F.cross_entropy(logits, y[None]).item())
                right += int(logits.argmax() == y)
            found.append((np.mean(losses), 100 * right / len(data)))
    net.float()
    return np.array(found)


def fields(evaluator, points, split="train"):
    """Loss and accuracy at points, by way of a surface."""
    rows = evaluator(points)
    surface = Surface.empty(
        Grid(np.arange(float(len(points)))), {s: len(d) for s, d in evaluator.data.items()}, evaluator.metrics
    ).with_cells(range(len(points)), rows)
    return np.stack([surface.fields[f"{split}_loss"], surface.fields[f"{split}_acc"]], axis=1)


@pytest.mark.parametrize("name", ["mlp", "conv", "tied"])
@pytest.mark.parametrize("loss", ["crossentropy", "mse"])
def test_agrees_with_a_naive_twin(networks, mini, name, loss):
    net, plane = networks[name], plane_of(networks[name])
    found = fields(Evaluator(net, plane, {"train": mini}, LOSSES[loss], batch_size=16), POINTS)
    np.testing.assert_allclose(found, naive(net, plane, mini, POINTS, loss), rtol=2e-5)


@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_the_folded_path_agrees_with_a_naive_twin(networks, mini, dir_type):
    net, plane = networks["conv"], plane_of(networks["conv"], dir_type)
    assert choose_path(net, LOSSES["crossentropy"], first(mini)) == (True, "")
    evaluator = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=16, folded=True)
    np.testing.assert_allclose(fields(evaluator, POINTS), naive(net, plane, mini, POINTS), rtol=2e-4)
    assert not choose_path(networks["mlp"], LOSSES["crossentropy"], first(mini))[0]


def test_moves_statistics_and_sets_negative_variances_to_zero(networks, mini):
    net, plane = networks["conv"], plane_of(networks["conv"], "states")
    far = [*POINTS, (-4.0, 0.0)]
    evaluator = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=50)
    np.testing.assert_allclose(fields(evaluator, far), naive(net, plane, mini, far), rtol=2e-4)
    clamped = evaluator(far)[:, 0, STATISTICS.index("clamped")]
    assert list(clamped) == [int((plane.point(a, b)["bn.running_var"] < 0).sum()) for a, b in far]
    assert clamped[-1] == 6


def test_any_map_gives_the_values_of_the_fast_path(networks, mini):
    net, plane = networks["conv"], plane_of(networks["conv"], "states")
    fast = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=16)(POINTS)
    slow = Evaluator(net, MappedPlane(plane.point), {"train": mini}, LOSSES["crossentropy"], batch_size=16)(POINTS)
    np.testing.assert_allclose(fast, slow, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_the_mean_does_not_depend_on_the_batch_size(networks, mini, size):
    net, plane = networks["conv"], plane_of(networks["conv"])
    one = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=size)(POINTS)
    all_at_once = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=50)(POINTS)
    np.testing.assert_allclose(one, all_at_once, rtol=1e-5)
    assert (one[:, 0, 0] == 50).all()


def test_the_callers_network_is_not_touched(networks, mini):
    net = networks["conv"]
    before = {name: (value.clone(), value.data_ptr()) for name, value in net.state_dict().items()}
    Evaluator(net, plane_of(net, "states"), {"train": mini}, LOSSES["crossentropy"], batch_size=16)(POINTS)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.data_ptr() == before[name][1]


def test_a_cell_has_the_same_bits_whatever_came_before(networks, mini):
    evaluator = Evaluator(networks["conv"], plane_of(networks["conv"]), {"train": mini}, LOSSES["mse"], batch_size=16)
    together = evaluator(POINTS)
    for k in reversed(range(len(POINTS))):
        np.testing.assert_array_equal(evaluator([POINTS[k]])[0], together[k])


def test_two_splits_in_one_sweep(networks, mini):
    other = replace(mini, samples=(mini.inputs[:20] * 2, mini.targets[:20]))
    net, plane = networks["mlp"], plane_of(networks["mlp"])
    both = Evaluator(net, plane, {"train": mini, "test": other}, LOSSES["crossentropy"], batch_size=8)
    np.testing.assert_allclose(fields(both, POINTS, "test"), naive(net, plane, other, POINTS), rtol=2e-5)
    np.testing.assert_allclose(fields(both, POINTS, "train"), naive(net, plane, mini, POINTS), rtol=2e-5)


def test_weights_and_a_term_of_the_parameters_alone(networks, mini):
    net, plane = networks["mlp"], plane_of(networks["mlp"])

    def weighted(model, batch):
        losses = LOSSES["crossentropy"](model, batch)
        return replace(losses, weights=1.0 + batch[1], penalty=sum((p**2).sum() for p in model.parameters()))

    evaluator = Evaluator(net, plane, {"train": mini}, weighted, batch_size=16)
    with moved(net, plane.point(*POINTS[1])), torch.no_grad():
        loss = F.cross_entropy(net(mini.inputs), mini.targets, reduction="none").numpy()
        penalty = float(sum((p**2).sum() for p in net.parameters()))
    expected = np.average(loss, weights=1 + mini.targets.numpy()) + penalty
    assert fields(evaluator, [POINTS[1]])[0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_diverged_point_is_a_value(networks, mini):
    def broken(model, batch):
        return Losses(torch.full((len(batch[1]),), float("nan")), metrics={"accuracy": batch[1] < 0})

    found = Evaluator(networks["mlp"], plane_of(networks["mlp"]), {"train": mini}, broken, batch_size=16)([(0, 0)])
    assert np.isnan(found[0, 0, STATISTICS.index("weight_loss")])


@pytest.mark.parametrize("name", ["mlp", "conv", "tied"])
@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_several_points_in_one_call_agree_with_a_naive_twin(networks, mini, name, dir_type):
    net, plane = networks[name], plane_of(networks[name], dir_type)
    points = [*POINTS, (-4.0, 0.0), (0.3, -0.3)]
    evaluator = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=16, points_per_call=2)
    np.testing.assert_allclose(fields(evaluator, points), naive(net, plane, mini, points), rtol=2e-4)
    alone = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=16)
    np.testing.assert_allclose(evaluator(points), alone(points), rtol=2e-4)


def test_batches_side_by_side_give_the_same_bits(networks, mini):
    net, plane, data = networks["conv"], plane_of(networks["conv"]), many(mini, 10)
    options = {"batch_size": 16, "folded": True}
    one, three = (
        Evaluator(
            net,
            plane,
            {"train": data, "test": mini},
            LOSSES["crossentropy"],
            parallel_batches=parallel_batches,
            **options,
        )
        for parallel_batches in (1, 3)
    )
    np.testing.assert_array_equal(three(POINTS), one(POINTS))
    for evaluator in (one, three):
        evaluator.move_to(0.5, -0.3)
    np.testing.assert_array_equal(three.draw_samples("train", 0, 200).loss, one.draw_samples("train", 0, 200).loss)
    plain = [
        Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], parallel_batches=parallel_batches)
        for parallel_batches in (1, 3)
    ]
    np.testing.assert_array_equal(*(evaluator(POINTS) for evaluator in plain))


@pytest.mark.parametrize("name", ["mlp", "conv", "tied"])
@pytest.mark.parametrize(("precision", "error"), [("float64", 1e-12), ("bfloat16", 0.05), ("float16", 0.005)])
def test_precisions_are_as_exact_as_they_can_be(networks, mini, name, precision, error):
    net, plane = networks[name], plane_of(networks[name])
    evaluator = Evaluator(
        net,
        double(plane) if precision == "float64" else plane,
        {"train": mini},
        LOSSES["crossentropy"],
        batch_size=16,
        precision=precision,
        folded=name == "conv",
    )
    found, wanted = fields(evaluator, POINTS)[:, 0], naive(net, double(plane), mini, POINTS)[:, 0]
    np.testing.assert_allclose(found, wanted, rtol=error)
    assert precision == "float64" or (found != wanted).all()


class Overwriting(nn.Module):
    """Writes into its input, as an activation in place at the front does, and into a view of it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, x):
        x.flatten(1).mul_(1.5)
        return self.linear(torch.relu_(x).flatten(1))


class Viewing(nn.Module):
    """Needs contiguous images and parameters: a 4-D parameter that is no filter, `view` of input and filters."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.shift = nn.Parameter(torch.randn(2, 4, 14, 7))
        self.linear = nn.Linear(3 * 14 * 28, 10)

    def forward(self, x):
        x = x.view(x.shape[0], -1) + self.shift.view(-1) + self.conv.weight.view(-1).sum()
        x = x.view(-1, 2, 14, 28)
        return self.linear(torch.relu(self.conv(x)).flatten(1))


@pytest.mark.parametrize("make", [Overwriting, Viewing])
@pytest.mark.parametrize(
    "options",
    [{}, {"parallel_batches": 2}, {"points_per_call": 2}],
    ids=["plain", "parallel batches", "stacked"],
)
def test_networks_that_overwrite_or_view_their_inputs(mini, make, options):
    """The resident data stay as they are (they were multiplied again and again), and nothing crashes."""
    data = replace(
        mini,
        samples=(
            mini.inputs.expand(-1, 2, -1, -1).contiguous() if make is Viewing else mini.inputs.clone(),
            mini.targets,
        ),
    )
    if make is Viewing:
        data = replace(
            data, samples=(data.inputs[:, :, :14].contiguous(memory_format=torch.channels_last), data.targets)
        )
    kept, net = data.inputs.clone(), seeded(make)
    plane = plane_of(net)
    fresh = replace(data, samples=(data.inputs.contiguous(), data.targets))
    exact = []
    for a, b in POINTS:
        with moved(net, plane.point(a, b)), torch.no_grad():
            exact.append(float(F.cross_entropy(net(fresh.inputs.clone()), data.targets)))
    if make is Overwriting and "points_per_call" in options:
        pytest.skip("vmap does not write into inputs")
    evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=16, **options)
    for _ in range(2):
        np.testing.assert_allclose(fields(evaluator, POINTS)[:, 0], exact, rtol=1e-5)
        evaluator.move_to(*POINTS[1])
        assert evaluator.draw_samples("train", 0, len(data)).loss.mean() == pytest.approx(exact[1], rel=1e-5)
    torch.testing.assert_close(data.inputs, kept, rtol=0, atol=0)
    operator = Hessian(net, data, LOSSES["crossentropy"], batch_size=16)
    before = operator.gradient()
    assert operator.gradient()[0] == before[0] == pytest.approx(exact[0], rel=1e-5)
    choose_path(net, LOSSES["crossentropy"], first(data))
    torch.testing.assert_close(data.inputs, kept, rtol=0, atol=0)


def test_several_points_in_one_call_of_a_folded_network_have_its_tiny_losses(networks, mini):
    """The loss was computed in float32 there: at 3e-13 it was 0."""
    net = networks["conv"]
    at = tensors(net)
    scale = {name: value if name.startswith("linear") else torch.zeros_like(value) for name, value in at.items()}
    with torch.no_grad():
        data = replace(mini, samples=(mini.inputs, net(mini.inputs).argmax(1)))
        margin = net(mini.inputs).topk(2).values.diff().abs()
    data = data.take(margin[:, 0] > margin.median())
    plane, points = AffinePlane(at, scale), [(0.0, 0.0), (30.0, 0.0), (50.0, 0.0)]
    one, many = (
        Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=16, folded=True, points_per_call=n)
        for n in (1, 3)
    )
    alone, together = (fields(evaluator, points)[:, 0] for evaluator in (one, many))
    assert 0 < alone[2] < 1e-11
    np.testing.assert_allclose(together, alone, rtol=1e-2)
    assert autotuning.matches_single_points(many, points[:1])
    loss = STATISTICS.index("weight_loss")
    broken = many.evaluate_stacked
    many.evaluate_stacked = lambda points: broken(points) * np.where(np.arange(len(many.columns)) == loss, 1.01, 1)
    assert not autotuning.matches_single_points(many, points)


def double(plane):
    return AffinePlane(
        *({name: value.double() for name, value in d.items()} for d in (plane.origin, plane.dx, plane.dy))
    )


def test_float32_is_as_exact_as_promised(networks, mini):
    """At most 1e-5, or twice the error of eager float32, at losses from 1e-4 to 1e3."""
    net = networks["conv"]
    at = tensors(net)
    scale = {name: 30.0 * value if name.startswith("linear") else torch.zeros_like(value) for name, value in at.items()}
    noise = random_direction(at, "filter", "biasbn", 1)
    plane = AffinePlane(at, noise, scale)
    with torch.no_grad():
        targets = net(mini.inputs).argmax(1)
    right, wrong = (replace(mini, samples=(mini.inputs, labels)) for labels in (targets, (targets + 1) % 10))
    seen = []
    for data, points in ((right, [(0, 0.3), (0, 1), (0, 3)]), (wrong, [(0.1, 1.0), (0, 10), (1, 3)])):
        exact = naive(net, double(plane), data, points)[:, 0]
        evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=16, folded=True)
        for k, (a, b) in enumerate(points):
            with moved(net, plane.point(a, b)), torch.no_grad():
                eager = float(F.cross_entropy(net(data.inputs), data.targets))
            error = abs(fields(evaluator, points)[k, 0] - exact[k])
            assert error <= max(1e-5 * exact[k], 2 * abs(eager - exact[k]))
            seen.append(exact[k])
    assert min(seen) < 1e-3
    assert max(seen) > 100


def many(mini, times=60):
    noise = torch.randn(50 * times, *mini.inputs.shape[1:], generator=torch.Generator().manual_seed(0))
    return replace(mini, samples=(mini.inputs.repeat(times, 1, 1, 1) + noise, mini.targets.repeat(times)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["mlp", "conv", "tied"])
def test_cuda_agrees_with_a_naive_twin(networks, mini, name):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    net, plane = networks[name], plane_of(networks[name])
    evaluator = Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=16, device="cuda")
    np.testing.assert_allclose(fields(evaluator, POINTS), naive(net, plane, mini, POINTS), rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_cuda_graphs_compute_what_eager_calls_compute(networks, mini, precision):
    net, plane, data = networks["conv"], plane_of(networks["conv"]), many(mini, 20)
    captured, eager = (
        Evaluator(
            net,
            plane,
            {"train": data},
            LOSSES["crossentropy"],
            batch_size=256,
            device="cuda",
            folded=True,
            precision=precision,
        )
        for _ in range(2)
    )
    eager.graphs = None
    np.testing.assert_array_equal(captured(POINTS), eager(POINTS))
    assert captured.graphs.supported


@pytest.mark.parametrize("channels_last", [True, False])
def test_what_lies_in_one_buffer_stays_there(networks, channels_last):
    net = networks["conv"]
    point, device = tensors(net), torch.device("cpu")
    layout = FlatLayout.of(point, net, channels_last=channels_last)
    buffer = layout.flat(point, device, torch.float32)
    views = layout.views(buffer)
    assert all(torch.equal(views[name], value) for name, value in point.items())
    assert layout.flat(views, device, torch.float32).data_ptr() == buffer.data_ptr()
    double, other = (
        layout.flat(views, device, torch.float64),
        FlatLayout.of(point, net, channels_last=not channels_last),
    )
    assert all(torch.equal(view, point[name].double()) for name, view in layout.views(double).items())
    moved = other.flat(views, device, torch.float32)
    assert moved.data_ptr() != buffer.data_ptr()
    assert all(torch.equal(view, point[name]) for name, view in other.views(moved).items())


def test_samples_are_drawn_in_one_shuffled_order(networks, mini):
    net, plane, data = networks["mlp"], plane_of(networks["mlp"]), many(mini, 6)
    evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=16)
    order = evaluator.data["train"].order
    assert sorted(order.tolist()) == list(range(300))
    assert order.tolist() != list(range(300))
    for a, b in POINTS:
        evaluator.move_to(a, b)
        parts = [evaluator.draw_samples("train", start, stop) for start, stop in ((0, 96), (96, 160))]
        with moved(net, plane.point(a, b)), torch.no_grad():
            wanted = F.cross_entropy(net(data.inputs[order[:160]]), data.targets[order[:160]], reduction="none")
        np.testing.assert_allclose(np.concatenate([part.loss for part in parts]), wanted, rtol=1e-5, atol=1e-6)
