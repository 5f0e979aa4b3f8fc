"""What is fastest on this machine, found by short measurements: how many samples, and points, go into one call, and whether
batches go side by side.

    tune(evaluator, cells=2601)      # leaves the best in the evaluator's batch_size, lanes and points_per_call

They change the last digits of a surface, so the rank that plans measures them once, and they are recorded. On the CPU
batches go side by side unless a measurement says otherwise: threads that share a batch are as fast on an idle machine,
and several times slower on a busy one, which it may become after the measurement (benchmarks/busy.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from lossatlas.data.losses import alone as one_at_a_time
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.parallel_batches import default_parallel_batches
from lossatlas.evaluation.parameter_buffers import AffineBuffers
from lossatlas.landscape.statistics import STATISTICS

SHARE = 0.02  # of the time the surface will take may go into measuring, but not more than
LONGEST = 2.0  # seconds
BATCHES = {"cpu": (64, 32, 128, 256, 512, 1024), "cuda": (1024, 512, 2048, 4096, 8192)}  # the first is the default
POINTS, SIZES = (16, 64), (64, 256, 1024)  # points, and samples of each, in one call
MOMENT = 0.005  # seconds over which a short call is repeated
FASTER = 0.95  # of the best time so far; what gains less is noise
ROUNDS = 2  # times that it is measured again beside the best one, and has to be faster
SHARED = 0.8  # of the time side by side: what threads that share a batch have to be better than
AGREES = 1e-3  # relative difference of the losses
WORSE = 1.1  # times the best: larger ones will not do
WORTH = 0.9  # of a point's time alone: several points in one call have to gain this much


class Stopwatch:
    """Measures functions, until the seconds that may be spent are over."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.left = device, LONGEST

    def time(self, function: Callable[[], object]) -> float:
        """The shortest of a few runs, in seconds: two, or as many as fit into a few milliseconds."""
        taken: list[float] = []
        while len(taken) < 2 or (sum(taken) < MOMENT and len(taken) < 20):
            start = time.perf_counter()
            function()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.perf_counter() - start)
        self.left -= sum(taken)
        return min(taken)


@torch.no_grad()
def tune(
    evaluator: Evaluator, cells: int, *, many: bool = True, far: Sequence[tuple[float, float]] = ((1.0, 0.0),)
) -> float:
    """Leave the best batch_size, lanes and points_per_call for so many cells in the evaluator; seconds a cell will take.

    many: several points in one call may be tried; far: where, besides the origin, they have to give what single ones do.
    Small jobs get the defaults, because measuring would take longer than it saves.
    """
    watch = Stopwatch(evaluator.device)
    evaluator.batch_size = BATCHES[evaluator.device.type][0]
    evaluator.lanes = choose_parallel_batches(evaluator)
    samples = sum(len(samples) for samples in evaluator.data.values())
    point = samples * per_sample(evaluator, watch)
    watch.left = min(LONGEST, SHARE * cells * point)
    point = samples * choose_batch_size(evaluator, watch)
    if (
        many
        and evaluator.recalibrated is None
        and evaluator.tolerance.exact
        and isinstance(evaluator.place, AffineBuffers)
    ):
        point = choose_points_per_call(evaluator, watch, cells, point, far)
    evaluator.forget()
    return point + arriving(evaluator, watch)


@torch.no_grad()
def estimate_seconds_per_cell(evaluator: Evaluator) -> float:
    """Seconds that one point may take, from a few batches of the usual size."""
    if not evaluator.batch_size:
        evaluator.batch_size = BATCHES[evaluator.device.type][0]
    evaluator.lanes = choose_parallel_batches(evaluator)
    watch = Stopwatch(evaluator.device)
    found = per_sample(evaluator, watch)
    return found * sum(len(samples) for samples in evaluator.data.values()) + arriving(evaluator, watch)


@torch.no_grad()
def seconds_in_place(evaluator: Evaluator) -> float:
    """Seconds that one point may take where the network itself is moved, with going there and back."""
    watch, samples = Stopwatch(evaluator.device), sum(len(samples) for samples in evaluator.data.values())
    with evaluator.session():
        found = per_sample(evaluator, watch)
        return found * samples + watch.time(lambda: evaluator.arrive(0.0, 0.0))


def arriving(evaluator: Evaluator, watch: Stopwatch) -> float:
    """Seconds it takes to go to a point, where that counts: not on a plane whose directions lie on the device."""
    if isinstance(evaluator.place, AffineBuffers) and evaluator.recalibrated is None:
        return 0.0
    return watch.time(lambda: evaluator.arrive(0.0, 0.0))


def choose_parallel_batches(evaluator: Evaluator) -> int:
    """The usual lanes for an evaluator's batches, on the CPU."""
    samples = max(len(samples) for samples in evaluator.data.values())
    threads = torch.get_num_threads() if evaluator.device.type == "cpu" and not one_at_a_time(evaluator.loss) else 1
    return default_parallel_batches(-(-samples // evaluator.batch_size), threads)


def per_sample(evaluator: Evaluator, watch: Stopwatch) -> float:
    """Seconds a sample takes, over a few batches of evaluator.batch_size."""
    split, samples = next(iter(evaluator.data.items()))
    size = min(len(samples), evaluator.batch_size * max(torch.get_num_threads(), 128 // evaluator.batch_size, 1))
    return watch.time(lambda: evaluator.cover(split, 0, size)) / size


def choose_batch_size(evaluator: Evaluator, watch: Stopwatch) -> float:
    """Leaves the fastest batch size and lanes in the evaluator; returns its seconds per sample."""
    usual = evaluator.lanes
    best, cost = (evaluator.batch_size, usual), per_sample(evaluator, watch)
    longest = max(len(samples) for samples in evaluator.data.values())
    threads = torch.get_num_threads()
    ways = dict.fromkeys((usual, threads, 1) if evaluator.device.type == "cpu" else (1,))
    for lanes in ways:
        sizes = BATCHES[evaluator.device.type]
        for size in sizes[lanes == usual :]:  # the first one is measured already
            if watch.left < 2 * max(size * threads, 128) * cost or size * lanes >= 2 * longest:
                break
            evaluator.batch_size, evaluator.lanes = size, lanes
            if lanes > 1 and choose_parallel_batches(evaluator) != lanes:
                continue
            try:
                found = per_sample(evaluator, watch)
            except torch.cuda.OutOfMemoryError:
                break
            limit = SHARED if lanes < best[1] else FASTER
            if found < limit * cost:
                if faster_again(evaluator, watch, (size, lanes), best, limit):
                    best, cost = (size, lanes), found
            elif size > sizes[0] and found > WORSE * cost:
                break
    evaluator.batch_size, evaluator.lanes = best
    return cost


def faster_again(
    evaluator: Evaluator, watch: Stopwatch, rival: tuple[int, int], best: tuple[int, int], limit: float
) -> bool:
    """Whether one batch size and number of lanes is faster than another each time both are measured, one after the other.

    Where there is no time to find out, it is not.
    """
    for _ in range(ROUNDS):
        if watch.left < 0:
            return False
        times = []
        for evaluator.batch_size, evaluator.lanes in (best, rival):
            times.append(per_sample(evaluator, watch))
        if times[1] >= limit * times[0]:
            return False
    return True


def choose_points_per_call(
    evaluator: Evaluator, watch: Stopwatch, cells: int, alone: float, far: Sequence[tuple[float, float]]
) -> float:
    """Leaves in the evaluator how many points go into one call, and the batch size for that; seconds a point takes.

    alone: seconds that one point takes.
    """
    single = evaluator.batch_size
    if watch.left > 2 * alone:  # with what a point costs beside its samples
        alone = watch.time(lambda: evaluator.at(0.0, 0.0))
    best, cost = (single, 1), WORTH * alone
    for size, points in combinations(cells):
        if watch.left < 2 * points * min(alone, cost):
            continue
        evaluator.batch_size = size
        try:
            found = watch.time(lambda: evaluator.at_once([(0.0, 0.0)] * points)) / points  # noqa: B023
        except Exception:  # this network or its loss cannot be mapped over points, or they do not fit
            break
        if found < FASTER * cost:
            best, cost = (size, points), found
    evaluator.batch_size, evaluator.points_per_call = best
    if best[1] > 1 and not agrees(evaluator, [(0.0, 0.0), *far]):
        evaluator.batch_size, evaluator.points_per_call = single, 1
    return cost if evaluator.points_per_call > 1 else alone


def combinations(cells: int) -> Iterator[tuple[int, int]]:
    for points in POINTS:
        if points <= cells:
            yield from ((size, points) for size in SIZES)


def agrees(evaluator: Evaluator, points: Sequence[tuple[float, float]]) -> bool:
    """Whether several points in one call have the losses that single calls have, tiny ones and infinite ones too."""
    loss = STATISTICS.index("weight_loss")
    together = evaluator.at_once(points)[:, :, loss]
    alone = np.stack([evaluator.at(a, b)[:, loss] for a, b in points])
    return bool(np.allclose(together, alone, rtol=AGREES, atol=0, equal_nan=True))
