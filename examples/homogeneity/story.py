"""Moving along sharp directions changes a network's predictions, along flat ones it does not (Maddox et al., 2020).

    bash examples/homogeneity/run.sh

Two networks: a perceptron that tells two spirals apart (examples/spirals.py), whose decision boundary is drawn, and a
convolutional network on the bundled images. A sharp direction is a random unit vector in the span of the largest
eigenvectors of the Hessian, a flat one a random unit vector that is orthogonal to many of them.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossatlas
from examples import spirals
from examples.effective_dimension.networks import conv
from examples.images import images
from lossatlas import figures
from lossatlas.figures.palette import current_look

Move = Callable[[float], nn.Module]
SPLITS = {"train": "training", "test": "test"}
SHARP, FLAT = "largest eigenvectors", "orthogonal to them"


class Directions:
    """The largest eigenvectors of a network's Hessian, and networks moved along what they span or what they do not."""

    def __init__(self, net: nn.Module, data: tuple[Tensor, Tensor], sharp: int, known: int) -> None:
        found = lossatlas.spectrum(
            net, data, top=known, bottom=0, trace_error=0.1, max_trace_products=50, progress=False
        )
        self.net, self.sharp = net, sharp
        self.values = found.eigenvalues
        names = [name for name, _ in net.named_parameters()]
        vectors = [found.vector(k) for k in range(known)]
        self.vectors = torch.stack(
            [torch.cat([vector[name].flatten() for name in names]) for vector in vectors]
        ).double()

    def moved(self, kind: str, seed: int) -> Move:
        """Networks at a distance along one direction of this kind."""
        generator = torch.Generator().manual_seed(seed)
        if kind == SHARP:
            direction = torch.randn(self.sharp, generator=generator, dtype=torch.float64) @ self.vectors[: self.sharp]
        else:
            direction = torch.randn(self.vectors.shape[1], generator=generator, dtype=torch.float64)
            for _ in range(2):
                direction -= self.vectors.T @ (self.vectors @ direction)
        direction /= direction.norm()

        def at(distance: float) -> nn.Module:
            net = copy_of(self.net)
            vector = nn.utils.parameters_to_vector(net.parameters()).double() + distance * direction
            nn.utils.vector_to_parameters(vector.float(), net.parameters())
            return net

        return at


def copy_of(net: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(net).eval().requires_grad_(False)


def trained_conv(data: tuple[Tensor, Tensor], steps: int) -> nn.Module:
    torch.manual_seed(0)
    net = conv(8, 2)
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    for _ in range(steps):
        chosen = torch.randperm(len(data[1]))[:100]
        loss = F.cross_entropy(net(data[0][chosen]), data[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def changed(net: nn.Module, moved: nn.Module, inputs: Tensor) -> float:
    """The share of predictions that differ, in percent."""
    with torch.no_grad():
        return 100 * float((net(inputs).argmax(1) != moved(inputs).argmax(1)).double().mean())


def boundary(plt: Any, found: Directions, data: tuple[Tensor, Tensor], distance: float, cells: int) -> Any:
    """The decision boundary of the trained network, and of six that were moved as far in either way."""
    side = torch.linspace(-1.25, 1.25, cells)
    points, look = torch.cartesian_prod(side, side), current_look()
    fig, axes = plt.subplots(1, 3, figsize=(9.0, 3.6), layout="constrained", sharey=True)
    titles = ("the trained network", f"six networks moved by {distance:g}\namong the {found.sharp} {SHARP}",
              f"six networks moved by {distance:g}\northogonal to the {len(found.vectors)} largest")  # fmt: skip

    def lines(ax: Any, net: nn.Module, **style: Any) -> None:
        with torch.no_grad():
            outputs = net(points)
        margin = (outputs[:, 1] - outputs[:, 0]).view(cells, cells).T
        ax.contour(side, side, margin, levels=[0], **style)

    for ax, title, kind in zip(axes, titles, ("", SHARP, FLAT), strict=True):
        for label, color, marker in ((0, look.main, "o"), (1, look.accent, "^")):
            part = data[0][data[1] == label]
            ax.plot(part[:, 0], part[:, 1], marker, color=color, markersize=1.8, alpha=0.6, markeredgewidth=0)
        if kind:
            nets = [found.moved(kind, seed)(distance) for seed in range(6)]
            share = np.mean([changed(found.net, net, data[0]) for net in nets])
            for net in nets:
                lines(ax, net, colors=look.ink, linewidths=0.6, alpha=0.8)
            title += f"\n{share:.2g} % of the predictions change"
        else:
            lines(ax, found.net, colors=look.ink, linewidths=1.2)
        ax.set(title=title, aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    return fig


def shares(plt: Any, found: Directions, splits: dict[str, Tensor], distances: np.ndarray, draws: int) -> Any:
    """Predictions that change over the distance, train and test: mean and range over directions."""
    fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for kind, color in ((SHARP, current_look().accent), (FLAT, current_look().main)):
        moves = [found.moved(kind, seed) for seed in range(draws)]
        nets = [[move(distance) for distance in distances] for move in moves]
        name = (
            f"in the span of the {found.sharp} {kind}"
            if kind == SHARP
            else f"orthogonal to the {len(found.vectors)} largest"
        )
        for (split, inputs), line in zip(splits.items(), ("-", "--"), strict=True):
            values = np.array([[changed(found.net, net, inputs) for net in row] for row in nets])
            ax.plot(distances, values.mean(axis=0), line, color=color, label=f"{name}, {SPLITS[split]}")
            if split == "train":
                ax.fill_between(distances, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
            print(
                f"{name}, {split}: at distance {distances[-1]:g} {values[:, -1].mean():.3g} % of the predictions differ"
            )
    ax.set(
        xlabel="distance in the space of the parameters", ylabel="predictions that change (%)", xlim=(0, distances[-1])
    )
    ax.set_ylim(bottom=0)
    title = f"lines: mean of {draws} directions; shaded: their range (training)"
    fig.legend(
        loc="outside lower center", ncols=1, frameon=False, fontsize="small", title=title, title_fontsize="small"
    )
    return fig


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("."), help="folder for the figures")
    p.add_argument(
        "--small", action="store_true", help="few samples, steps and directions, to see that all of it works"
    )
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    limit, steps, known, draws, cells = (100, 30, 4, 2, 20) if args.small else (1000, 1000, 100, 10, 200)

    net = spirals.make_net()
    net.load_state_dict(torch.load(Path(spirals.__file__).with_suffix(".pt"), weights_only=True)["model_state_dict"])
    points = spirals.data("train").tensors
    spiral = Directions(net.eval(), points, sharp=min(10, known), known=known)
    print(f"spirals: eigenvalues {spiral.values[0]:.3g} to {spiral.values[-1]:.3g}")

    data = images(limit=limit)
    found = Directions(trained_conv(data, steps), data, sharp=min(10, known), known=known)
    print(f"images: eigenvalues {found.values[0]:.3g} to {found.values[-1]:.3g}")
    splits = {"train": data[0], "test": images("test", limit=limit)[0]}
    with figures.style() as plt:
        figures.save(boundary(plt, spiral, points, 2.0, cells), str(args.out / "homogeneity_spirals"))
        figures.save(
            shares(plt, found, splits, np.linspace(0, 3, 3 if args.small else 16), draws),
            str(args.out / "homogeneity_images"),
        )


if __name__ == "__main__":
    main()
