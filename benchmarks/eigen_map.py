"""Products that a 1-D map of eigenvalues takes when each cell starts from its neighbour's eigenvectors, and when not.

    python benchmarks/eigen_map.py

The bundled ResNet-20, 96 bundled images, 21 points on the default range, tolerance 1e-2. Counts, so
that a busy machine does not matter.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from baselines import result

import plot_hessian_eigen
from h5_util import read_surface

FILE = ROOT / "trained_nets" / "resnet20_small_batch.safetensors"


def products(folder: str, x: str, chain: int) -> float:
    out = Path(folder) / f"{chain}.h5"
    line = ["--model", "resnet20", "--dataset", "fashion_mnist_mini", "--limit", "96", "--model_file", str(FILE),
            f"--x={x}", "--xnorm", "filter", "--xignore", "biasbn", "--dir_file", f"{folder}/d.h5", "--surf_file", str(out),
            "--chain", str(chain), "--batch_size", "96"]  # fmt: skip
    assert plot_hessian_eigen.main(line) == 0
    return float(read_surface(out).fields["products"].sum())


def main() -> None:
    for x in ("-1:1:21",):
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (products(folder, x, chain) for chain in (1, 21))
        what = f"a 1-D map of 21 points, --x={x}: cold against warm starts"
        result(f"{what}, products", "≥ 1.5×", f"{cold / warm:.2f}× ({cold:.0f} : {warm:.0f})", cold / warm >= 1.5)


if __name__ == "__main__":
    main()
