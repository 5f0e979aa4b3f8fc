"""Eigenvalues and the trace against what others do: PyHessian's power iteration, two eigsh solves, plain Hutchinson.

    python benchmarks/eigenpairs.py

The bundled ResNet-20 and bundled images. Each comparison is on the same data and to the same tolerance.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from baselines import kept_product, power_iteration, rebuilt_product, result, two_solves

from lossatlas.data import LOSSES
from lossatlas.datasets.registry import load
from lossatlas.hessian import Hessian, hutchinson, lanczos
from lossatlas.models import build, load_into, read_state
from lossatlas.parameter_space import AffinePlane, moved, random_direction, tensors

LOSS = LOSSES["crossentropy"]


def network() -> torch.nn.Module:
    net, file = build("resnet20", (1, 28, 28)), ROOT / "trained_nets" / "resnet20_small_batch.safetensors"
    load_into(net, read_state(file), str(file))
    return net.eval()


def top_two(net: torch.nn.Module) -> None:
    data = load("fashion_mnist_mini", limit=512)
    start = time.perf_counter()
    values, residuals, products = power_iteration(
        kept_product(net, data.inputs, data.targets), sum(p.numel() for p in net.parameters()), 2, 1e-3, 300
    )
    theirs = time.perf_counter() - start
    print(f"  power iteration: {values} after {products} products, residuals {residuals}: {theirs:.1f} s")
    seconds = {}
    for compiled in (False, True):
        start = time.perf_counter()
        operator = Hessian(net, data, LOSS, compiled=compiled)
        if compiled:
            operator(torch.ones(operator.size))
        ready = time.perf_counter()
        found = lanczos(operator, top=2, tolerance=1e-3)
        seconds[compiled] = time.perf_counter() - ready, time.perf_counter() - start
        print(
            f"  Lanczos{', compiled' * compiled}: {found.values} after {found.products} products, residuals "
            f"{found.residuals / found.values}: {seconds[compiled][0]:.1f} s, "
            f"with preparation {seconds[compiled][1]:.1f} s"
        )
    what = "top-2 eigenpairs, residual 1e-3, ResNet-20, 512 images, against PyHessian's algorithm"
    result(f"{what}, all included", "≥ 2.5×", f"{theirs / seconds[False][1]:.1f}×", theirs / seconds[False][1] >= 2.5)
    result(
        f"{what}, compiled, without compiling",
        "≥ 4×",
        f"{theirs / seconds[True][0]:.1f}×",
        theirs / seconds[True][0] >= 4,
    )
    result(f"{what}, compiled, with compiling", "", f"{theirs / seconds[True][1]:.1f}×", None)


def ends(net: torch.nn.Module) -> None:
    data = load("fashion_mnist_mini", limit=96)
    origin = tensors(net)
    plane = AffinePlane(origin, random_direction(origin, "filter", "biasbn", 123))
    operator = Hessian(net, data, LOSS)
    fewer, faster = [], []
    for a in (0.0, 0.1, 0.25):
        operator.move_to(plane.point(a, 0.0))
        start = time.perf_counter()
        found = lanczos(operator, top=1, bottom=1, tolerance=1e-2)
        ours = time.perf_counter() - start
        exact = lanczos(operator, top=1, bottom=1, tolerance=1e-4)
        with moved(net, plane.point(a, 0.0)):
            net.requires_grad_(True)
            start = time.perf_counter()
            largest, smallest, products = two_solves(
                lambda v: rebuilt_product(net, data.inputs, data.targets, torch.from_numpy(v)).numpy(),
                operator.size,
                1e-2,
            )
            theirs = time.perf_counter() - start
        print(
            f"  at {a}: ours {found.products} products, {ours:.1f} s, errors "
            f"{np.abs(found.values / exact.values - 1)}; two solves {products} products, {theirs:.1f} s, errors "
            f"{np.abs(np.array([largest, smallest]) / exact.values - 1)}"
        )
        fewer.append(products / found.products)
        faster.append(theirs / ours)
    what = "both ends at a point, tolerance 1e-2, ResNet-20, 96 images, against two eigsh solves (median of 3 points)"
    result(f"{what}, products", "≥ 1.5×", f"{np.median(fewer):.2f}×", np.median(fewer) >= 1.5)
    result(f"{what}, time", "≥ 3×", f"{np.median(faster):.1f}×", np.median(faster) >= 3)


def trace(net: torch.nn.Module) -> None:
    operator = Hessian(net, load("fashion_mnist_mini", limit=256), LOSS)
    pairs = lanczos(operator, top=10, bottom=1, tolerance=1e-3)
    after = hutchinson(operator, tolerance=0.02, known=pairs)
    plain = hutchinson(operator, tolerance=0.02, max_products=60)
    wanted = plain.products * (plain.error / (0.02 * after.value)) ** 2
    print(
        f"  after {pairs.products} products for 11 eigenpairs: {after.value:.5g} +- {after.error:.2g} with "
        f"{after.products}; plain: {plain.value:.5g} +- {plain.error:.2g} after {plain.products}, so 2 % takes "
        f"{wanted:.0f}"
    )
    what = "trace to 2 %, ResNet-20, 256 images: products of plain Hutchinson (extrapolated from 60) against"
    result(f"{what} those after the eigenvalues", "fewer", f"{wanted:.0f} : {after.products}", wanted > after.products)
    total = pairs.products + after.products
    result(f"{what} all of them", "fewer", f"{wanted:.0f} : {total}", wanted > total)


def main() -> None:
    net = network()
    ends(net)
    top_two(net.requires_grad_(True))
    trace(net)


if __name__ == "__main__":
    main()
