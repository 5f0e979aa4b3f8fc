"""A Hessian-vector product against a gradient: time and memory.

    python benchmarks/products.py

ResNet-20, 256 images of 3x32x32, float32. The gradient is the eager one over the whole batch. Memory is the largest
resident size above that before the first of them, each in a process of its own (this script starts itself).
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from baselines import gradient, in_turn, ratio, result
from memory import peak

from lossatlas.data import LOSSES, Dataset
from lossatlas.hessian import Hessian, lanczos
from lossatlas.models import build

IMAGES, ROUNDS, VECTORS = 256, 8, 20


def problem() -> tuple[torch.nn.Module, Dataset]:
    torch.manual_seed(0)
    net = build("resnet20", (3, 32, 32)).eval()
    return net, Dataset("noise", "train", (torch.randn(IMAGES, 3, 32, 32), torch.randint(0, 10, (IMAGES,))), 10)


def memory(what: str) -> None:
    """Print the megabytes above idle of one way, in this process."""
    net, data = problem()
    torch.nn.functional.conv2d(torch.zeros(8, 3, 32, 32), torch.zeros(8, 3, 3, 3))  # loads libraries
    idle = peak()
    if what == "gradient":
        for _ in range(3):
            gradient(net, data.inputs, data.targets)
    else:
        operator = Hessian(net, data, LOSSES["crossentropy"], batch_size=int(what))
        lanczos(operator, top=1, bottom=1, tolerance=0.0, max_products=VECTORS)
    print(peak() - idle)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory")
    args = parser.parse_args()
    if args.memory:
        memory(args.memory)
        return
    net, data = problem()
    ways = {
        name: Hessian(net, data, LOSSES["crossentropy"], folded=name != "backwards", compiled=name == "compiled")
        for name in ("folded", "compiled", "backwards")
    }
    v = torch.randn(ways["folded"].size)
    start = time.perf_counter()
    ways["compiled"](v)
    compiling = time.perf_counter() - start
    calls = {name: lambda operator=operator: operator(v) for name, operator in ways.items()}
    seconds = in_turn({"gradient": lambda: gradient(net, data.inputs, data.targets), **calls}, ROUNDS)
    exact = Hessian(net.double(), data, LOSSES["crossentropy"], folded=False)(v)
    for name, operator in ways.items():
        error = float((operator(v).double() - exact).norm() / exact.norm())
        print(f"  {name}: {ratio(seconds[name], seconds['gradient']):.2f} gradients, relative error {error:.1e}")
    print(f"  one gradient: {np.median(seconds['gradient']):.3f} s; the first compiled product takes {compiling:.0f} s")
    for name, bar in (("folded", 2.2), ("compiled", 2.2)):
        found = ratio(seconds[name], seconds["gradient"])
        what = "" if name == "folded" else f", compiled (once {compiling:.0f} s)"
        result(
            f"one product against one eager gradient, ResNet-20, {IMAGES} images{what}",
            f"≤ {bar}×",
            f"{found:.2f}×",
            found <= bar,
        )
    used = {
        what: float(
            subprocess.run(
                [sys.executable, __file__, "--memory", what], check=True, text=True, capture_output=True
            ).stdout
        )
        for what in ("gradient", str(IMAGES), "128")
    }
    vectors = (VECTORS + 2) * 4 * ways["folded"].size / 2**20
    found = (used[str(IMAGES)] - vectors) / used["gradient"]
    print(f"  MB above idle: {used}; {VECTORS} vectors: {vectors:.0f}")
    result(
        "peak memory of products against a gradient on the same batch, without the vectors",
        "≤ 2.5×",
        f"{found:.2f}×",
        found <= 2.5,
    )
    result(
        "the same in the batches of 128 that are the default",
        "",
        f"{(used['128'] - vectors) / used['gradient']:.2f}×",
        None,
    )


if __name__ == "__main__":
    main()
