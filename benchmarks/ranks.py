"""How well ranks share the work: two against one on this machine, and sixteen whose cells only sleep.

    python benchmarks/ranks.py

Needs mpirun. Ranks under test are this script itself, started with `--rank`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from baselines import result

from lossatlas.io import read_surface
from lossatlas.jobs.sweep.cell_loop import BlockNote, compute_cells, timed
from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.communicator import connect
from lossatlas.mpi.scheduler import follow, serve

MPIRUN = str(Path(sys.executable).parent / "mpirun")
SLEEP = 0.05


def sleeping(slow: bool, out: Path) -> None:
    """One rank: the real scheduler and loop over cells that sleep 50 ms, twice as long on every fourth rank if slow."""
    world = connect(mpi=True)
    nap = SLEEP * (2 if slow and world.rank % 4 == 3 else 1)

    def work(cells: list[int]) -> tuple[np.ndarray, BlockNote]:
        for _ in cells:
            time.sleep(nap)
        return np.full((len(cells), 1, 7), nap), BlockNote()  # tells what the rank has spent

    if not world.root:
        follow(world, lambda: timed(work))
        return
    surface = Surface.empty(Grid.parse("-1:1:51", "-1:1:51"), {"train": 1}, ("accuracy",))
    start = time.perf_counter()
    done = compute_cells(partial(serve, world), out, surface, lambda: timed(work), pending=np.arange(surface.grid.size))
    wall = time.perf_counter() - start
    busy = done.statistics["train"]["n"].sum() / (world.size * wall)
    out.with_suffix(".json").write_text(json.dumps({"busy": busy, "wall": wall}))


def computing(ranks: int, folder: Path) -> float:
    """Seconds from the first cell to the last of a surface by so many ranks on this machine's cores."""
    out = folder / f"{ranks}.h5"
    command = [
        MPIRUN,
        "-n",
        str(ranks),
        sys.executable,
        *(
            "plot_surface.py --mpi --model resnet56 --model_file trained_nets/resnet56_fashion_mnist.safetensors "
            "--dataset fashion_mnist_mini --limit 500 --x=-1:1:9 --y=-1:1:9 --xnorm filter --xignore biasbn "
            "--ynorm filter --yignore biasbn --force --dir_file"
        ).split(),
        str(folder / "directions.h5"),
        "--surf_file",
        str(out),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return float(read_surface(out).about["computing_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank", choices=("uniform", "slow"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.rank:
        sleeping(args.rank == "slow", args.out)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, bar, text in (
            ("uniform", 0.97, "16 ranks whose points sleep 50 ms: busy"),
            ("slow", 0.93, "the same with a quarter of the ranks twice as slow: busy"),
        ):
            out = folder / f"{kind}.h5"
            subprocess.run(
                [MPIRUN, "-n", "16", sys.executable, __file__, "--rank", kind, "--out", str(out)],
                check=True,
                capture_output=True,
            )
            busy = json.loads(out.with_suffix(".json").read_text())["busy"]
            result(text, f"≥ {100 * bar:.0f} %", f"{100 * busy:.1f} %", busy >= bar)
        seconds = np.array([[computing(ranks, folder) for ranks in (1, 2)] for _ in range(3)])
        for one, two in seconds:
            print(f"  one rank {one:.1f} s, two ranks {two:.1f} s")
        value = float(np.median(seconds[:, 0] / seconds[:, 1]))
        result(
            "2 ranks against 1 rank on 2 cores, 9×9 cells of ResNet-56: speed", "≥ 0.95", f"{value:.2f}", value >= 0.95
        )


if __name__ == "__main__":
    main()
