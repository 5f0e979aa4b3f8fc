"""How long a user waits for the first cell, and what the demo takes.

    python benchmarks/startup.py [--against CHECKOUT] [--only start]

--against: the same in another checkout, in turns, and the ratio.
From the start of the process to the first cell in the file: ResNet-20 on bundled images, one process, CPU.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from baselines import result

from lossatlas.errors import BadInput
from lossatlas.io import read_surface


def first_cell(root: Path = ROOT) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "s.h5"
        start = time.monotonic()
        run = subprocess.Popen(
            [
                sys.executable,
                *(
                    "plot_surface.py --model resnet20 --model_file trained_nets/resnet20_small_batch.safetensors "
                    "--dataset fashion_mnist_mini --limit 500 --x=-1:1:51 --y=-1:1:51 --xnorm filter --dir_file"
                ).split(),
                f"{folder}/d.h5",
                "--surf_file",
                str(out),
            ],
            cwd=root,
            stdout=subprocess.DEVNULL,
        )
        try:
            while True:
                if run.poll() is not None:
                    raise SystemExit(f"the run ended with code {run.returncode}")
                try:
                    surface = read_surface(out)
                except BadInput:
                    surface = None
                if surface is not None and surface.done.any():
                    # The first snapshot follows the first cells by at most a second; each cell takes this long.
                    waited = time.monotonic() - start
                    return waited - surface.about["seconds_per_cell"] * (surface.done.sum() - 1)
                time.sleep(0.01)
        finally:
            run.kill()
            run.wait()


def comparison() -> float:
    """Seconds that the comparison of a fast path with the network itself takes, for the same network and data."""
    import torch

    from lossatlas.data import LOSSES
    from lossatlas.datasets.registry import load
    from lossatlas.evaluation import Evaluator
    from lossatlas.jobs.sweep.problem import Problem
    from lossatlas.jobs.sweep.reference_check import ReferenceLosses
    from lossatlas.landscape import Grid
    from lossatlas.models import load_network
    from lossatlas.parameter_space import AffinePlane, position, random_direction

    data = load("fashion_mnist_mini", "train", limit=500)
    file = ROOT / "trained_nets" / "resnet20_small_batch.safetensors"
    net = load_network("resnet20", str(file), shape=(1, 28, 28), classes=10).eval()
    at = position(net)
    plane = AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))
    scene = Problem(net, plane, {"train": data}, LOSSES["crossentropy"], torch.device("cpu"))
    evaluator = Evaluator(net, plane, scene.data, scene.loss, folded=True)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        assert not ReferenceLosses.of(scene, Grid.parse("-1:1:51", "-1:1:51")).difference(evaluator)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--only", choices=("start",))
    args = parser.parse_args()
    roots = [ROOT, *([args.against] if args.against else [])]
    for root in roots:
        first_cell(root)
    pairs = np.array([[first_cell(root) for root in roots] for _ in range(7 if args.against else 5)])
    print("seconds to the first cell:", ", ".join(f"{s:.2f}" for s in pairs[:, 0]))
    value = float(np.median(pairs[:, 0]))
    result("start to first cell, ResNet-20 on bundled data", "< 3 s", f"{value:.2f} s", value < 3)
    if args.against:
        ratio = float(np.median(pairs[:, 0]) / np.median(pairs[:, 1]))
        result("start to first cell against another checkout", "≤ 1.15×", f"{ratio:.2f}×", ratio <= 1.15)
    share = comparison() / value
    result("of that, the comparison with the network itself", "", f"{100 * share:.0f} %", None)
    if args.only:
        return
    for surface in (ROOT / "demo").glob("*_17x17_500.h5"):
        surface.unlink()
    before = time.monotonic()
    subprocess.run(["make", "demo"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - before
    computing = sum(
        float(read_surface(f"{ROOT}/demo/{name}_17x17_500.h5").about["computing_seconds"])
        for name in ("small_batch", "large_batch")
    )
    print(f"make demo with an environment that exists: {whole:.0f} s")
    result(
        "make demo: computing 2 × 289 cells × 500 images by 2 ranks", "≤ 120 s", f"{computing:.0f} s", computing <= 120
    )


if __name__ == "__main__":
    main()
