"""The fastest batch size, number of parallel batches and number of points in one call, found by short measurements.

These settings change the last digits of a surface, so the rank that makes the execution plan measures them once, and
they are recorded. On the CPU, batches are evaluated in parallel unless a measurement is clearly against it: threads
that share a batch are as fast on an idle machine, and several times slower on a busy one, which it may become after the
measurement (benchmarks/busy.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from lossatlas.data.losses import is_single_threaded
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.parallel_batches import default_parallel_batches
from lossatlas.evaluation.parameter_buffers import AffineBuffers
from lossatlas.landscape.grid import Coordinates
from lossatlas.landscape.statistics import STATISTICS

TUNING_SHARE = 0.02  # of the time of the surface that may be spent on measurements, but not more than
MAX_SECONDS = 2.0
BATCH_SIZES = {"cpu": (64, 32, 128, 256, 512, 1024), "cuda": (1024, 512, 2048, 4096, 8192)}  # the first is the default
STACKED_POINTS, STACKED_BATCH_SIZES = (16, 64), (64, 256, 1024)  # points in one call, and samples of each
MIN_TIMED_SECONDS = 0.005  # over which a short call is repeated
FASTER = 0.95  # of the best time so far: smaller gains are noise
ROUNDS = 2  # measurements against the best setting, each of which has to be faster
SEQUENTIAL_FASTER = 0.8  # of the time of parallel batches, which threads that share a batch have to stay below
AGREEMENT = 1e-3  # relative difference of losses
HOPELESS = 1.1  # of the best time: larger batches are not tried any more
STACKED_FASTER = 0.9  # of the time of a single point, which several points in one call have to stay below


class Stopwatch:
    """Timer of functions with a budget of seconds.

    Args:
        device: The device to synchronize with before time is read.

    Attributes:
        left: Seconds that may still be spent; negative when they are used up.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.left = device, MAX_SECONDS

    def time(self, function: Callable[[], object]) -> float:
        """Return the shortest time of a few calls, in seconds: two calls, or as many as fit into MIN_TIMED_SECONDS."""
        taken: list[float] = []
        while len(taken) < 2 or (sum(taken) < MIN_TIMED_SECONDS and len(taken) < 20):
            start = time.perf_counter()
            function()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.perf_counter() - start)
        self.left -= sum(taken)
        return min(taken)


@torch.no_grad()
def tune(
    evaluator: Evaluator,
    cells: int,
    *,
    stacked: bool = True,
    check_points: Sequence[Coordinates] = ((1.0, 0.0),),
) -> float:
    """Set the fastest batch_size, parallel_batches and points_per_call of an evaluator.

    Small jobs get the defaults, because measuring would take longer than it saves.

    Args:
        evaluator: The evaluator; the three attributes are assigned.
        cells: Points that are to be evaluated.
        stacked: Several points in one call may be tried.
        check_points: Points besides the origin at which stacked evaluation has to agree with single points.

    Returns:
        Seconds that one point will take.
    """
    stopwatch = Stopwatch(evaluator.device)
    evaluator.batch_size = BATCH_SIZES[evaluator.device.type][0]
    evaluator.parallel_batches = choose_parallel_batches(evaluator)
    samples = sum(len(samples) for samples in evaluator.data.values())
    point = samples * seconds_per_sample(evaluator, stopwatch)
    stopwatch.left = min(MAX_SECONDS, TUNING_SHARE * cells * point)
    point = samples * choose_batch_size(evaluator, stopwatch)
    if (
        stacked
        and evaluator.recalibrator is None
        and evaluator.tolerance.exact
        and isinstance(evaluator.buffers, AffineBuffers)
    ):
        point = choose_points_per_call(evaluator, stopwatch, cells, point, check_points)
    evaluator.clear_cache()
    return point + seconds_to_move(evaluator, stopwatch)


@torch.no_grad()
def estimate_seconds_per_cell(evaluator: Evaluator) -> float:
    """Estimate the seconds that one point takes, from a few batches of the default size.

    Args:
        evaluator: The evaluator. Its number of parallel batches is set to the default, and a missing batch size as
            well.
    """
    if not evaluator.batch_size:
        evaluator.batch_size = BATCH_SIZES[evaluator.device.type][0]
    evaluator.parallel_batches = choose_parallel_batches(evaluator)
    stopwatch = Stopwatch(evaluator.device)
    seconds = seconds_per_sample(evaluator, stopwatch)
    return seconds * sum(len(samples) for samples in evaluator.data.values()) + seconds_to_move(evaluator, stopwatch)


@torch.no_grad()
def seconds_in_place(evaluator: Evaluator) -> float:
    """Estimate the seconds that one point takes where the network itself is moved, including the move."""
    stopwatch, samples = Stopwatch(evaluator.device), sum(len(samples) for samples in evaluator.data.values())
    with evaluator.session():
        seconds = seconds_per_sample(evaluator, stopwatch)
        return seconds * samples + stopwatch.time(lambda: evaluator.move_to(0.0, 0.0))


def seconds_to_move(evaluator: Evaluator, stopwatch: Stopwatch) -> float:
    """Measure the seconds of a move to a point; zero where directions lie on the device and a move is negligible."""
    if isinstance(evaluator.buffers, AffineBuffers) and evaluator.recalibrator is None:
        return 0.0
    return stopwatch.time(lambda: evaluator.move_to(0.0, 0.0))


def choose_parallel_batches(evaluator: Evaluator) -> int:
    """Return the default number of parallel batches: one per thread on the CPU if there are enough batches."""
    samples = max(len(samples) for samples in evaluator.data.values())
    threads = (
        torch.get_num_threads() if evaluator.device.type == "cpu" and not is_single_threaded(evaluator.loss) else 1
    )
    return default_parallel_batches(-(-samples // evaluator.batch_size), threads)


def seconds_per_sample(evaluator: Evaluator, stopwatch: Stopwatch) -> float:
    """Measure the seconds that a sample takes, over a few batches of the current size."""
    split, samples = next(iter(evaluator.data.items()))
    size = min(len(samples), evaluator.batch_size * max(torch.get_num_threads(), 128 // evaluator.batch_size, 1))
    return stopwatch.time(lambda: evaluator.accumulate(split, 0, size)) / size


def choose_batch_size(evaluator: Evaluator, stopwatch: Stopwatch) -> float:
    """Set the fastest batch size and number of parallel batches; return the seconds per sample."""
    usual = evaluator.parallel_batches
    best, cost = (evaluator.batch_size, usual), seconds_per_sample(evaluator, stopwatch)
    longest = max(len(samples) for samples in evaluator.data.values())
    threads = torch.get_num_threads()
    candidates = dict.fromkeys((usual, threads, 1) if evaluator.device.type == "cpu" else (1,))
    for parallel_batches in candidates:
        sizes = BATCH_SIZES[evaluator.device.type]
        for size in sizes[parallel_batches == usual :]:  # the default has been measured
            if stopwatch.left < 2 * max(size * threads, 128) * cost or size * parallel_batches >= 2 * longest:
                break
            evaluator.batch_size, evaluator.parallel_batches = size, parallel_batches
            if parallel_batches > 1 and choose_parallel_batches(evaluator) != parallel_batches:
                continue
            try:
                seconds = seconds_per_sample(evaluator, stopwatch)
            except torch.cuda.OutOfMemoryError:
                break
            limit = SEQUENTIAL_FASTER if parallel_batches < best[1] else FASTER
            if seconds < limit * cost:
                if is_confirmed_faster(evaluator, stopwatch, (size, parallel_batches), best, limit):
                    best, cost = (size, parallel_batches), seconds
            elif size > sizes[0] and seconds > HOPELESS * cost:
                break
    evaluator.batch_size, evaluator.parallel_batches = best
    return cost


def is_confirmed_faster(
    evaluator: Evaluator, stopwatch: Stopwatch, rival: tuple[int, int], best: tuple[int, int], limit: float
) -> bool:
    """Measure two settings (batch size, parallel batches) in turn, and return whether the first is faster every time.

    Args:
        evaluator: The evaluator, whose settings are overwritten.
        stopwatch: Its budget; when it is used up, nothing is confirmed.
        rival: The setting that has to be faster.
        best: The fastest setting so far.
        limit: The share of the time of `best` that `rival` has to stay below.
    """
    for _ in range(ROUNDS):
        if stopwatch.left < 0:
            return False
        times = []
        for evaluator.batch_size, evaluator.parallel_batches in (best, rival):
            times.append(seconds_per_sample(evaluator, stopwatch))
        if times[1] >= limit * times[0]:
            return False
    return True


def choose_points_per_call(
    evaluator: Evaluator, stopwatch: Stopwatch, cells: int, single: float, check_points: Sequence[Coordinates]
) -> float:
    """Set the fastest number of points in one call, and the batch size for it; return the seconds per point.

    Args:
        evaluator: The evaluator.
        stopwatch: The budget.
        cells: Points that are to be evaluated.
        single: Seconds of one point in a call of its own.
        check_points: Points besides the origin at which both have to agree.
    """
    batch_size = evaluator.batch_size
    if stopwatch.left > 2 * single:
        # the estimate from batches leaves out the move
        single = stopwatch.time(lambda: evaluator.evaluate_point(0.0, 0.0))
    best, cost = (batch_size, 1), STACKED_FASTER * single
    for size, points in stacked_shapes(cells):
        if stopwatch.left < 2 * points * min(single, cost):
            continue
        evaluator.batch_size = size
        try:
            seconds = stopwatch.time(lambda: evaluator.evaluate_stacked([(0.0, 0.0)] * points)) / points  # noqa: B023
        except Exception:  # this network or its loss cannot be mapped over points, or they do not fit
            break
        if seconds < FASTER * cost:
            best, cost = (size, points), seconds
    evaluator.batch_size, evaluator.points_per_call = best
    if best[1] > 1 and not matches_single_points(evaluator, [(0.0,) * len(check_points[0]), *check_points]):
        evaluator.batch_size, evaluator.points_per_call = batch_size, 1
    return cost if evaluator.points_per_call > 1 else single


def stacked_shapes(cells: int) -> Iterator[tuple[int, int]]:
    """Yield the candidates (batch size, points in one call)."""
    for points in STACKED_POINTS:
        if points <= cells:
            yield from ((size, points) for size in STACKED_BATCH_SIZES)


def matches_single_points(evaluator: Evaluator, points: Sequence[Coordinates]) -> bool:
    """Return whether stacked points have the losses of single calls, also where these are tiny or infinite."""
    loss = STATISTICS.index("weight_loss")
    together = evaluator.evaluate_stacked(points)[:, :, loss]
    single = np.stack([evaluator.evaluate_point(*at)[:, loss] for at in points])
    return bool(np.allclose(together, single, rtol=AGREEMENT, atol=0, equal_nan=True))
