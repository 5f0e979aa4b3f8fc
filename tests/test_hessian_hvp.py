"""Products with the Hessian against finite differences in float64 and against the explicit Hessian."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import ConvNet, TiedNet, seeded
from oracles import explicit_hessian, mean_cross_entropy
from torch import Tensor, nn

from lossatlas.data import LOSSES, Dataset
from lossatlas.errors import BadInput, BadUsage
from lossatlas.hessian import Hessian, check_deterministic, lanczos

N = 12


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.LayerNorm(8)
        self.qkv, self.rms, self.last = nn.Linear(8, 24), nn.RMSNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.first(x.view(len(x), 3, 4))))
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        return self.last(self.rms(h + F.scaled_dot_product_attention(q, k, v)).mean(1))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(12, 3), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.used(x))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3))


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 6), nn.LayerNorm(6), nn.Tanh(), nn.RMSNorm(6), nn.Linear(6, 3))


def sample(shape=(12,), classes=3, n=N) -> Dataset:
    g = torch.Generator().manual_seed(3)
    return Dataset(
        "noise",
        "train",
        (torch.randn(n, *shape, generator=g, dtype=torch.float64), torch.randint(0, classes, (n,), generator=g)),
        classes,
    )


CASES = {
    "mlp": (mlp, sample()),
    "conv and BatchNorm": (ConvNet, sample((1, 8, 8), 10)),
    "LayerNorm and RMSNorm": (layer_norm, sample()),
    "attention": (Attention, sample()),
    "tied": (TiedNet, sample((1, 28, 28), 10)),
    "unused": (Unused, sample()),
}


@pytest.mark.parametrize("loss", ["crossentropy", "mse"])
@pytest.mark.parametrize("case", list(CASES))
def test_against_finite_differences(case, loss):
    make, data = CASES[case]
    net = seeded(make).double()
    operator = Hessian(net, data, LOSSES[loss], batch_size=5)
    v = torch.randn(operator.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, gradients, step = operator(v), [], 1e-5
    for sign in (2, 1, -1, -2):
        moved = Hessian(net, data, LOSSES[loss], batch_size=5)
        with torch.no_grad():
            for p, piece in zip(moved.parameters, moved.unflatten(v), strict=True):
                p += sign * step * piece / v.norm()
        gradients.append(moved.gradient()[1])
    two, one, minus_one, minus_two = gradients
    expected = (8 * (one - minus_one) - (two - minus_two)) / (12 * step) * v.norm()
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.few(1)
@pytest.mark.parametrize("case", ["mlp", "LayerNorm and RMSNorm", "attention", "unused"])
def test_against_the_explicit_hessian(case):
    make, data = CASES[case]
    net = seeded(make).double()
    operator = Hessian(net, data, LOSSES["crossentropy"], batch_size=5)
    explicit = explicit_hessian(net, mean_cross_entropy(data.inputs, data.targets), operator.names)
    found = torch.stack([operator(row) for row in torch.eye(operator.size, dtype=torch.float64)])
    torch.testing.assert_close(found, explicit, rtol=1e-8, atol=1e-12)
    values = torch.linalg.eigvalsh(explicit)
    pairs = lanczos(operator, top=2, bottom=1, tolerance=1e-8)
    torch.testing.assert_close(torch.from_numpy(pairs.values), values[[-1, -2, 0]], rtol=1e-6, atol=1e-10)


def test_batches_weights_and_a_term_of_the_parameters():
    make, data = CASES["mlp"]
    net = seeded(make).double()

    def weighted(model, batch):
        losses = LOSSES["crossentropy"](model, batch)
        return replace(losses, weights=1.0 + batch[1], penalty=0.1 * sum((p**2).sum() for p in model.parameters()))

    one, many = (Hessian(net, data, weighted, batch_size=size) for size in (100, 5))
    v = torch.randn(one.size, dtype=torch.float64)
    torch.testing.assert_close(one(v), many(v))
    plain = replace_weights(net, data)
    torch.testing.assert_close(one(v), plain(v) + 0.2 * v)


def replace_weights(net, data):
    def weighted(model, batch):
        return replace(LOSSES["crossentropy"](model, batch), weights=1.0 + batch[1])

    return Hessian(net, data, weighted)


@pytest.mark.few(3)
@pytest.mark.parametrize("folded", [None, False], ids=["folded where possible", "not folded"])
@pytest.mark.parametrize("case", list(CASES))
def test_batches_side_by_side_have_the_digits_of_batches_in_turn(case, folded):
    """Thread by thread: whatever threads share, such as modules, mixes up batches that are computed at once."""
    make, data = CASES[case]
    data = data.take(torch.arange(20 * len(data)) % len(data))
    net = seeded(make)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each worker has
    try:
        one, three = (
            Hessian(net, data, LOSSES["crossentropy"], folded=folded, batch_size=3, parallel_batches=count)
            for count in (1, 3)
        )
        v = torch.randn(one.size, generator=torch.Generator().manual_seed(1))
        assert three.folded == (folded is None and "BatchNorm" in case)
        for _ in range(3):
            assert torch.equal(one(v), three(v))
        assert torch.equal(one.gradient()[1], three.gradient()[1])
        names = one.names[:1]
        assert torch.equal(one(v[: one.shapes[0].numel()], names), three(v[: one.shapes[0].numel()], names))
    finally:
        torch.set_num_threads(threads)


def test_ranks_that_share_the_data_give_the_sum():
    make, data = CASES["conv and BatchNorm"]
    net = seeded(make).double()

    def penalized(model, batch):
        return replace(LOSSES["mse"](model, batch), penalty=sum((p**2).sum() for p in model.parameters()))

    parts = [data.take(slice(k, None, 3)) for k in range(3)]
    totals = []  # of each rank, whose sum an all-reduce gives

    def summed(weight):
        totals.append(weight)
        return torch.full_like(weight, N)

    alone = [Hessian(net, part, penalized, reduce_setup=summed) for part in parts]
    assert [operator.total_weight for operator in alone] == [N] * 3
    v = torch.randn(alone[0].size, dtype=torch.float64)
    torch.testing.assert_close(sum(operator(v) for operator in alone), Hessian(net, data, penalized)(v))
    assert sum(float(t[0]) for t in totals) == N


def test_parameters_are_chosen_by_name_or_by_axes():
    make, data = CASES["mlp"]
    net = seeded(make).double()
    whole = Hessian(net, data, LOSSES["crossentropy"])
    block = Hessian(net, data, LOSSES["crossentropy"], parameters=["^2[.]"])
    assert block.names == ["2.weight", "2.bias"]
    v = torch.randn(block.size, dtype=torch.float64)
    padded = torch.cat([torch.zeros(whole.size - block.size, dtype=torch.float64), v])
    torch.testing.assert_close(block(v), whole(padded)[-block.size :])
    assert Hessian(net, data, LOSSES["crossentropy"], matrices_only=True).names == ["0.weight", "2.weight"]
    with pytest.raises(BadUsage, match=r"no parameter is called like nothing: there are 0\.weight"):
        Hessian(net, data, LOSSES["crossentropy"], parameters=["nothing"])


def test_tied_weights_count_once_and_the_network_is_not_touched():
    make, data = CASES["tied"]
    net = seeded(make).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    operator = Hessian(net, data, LOSSES["crossentropy"])
    assert operator.size == sum(p.numel() for p in net.parameters())
    operator(torch.ones(operator.size))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(p.requires_grad for p in net.parameters())


def test_a_random_network_is_refused():
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.linear(x + torch.randn_like(x)))

    data = CASES["mlp"][1]
    with pytest.raises(BadInput, match="differ by"):
        check_deterministic(Hessian(seeded(Noisy).double(), data, LOSSES["mse"]))
    check_deterministic(Hessian(seeded(mlp).double(), data, LOSSES["mse"]))


@pytest.mark.parametrize("case", ["mlp", "conv and BatchNorm", "attention"])
def test_against_curvlinops(case):
    """LayerNorm is left out: its derivatives by jvp(jacrev), which curvlinops takes, are wrong in torch 2.13."""
    from curvlinops import HessianLinearOperator

    make, data = CASES[case]
    if case == "attention":
        make = Plain
    net = seeded(make).double().requires_grad_(True)
    theirs = HessianLinearOperator(net, nn.CrossEntropyLoss(), list(net.parameters()), [(data.inputs, data.targets)])
    ours = Hessian(net, data, LOSSES["crossentropy"], batch_size=5)
    v = torch.randn(ours.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(ours(v), theirs @ v, rtol=1e-7, atol=1e-10)


class Plain(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rms = nn.Identity(), nn.Identity()


def test_the_folded_way_is_taken_where_it_is_right():
    net, data = seeded(ConvNet).double(), CASES["conv and BatchNorm"][1]
    folded, not_folded = (Hessian(net, data, LOSSES["crossentropy"], folded=way, batch_size=5) for way in (None, False))
    assert folded.folded
    assert not not_folded.folded
    v = torch.randn(folded.size, dtype=torch.float64)
    torch.testing.assert_close(folded(v), not_folded(v), rtol=1e-9, atol=1e-12)
    names = ["bn.weight", "linear.weight"]
    some = torch.randn(6 + 60, dtype=torch.float64)
    torch.testing.assert_close(folded(some, names), not_folded(some, names), rtol=1e-9, atol=1e-12)

    def with_penalty(model, batch):
        return replace(LOSSES["crossentropy"](model, batch), penalty=sum((p**2).sum() for p in model.parameters()))

    assert not Hessian(net, data, with_penalty).folded
    with pytest.raises(BadUsage, match="only a folded network can be compiled"):
        Hessian(seeded(mlp), CASES["mlp"][1], LOSSES["mse"], compiled=True)


def test_a_block_is_a_block_of_the_whole():
    make, data = CASES["mlp"]
    operator = Hessian(seeded(make).double(), data, LOSSES["crossentropy"])
    names = operator.names[2:]
    size = sum(shape.numel() for shape in operator.shapes[2:])
    v = torch.randn(size, dtype=torch.float64)
    whole = operator(torch.cat([torch.zeros(operator.size - size, dtype=torch.float64), v]))
    torch.testing.assert_close(operator(v, names), whole[-size:])


@pytest.mark.full
def test_the_compiled_way_gives_the_same_product():
    net, data = seeded(ConvNet), CASES["conv and BatchNorm"][1]
    eager, compiled = (Hessian(net, data, LOSSES["crossentropy"], batch_size=6, compiled=way) for way in (False, True))
    v = torch.randn(eager.size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compiled(v), eager(v), rtol=1e-4, atol=1e-5)


def test_a_hessian_that_is_not_finite_is_refused():
    net = seeded(mlp).double()
    net[0].weight[0, 0] = torch.nan
    with pytest.raises(BadInput, match="not finite"):
        check_deterministic(Hessian(net, CASES["mlp"][1], LOSSES["crossentropy"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", list(CASES))
def test_products_on_a_device_are_those_of_the_cpu(case):
    make, data = CASES[case]
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        net = seeded(make).to(dtype)
        cpu, cuda = (Hessian(net, data, LOSSES["crossentropy"], device=device) for device in ("cpu", "cuda"))
        v = torch.randn(cpu.size, generator=torch.Generator().manual_seed(0), dtype=dtype)
        error = (cuda(v).cpu() - cpu(v)).norm() / cpu(v).norm()
        assert error <= tolerance
        found, expected = (lanczos(operator, top=2, bottom=1, tolerance=1e-4) for operator in (cuda, cpu))
        assert abs(found.values - expected.values).max() <= 1e-3 * expected.values[0]
