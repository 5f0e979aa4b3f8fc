"""Monte-Carlo Fisher matrices against gradients of drawn targets one by one, and in the mean the Fisher matrix."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn

import lossatlas
from lossatlas.data import LOSSES, Dataset
from lossatlas.data.dataset import FixedBatches
from lossatlas.data.drawn_targets import TargetDraws, draw_targets
from lossatlas.errors import BadUsage
from lossatlas.hessian import GaussNewton

N, CLASSES = 12, 3
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(0, CLASSES, (N,), generator=torch.Generator().manual_seed(1))
IGNORING = torch.where(torch.arange(N) % 4 == 0, -100, LABELS)
NUMBERS = torch.randn(N, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
TOKENS = torch.randint(0, 7, (N, 5), generator=torch.Generator().manual_seed(3))
PADDED = {"input_ids": TOKENS, "attention_mask": (torch.arange(5) < 3 + torch.arange(N)[:, None] % 3).long()}
IMAGES = X[:, :, None, None].expand(-1, -1, 3, 2).contiguous()
PIXELS = torch.randint(0, CLASSES, (N, 3, 2), generator=torch.Generator().manual_seed(4))


def classifier() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double())


def regression() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double())


def pixelwise() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv2d(4, 3, 1), nn.Tanh(), nn.Conv2d(3, CLASSES, 1)).double())


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 3), nn.Linear(3, 7)

    def forward(self, input_ids, attention_mask=None):
        return {"logits": self.out(torch.tanh(self.embed(input_ids).cumsum(1)))}


def decoder() -> nn.Module:
    return seeded(Decoder).double()


CASES = {
    "labels": (classifier, (X, LABELS), "crossentropy"),
    "ignored labels": (classifier, (X, IGNORING), "crossentropy"),
    "numbers": (regression, (X, NUMBERS), "mse"),
    "pixels": (pixelwise, (IMAGES, PIXELS), "crossentropy"),
    "tokens": (decoder, TOKENS, "next_token"),
    "padded tokens": (decoder, PADDED, "next_token"),
}


def dense(operator) -> np.ndarray:
    return torch.stack([operator(unit) for unit in torch.eye(operator.size, dtype=operator.dtype)]).numpy()


def operator_of(case: str, matrix: str = "mc_fisher", count: int = 1, seed: int = 0, **more) -> GaussNewton:
    make, samples, loss = CASES[case]
    draws = TargetDraws(count, seed)
    return GaussNewton(
        make(), Dataset("it", "train", samples, CLASSES), LOSSES[loss], matrix=matrix, draws=draws, **more
    )


def sum_of_outer_products(net: nn.Module, losses: torch.Tensor) -> torch.Tensor:
    """Of the gradients of losses, one by one."""
    rows = []
    for each in losses.flatten():
        found = torch.autograd.grad(each, list(net.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in found]))
    stacked = torch.stack(rows)
    return stacked.T @ stacked


def one_by_one(case: str, count: int, seed: int) -> np.ndarray:
    """The matrix by its definition, from the targets that are drawn, without any code of the operator."""
    make, samples, name = CASES[case]
    net, total, weight = make().requires_grad_(True), 0.0, 0
    for draw in range(count):
        uniform = partial(TargetDraws(count, seed).uniform, range(N), draw)
        batch = draw_targets(LOSSES[name], net, samples, uniform).batch
        if name == "mse":
            total = total + sum_of_outer_products(net, F.mse_loss(net(X), batch[1], reduction="none").mean(1))
            weight += N
            continue
        if name == "next_token":
            logits, targets = net(batch["input_ids"])["logits"][:, :-1], batch["labels"][:, 1:]
            logits = logits.flatten(0, 1)
        else:
            logits, targets = net(batch[0]), batch[1]
            logits = logits.movedim(1, -1).reshape(-1, CLASSES)
        targets = targets.flatten()
        counted = targets != -100
        losses = F.cross_entropy(logits[counted], targets[counted], reduction="none")
        total, weight = total + sum_of_outer_products(net, losses), weight + int(counted.sum())
    return (total / weight).numpy()


@pytest.mark.parametrize("batch_size", [5, 12])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_mean_of_outer_products_of_gradients_of_drawn_targets(case, batch_size):
    found = dense(operator_of(case, count=2, seed=7, batch_size=batch_size))
    np.testing.assert_allclose(found, one_by_one(case, 2, 7), rtol=1e-8, atol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "case", [pytest.param(each, marks=[pytest.mark.full] * (each == "padded tokens")) for each in CASES]
)
def test_over_many_draws_it_is_the_fisher_matrix(case):
    expected = dense(operator_of(case, "fisher"))
    found = [dense(operator_of(case, count=100, seed=seed)) for seed in range(8)]
    errors = np.std(found, axis=0, ddof=1) / len(found) ** 0.5
    off = np.abs(np.mean(found, axis=0) - expected) / np.maximum(errors, 1e-3 * np.abs(expected).max())
    assert np.mean(off > 3) < 0.03  # Student's t of seven degrees: 0.02
    assert off.max() < 12


def test_a_seed_decides_and_a_count_is_a_mean():
    first, again, other = (dense(operator_of("labels", seed=seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert np.abs(first - other).max() > 1e-3


def test_the_numbers_of_a_sample_do_not_depend_on_its_batch_or_rank():
    whole = TargetDraws(2, 5).uniform(range(10), 1, 3)
    parts = [TargetDraws(2, 5, first).uniform(range(4, 7), 1, 3) for first in (0, 3)]
    assert torch.equal(whole[4:7], parts[0])
    assert torch.equal(whole[7:10], parts[1])
    flat = TargetDraws(1, 0).uniform(range(4000), 0, 1)[:, 0]
    assert flat.min() > 0
    assert flat.max() < 1
    assert abs(float(flat.mean()) - 0.5) < 4 * 12**-0.5 / 4000**0.5
    assert abs(float(torch.corrcoef(torch.stack([flat[1:], flat[:-1]]))[0, 1])) < 4 / 4000**0.5


def test_batches_of_different_lengths():
    batches = FixedBatches("it", "train", [TOKENS[:5], TOKENS[5:, :4]], CLASSES)
    draws = TargetDraws(1, 3)
    found = GaussNewton(decoder(), batches, LOSSES["next_token"], matrix="mc_fisher", draws=draws)
    rest = TargetDraws(1, 3, 5)
    parts = [
        GaussNewton(
            decoder(), Dataset("it", "train", some, CLASSES), LOSSES["next_token"], matrix="mc_fisher", draws=own
        )
        for some, own in ((TOKENS[:5], draws), (TOKENS[5:, :4], rest))
    ]
    weights = [5 * 4, 7 * 3]
    expected = sum(w * dense(part) for w, part in zip(weights, parts, strict=True)) / sum(weights)
    np.testing.assert_allclose(dense(found), expected, rtol=1e-9, atol=1e-13)


def test_the_python_function():
    found = lossatlas.spectrum(
        classifier(), (X, LABELS), matrix="mc_fisher", fisher_draws=3, seed=5, top=2, progress=False
    )
    values = np.linalg.eigvalsh(dense(operator_of("labels", count=3, seed=5)))[::-1]
    np.testing.assert_allclose(found.eigenvalues, values[:2], rtol=1e-5)
    assert "Monte-Carlo Fisher matrix" in found.table()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matrix": "ggn", "fisher_draws": 2}, "fisher_draws=2 is for matrix='mc_fisher'"),
        ({"matrix": "mc_fisher", "fisher_draws": 0}, "fisher_draws"),
        (
            {"matrix": "mc_fisher", "loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
            "needs the distribution of the targets",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(BadUsage, match=message):
        lossatlas.spectrum(classifier(), (X, LABELS), progress=False, **settings)
