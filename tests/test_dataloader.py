import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import dataloader
from dataloader import load, load_file
from errors import BadInput, BadUsage

FULL = Path("/usr/share/datasets/fashion-mnist")


def cifar_folder(folder: Path, rows=(7, 3), protocol=2) -> np.ndarray:
    """A data set in the python layout, with any number of rows per file; returns all training images."""
    generator, images = np.random.default_rng(0), []
    for name, n in [*((f"data_batch_{k + 1}", n) for k, n in enumerate(rows)), ("test_batch", 4)]:
        data = generator.integers(0, 256, (n, 3072), dtype=np.uint8)
        labels = [int(k) for k in generator.integers(0, 10, n)]
        (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol))
        images.append(data)
    return np.concatenate(images[:-1]).reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar10_is_normalized_as_published(tmp_path, protocol):
    images = cifar_folder(tmp_path, protocol=protocol)
    data = load("cifar10", datapath=tmp_path)
    mean, std = np.array([125.3, 123.0, 113.9]) / 255, np.array([63.0, 62.1, 66.7]) / 255
    expected = (images / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(data.inputs, expected, rtol=1e-5, atol=1e-6)
    assert data.inputs.shape == (10, 3, 32, 32)
    assert len(load("cifar10", "test", datapath=tmp_path)) == 4
    np.testing.assert_allclose(load("cifar10", datapath=tmp_path, raw=True).inputs, images / 255, rtol=1e-6)


def test_the_folder_may_be_the_one_above(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    cifar_folder(tmp_path / "cifar-10-batches-py")
    assert len(load("cifar10", datapath=tmp_path)) == 10


def test_data_split_draws_as_the_original_does_and_limit_keeps_file_order(tmp_path):
    cifar_folder(tmp_path)
    whole = load("cifar10", datapath=tmp_path)
    chosen = np.random.RandomState(0).choice(10, 3, replace=False)
    part = load("cifar10", datapath=tmp_path, data_split=3)
    assert torch.equal(part.inputs, whole.inputs[chosen])
    assert torch.equal(load("cifar10", datapath=tmp_path, limit=4).targets, whole.targets[:4])
    with pytest.raises(BadUsage, match="--data_split 11"):
        load("cifar10", datapath=tmp_path, data_split=11)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("content", [
    pickle.dumps(Trap()),
    pickle.dumps({b"data": Trap(), b"labels": []}),
    pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}),
    pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [1, 2]}),
    pickle.dumps([1, 2]),
    pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]})[:500],
    b"", b"\x00" * 100,
])  # fmt: skip
def test_foreign_and_malicious_batches_are_refused_unexecuted(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(BadInput, match="data_batch_1"):
        load("cifar10", datapath=tmp_path)
    assert not Path("executed").exists()


def test_labels_out_of_range_and_missing_labels_are_refused(tmp_path):
    for labels in ([1, 10], [1, -1], [1]):
        batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": labels}
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch))
        with pytest.raises(BadInput, match="labels"):
            load("cifar10", datapath=tmp_path)


def write_idx(folder: Path, zipped: bool, images: np.ndarray, labels: np.ndarray) -> None:
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
            file = folder / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}"
            file.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path, zipped):
    images = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    write_idx(tmp_path, zipped, images, np.array([1, 9, 0], np.uint8))
    data = load("fashion_mnist", datapath=tmp_path)
    np.testing.assert_allclose(data.inputs[:, 0], (images / 255 - 0.2860) / 0.3530, rtol=1e-4, atol=1e-5)
    assert data.targets.tolist() == [1, 9, 0]


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"\x01" + b[1:], lambda b: b[:6], lambda b: b"", None])
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_idx_files_are_refused(tmp_path, damage, zipped):
    write_idx(tmp_path, zipped, np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8))
    file = tmp_path / f"train-images-idx3-ubyte{'.gz' if zipped else ''}"
    file.write_bytes(damage(file.read_bytes()) if damage else b"\x1f\x8b broken")
    with pytest.raises(BadInput, match="train-images"):
        load("fashion_mnist", datapath=tmp_path)


def test_the_bundled_images_are_balanced():
    for split, count in (("train", 200), ("test", 100)):
        data = load("fashion_mnist_mini", split)
        assert np.bincount(data.targets).tolist() == [count] * 10
        assert abs(data.inputs.mean()) < 0.05


@pytest.mark.skipif(not FULL.exists(), reason="the full Fashion-MNIST is not installed")
def test_the_bundled_images_are_the_first_of_each_class():
    full, mini = load("fashion_mnist", datapath=FULL), load("fashion_mnist_mini")
    for k in range(10):
        assert torch.equal(full.inputs[full.targets == k][:200], mini.inputs[mini.targets == k])


def test_missing_data_say_where_to_put_them(tmp_path):
    with pytest.raises(BadInput, match=rf"data_batch_1.*{tmp_path}.*--datapath"):
        load("cifar10", datapath=tmp_path)
    with pytest.raises(BadUsage, match="'imagenet'.*cifar10"):
        load("imagenet")


def test_tensors_by_file_name(tmp_path):
    inputs, targets = torch.randn(5, 1, 8, 8), torch.arange(5)
    np.savez(tmp_path / "a.npz", inputs=inputs, targets=targets)
    torch.save({"inputs": inputs, "targets": targets}, tmp_path / "a.pt")
    for name in ("a.npz", "a.pt"):
        data = load_file(tmp_path / name, "train", limit=4)
        assert torch.equal(data.inputs, inputs[:4])
        assert data.targets.tolist() == [0, 1, 2, 3]


def test_a_pickled_loader_is_refused_unexecuted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Trap(), "loader.pt")
    np.savez("objects.npz", inputs=np.array([Trap()], dtype=object), targets=np.zeros(1))
    for name in ("loader.pt", "objects.npz", "absent.pt"):
        with pytest.raises(BadInput, match=name):
            load_file(name, "train")
    assert not Path("executed").exists()


def test_digests_see_inputs_targets_and_order(mini):
    assert mini.digest == mini.take(slice(None)).digest
    assert len({mini.digest, mini.take(slice(0, 49)).digest, mini.take(list(range(49, -1, -1))).digest}) == 3


def test_batches_cover_the_data_in_order(mini):
    parts = [targets for _, targets in mini.batches(7)]
    assert torch.equal(torch.cat(parts), mini.targets)
    assert dataloader.SPLITS == ("train", "test")
