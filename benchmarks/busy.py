"""What a busy machine costs: batches side by side, by one thread each, against one batch by all threads.

    python benchmarks/busy.py

ResNet-56 (folded, and as it is) and 512 images, on as many threads as there are cores; first alone, then beside busy
processes, two for each core, which this command starts itself. Both ways in turn, in one run.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from baselines import in_turn, ratio, result

from dataloader import load
from evaluation import Evaluator
from losses import LOSSES
from models import load_network
from net_plotter import Affine, random_direction, tensors
from scheduler import cores
from tuning import tune

SAMPLES, ROUNDS = 512, 5


def evaluator(folded: bool) -> Evaluator:
    net = load_network("resnet56", ROOT / "trained_nets" / "resnet56_fashion_mnist.safetensors", (1, 28, 28))
    at = {name: value.clone() for name, value in tensors(net).items()}
    data = load("fashion_mnist_mini", "train", limit=SAMPLES)
    plane = Affine(at, random_direction(at, "filter", "biasbn", 1))
    return Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], folded=folded)


def main() -> None:
    torch.set_num_threads(len(cores()))
    for folded in (True, False):
        name = "ResNet-56" + ("" if folded else ", not folded")
        today, ours = evaluator(folded), evaluator(folded)
        today.lanes = 1
        tune(ours, 441)
        chosen = f"{ours.lanes} batches of {ours.batch_size} side by side" if ours.lanes > 1 else "one after the other"
        today.batch_size = ours.batch_size
        for place, wanted, busy in (("alone", 0.97, 0), ("beside busy processes", 3.0, 2 * len(cores()))):
            spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
            try:
                seconds = in_turn({"together": lambda: today([(0.1, 0)]), "side": lambda: ours([(0.1, 0)])}, ROUNDS)  # noqa: B023
            finally:
                for process in spinning:
                    process.kill()
            speeds = {way: SAMPLES / np.median(times) for way, times in seconds.items()}
            print(
                f"  {name}, {place}: one batch by all threads {speeds['together']:.0f} images/s, {chosen} {speeds['side']:.0f}"
            )
            value = ratio(seconds["together"], seconds["side"])
            what = f"{name}, {SAMPLES} images, {len(cores())} cores, {place}"
            result(f"{what}: batches side by side against one by all threads", f"≥ {wanted:g}×",
                   f"{value:.2f}× ({speeds['together']:.0f} : {speeds['side']:.0f} images/s)", value >= wanted)  # fmt: skip


if __name__ == "__main__":
    main()
