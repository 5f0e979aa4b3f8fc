"""The surface and the curvature of a network of your own, from Python.

python examples/from_python.py            writes own.h5 and draws it (after `pip install .`, or from the clone)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from torch.utils.data import DataLoader

import lossatlas
from examples.spirals import data, make_net


def main(out: str = "own.h5", steps: int = 200, cells: int = 21) -> None:
    # Any network, trained in any way, on any data.
    torch.manual_seed(0)
    net, loader = make_net(), DataLoader(data("train"), batch_size=100, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(steps // 10):
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), labels).backward()
            optimizer.step()

    surface = lossatlas.surface(net, loader, x=f"-1:1:{cells}", y=f"-1:1:{cells}", file=out)
    surface.plot(kind="filled").savefig(out + "_own.png")
    print("loss at the centre:", surface.loss[cells // 2, cells // 2])

    # The ends of the Hessian's spectrum, each with its residual, and the trace with its standard error.
    found = lossatlas.spectrum(net, loader, top=3, bottom=1, trace_error=0.05, probes=1)
    print("eigenvalues:", found.eigenvalues, "+-", found.residuals)
    print("trace:", found.trace.value, "+-", found.trace.error)


if __name__ == "__main__":
    main(*sys.argv[1:])
