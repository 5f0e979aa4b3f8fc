"""What `--tolerance 0.02,0.05` saves, and whether the errors it states are true.

    python benchmarks/tolerance.py --losses sample_losses.npz

Full Fashion-MNIST, ResNet-56 with and without shortcuts, 9 x 9 cells. The speed is that of a real run over every cell
against the time of all 60,000 images, measured at two cells of each network and extrapolated. The coverage replays
the losses that `sample_losses.py` saved, in 200 random orders for each cell.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from baselines import result
from sample_losses import GRID, NETWORKS, plane_of

from dataloader import load
from errors import BadInput
from evaluation import Evaluator
from losses import LOSSES
from surface import STATISTICS, Tolerance, summarize
from tuning import tune

TOLERANCE, SHUFFLES, BATCH, FULL_CELLS = Tolerance(0.02, 0.05), 200, 64, (0, 40)


def speed() -> None:
    data = load("fashion_mnist", "train")
    spent = {"tolerance": 0.0, "all": 0.0}
    for name in NETWORKS:
        net, plane = plane_of(name)
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
    result("--tolerance 0.02,0.05 against all of Fashion-MNIST, two networks, 9×9 (all data extrapolated from 4 cells)",
           "≥ 8×", f"{value:.0f}×", value >= 8)  # fmt: skip


def replay(losses: np.ndarray, order: np.ndarray) -> tuple[float, float]:
    """Loss and standard error of a cell whose samples come in this order."""
    drawn = losses[order].astype(np.float64)
    first, second, row = np.cumsum(drawn), np.cumsum(drawn**2), np.zeros(6)
    while (wanted := TOLERANCE.samples(row, len(losses))) > row[0]:
        n = min(-(-wanted // BATCH) * BATCH, len(losses))
        row = np.array([n, n, first[n - 1], second[n - 1], 0, 0])
    found = summarize(dict(zip(STATISTICS, row[:, None], strict=True)), len(losses))
    return float(found["loss"][0]), float(found["loss_se"][0])


def coverage(file: Path) -> None:
    saved = np.load(file)
    cells = [row for name in NETWORKS for row in saved[name] if not np.isnan(row[0])]
    generator, means, within = np.random.default_rng(0), [], []
    orders = [generator.permutation(len(cells[0])) for _ in range(SHUFFLES)]
    for losses in cells:
        mean = losses.mean(dtype=np.float64)
        replayed = np.array([replay(losses, order) for order in orders])
        means.append(mean)
        within.append(np.mean(np.abs(replayed[:, 0] - mean) <= 2 * replayed[:, 1]))
    order = np.argsort(means)
    bands = np.array_split(np.array(within)[order], 3)
    edges = [f"{np.array(means)[order][k]:.3g}" for k in (0, len(bands[0]), len(bands[0]) + len(bands[1]), -1)]
    print(f"  {len(cells)} of {2 * GRID.size} cells saved; bands of loss from {', '.join(edges)}")
    whole, parts = float(np.mean(within)), [float(band.mean()) for band in bands]
    result(f"its coverage: true mean within 2 stated standard errors, {SHUFFLES} shuffles of {len(cells)} cells",
           "≥ 93 %, each band of loss ≥ 90 %", f"{100 * whole:.1f} %; bands "
           + ", ".join(f"{100 * part:.1f} %" for part in parts), whole >= 0.93 and min(parts) >= 0.9)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--losses", type=Path)
    args = parser.parse_args()
    if args.losses and args.losses.exists():
        coverage(args.losses)
    else:
        result("its coverage", "≥ 93 %", "no saved losses (python benchmarks/sample_losses.py --out FILE)", None)
    try:
        speed()
    except BadInput as error:
        result("--tolerance against all of Fashion-MNIST", "≥ 8×", str(error), None)


if __name__ == "__main__":
    main()
