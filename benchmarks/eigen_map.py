"""Whole maps of eigenvalues: are they the extreme ones, and what would warm starts save?

    python benchmarks/eigen_map.py

Two perceptrons trained with seeds 1 and 2 and the line between them (33 points, 64 bundled images), and the bundled
ResNet-20 along a random direction (7 points, 48 images): at the default tolerance of 1e-2 against 1e-5; the perceptrons
also against explicit Hessians of their last layer. Then the products of cold starts against those from the sum of the
neighbour's end vectors, with the same certainty that nothing is left out. Counts, so a busy machine does not matter.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
from baselines import result

from lossatlas.commands import plot_hessian_eigen, train
from lossatlas.data import LOSSES
from lossatlas.datasets.registry import load
from lossatlas.hessian import Hessian, lanczos
from lossatlas.io import read_directions, read_surface
from lossatlas.landscape import Surface, unresolved
from lossatlas.models import load_network
from lossatlas.parameter_space import AffinePlane, as_point, moved, tensors

DATA = ["--dataset", "fashion_mnist_mini"]
LAST = ("5.weight", "5.bias")
SMALL = 2e-4  # what rounding in float32 leaves, 2e-6 of the largest eigenvalue, is 1e-2 of this


def quietly(main, line: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(line) == 0, line


def map_of(folder: Path, name: str, line: list[str], *more: str) -> Surface:
    out = folder / f"{name}.h5"
    quietly(plot_hessian_eigen.main, [*line, "--surf_file", str(out), "--dir_file", str(folder / "d.h5"), *more])
    return read_surface(out)


def difference(found: Surface, exact: dict[str, np.ndarray]) -> float:
    """The largest one, relative; but to SMALL of the largest eigenvalue where a value is smaller, as zero is."""
    largest = np.maximum(np.abs(exact["max_eig"]), np.abs(exact["min_eig"]))
    return max(
        float((np.abs(found.fields[name] - exact[name]) / np.maximum(np.abs(exact[name]), SMALL * largest)).max())
        for name in ("max_eig", "min_eig")
    )


def explicit(model: str, file: Path, directions: Path, found: Surface, limit: int) -> dict[str, np.ndarray]:
    """Both ends of the explicit Hessian of the last layer, in float64, at every point."""
    net, data = load_network(model, file, (1, 28, 28)).double(), load("fashion_mnist_mini", "train", limit=limit)
    direction = as_point(read_directions(directions).x, net, "weights", "it")
    plane = AffinePlane({k: v.clone() for k, v in tensors(net).items()}, {k: v.double() for k, v in direction.items()})
    ends = []
    for a in found.grid.x:
        with moved(net, plane.point(float(a), 0.0)):
            own = {name: net.get_parameter(name).detach().clone() for name in LAST}

            def loss(flat: torch.Tensor) -> torch.Tensor:
                pieces = flat.split([value.numel() for value in own.values()])  # noqa: B023
                point = {name: p.view_as(own[name]) for name, p in zip(own, pieces, strict=True)}  # noqa: B023
                return F.cross_entropy(torch.func.functional_call(net, point, (data.inputs.double(),)), data.targets)

            flat = torch.cat([value.flatten() for value in own.values()])
            values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
            ends.append((float(values[-1]), float(values[0])))
    return dict(zip(("max_eig", "min_eig"), np.array(ends).T, strict=True))


def products(model: str, file: Path, directions: Path, points: np.ndarray, *, limit: int, warm: bool) -> int:
    """Of a whole map in which each point starts from nothing, or from its neighbour's end vectors."""
    net = load_network(model, file, (1, 28, 28))
    direction = as_point(read_directions(directions).x, net, "weights", "it")
    plane = AffinePlane({k: v.clone() for k, v in tensors(net).items()}, direction)
    operator = Hessian(net, load("fashion_mnist_mini", "train", limit=limit), LOSSES["crossentropy"])
    total, start = 0, None
    for a in points:
        operator.move_to(plane.point(float(a), 0.0))
        found = lanczos(operator, top=1, bottom=1, tolerance=1e-2, max_products=300, start=start)
        total, start = total + found.products, found.vectors.sum(0) if warm else None
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for seed in (1, 2):
            quietly(
                train.main,
                ["--model", "mlp", *DATA, "--epochs", "8", "--seed", str(seed), "--out", f"{folder}/{seed}.t7"],
            )
        between = [
            *"--model mlp".split(),
            *DATA,
            *"--limit 64 --model_file".split(),
            f"{folder}/1.t7",
            "--model_file2",
            f"{folder}/2.t7",
            "--x=-0.5:1.5:33",
        ]
        resnet = ROOT / "trained_nets" / "resnet20_small_batch.safetensors"
        along = [
            *"--model resnet20".split(),
            *DATA,
            *"--limit 48 --model_file".split(),
            str(resnet),
            *"--x=-0.5:0.5:7 --xnorm filter --xignore biasbn".split(),
        ]
        cases = (
            ("two perceptrons, 33 points", "mlp", folder / "1.t7", between, 64),
            ("ResNet-20, 7 points", "resnet20", resnet, along, 48),
        )
        for what, model, file, line, limit in cases:
            own = folder / model
            own.mkdir()
            default, exact = map_of(own, "default", line), map_of(own, "exact", line, "--tolerance", "1e-5")
            loose = sum(
                int(unresolved(surface, name).sum()) for surface in (default, exact) for name in ("max_eig", "min_eig")
            )
            error = difference(default, exact.fields)
            result(
                f"{what}: eigenvalues at the default tolerance of 1e-2 against 1e-5, largest relative difference",
                "≤ 1e-2, all resolved",
                f"{error:.1e}, {loose} not resolved",
                error <= 1e-2 and loose == 0,
            )
            cold, warm = (
                products(model, file, own / "d.h5", default.grid.x, limit=limit, warm=warm) for warm in (False, True)
            )
            result(
                f"{what}: products of cold starts against warm ones, nothing left out in either",
                "",
                f"{cold / warm:.2f}× ({cold} : {warm})",
                None,
            )
        dense = map_of(folder / "mlp", "last", [*between, "--parameters", *LAST])
        error = difference(dense, explicit("mlp", folder / "1.t7", folder / "mlp" / "d.h5", dense, 64))
        result(
            "two perceptrons, 33 points, last layer: eigenvalues against explicit Hessians, largest relative "
            "difference",
            "≤ 1e-2",
            f"{error:.1e}",
            error <= 1e-2,
        )


if __name__ == "__main__":
    main()
