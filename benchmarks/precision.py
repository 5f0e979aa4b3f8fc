"""How exact the precisions are: errors of the loss against float64, from a loss of 1e-4 to one of 1e3.

    python benchmarks/precision.py

ResNet-56 with trained weights, 256 bundled images of which it is sure, labelled as it labels them. Large losses are
those of points far out and of a larger last layer.
"""

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
import torch.nn.functional as F
from baselines import plain, result

from lossatlas.data import LOSSES
from lossatlas.datasets.registry import load
from lossatlas.evaluation import Evaluator
from lossatlas.models import load_network, read_state
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

SAMPLES = 256
POINTS = [
    (0.0, 0.5),
    (0.0, 0.0),
    (0.02, 1.0),
    (0.1, 0.0),
    (0.4, 0.0),
    (0.7, 0.0),
    (1.0, 0.0),
    (1.0, 4.0),
    (1.0, 20.0),
    (1.0, 150.0),
]


def main() -> None:
    file = ROOT / "trained_nets" / "resnet56_fashion_mnist.safetensors"
    net = load_network("resnet56", file, (1, 28, 28))
    data = load("fashion_mnist_mini", limit=500)
    with torch.no_grad():
        logits = net(data.inputs)
    sure = logits.topk(2).values.diff().abs().squeeze(1).argsort(descending=True)[:SAMPLES]
    data = replace(data, targets=logits.argmax(1)).take(sure)
    at = {name: value.clone() for name, value in tensors(net).items()}
    larger = {name: value if name.startswith("linear") else torch.zeros_like(value) for name, value in at.items()}
    plane = AffinePlane(at, random_direction(at, "filter", "biasbn", 1), larger)

    def losses(precision: str) -> list[float]:
        evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], folded=True, precision=precision)
        return [row[0, 2] / row[0, 0] for row in evaluator(POINTS)]

    exact = losses("float64")
    eager_net, eager = plain(read_state(file), channels_last=False), []
    for a, b in POINTS:
        for name, value in plane.point(a, b).items():
            eager_net.get_parameter(name).copy_(value)
        with torch.no_grad():
            eager.append(float(F.cross_entropy(eager_net(data.inputs), data.targets)))
    found = {precision: losses(precision) for precision in ("float32", "bfloat16", "float16")}
    print("  loss, and errors relative to it: eager float32, " + ", ".join(found))
    worst = 0.0
    for k, value in enumerate(exact):
        errors = [abs(f[k] - value) / value for f in found.values()]
        usual = abs(eager[k] - value) / value
        worst = max(worst, errors[0] / max(1e-5, 2 * usual))
        print(f"  {value:10.4g}  {usual:.1e}  " + "  ".join(f"{error:.1e}" for error in errors))
    result(
        f"float32 against float64 at losses from {min(exact):.0e} to {max(exact):.0e}: error in units of "
        "max(1e-5, twice that of eager float32)",
        "≤ 1",
        f"{worst:.2g}",
        worst <= 1,
    )


if __name__ == "__main__":
    main()
