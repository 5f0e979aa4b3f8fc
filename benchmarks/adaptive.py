"""What `--adaptive` leaves out, and how often it is wrong.

    python benchmarks/adaptive.py           # seconds

Replays the surfaces that ship with the documentation, whose every cell is computed: the cells that `LeavingOut` asks
for get their values from the file, and what it predicts is compared with those of the file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from baselines import result

from lossatlas.io import read_surface
from lossatlas.landscape import STATISTICS, Surface, Tolerance
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.sampling.adaptive_grid import AdaptiveQueue

SURFACES = Path(__file__).resolve().parent.parent / "docs" / "surfaces"
FILES = {
    "the paper's ResNet-56 with shortcuts": ("resnet56_cifar10", "≥ 2.5× fewer, misses ≤ 5 %"),
    "the paper's ResNet-56 without shortcuts": ("resnet56_noshort_cifar10", "cells ≤ 1.05× all"),
    "the bundled ResNet-56 with shortcuts": ("resnet56_fashion", "(none)"),
    "the bundled ResNet-56 without shortcuts": ("resnet56_noshort_fashion", "(none)"),
}
TOLERANCES = (Tolerance(0.02, 0.05), Tolerance(0.05, 0.1))


def replayed(loss: np.ndarray, whole: Surface, tolerance: Tolerance) -> Surface:
    surface = Surface.empty(whole.grid, {"train": 1}, ("accuracy",))
    accuracy = whole.fields["train_acc"].ravel() / 100
    supply = AdaptiveQueue(surface, surface.pending(), tolerance, lambda _, cells: BlockQueue.of(cells))
    while (item := supply.take()) is not None:
        k, cells = item
        rows = np.zeros((len(cells), 1, len(STATISTICS) + 1))
        rows[:, 0, :2], rows[:, 0, 2], rows[:, 0, -1] = 1, loss.ravel()[cells], accuracy[cells]
        surface = surface.with_cells(cells, rows)
        supply.arrived(k, BlockResult(rows))
    return supply.finished(surface)


def main() -> None:
    for what, (name, bar) in FILES.items():
        whole = read_surface(SURFACES / f"{name}.h5")
        loss = whole.fields["train_loss"]
        for tolerance in TOLERANCES:
            found = replayed(loss, whole, tolerance)
            left_out, about = found.interpolated, found.about["adaptive"]
            off = np.abs(found.fields["train_loss"] - loss)[left_out] / tolerance.allowed(loss[left_out])
            missed, gain = float((off > 1).mean()) if off.size else 0.0, loss.size / found.done.sum()
            reached = (
                {"≥": gain >= 2.5 and missed <= 0.05, "c": True}.get(bar[0]) if tolerance == TOLERANCES[0] else None
            )
            result(
                f"--adaptive {tolerance.relative:g},{tolerance.absolute:g}, {what}, {loss.shape[0]}×{loss.shape[1]}",
                bar if reached is not None else "(none)",
                f"{found.done.sum()} of {loss.size} cells, {gain:.2f}× fewer; {100 * missed:.1f} % of {left_out.sum()} "
                f"predicted ones off by more than the tolerance, at most {off.max() if off.size else 0:.1f} of it; of "
                f"those computed to check {about['missed']} of {about['checked']}",
                reached,
            )


if __name__ == "__main__":
    main()
