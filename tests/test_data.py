"""Data of any structure, and losses as people write them, against what torch computes itself."""

import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lossatlas.data import LOSSES, Dataset, FixedBatches, Losses, as_dataset, as_loss
from lossatlas.data.structures import equal_structures, joined_batches, leaves, mapped, selected_samples
from lossatlas.errors import BadInput, BadUsage

X, Y = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 3
Pair = namedtuple("Pair", ["x", "y"])


def test_structures_are_cut_and_joined():
    whole = {"a": (X, [Y, X]), "names": [f"s{k}" for k in range(10)], "kind": 3, "pair": Pair(X, Y)}
    halves = [selected_samples(whole, slice(0, 4)), selected_samples(whole, slice(4, 10))]
    again = joined_batches(halves)
    assert equal_structures(again, whole)
    assert again["names"] == whole["names"]
    assert isinstance(again["pair"], Pair)
    chosen = selected_samples(whole, torch.tensor([3, 1]))
    assert chosen["names"] == ["s3", "s1"]
    assert torch.equal(chosen["pair"].x, X[[3, 1]])
    assert [path for path, _ in leaves(whole)] == [
        "['a'][0]",
        "['a'][1][0]",
        "['a'][1][1]",
        "['names']",
        "['pair'][0]",
        "['pair'][1]",
    ]
    assert mapped(np.ones(3), lambda t: t + 1).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="shapes"):
        joined_batches([X, X[:, :2]])


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, k):
        return X[k], int(Y[k])


class Augmented(Rows):
    def __getitem__(self, k):
        return X[k] + torch.randn(4), int(Y[k])


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X, Y],
        TensorDataset(X, Y),
        Rows(),
        Stream(),
        DataLoader(Rows(), batch_size=3),
        DataLoader(Rows(), batch_size=4),
        DataLoader(Stream(), batch_size=3),
        [(X[:6], Y[:6]), (X[6:], Y[6:])],
        ((x[None], y[None]) for x, y in zip(X, Y, strict=True)),
        (X.numpy(), Y.numpy()),
    ],
    ids=[
        "tensors",
        "a list",
        "TensorDataset",
        "Dataset",
        "IterableDataset",
        "DataLoader",
        "another",
        "of a stream",
        "batches",
        "a generator",
        "numpy",
    ],
)
def test_all_ways_give_the_same_samples(data):
    found = as_dataset(data)
    assert isinstance(found, Dataset)
    assert len(found) == 10
    assert torch.equal(found.inputs, X)
    assert torch.equal(found.targets, Y)
    assert found.digest == Dataset("it", "train", (X, Y)).digest


@pytest.mark.parametrize("options", [{"shuffle": True}, {"drop_last": True}], ids=str)
def test_what_shuffles_or_drops_is_put_right_and_said(options):
    with pytest.warns(UserWarning, match="in the order of the data set"):
        assert torch.equal(as_dataset(DataLoader(Rows(), batch_size=4, **options)).inputs, X)


def test_what_is_random_is_refused():
    with pytest.raises(BadInput, match="sample 0 of the Augmented differs each time"):
        as_dataset(Augmented())
    with pytest.raises(BadInput, match="augmented at random"):
        as_dataset(DataLoader(Augmented(), batch_size=2))

    class Shuffling:
        def __iter__(self):
            yield (torch.randn(3, 4), torch.zeros(3))

    with pytest.raises(BadInput, match="two passes"):
        as_dataset(Shuffling())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "gives no batch"),
        (3, "data have to be"),
        (iter([]), "gives no batch"),
        (TensorDataset(X[:0], Y[:0]), "every tensor has to have"),
        ({"a": X, "b": Y[:3]}, "10 in .'a'., 3 in .'b'."),
    ],
    ids=["nothing", "a number", "an iterator", "empty", "lengths"],
)
def test_what_is_no_data_is_refused(data, message):
    with pytest.raises(BadInput, match=message):
        as_dataset(data)


def test_batches_of_different_shapes_stay():
    batches = [
        {"ids": torch.zeros(3, 5), "labels": torch.zeros(3)},
        {"ids": torch.zeros(2, 7), "labels": torch.zeros(2)},
    ]
    found = as_dataset(batches)
    assert isinstance(found, FixedBatches)
    assert len(found) == 5
    assert list(found.spans(0, 5, 2)) == [(0, 3), (3, 5)]
    assert list(found.spans(0, 3, 9)) == [(0, 3)]
    assert len(found.first(1).contents) == 1
    assert [len(found.share(k, 2)) for k in range(2)] == [3, 2]
    assert found.digest != as_dataset(batches[::-1]).digest


def mean(losses: Losses) -> float:
    weights = torch.ones_like(losses.per_sample) if losses.weights is None else losses.weights
    return float((weights * losses.per_sample).sum() / weights.sum())


NET = nn.Linear(4, 3)
CLASS = torch.tensor([1.0, 0.2, 3.0])
ORDINARY = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(weight=CLASS),
    nn.CrossEntropyLoss(weight=CLASS, label_smoothing=0.3),
    nn.CrossEntropyLoss(ignore_index=1),
    nn.MultiMarginLoss(),
    F.cross_entropy,
    F.multi_margin_loss,
    lambda output, target: 1.0 * F.cross_entropy(output, target),
]


@pytest.mark.parametrize("loss", ORDINARY, ids=range(len(ORDINARY)))
def test_ordinary_losses_have_the_mean_that_torch_gives(loss):
    found = as_loss(loss)(NET, (X, Y))
    assert found.per_sample.shape == (10,)
    assert mean(found) == pytest.approx(float(loss(NET(X), Y)), rel=1e-6)
    assert found.spread == (loss is not ORDINARY[-1])
    parts = [as_loss(loss)(NET, (X[k : k + 4], Y[k : k + 4])) for k in range(0, 10, 4)]
    joint = Losses(
        torch.cat([p.per_sample for p in parts]),
        None if parts[0].weights is None else torch.cat([p.weights for p in parts]),
    )
    assert mean(joint) == pytest.approx(float(loss(NET(X), Y)), rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.L1Loss(),
        nn.SmoothL1Loss(),
        nn.BCEWithLogitsLoss(),
        F.mse_loss,
        nn.KLDivLoss(reduction="batchmean"),
    ],
    ids=range(6),
)
def test_regressions(loss):
    targets = torch.rand(10, 3)
    assert mean(as_loss(loss)(NET, (X, targets))) == pytest.approx(float(loss(NET(X), targets)), rel=1e-5)


def test_mse_of_float_targets_is_that_of_torch():
    targets = torch.rand(10, 3)
    assert mean(LOSSES["mse"](NET, (X, targets))) == pytest.approx(float(F.mse_loss(NET(X), targets)), rel=1e-6)
    one = nn.Linear(4, 1)
    assert mean(LOSSES["mse"](one, (X, targets[:, 0]))) == pytest.approx(
        float(F.mse_loss(one(X)[:, 0], targets[:, 0])), rel=1e-6
    )


@pytest.mark.parametrize("batch", ["tuple", "dict"])
def test_outputs_whose_classes_may_be_two_axes_are_refused(batch):
    """As of a batch with as many positions as classes among others that are read the other way."""
    targets = torch.zeros(2, 5, dtype=torch.long)
    pair = (torch.zeros(2, 5, 5), targets)
    data = pair if batch == "tuple" else {"x": pair[0], "labels": targets}
    with pytest.raises(BadInput, match="the second or the last axis may be the classes: give a function"):
        LOSSES["crossentropy"](lambda x: x, data)


def test_sequences_and_segmentation():
    """The mean is over all positions that count, as torch has it, whatever the batches."""
    labels = torch.randint(0, 3, (10, 6), generator=torch.Generator().manual_seed(1))
    labels[3, 2:], labels[5] = -100, -100
    first, last = nn.Conv1d(4, 3, 1), nn.Linear(4, 3)
    images = torch.randn(10, 4, 6)
    expected = float(F.cross_entropy(first(images), labels))
    assert mean(LOSSES["crossentropy"](first, (images, labels))) == pytest.approx(expected, rel=1e-6)
    assert mean(as_loss(nn.CrossEntropyLoss())(first, (images, labels))) == pytest.approx(expected, rel=1e-6)

    class Tagger(nn.Module):  # with the interface of Hugging Face's
        def forward(self, inputs, mask=None):
            return {"logits": last(inputs), "hidden": inputs}

    batch = {"inputs": images.movedim(1, -1), "mask": None, "labels": labels}
    expected = float(F.cross_entropy(last(batch["inputs"]).flatten(0, 1), labels.flatten()))
    assert mean(LOSSES["crossentropy"](Tagger(), batch)) == pytest.approx(expected, rel=1e-6)


def test_several_inputs():
    net = nn.Bilinear(4, 4, 3)
    assert mean(LOSSES["crossentropy"](net, (X, 2 * X, Y))) == pytest.approx(
        float(F.cross_entropy(net(X, 2 * X), Y)), rel=1e-6
    )


def test_what_is_no_loss_is_refused():
    with pytest.raises(BadUsage, match="loss='huber': choose from"):
        as_loss("huber")
    with pytest.raises(BadUsage, match="sums over the samples"):
        as_loss(nn.MSELoss(reduction="sum"))
    with pytest.raises(BadInput, match="cross-entropy needs whole numbers as labels"):
        LOSSES["crossentropy"](NET, (X, Y + 0.9))
    with pytest.raises(BadInput, match="gave 3 values for a batch of 10"):
        as_loss(lambda output, target: output.sum(0))(NET, (X, Y))
    with pytest.raises(BadInput, match="a batch has no targets"):
        LOSSES["crossentropy"](NET, {"x": X})

    class TinyForCausalLM(nn.Linear):
        pass

    with pytest.raises(BadInput, match="labels have to be shifted"):
        LOSSES["crossentropy"](TinyForCausalLM(4, 3), {"input": X, "labels": Y})


def test_a_model_and_a_batch():
    full = as_loss(lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], reduction="none"))
    assert mean(full(NET, (X, Y))) == pytest.approx(float(F.cross_entropy(NET(X), Y)), rel=1e-6)
    own = Losses(torch.ones(10))
    assert as_loss(lambda net, batch: own)(NET, (X, Y)) is own
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_loss("mse") is LOSSES["mse"]


@pytest.mark.parametrize(
    ("data", "there"),
    [
        (
            (torch.zeros(4, 5), torch.zeros(2, 7), torch.zeros(1)),
            r"the data \(tuple\) have 4 in \[0\], 2 in \[1\]",
        ),
        (
            [{"nodes": torch.zeros(n, 5), "edges": torch.zeros(2, 9)} for n in (4, 6)],
            r"batch 0 of the data \(list\) have 4",
        ),
        (
            {"nodes": torch.zeros(4, 5), "edges": torch.zeros(2, 7)},
            r"the data \(dict\) have 4 in \['nodes'\], 2 in",
        ),
        ([{"scale": torch.tensor(1.0)}], r"the data \(list\) have no tensor with an axis"),
    ],
    ids=["a tuple", "batches", "a dict", "numbers"],
)
def test_data_that_are_no_samples_are_refused_with_the_way(data, there):
    with pytest.raises(BadInput, match=there) as caught:
        as_dataset(data)
    assert "every tensor has to have the samples along its first axis" in str(caught.value)
    assert "pass each batch as one sample" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_batches_of_one_sample_each_count_once_whatever_their_size():
    data = as_dataset([{"nodes": torch.zeros(1, n, 5), "edges": torch.zeros(1, 2, 2 * n)} for n in (4, 6, 3)])
    assert len(data) == 3
