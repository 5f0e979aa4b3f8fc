"""What a busy machine costs: batches side by side, by one thread each, against one batch by all threads.

    python benchmarks/busy.py

ResNet-56 (folded, and as it is), a Hessian product of ResNet-20, and 512 images, on as many threads as there are cores;
first alone, then beside busy processes, two for each core, which this command starts itself. Both ways in turn, in one
run.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from baselines import in_turn, ratio, result

from lossatlas.data import LOSSES
from lossatlas.datasets.registry import load
from lossatlas.evaluation import Evaluator, tune
from lossatlas.hessian import Hessian
from lossatlas.models import load_network
from lossatlas.mpi.rank_resources import cores
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

SAMPLES, ROUNDS = 512, 5


def evaluator(folded: bool) -> Evaluator:
    net = load_network("resnet56", ROOT / "trained_nets" / "resnet56_fashion_mnist.safetensors", (1, 28, 28))
    at = {name: value.clone() for name, value in tensors(net).items()}
    data = load("fashion_mnist_mini", "train", limit=SAMPLES)
    plane = AffinePlane(at, random_direction(at, "filter", "biasbn", 1))
    return Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], folded=folded)


def compare(name: str, ways: dict[str, Callable[[], object]], chosen: str) -> None:
    """Both ways alone, then beside busy processes."""
    for place, wanted, busy in (("alone", 0.97, 0), ("beside busy processes", 3.0, 2 * len(cores()))):
        spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            seconds = in_turn(ways, ROUNDS)
        finally:
            for process in spinning:
                process.kill()
        speeds = {way: SAMPLES / np.median(times) for way, times in seconds.items()}
        print(
            f"  {name}, {place}: one batch by all threads {speeds['together']:.0f} images/s, {chosen} "
            f"{speeds['side']:.0f}"
        )
        value = ratio(seconds["together"], seconds["side"])
        what = f"{name}, {SAMPLES} images, {len(cores())} cores, {place}"
        result(
            f"{what}: batches side by side against one by all threads",
            f"≥ {wanted:g}×",
            f"{value:.2f}× ({speeds['together']:.0f} : {speeds['side']:.0f} images/s)",
            value >= wanted,
        )


def main() -> None:
    torch.set_num_threads(len(cores()))
    for folded in (True, False):
        today, ours = evaluator(folded), evaluator(folded)
        today.parallel_batches = 1
        tune(ours, 441)
        today.batch_size = ours.batch_size
        chosen = (
            f"{ours.parallel_batches} batches of {ours.batch_size} side by side"
            if ours.parallel_batches > 1
            else "one after the other"
        )
        ways = {"together": partial(today, [(0.1, 0.0)]), "side": partial(ours, [(0.1, 0.0)])}
        compare("ResNet-56" + ("" if folded else ", not folded"), ways, chosen)
    net = load_network("resnet20", ROOT / "trained_nets" / "resnet20_small_batch.safetensors", (1, 28, 28))
    data = load("fashion_mnist_mini", "train", limit=SAMPLES)
    together, side = (Hessian(net, data, LOSSES["crossentropy"], parallel_batches=count) for count in (1, None))
    v = torch.randn(side.size, generator=torch.Generator().manual_seed(0))
    compare(
        "a Hessian product of ResNet-20", {"together": partial(together, v), "side": partial(side, v)}, "side by side"
    )


if __name__ == "__main__":
    main()
