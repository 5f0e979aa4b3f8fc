"""Products and eigenvalues of two matrices of second order against hessian-eigenthings, in time and in digits.

    python benchmarks/eigenthings.py

The Hessian and the Gauss-Newton matrix of ResNet-20 in evaluation mode, 256 images of 3x32x32, float32, the same
batches for both; products are compared with ones in float64. hessian-eigenthings 1.0 is needed (pip install --no-deps
hessian-eigenthings==1.0.0a5).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hessian_eigenthings as theirs
import torch
from baselines import in_turn, ratio, result
from products import IMAGES, problem
from torch import nn

from lossatlas.data import LOSSES
from lossatlas.hessian import GaussNewton, Hessian, lanczos

ROUNDS, BATCH = 6, 128
# Of hessian-eigenthings, whose memory grows by 1 GB a step for the Gauss-Newton matrix.
LANCZOS_STEPS = {"Hessian": 40, "Gauss-Newton": 10}


def main() -> None:
    net, data = problem()
    x, labels = data.inputs, data.targets
    batches = [(x[k : k + BATCH], labels[k : k + BATCH]) for k in range(0, IMAGES, BATCH)]
    net.requires_grad_(True)
    loss = nn.functional.cross_entropy
    others = {
        "Hessian": theirs.HessianOperator(net, batches, theirs.supervised_loss(loss)),
        "Gauss-Newton": theirs.GGNOperator(
            net, batches, theirs.supervised_forward, theirs.supervised_loss_of_output(loss)
        ),
    }
    crossentropy = LOSSES["crossentropy"]
    ours = {
        "Hessian": Hessian(net, data, crossentropy, batch_size=BATCH),
        "Gauss-Newton": GaussNewton(net, data, crossentropy, matrix="ggn", batch_size=BATCH),
    }
    v = torch.randn(ours["Hessian"].size)
    products: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, own in ours.items():
        other = others[name]
        seconds = in_turn({"ours": lambda own=own: own(v), "theirs": lambda other=other: other.matvec(v)}, ROUNDS)
        found = ratio(seconds["ours"], seconds["theirs"])
        what = f"one {name} product against hessian-eigenthings', ResNet-20, {IMAGES} images"
        result(what, "≤ 1", f"{found:.2f}×", found <= 1)
        products[name] = own(v).detach().double(), other.matvec(v).detach().double()
        pair = lanczos(own, top=1, bottom=0, tolerance=1e-3)
        top = theirs.lanczos(other, k=1, max_iter=LANCZOS_STEPS[name], seed=0, which="LA").eigenvalues[0]
        off = abs(float(top) - pair.values[0]) / pair.values[0]
        what = f"largest {name} eigenvalue: {pair.values[0]:.4f}, hessian-eigenthings {float(top):.4f}"
        result(what, "≤ 2e-3", f"{off:.1e}", off <= 2e-3)
    exact_net = net.double()
    exact = {
        "Hessian": Hessian(exact_net, data, crossentropy, batch_size=BATCH),
        "Gauss-Newton": GaussNewton(exact_net, data, crossentropy, matrix="ggn", batch_size=BATCH),
    }
    for name, pair in products.items():
        right = exact[name](v.double())
        errors = [float((each - right).norm() / right.norm()) for each in pair]
        print(f"  {name}: relative error {errors[0]:.1e}, hessian-eigenthings {errors[1]:.1e} against float64")


if __name__ == "__main__":
    main()
