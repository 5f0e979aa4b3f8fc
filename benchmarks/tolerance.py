"""What `--tolerance 0.02,0.05` saves, and whether the errors it states are true.

    python benchmarks/tolerance.py --losses sample_losses.npz

Full Fashion-MNIST, ResNet-56 with and without shortcuts, 9 x 9 cells. The speed is that of a real run over every cell
against the time of all 60,000 images, measured at two cells of each network and extrapolated. The coverage replays
the losses that `sample_losses.py` saved of six networks, in 200 random orders for each point and in five bands of loss,
and three synthetic populations with heavy tails; errors of points of one network move together, because all share one
order.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from baselines import result
from sample_losses import NETWORKS, SAMPLES, bundled

from dataloader import load
from lossatlas.data import LOSSES
from lossatlas.errors import BadInput
from lossatlas.evaluation import Evaluator, tune
from lossatlas.landscape import STATISTICS, Grid, Tolerance
from lossatlas.landscape.statistics import LEAST_SE, summarize

TOLERANCE, SHUFFLES, BATCH, FULL_CELLS = Tolerance(0.02, 0.05), 200, 64, (0, 40)
GRID = Grid.parse("-1:1:9", "-1:1:9")


def speed() -> None:
    data = load("fashion_mnist", "train")
    spent = {"tolerance": 0.0, "all": 0.0}
    for name in ("resnet56", "resnet56_noshort"):
        net, plane = bundled(name)
        evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], folded=True)
        tune(evaluator, 81)
        for cell in FULL_CELLS:
            start = time.perf_counter()
            evaluator([GRID.point(cell)])
            spent["all"] += (time.perf_counter() - start) * GRID.size / len(FULL_CELLS)
        evaluator.tolerance = TOLERANCE
        start = time.perf_counter()
        rows = evaluator([GRID.point(cell) for cell in range(GRID.size)])
        spent["tolerance"] += time.perf_counter() - start
        used = rows[:, 0, 0].mean()
        print(
            f"  {name}: {used:.0f} of {len(data)} samples a cell, {rows[:, 0, 0].min():.0f} to {rows[:, 0, 0].max():.0f}"
        )
    value = spent["all"] / spent["tolerance"]
    print(
        f"  tolerance {spent['tolerance']:.0f} s, all data {spent['all']:.0f} s (from {len(FULL_CELLS)} cells of each network)"
    )
    result(
        "--tolerance 0.02,0.05 against all of Fashion-MNIST, two networks, 9×9 (all data extrapolated from 4 cells)",
        "≥ 8×",
        f"{value:.0f}×",
        value >= 8,
    )


def moments(losses: np.ndarray) -> np.ndarray:
    """Sums over the first 0, 1, 2, ... samples of the first four powers: (4, n + 1)."""
    powers = np.stack([losses, losses**2, losses**3, losses**4])
    return np.concatenate([np.zeros((4, 1)), np.cumsum(powers, axis=1)], axis=1)


def replay(losses: np.ndarray, tolerance: Tolerance) -> tuple[float, float, int]:
    """Loss, standard error and number of samples of a cell whose samples come in this order."""
    sums, population, row = moments(losses), len(losses), np.zeros(len(STATISTICS))
    while (wanted := tolerance.samples(row, population)) > row[0]:
        n = min(-(-wanted // BATCH) * BATCH, population)
        first, second, third, fourth = sums[:, n]
        row = np.array([n, n, first, second, n, first, second, n, first, second, third, fourth, 0, 0, 0])
    row[LEAST_SE] = tolerance.least_se(row, population)
    found = summarize(dict(zip(STATISTICS, row[:, None], strict=True)), population)
    return float(found["loss"][0]), float(found["loss_se"][0]), int(row[0])


def covered(losses: np.ndarray, orders: list[np.ndarray], tolerance: Tolerance) -> tuple[float, float]:
    """The share of orders in which the true mean is within two stated errors, and the samples used on average."""
    losses = losses.astype(np.float64)
    mean, within, used = losses.mean(), [], []
    for order in orders:
        loss, error, n = replay(losses[order], tolerance)
        within.append(abs(loss - mean) <= 2 * error + 1e-12 * abs(mean))
        used.append(n)
    return float(np.mean(within)), float(np.mean(used))


def coverage(file: Path, tolerance: Tolerance) -> None:
    saved, generator = np.load(file), np.random.default_rng(0)
    orders = [generator.permutation(SAMPLES) for _ in range(SHUFFLES)]
    what = f"--tolerance {tolerance.relative:g},{tolerance.absolute:g}"
    for name in NETWORKS:
        cells = [row for row in saved[name] if not np.isnan(row[0])]
        results = np.array([covered(losses, orders, tolerance) for losses in cells])
        ranks = np.argsort([losses.mean() for losses in cells])
        bands = [float(results[part, 0].mean()) for part in np.array_split(ranks, 5)]
        whole = float(results[:, 0].mean())
        result(
            f"{what}: coverage of ± 2 stated errors, {name}, {SHUFFLES} shuffles of {len(cells)} points",
            "≥ 94 %, each of five bands of loss ≥ 92 %",
            f"{100 * whole:.1f} %; bands "
            + ", ".join(f"{100 * band:.1f}" for band in bands)
            + f" %; {results[:, 1].mean():.0f} samples on average",
            whole >= 0.94 and min(bands) >= 0.92,
        )
    tails = {
        "lognormal(-6, 3)": np.exp(generator.normal(-6, 3, SAMPLES)),
        "lognormal(-3, 2)": np.exp(generator.normal(-3, 2, SAMPLES)),
        "Pareto 2.2": generator.pareto(2.2, SAMPLES),
    }
    for name, losses in tails.items():
        share, used = covered(losses, orders, tolerance)
        result(
            f"{what}: the same, {name}", "≥ 90 %", f"{100 * share:.1f} %; {used:.0f} samples on average", share >= 0.9
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--losses", type=Path)
    parser.add_argument("--only_coverage", action="store_true")
    args = parser.parse_args()
    if args.losses and args.losses.exists():
        for tolerance in (TOLERANCE, Tolerance(0.2)):
            coverage(args.losses, tolerance)
    else:
        result("its coverage", "≥ 94 %", "no saved losses (python benchmarks/sample_losses.py --out FILE)", None)
    try:
        if not args.only_coverage:
            speed()
    except BadInput as error:
        result("--tolerance against all of Fashion-MNIST", "≥ 8×", str(error), None)


if __name__ == "__main__":
    main()
