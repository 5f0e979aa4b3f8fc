"""Effective dimension against width, depth and test loss (Maddox, Benton and Wilson 2020, arXiv 2003.02139).

    bash examples/effective_dimension/run.sh

A network of each width and depth is trained; its effective dimension is that of the Hessian of the summed training
loss, with the regularization z = 10 of a normal prior of variance 0.1. What is computed is kept in
<out>/effective_dimension and not computed again; <name>.npz holds pos_evals and neg_evals as hessian-eff-dim reads
them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossatlas
from examples.effective_dimension.networks import conv, mlp
from examples.images import images
from lossatlas import figures
from lossatlas.figures.palette import current_look

POOL = 4  # images of 7 x 7
Z = 10.0  # of the summed loss: the weights are drawn, and stay, at a variance of about a tenth


@dataclass(frozen=True)
class Case:
    """One network: what it is, how many samples and steps it is trained with, and with which share of random labels."""

    kind: str  # conv or mlp
    width: int
    depth: int
    samples: int
    steps: int
    seed: int = 0
    noise: float = 0.0
    top: int = 20

    @property
    def name(self) -> str:
        noisy = f"_noise{self.noise:g}" if self.noise else ""
        return f"{self.kind}_w{self.width}_d{self.depth}_s{self.seed}{noisy}_n{self.samples}_{self.steps}"


def trained(case: Case, inputs: Tensor, labels: Tensor) -> nn.Module:
    """Adam, its rate falling to zero as a cosine; all samples at once where they are few."""
    torch.manual_seed(case.seed)
    net = conv(case.width, case.depth, size=7) if case.kind == "conv" else mlp(case.width, case.depth)
    optimizer = torch.optim.Adam(net.parameters(), 0.01 if case.kind == "mlp" else 0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case.steps)
    size = len(labels) if case.kind == "mlp" else 100
    for _ in range(case.steps):
        chosen = torch.randperm(len(labels))[:size]
        loss = F.cross_entropy(net(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def quality(net: nn.Module, samples: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean loss, and the share of errors."""
    outputs = net(samples[0])
    return float(F.cross_entropy(outputs, samples[1])), float((outputs.argmax(1) != samples[1]).double().mean())


def study(case: Case, folder: Path) -> dict[str, Any]:
    """Train, measure, write <name>.json and <name>.npz; what is there already is read."""
    file = folder / f"{case.name}.json"
    if file.exists():
        return json.loads(file.read_text())
    torch.set_num_threads(1)
    train = images(pool=POOL, limit=case.samples, noise=case.noise)
    net = trained(case, *train)
    found = lossatlas.spectrum(
        net,
        train,
        top=case.top,
        bottom=0,
        damping=Z / case.samples,
        trace_error=0.1,
        max_trace_products=30,
        probes=2,
        steps=160,
        progress=False,
    )
    values = found.eigenvalues
    np.savez(folder / f"{case.name}.npz", pos_evals=values[values > 0], neg_evals=values[values < 0])
    dimension = found.dimension
    assert dimension is not None
    (train_loss, train_error), (test_loss, test_error) = (
        quality(net, train),
        quality(net, images("test", pool=POOL)),
    )
    record = {
        "kind": case.kind,
        "width": case.width,
        "depth": case.depth,
        "parameters": sum(p.numel() for p in net.parameters()),
        "train_loss": train_loss,
        "train_error": train_error,
        "test_loss": test_loss,
        "test_error": test_error,
        "effective_dimension": dimension.value,
        "error": dimension.error,
        "bounds": [dimension.low, dimension.high],
    }
    file.write_text(json.dumps(record, indent=1))
    print(
        f"{case.name}: {record['parameters']} parameters, loss {train_loss:.2g}, test {test_loss:.3g}, "
        f"effective dimension {dimension.value:.1f} +- {dimension.error:.1f}",
        flush=True,
    )
    return record


def studies(cases: Sequence[Case], folder: Path, processes: int) -> list[dict[str, Any]]:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(study, cases, [folder] * len(cases)))


def panels(plt: Any, families: dict[str, list[dict[str, Any]]]) -> Any:
    """Training loss, test loss and effective dimension over width and depth; lines join equal numbers of parameters."""
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.4, foreground="0.2")]  # on every colour of the maps
    fields = (
        ("train_loss", "training loss"),
        ("test_loss", "test loss"),
        ("effective_dimension", "effective dimension"),
    )
    fig, axes = plt.subplots(len(families), 3, figsize=(9, 3.1 * len(families)), layout="constrained", squeeze=False)
    for row, (title, records) in zip(axes, families.items(), strict=True):
        kind, width = title.split(": ")
        widths, depths = (sorted({r[name] for r in records}) for name in ("width", "depth"))
        place = {(r["depth"], r["width"]): r for r in records}
        for ax, (name, label) in zip(row, fields, strict=True):
            values = np.array([[place[d, w][name] for w in widths] for d in depths])
            looks = {"cmap": current_look().colour_map, "norm": LogNorm() if name == "train_loss" else None}
            drawn = ax.pcolormesh(range(len(widths)), depths, values, shading="nearest", **looks)
            fig.colorbar(drawn, ax=ax)
            ax.set_title(label, fontsize="medium")
            sizes = np.array([[place[d, w]["parameters"] for w in widths] for d in depths])
            levels = np.geomspace(sizes.min(), sizes.max(), 6)[1:-1]
            if len(depths) > 1:
                lines = ax.contour(range(len(widths)), depths, sizes, levels=levels, colors="white", linewidths=0.8)
                lines.set_path_effects(halo)
                for text in ax.clabel(lines, fmt=lambda v: f"{float(f'{v:.2g}'):,.0f}", fontsize=7):
                    text.set_path_effects(halo)
            ax.set_xticks(range(len(widths)), [str(w) for w in widths])
            ax.set_yticks(depths)
            ax.set_xlabel(width)
        row[0].set_ylabel(f"{kind}\nnumber of hidden layers")
    line = Line2D([], [], color="white", linewidth=1, path_effects=halo)
    fig.legend(
        [line], ["equal number of parameters, which is written on the line"], loc="outside lower center", frameon=False
    )
    return fig


def descent(plt: Any, records: Sequence[dict[str, Any]], noise: float) -> Any:
    """Losses, errors and effective dimension over the width, mean over seeds; each seed as a dot."""
    widths = sorted({r["width"] for r in records})
    fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
    look, seeds = current_look(), len(records) // len(widths)

    def line(ax: Any, name: str, label: str, color: str, factor: float = 1.0) -> None:
        values = [[factor * r[name] for r in records if r["width"] == w] for w in widths]
        ax.plot(widths, [np.mean(v) for v in values], color=color, label=label,
                linestyle="--" if label == "test" else "-")  # fmt: skip
        for w, v in zip(widths, values, strict=True):
            ax.plot([w] * len(v), v, ".", color=color, markersize=3)

    line(axes[0], "train_loss", "training", look.main)
    line(axes[0], "test_loss", "test", look.accent)
    axes[0].set(ylabel="loss", yscale="log")
    line(axes[1], "train_error", "training", look.main, 100)
    line(axes[1], "test_error", "test", look.accent, 100)
    axes[1].set(ylabel="errors (%)")
    line(axes[2], "effective_dimension", "effective dimension", look.ink)
    axes[2].set(ylabel="effective dimension")
    fitted = [w for w in widths if all(r["train_error"] == 0 for r in records if r["width"] == w)]
    for ax in axes:
        ax.set(xlabel="units of the hidden layer", xscale="log")
        ax.set_xticks(widths[::2], [str(w) for w in widths[::2]])
        ax.minorticks_off()
        if fitted:
            ax.axvline(fitted[0], color="0.6", linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False)
    means = f"lines: mean of {seeds} seeds, dots: each; " if seeds > 1 else ""
    fig.suptitle(
        f"{100 * noise:g} % random labels; {means}dotted: from here on every training label is learned",
        fontsize="medium",
    )
    return fig


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("."), help="folder for the figures and what they are drawn from")
    p.add_argument("--small", action="store_true", help="a few tiny networks, to see that all of it works")
    p.add_argument("--processes", type=int, default=2, help="networks at a time (default: 2)")
    args = p.parse_args()
    folder = args.out / "effective_dimension"
    folder.mkdir(parents=True, exist_ok=True)
    samples, steps, top = (60, 30, 5) if args.small else (500, 2000, 20)
    channels, widths, depths = (
        ((2, 3), (2, 3), (1, 2)) if args.small else ((4, 8, 16, 32), (4, 8, 16, 32, 64), (1, 2, 3, 4))
    )
    noise, few, long = 0.2, *((60, 30) if args.small else (500, 3000))
    over, seeds = ((2, 4, 8), 1) if args.small else ((2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 256), 3)
    families = {
        "convolutional networks: channels of each layer": [
            Case("conv", w, d, samples, steps, top=top) for d in depths for w in channels
        ],
        "perceptrons: units of each hidden layer": [
            Case("mlp", w, d, samples, steps, top=top) for d in depths for w in widths
        ],
    }
    noisy = [Case("mlp", w, 1, few, long, seed, noise, top) for w in over for seed in range(seeds)]
    found = {title: studies(cases, folder, args.processes) for title, cases in families.items()}
    second = studies(noisy, folder, args.processes)
    with figures.style() as plt:
        figures.save(panels(plt, found), str(args.out / "effective_dimension"))
        figures.save(descent(plt, second, noise), str(args.out / "double_descent"))


if __name__ == "__main__":
    main()
