"""The surface and the curvature of a network of your own, from Python: no command line, no MPI.

python examples/from_python.py            writes own.h5 and draws it
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn

import plot_2D
from dataloader import load
from lossatlas.data import LOSSES
from lossatlas.evaluation import Evaluator
from lossatlas.hessian import Hessian, hutchinson, lanczos
from lossatlas.landscape import Grid, Surface
from lossatlas.record import write_surface
from lossatlas.space import Affine, random_direction, tensors


def main(out: str = "own.h5", steps: int = 100, cells: int = 21) -> None:
    data = load("fashion_mnist_mini", "train", limit=500)

    # Any network, trained in any way.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data.inputs), data.targets).backward()
        optimizer.step()

    # A plane through its parameters, a grid on it, and the loss at every cell. The network itself is not touched.
    origin = tensors(net)
    plane = Affine(origin, *(random_direction(origin, "filter", "biasbn", seed) for seed in (1, 2)))
    grid = Grid.parse(f"-1:1:{cells}", f"-1:1:{cells}")
    evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=500)
    rows = evaluator([grid.point(cell) for cell in range(grid.size)])
    surface = Surface.empty(grid, {"train": len(data)}, evaluator.metrics).with_cells(range(grid.size), rows)

    print("loss at the centre:", surface.fields["train_loss"][cells // 2, cells // 2])
    write_surface(out, surface)
    plot_2D.draw([out])

    # The ends of the Hessian's spectrum, each with its residual, and the trace with its standard error.
    operator = Hessian(net, data, LOSSES["crossentropy"])
    found = lanczos(operator, top=3, bottom=1, tolerance=1e-3)
    trace = hutchinson(operator, known=found, tolerance=0.05)
    print("eigenvalues:", found.values, "+-", found.residuals, "trace:", trace.value, "+-", trace.error)


if __name__ == "__main__":
    main(*sys.argv[1:])
