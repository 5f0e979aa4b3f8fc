"""A product with the Gauss-Newton matrix against curvlinops', in time and in digits.

    python benchmarks/gauss_newton.py

ResNet-20 in evaluation mode, 256 images of 3x32x32, float32, the same batches for both; the digits against a float64
product. curvlinops is needed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from baselines import in_turn, ratio, result
from curvlinops import GGNLinearOperator
from products import IMAGES, problem
from torch import nn

from lossatlas.data import LOSSES
from lossatlas.hessian import GaussNewton

ROUNDS, BATCH = 8, 128


def main() -> None:
    net, data = problem()
    x, labels = data.inputs, data.targets
    batches = [(x[k : k + BATCH], labels[k : k + BATCH]) for k in range(0, IMAGES, BATCH)]
    theirs = GGNLinearOperator(
        net.requires_grad_(True), nn.CrossEntropyLoss(), list(net.parameters()), batches, check_deterministic=False
    )
    ours = GaussNewton(net, data, LOSSES["crossentropy"], matrix="ggn", batch_size=BATCH)
    alone = GaussNewton(net, data, LOSSES["crossentropy"], matrix="ggn", batch_size=BATCH, parallel_batches=1)
    v = torch.randn(ours.size)
    calls = {"ours": lambda: ours(v), "one batch at a time": lambda: alone(v), "curvlinops": lambda: theirs @ v}
    seconds = in_turn(calls, ROUNDS)
    for name in ("ours", "one batch at a time"):
        found = ratio(seconds[name], seconds["curvlinops"])
        what = f"one Gauss-Newton product against curvlinops', ResNet-20, {IMAGES} images, {name}"
        result(what, "≤ 1.05×", f"{found:.2f}×", found <= 1.05)
    found, expected = (each.detach().double() for each in (ours(v), theirs @ v))
    exact = GaussNewton(net.double(), data, LOSSES["crossentropy"], matrix="ggn")(v.double())
    for name, each in (("ours", found), ("curvlinops", expected)):
        print(f"  {name}: relative error {float((each - exact).norm() / exact.norm()):.1e} against float64")


if __name__ == "__main__":
    main()
