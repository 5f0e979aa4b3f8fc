"""Calls as users write them: mypy accepts them, and refuses those that are marked. Nothing runs this file."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lossatlas
from lossatlas import figures
from lossatlas.choices import Norm
from lossatlas.data import DataLike, LossLike, as_dataset, as_loss


class Images(Dataset[tuple[Tensor, int]]):
    """A data set of a user."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.zeros(3), number % 2


class NoData:
    """Neither tensors nor batches nor a torch data set."""


def batches() -> Iterator[dict[str, Tensor]]:
    """A generator of batches."""
    yield {"x": torch.zeros(2, 3), "labels": torch.zeros(2, dtype=torch.int64)}


def mean_loss(output: Tensor, target: Tensor) -> Tensor:
    """An ordinary loss."""
    return F.cross_entropy(output, target)


def own_loss(model: nn.Module, batch: Any) -> lossatlas.Losses:
    """A loss(model, batch) of per-sample losses."""
    return lossatlas.Losses(model(batch[0]).flatten())


def three_arguments(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """A loss that is called with less than it needs."""
    return weight * F.cross_entropy(output, target)


def kinds_of_data(net: nn.Module, inputs: Tensor, targets: Tensor, array: np.ndarray, own: DataLike) -> None:
    """Pass every kind of data that is documented."""
    tensors = TensorDataset(inputs, targets)
    lossatlas.surface(net, (inputs, targets))
    lossatlas.surface(net, [inputs, targets], test={"x": inputs, "labels": targets})
    lossatlas.surface(net, ((inputs, inputs), targets), test=None)
    lossatlas.surface(net, (array, array), test=tensors)
    lossatlas.surface(net, Images(), test=DataLoader(Images(), batch_size=2))
    lossatlas.surface(net, DataLoader(tensors), test=batches())
    lossatlas.eigenvalues(net, as_dataset((inputs, targets)))
    lossatlas.spectrum(net, [(inputs, targets), (inputs, targets)])
    lossatlas.trajectory(net, [net, net, net], None)
    lossatlas.trajectory(net, ["a.pt", Path("b.pt"), net], own, epochs=np.arange(3))
    lossatlas.trajectory(net, "run", own, epochs=[0, 1, 2])
    lossatlas.trajectory(net, ["run", [net, "b.pt"]], own, labels=["first", "second"])
    lossatlas.surface(net, NoData())  # type: ignore[arg-type]
    lossatlas.surface(net, 3)  # type: ignore[arg-type]
    lossatlas.trajectory(net, [net, net, net], NoData())  # type: ignore[arg-type]


def kinds_of_losses(net: nn.Module, data: DataLike, own: LossLike) -> None:
    """Pass every kind of loss that is documented."""
    lossatlas.surface(net, data, loss="mse")
    lossatlas.surface(net, data, loss=F.cross_entropy)
    lossatlas.surface(net, data, loss=partial(F.cross_entropy, label_smoothing=0.1))
    lossatlas.eigenvalues(net, data, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    lossatlas.spectrum(net, data, loss=mean_loss)
    lossatlas.spectrum(net, data, loss=lambda output, target: (output - target).square())
    lossatlas.trajectory(net, [net, net, net], data, loss=own_loss)
    lossatlas.surface(net, data, loss=as_loss(own))
    lossatlas.surface(net, data, loss=three_arguments)  # type: ignore[arg-type]
    lossatlas.surface(net, data, loss=None)  # type: ignore[arg-type]


def words(net: nn.Module, data: DataLike, word: str, norm: Norm, options: dict[str, str]) -> None:
    """Pass words as literals, and as variables: functions check them when they are called."""
    lossatlas.surface(net, data, norm="filter", ignore="biasbn", dir_type="weights", precision="tf32", bn="keep")
    lossatlas.surface(
        net, data, norm=norm, ignore=options["ignore"], dir_type=word, precision=word, bn=word, memory=word
    )
    lossatlas.eigenvalues(net, data, norm=word, ignore="", precision="float64")
    lossatlas.spectrum(net, data, activation_site=word, precision=word, loss=word)
    lossatlas.trajectory(net, [net, net], data, plane=word, dir_type=word, ignore=word, precision=word)
    lossatlas.surface(net, data, norm=3)  # type: ignore[arg-type]
    lossatlas.trajectory(net, [net, net], data, plane=None)  # type: ignore[arg-type]


def results(net: nn.Module, data: DataLike, kind: str) -> None:
    """Draw results: kinds of figures are words too."""
    surface = lossatlas.surface(net, data, x="-1:1:3", y=[-1.0, 0.0, 1.0], towards=[net, {"weight": torch.zeros(1)}])
    surface.plot(kind="filled", vmax=1.0)
    surface.plot(None, kind)
    surface.film("film.gif", kind, trajectory=lossatlas.trajectory(net, [net, net, net], data))
    lossatlas.compare([surface, "b.h5"]).plot(kind, log=True)
    lossatlas.spectrum(net, data).plot("density", look=kind)
    surface.plot(kind=1)  # type: ignore[arg-type]
    surface.plot(vmax="1")  # type: ignore[arg-type]
    surface.plot(vmx=3)  # type: ignore[call-arg]


def keywords_of_figures(surface: lossatlas.Landscape) -> np.ndarray:
    """Draw with the keywords of each kind; a kind does not take those of others."""
    surface.plot(kind="filled", vmax=3, cmap="magma", levels=[1, 2.5], field=lambda s: np.exp(s["train_loss"]))
    surface.plot(kind="solid", elev=30, azim=20, figsize=(4, 3), field="exp(train_loss)", title="a")
    figures.curve(surface, color="red", log=True)
    figures.contour(surface, elev=3)  # type: ignore[call-arg]
    return surface["train_loss"]
