"""Networks and samples come out of their packing, also in another process, with the same bits and shapes."""

import pickle
from collections import namedtuple
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TiedNet, seeded
from torch import Tensor, nn

from lossatlas import config
from lossatlas.data import Dataset, FixedBatches, Streamed
from lossatlas.errors import BadInput
from lossatlas.jobs.inputs import packed_inputs
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.jobs.inputs.packed_inputs import PackedInputs, PackedSamples, StreamedSource, pack_samples
from lossatlas.models import build
from lossatlas.user_code import UserFunction

CHOSEN = config.DataConfig(
    dataset="fashion_mnist_mini",
    datapath=None,
    raw=False,
    data_split=1,
    limit=None,
    splits=("train",),
    files=(None, None),
    download=False,
    image_size=0,
    classes=None,
    split_idx=0,
)
IMAGES = torch.arange(2 * 28 * 28 * 3.0).reshape(3, 2, 28, 28)
LABELS = torch.tensor([0, 9, 4])
Pair = namedtuple("Pair", "inputs targets")


def images(split: str = "train") -> Dataset:
    return Dataset(split, split, (IMAGES, LABELS), 10)


def loaded(net: nn.Module, **changes: Any) -> LoadedInputs:
    inputs = LoadedInputs(
        net=net,
        model="mlp",
        data={"train": images()},
        chosen=CHOSEN,
        loss="crossentropy",
        dir_type="weights",
        origin={},
        targets=[],
        towards={},
        record={},
    )
    return replace(inputs, **changes)


def sent(value: Any) -> Any:
    """Return a copy as another rank receives it: equal arrays in memory of its own, which are read-only."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytes(buffer.raw()) for buffer in buffers])


def leaves(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        return [leaf for each in structure.values() for leaf in leaves(each)]
    if isinstance(structure, list | tuple):
        return [leaf for each in structure for leaf in leaves(each)]
    return [structure]


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    for one, other in zip(leaves(found), leaves(wanted), strict=True):
        if isinstance(other, Tensor):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert torch.equal(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("travel", [lambda value: value, sent])
def test_a_network_and_its_samples_come_out_as_they_were(travel):
    net = seeded(lambda: build("mlp", (2, 28, 28), 10))
    own, data = travel(PackedInputs.of(loaded(net))).unpack()
    assert list(data) == ["train"]
    assert data["train"].classes == 10
    assert_same(data["train"].samples, (IMAGES, LABELS))
    assert_same(dict(own.state_dict()), dict(net.state_dict()))
    assert not any(module.training for module in own.modules())
    assert not any(parameter.requires_grad for parameter in own.parameters())
    assert torch.equal(own(IMAGES), net(IMAGES))


def test_packing_on_one_rank_copies_nothing_but_images():
    net = seeded(lambda: build("mlp", (2, 28, 28), 10))
    own, data = PackedInputs.of(loaded(net)).unpack()
    addresses = {name: value.data_ptr() for name, value in net.state_dict().items()}
    assert {name: value.data_ptr() for name, value in own.state_dict().items()} == addresses
    assert data["train"].targets.data_ptr() == LABELS.data_ptr()


def test_images_are_stored_with_their_channels_last():
    packed = pack_samples(images(), CHOSEN)
    assert isinstance(packed, PackedSamples)
    assert packed.samples[0].shape == (3, 28, 28, 2)
    np.testing.assert_array_equal(packed.samples[0][1, 2, 3], IMAGES[1, :, 2, 3])


@pytest.mark.parametrize(
    "samples",
    [
        (torch.arange(6.0).reshape(3, 2), LABELS),
        {"pixels": IMAGES, "more": [LABELS, LABELS + 1]},
        Pair(torch.zeros(3, 4, 5), LABELS),
        (torch.arange(6.0).reshape(3, 2).to(torch.bfloat16), LABELS),  # numpy has no such type
        (torch.tensor([True, False, True]), torch.arange(3, dtype=torch.uint8)),
    ],
)
def test_samples_of_any_structure_come_out_as_they_were(samples):
    data = Dataset("mine", "test", samples, 3)
    for packed in (pack_samples(data, CHOSEN), sent(pack_samples(data, CHOSEN))):
        found = packed.unpack("test")
        assert (type(found), found.split, found.classes) == (Dataset, "test", 3)
        assert_same(found.samples, samples)


@pytest.mark.parametrize("samples", [(IMAGES, LABELS), {"pixels": IMAGES, "labels": [LABELS]}])
def test_samples_of_another_rank_are_copied_before_they_can_be_written(samples):
    packed = sent(pack_samples(Dataset("mine", "train", samples, 10), CHOSEN))
    for tensor in leaves(packed.unpack("train").samples):
        tensor.fill_(7)
        assert (tensor == 7).all()
    assert_same(packed.unpack("train").samples, samples)


def test_weights_of_another_rank_are_copied_before_they_can_be_written():
    packed = sent(PackedInputs.of(loaded(seeded(lambda: build("mlp", (2, 28, 28), 10)))))
    before = {name: array.copy() for name, array in packed.state.items()}
    own, _ = packed.unpack()
    for tensor in own.state_dict().values():
        tensor.fill_(7)
    for name, array in packed.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_batches_of_other_shapes_stay_apart():
    contents = [(torch.arange(8).reshape(2, 4), torch.ones(2)), (torch.arange(3).reshape(1, 3), torch.zeros(1))]
    found = sent(pack_samples(FixedBatches("mine", "train", contents, 5), CHOSEN)).unpack("train")
    assert isinstance(found, FixedBatches)
    assert found.classes == 5
    assert_same(list(found.contents), contents)


def test_training_samples_travel_once():
    net = seeded(lambda: build("mlp", (2, 28, 28), 10))
    assert PackedInputs.of(loaded(net)).training is None
    assert PackedInputs.of(loaded(net, training=images())).training is None
    packed = PackedInputs.of(loaded(net, data={"test": images("test")}, training=images()))
    assert isinstance(packed.training, PackedSamples)
    assert_same(packed.training.unpack("train").samples, (IMAGES, LABELS))


def test_tied_weights_of_a_users_network_stay_tied(tmp_path):
    (tmp_path / "mine.py").write_text("from conftest import TiedNet\n\ndef make():\n    return TiedNet()\n")
    model = UserFunction.parse("model", f"{tmp_path / 'mine.py'}:make")
    net = seeded(TiedNet)
    own, _ = PackedInputs.of(loaded(net, model=model)).unpack()
    assert own.inner.weight is own.again.weight
    assert_same(dict(own.state_dict()), dict(net.state_dict()))
    assert not any(module.training for module in own.modules())


@pytest.mark.parametrize("shift", [0, 1])
def test_every_rank_reads_streamed_samples_itself(monkeypatch, shift):
    def rows(start: int) -> Streamed:
        return Streamed("rows", "train", [(torch.tensor([k + start]), k) for k in range(4)])

    asked = []

    def load(chosen: config.DataConfig, split: str) -> Streamed:
        asked.append((chosen.stream, split))
        return rows(shift)

    monkeypatch.setattr(packed_inputs, "load_split", load)
    packed = sent(pack_samples(replace(rows(0), classes=4), CHOSEN))
    assert isinstance(packed, StreamedSource)
    if shift:
        with pytest.raises(BadInput, match="holds other train samples here"):
            packed.unpack("train")
    else:
        assert packed.unpack("train").classes == 4
    assert asked == [("always", "train")]
