"""Samples that multilevel sampling saves (`--tolerance`), and the coverage of the standard errors that it states.

    python benchmarks/levels.py --losses FOLDER          # of grid_losses.py; a quarter of an hour
    python benchmarks/levels.py --synthetic       # losses that jump, and smooth ones, of random margins; ten minutes

Replays the losses that `grid_losses.py` saved of the two bundled ResNet-56. Each shuffle draws a population of 60,000
from them, with replacement, and its order; `lossatlas.landscape.sample_count.estimate_cell` itself then estimates cell
after cell. Counted are the samples, relative to those of cells that are estimated independently; how often the mean of
the population lies within two stated errors, by band of loss and by level; and the error of the difference of two
neighbours.

--synthetic: the losses of 6,000 samples are functions of their margins, each a smooth random function of the plane.
"""

import argparse
import sys
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
from baselines import result
from grid_losses import NETWORKS, grid_of
from replays import ERROR, ESTIMATE, OF_MARGINS, PLANE, Replay, covered, of_margins, replayed

from lossatlas.landscape import Grid, Tolerance
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.landscape.sample_count import FEWEST_CONTROLLED, ErrorTarget, SampleDraw, estimate_cell

POPULATION, SHUFFLES = 60_000, 200
TOLERANCES = (Tolerance(0.02, 0.05), Tolerance(0.005, 0.01))
BARS = {"resnet56": (3.0, 6.0), "resnet56_noshort": (2.0, 3.0)}
SYNTHETIC = (Tolerance(0.02, 0.02), Tolerance(0.05, 0.05))


def population_of(losses: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the saved samples that a population consists of, in its order, and its mean at each cell."""
    order = np.random.default_rng(seed).integers(0, losses.shape[1], POPULATION)
    counts = np.bincount(order, minlength=losses.shape[1])
    return order, losses.astype(np.float64) @ counts / POPULATION


def by_levels(losses: np.ndarray, grid: Grid, tolerance: Tolerance, seed: int) -> Replay:
    return replayed(losses, *population_of(losses, seed), grid, tolerance)


def each_alone(losses: np.ndarray, grid: Grid, tolerance: Tolerance, seed: int) -> Replay:
    order, truth = population_of(losses, seed)
    goal, found = ErrorTarget(tolerance, 1.0, FEWEST_CONTROLLED, POPULATION), []
    for cell in range(grid.size):

        def draw(start: int, stop: int, cell: int = cell) -> SampleDraw:
            return SampleDraw(losses[cell, order[start:stop]].astype(np.float64))

        found.append(estimate_cell(draw, (), [], goal)[0])
    table = np.stack(found)
    return Replay(table[:, ESTIMATE], table[:, ERROR], truth, table[:, 0])


def neighbours(grid: Grid, replays: list[Replay]) -> float:
    """Root mean square error of the difference of two neighbours along x, in units of the root mean square error."""
    errors = np.stack([(each.found - each.truth).reshape(grid.shape) for each in replays])
    steps = np.diff(errors, axis=2)
    return float(np.sqrt((steps**2).mean() / (errors**2).mean()))


def job(arguments: tuple[Path, str, Tolerance, int, bool]) -> Replay:
    folder, name, tolerance, seed, alone = arguments
    losses = np.load(folder / f"{name}.npz")["loss"]
    return (each_alone if alone else by_levels)(losses, grid_of(losses), tolerance, seed)


def samples(folder: Path, name: str, tolerances: tuple[Tolerance, ...], shuffles: int, pool: object) -> None:
    grid = grid_of(np.load(folder / f"{name}.npz")["loss"])
    for tolerance, bar in zip(tolerances, BARS[name], strict=False):
        work = [(folder, name, tolerance, seed, alone) for alone in (True, False) for seed in range(shuffles)]
        found = pool.map(job, work)  # type: ignore[attr-defined]
        alone, helped = found[:shuffles], found[shuffles:]
        before, now = (float(np.mean([each.used.mean() for each in part])) for part in (alone, helped))
        size = f"{grid.shape[0]}×{grid.shape[1]}"
        result(
            f"--tolerance {tolerance.relative:g},{tolerance.absolute:g}: samples a cell, each alone against with "
            f"neighbours, {name}, {size}, {POPULATION} samples",
            f"≥ {bar:g}×" if size == "51×51" else "(21×21: none)",
            f"{before:.0f} against {now:.0f}: {before / now:.1f}×",
            before / now >= bar if size == "51×51" else None,
        )
        print(
            f"  difference of neighbours: error {neighbours(grid, helped):.2f} of a cell's own error (alone "
            f"{neighbours(grid, alone):.2f}; independent samples: 1.41)"
        )


def coverage(folder: Path, name: str, tolerance: Tolerance, shuffles: int, pool: object) -> None:
    grid = grid_of(np.load(folder / f"{name}.npz")["loss"])
    level = Hierarchy(grid).level
    jobs = [(folder, name, tolerance, seed, False) for seed in range(shuffles)]
    found = pool.map(job, jobs)  # type: ignore[attr-defined]
    shared(name, f"{shuffles} shuffles of {grid.shape[0]}×{grid.shape[1]} cells", tolerance, level, found)


def synthetic(shuffles: int, pool: object) -> None:
    for loss in OF_MARGINS:
        for tolerance in SYNTHETIC:
            work = [(loss, tolerance, seed) for seed in range(shuffles)]
            found = pool.starmap(of_margins, work)  # type: ignore[attr-defined]
            shared(loss, f"{shuffles} shuffles of 9×9 cells", tolerance, Hierarchy(PLANE).level, found)


def shared(name: str, what: str, tolerance: Tolerance, level: np.ndarray, found: list[Replay]) -> None:
    whole, bands, levels = covered(found, level)
    result(
        f"--tolerance {tolerance.relative:g},{tolerance.absolute:g}: coverage of ± 2 stated errors, {name}, {what}",
        "≥ 94 %, each of five bands of loss and each level ≥ 92 %",
        f"{100 * whole:.1f} %; bands {', '.join(f'{100 * each:.1f}' for each in bands)} %; "
        f"levels {', '.join(f'{100 * each:.1f}' for each in levels)} %; {np.mean([e.used.mean() for e in found]):.0f} "
        "samples",
        whole >= 0.94 and min(*bands, *levels) >= 0.92,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--losses", type=Path, help="a folder of grid_losses.py")
    source.add_argument("--synthetic", action="store_true", help="0-1, step, hinge and smooth losses of random margins")
    parser.add_argument("--shuffles", type=int, default=SHUFFLES)
    parser.add_argument("--only", choices=("coverage", "samples"))
    args = parser.parse_args()
    with get_context("spawn").Pool(2) as pool:
        if args.synthetic:
            synthetic(args.shuffles, pool)
            return
        for name in NETWORKS:
            if args.only != "samples":
                for tolerance in TOLERANCES:
                    coverage(args.losses, name, tolerance, args.shuffles, pool)
            if args.only != "coverage":
                samples(args.losses, name, TOLERANCES, min(args.shuffles, 3), pool)


if __name__ == "__main__":
    main()
