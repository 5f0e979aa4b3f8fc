"""Does sharpness say how well a network generalizes? One architecture, six recipes, five seeds, with spreads.

    bash examples/sharpness_generalization/run.sh

Small and large batches (32 and 500) with SGD, Adam and SAM (Foret et al. 2021) on the bundled images of 7 x 7 pixels.
Of each network: test errors, five measures of sharpness, and the rank correlation of each with the test error, with a
bootstrap interval in which recipes are drawn first and then seeds, because networks of one recipe are no independent
observations. What is computed is kept in <out>/sharpness_generalization.
"""

import argparse
import itertools
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
from scipy.stats import spearmanr
from torch import Tensor, nn

import lossatlas
from examples.effective_dimension.networks import conv
from examples.images import images
from lossatlas import figures
from lossatlas.data import as_dataset, as_loss
from lossatlas.figures.palette import curve_colours
from lossatlas.hessian import Hessian
from lossatlas.hessian.sharpness_measures import rises_within

MEASURES = {
    "max_eig": "largest eigenvalue",
    "trace": "trace",
    "worst": "worst rise within 0.1",
    "adaptive": "worst relative rise within 0.5",
    "slice": "rise at 0.5 of a filter-normalized line",
}
RATES = {
    ("sgd", 32): 0.03,
    ("sgd", 500): 0.1,
    ("adam", 32): 1e-3,
    ("adam", 500): 3e-3,
    ("sam", 32): 0.03,
    ("sam", 500): 0.1,
}
RHO = 0.05  # of SAM
SHAPES = {"SGD": "o", "Adam": "^", "SAM": "s"}  # of marks, for print in grey


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    optimizer: str
    batch: int
    seed: int
    epochs: int
    samples: int

    @property
    def title(self) -> str:
        return f"{self.optimizer.upper() if self.optimizer != 'adam' else 'Adam'}, batches of {self.batch}"

    @property
    def name(self) -> str:
        return f"{self.optimizer}_{self.batch}_{self.seed}_{self.epochs}_{self.samples}"


def trained(recipe: Recipe, inputs: Tensor, labels: Tensor) -> nn.Module:
    """The rate falls to zero as a cosine. SAM takes SGD's gradient at the end of a step of length RHO up the slope."""
    torch.manual_seed(recipe.seed)
    net = conv(8, 2, size=7)
    parameters, rate = list(net.parameters()), RATES[recipe.optimizer, recipe.batch]
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(parameters, rate)
        if recipe.optimizer == "adam"
        else torch.optim.SGD(parameters, rate, momentum=0.9)
    )
    batches = -(-len(labels) // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * batches)

    def slope(chosen: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(inputs[chosen]), labels[chosen]).backward()

    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(labels)).split(recipe.batch):
            slope(chosen)
            if recipe.optimizer == "sam":
                length = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm() + 1e-12
                steps = [RHO / length * p.grad for p in parameters if p.grad is not None]
                with torch.no_grad():
                    torch._foreach_add_(parameters, steps)
                slope(chosen)
                with torch.no_grad():
                    torch._foreach_sub_(parameters, steps)
            optimizer.step()
            schedule.step()
    return net.eval()


def study(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train and measure; what is there already is read."""
    file = folder / f"{recipe.name}.json"
    if file.exists():
        return json.loads(file.read_text())
    torch.set_num_threads(1)
    train, test = images(pool=4, limit=recipe.samples), images("test", pool=4, limit=recipe.samples)
    net = trained(recipe, *train)
    found = lossatlas.spectrum(net, train, top=1, bottom=0, trace_error=0.02, progress=False)
    around = Hessian(net, as_dataset(train), as_loss("crossentropy"))
    worst = rises_within(around, [0.1], steps=15, directions=1)[0].worst
    adaptive = rises_within(around, [0.5], adaptive=True, steps=15, directions=1)[0].worst
    lines = [lossatlas.surface(net, train, x="-0.5:0.5:3", seed=seed, progress=False).loss for seed in range(5)]
    with torch.no_grad():
        outputs = net(test[0])
    assert found.trace is not None
    record = {
        "title": recipe.title,
        "train_loss": float(lines[0][1]),
        "test_loss": float(F.cross_entropy(outputs, test[1])),
        "test_error": 100 * float((outputs.argmax(1) != test[1]).double().mean()),
        "max_eig": float(found.eigenvalues[0]),
        "trace": found.trace.value,
        "worst": worst,
        "adaptive": adaptive,
        "slice": float(np.mean([(line[0] + line[2]) / 2 - line[1] for line in lines])),
    }
    file.write_text(json.dumps(record, indent=1))
    print(f"{recipe.title}, seed {recipe.seed}: test error {record['test_error']:.1f} %", flush=True)
    return record


def correlation(records: Sequence[dict[str, Any]], measure: str, draws: int = 2000) -> tuple[float, float, float]:
    """Spearman's rank correlation with the test error, and its 95 % bootstrap interval over recipes and seeds."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        groups.setdefault(record["title"], []).append((record[measure], record["test_error"]))
    pairs = [np.array(group) for group in groups.values()]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        drawn = [pairs[i] for i in rng.integers(len(pairs), size=len(pairs))]
        sample = np.concatenate([group[rng.integers(len(group), size=len(group))] for group in drawn])
        if np.ptp(sample[:, 0]) > 0 and np.ptp(sample[:, 1]) > 0:
            found.append(spearmanr(*sample.T).statistic)
    value = spearmanr(*np.concatenate(pairs).T).statistic
    return float(value), *(float(v) for v in np.percentile(found, [2.5, 97.5]))


def table(records: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds of everything, for each recipe, and the correlations, as Markdown."""
    columns = {"train_loss": "training loss", "test_error": "test error (%)", **MEASURES}
    lines = ["| recipe | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for title in dict.fromkeys(record["title"] for record in records):
        group = [record for record in records if record["title"] == title]
        cells = []
        for name in columns:
            values = np.array([record[name] for record in group])
            cells.append(f"{values.mean():.3g} ± {values.std(ddof=1) if len(values) > 1 else 0:.2g}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "| measure | rank correlation with the test error | 95 % interval |", "|---|---|---|"]
    for name, label in {"train_loss": "the training loss, for comparison", **MEASURES}.items():
        value, low, high = correlation(records, name)
        lines.append(f"| {label} | {value:+.2f} | {low:+.2f} to {high:+.2f} |")
    return "\n".join(lines)


def panels(plt: Any, records: Sequence[dict[str, Any]]) -> Any:
    """A panel for each measure, three in a row, with its rank correlation; the legend takes the place of the sixth."""
    fig, grid = plt.subplots(2, 3, figsize=(8.4, 6.0), layout="constrained", sharey=True)
    axes, place = grid.ravel()[: len(MEASURES)], grid[1, 2]
    colours = list(itertools.islice(curve_colours(), 3))
    titles = list(dict.fromkeys(record["title"] for record in records))
    for ax, (name, label) in zip(axes, MEASURES.items(), strict=True):
        for i, title in enumerate(titles):
            group = [record for record in records if record["title"] == title]
            colour = colours[i // 2]
            marker = SHAPES[group[0]["title"].split(",")[0]]
            small = group[0]["title"].endswith(" 32")
            ax.plot([r[name] for r in group], [r["test_error"] for r in group], marker, color=colour, markersize=5.5,
                    label=title, linestyle="", markerfacecolor=colour if small else "none")  # fmt: skip
        value, low, high = correlation(records, name)
        ax.set(xscale="log", xlabel=label.replace(" within", "\nwithin").replace(" of a", "\nof a"))
        ax.set_title(f"rank correlation {value:+.2f}\n(95 %: {low:+.2f} to {high:+.2f})".replace("-", "\u2212"))
        first, last = ax.get_xlim()
        marks = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5) if first <= m * 10.0**e <= last]
        ax.set_xticks(marks, [f"{mark:g}" for mark in marks])
        ax.set_xticks([], minor=True)
    for ax in grid[:, 0]:
        ax.set_ylabel("test error (%)")
    place.axis("off")
    seeds = len(records) // len(titles)
    place.legend(
        *axes[0].get_legend_handles_labels(), loc="center", frameon=False, title=f"one mark for each of {seeds} seeds"
    )
    return fig


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--out", type=Path, default=Path("."), help="folder for the figure, the table, and what they are made from"
    )
    p.add_argument(
        "--small", action="store_true", help="two seeds and one epoch on few images, to see that all of it works"
    )
    p.add_argument("--processes", type=int, default=2, help="networks at a time (default: 2)")
    args = p.parse_args()
    folder = args.out / "sharpness_generalization"
    folder.mkdir(parents=True, exist_ok=True)
    seeds, epochs, samples = (2, 1, 100) if args.small else (5, 40, 2000)
    recipes = [
        Recipe(optimizer, batch, seed, epochs, samples)
        for optimizer in ("sgd", "adam", "sam")
        for batch in (32, 500)
        for seed in range(seeds)
    ]
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        records = list(pool.map(study, recipes, [folder] * len(recipes)))
    text = table(records)
    (args.out / "sharpness_generalization.md").write_text(text + "\n")
    print(text)
    with figures.style() as plt:
        figures.save(panels(plt, records), str(args.out / "sharpness_generalization"))


if __name__ == "__main__":
    main()
