"""Draw the six networks: the loss along a random direction and along the top eigenvector of its Hessian, of one length.

python examples/todays_networks/figure.py FOLDER          what run.sh has put there
"""

import sys
from pathlib import Path
from typing import Any

import h5py

sys.path.append(str(Path(__file__).resolve().parents[2]))

import lossatlas
from lossatlas import figures
from lossatlas.figures.axis_ticks import set_log_ticks
from lossatlas.figures.palette import current_look

NETWORKS = {
    "vit": "Vision transformer",
    "gpt": "GPT",
    "lora": "LoRA adapters",
    "pinn": "Physics-informed network",
    "adversarial": "Adversarial training",
    "value": "Value function",
}
LOSSES = {
    "pinn": "physics-informed loss",
    "adversarial": "robust loss",
    "value": "Huber loss of the TD error",
}
LABELS = {"random": "most-case: random", "eigenvector": "worst-case: top eigenvector"}


def draw(axis: Any, folder: Path, name: str) -> None:
    look = current_look()
    for direction, colour, line in (("random", look.main, "--"), ("eigenvector", look.accent, "-")):
        label = LABELS[direction]
        curve = lossatlas.read(folder / f"{name}_{direction}.h5")
        axis.plot(curve.x, curve.loss, line, color=colour, label=label)
        middle = curve.loss[len(curve.x) // 2]
        text = (
            f"{name}, {direction}: {middle:.4g} at the centre, {curve.loss[0]:.4g} and {curve.loss[-1]:.4g} at the ends"
        )
        if "train_clean_loss" in curve.fields:
            clean = curve.fields["train_clean_loss"]
            axis.plot(curve.x, clean, ":", color=colour, label=f"{label}, clean loss")
            text += f"; clean {clean[len(clean) // 2]:.4g}, {clean[0]:.4g} and {clean[-1]:.4g}"
        print(text)
    if (spectrum := folder / f"{name}_spectrum.h5").exists():
        with h5py.File(spectrum) as file:
            top = float(file["eigenvalues"][0])
        print(f"{name}: top eigenvalue {top:.6g}")
        axis.text(0.5, 0.95, rf"$\lambda_1$ = {top:.3g}", transform=axis.transAxes, ha="center", va="top")
    axis.set_title(NETWORKS[name])
    axis.set_yscale("log")
    set_log_ticks(axis)
    axis.set_ylabel(LOSSES.get(name, "cross-entropy"))


def main(folder: Path) -> None:
    with figures.style() as plt:
        fig, axes = plt.subplots(2, 3, figsize=(9, 5.6), layout="constrained")
        for axis, name in zip(axes.flat, NETWORKS, strict=True):
            draw(axis, folder, name)
        fig.supxlabel("distance from the trained network", fontsize="medium")
        lines = {line.get_label(): line for axis in axes.flat for line in axis.lines}
        fig.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=2, frameon=False)
        figures.save(fig, str(folder / "todays_networks"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
