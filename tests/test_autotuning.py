"""Measurements that choose batch size and points per call, on a clock that the tests set."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_evaluation import plane_of

from lossatlas.data import LOSSES
from lossatlas.evaluation import Evaluator, autotuning


class Clock:
    """Advances as the evaluator works: a price for each call and for each sample, by batch size."""

    def __init__(self, monkeypatch, price):
        self.now, self.price = 0.0, price
        monkeypatch.setattr(autotuning, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def spend(self, evaluator, samples, points=1):
        self.now += self.price(evaluator.batch_size, samples, points)


@pytest.fixture
def evaluator(networks, mini):
    many = type(mini)("many", "train", (mini.inputs.repeat(60, 1, 1, 1), mini.targets.repeat(60)), 10)
    return Evaluator(networks["mlp"], plane_of(networks["mlp"]), {"train": many}, LOSSES["mse"])


def run(evaluator, monkeypatch, price, cells=1000, **options):
    clock = Clock(monkeypatch, price)
    whole = evaluator.accumulate

    def accumulate(split, start, stop):
        clock.spend(evaluator, min(stop, 3000) - start)
        return whole(split, start, stop)

    monkeypatch.setattr(evaluator, "accumulate", accumulate)
    real = evaluator.evaluate_stacked

    def evaluate_stacked(points):
        clock.spend(evaluator, 3000, len(points))
        return real(points) if len(points) == 2 else None

    monkeypatch.setattr(evaluator, "evaluate_stacked", evaluate_stacked)
    return autotuning.tune(evaluator, cells, **options), clock.now


@pytest.mark.parametrize("best", [32, 64, 128, 512])
def test_the_fastest_batch_size_is_found(evaluator, monkeypatch, best):
    def price(batch, samples, points):
        return samples * points * 1e-5 * (1 + abs(np.log2(batch / best)) / 4)

    seconds, spent = run(evaluator, monkeypatch, price)
    assert evaluator.batch_size == best
    assert evaluator.points_per_call == 1
    assert seconds == pytest.approx(3000 * 1e-5)
    assert spent <= 2 * autotuning.MAX_SECONDS


def test_noise_does_not_choose_a_batch_size(evaluator, monkeypatch):
    """All of them are equally fast; a clock that is a tenth off, now and then more, says otherwise."""
    noise = np.random.default_rng(0)

    def price(batch, samples, points):
        return samples * points * 1e-5 * np.exp(abs(noise.normal(0, 0.1)))

    chosen = []
    for _ in range(30):
        run(evaluator, monkeypatch, price)
        chosen.append(evaluator.batch_size)
    assert chosen.count(64) >= 27


def test_several_points_go_into_one_call_where_calls_are_dear(evaluator, monkeypatch):
    def price(batch, samples, points):
        return 1e-4 * np.ceil(samples / batch) + 1e-9 * samples * points

    run(evaluator, monkeypatch, price, cells=100_000)
    assert evaluator.points_per_call == 64
    assert evaluator.batch_size == 1024


def test_a_small_job_is_not_measured(evaluator, monkeypatch):
    def price(batch, samples, points):
        return samples * points * 1e-5 * 64 / batch

    run(evaluator, monkeypatch, price, cells=1)
    assert (evaluator.batch_size, evaluator.points_per_call) == (64, 1)


def test_points_that_cannot_be_mapped_go_one_by_one(networks, mini, monkeypatch):
    def stubborn(model, batch):
        losses = LOSSES["mse"](model, batch)
        if losses.per_sample.sum().item() < 0:  # a value on the host, which no mapped function has
            raise AssertionError
        return losses

    evaluator = Evaluator(networks["mlp"], plane_of(networks["mlp"]), {"train": mini}, stubborn)
    monkeypatch.setattr(autotuning, "TUNING_SHARE", 1e9)
    autotuning.tune(evaluator, 1000)
    assert evaluator.points_per_call == 1
    assert torch.isfinite(torch.tensor(evaluator([(0.1, 0.2)]))).all()


def test_batches_are_parallel_where_more_threads_do_not_speed_up_one(networks, mini, monkeypatch):
    many = type(mini)("many", "train", (mini.inputs.repeat(60, 1, 1, 1), mini.targets.repeat(60)), 10)
    evaluator = Evaluator(networks["conv"], plane_of(networks["conv"]), {"train": many}, LOSSES["mse"], folded=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    run(
        evaluator,
        monkeypatch,
        lambda batch, samples, points: 1e-6 * samples * points / evaluator.parallel_batches**0.5,
        cells=10_000,
    )
    assert evaluator.parallel_batches == 4
    evaluator.parallel_batches = 1
    run(
        evaluator,
        monkeypatch,
        lambda batch, samples, points: 1e-6 * samples * points * evaluator.parallel_batches**0.5,
        cells=10_000,
    )
    assert evaluator.parallel_batches == 1
