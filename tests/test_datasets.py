import functools
import gzip
import hashlib
import http.server
import pickle
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lossatlas.commands.dataloader import main
from lossatlas.datasets import registry
from lossatlas.datasets.registry import load, load_file
from lossatlas.errors import BadInput, BadUsage

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


def test_missing_batches_are_said(tmp_path, capsys):
    cifar_folder(tmp_path)
    assert len(load("cifar10", "train", datapath=tmp_path)) == 10
    assert "holds 2 of the 5 training batches of cifar10 (data_batch_1, data_batch_2)" in capsys.readouterr().out
    cifar_folder(tmp_path, (1, 1, 1, 1, 1))
    load("cifar10", "train", datapath=tmp_path)
    assert capsys.readouterr().out == ""


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
    with pytest.raises(BadUsage, match="data_split=11"):
        load("cifar10", datapath=tmp_path, data_split=11)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


# What an array of objects, or of plain bytes whose type is changed afterwards, would be for numpy: pointers of a file's
# choice.
ARRAY = b"\x80\x02}(C\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x01\x85"
STATE = (
    b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89C\x08AAAAAAAAtbC\x06labels]u."
)
POINTERS = [
    ARRAY + b"cnumpy\ndtype\nX\x02\x00\x00\x00" + kind + STATE for kind in (b"O8", b"u1", b"i8", b"V8", b"S8", b"M8")
]


SHARED = (
    b"]q\x000" + b"".join(b"](h%ch%ceq%c0" % (k, k, k + 1) for k in range(30)) + b"h\x1e"
)  # 2^30 lists in 200 bytes
NESTED = b"K\x01q\x000" + b"".join(b"h%ch%c\x86q%c0" % (k, k, k + 1) for k in range(40)) + b"h\x28"  # as tuples
BOMBS = [
    b"\x80\x04cnumpy\ndtype\n(" + SHARED + b"tR.",
    b"\x80\x04c_codecs\nencode\n(U\x01a" + SHARED + b"tR.",
    b"\x80\x04}C\x06labels" + SHARED + b"s.",
    b"\x80\x04}" + NESTED + b"Ns.",
    b"\x80\x04Nr\xff\xff\xff\x7f0}.",  # a table with two thousand million places
    b"\x80\x05\x96" + (8 << 30).to_bytes(8, "little") + b"x.",
    b"\x80\x04cnumpy.core.numeric\n_frombuffer\n"
    b"(J\x00\x00\x00\x7fcnumpy\ndtype\n(U\x02u1tR(J\x00\x00\x00\x7ftC\x01CtR.",
    b"\x80\x04cnumpy.core.numeric\n_frombuffer\nN}X\x08\x00\x00\x00__name__X\x03\x00\x00\x00abcs\x86b0}.",
]


@pytest.mark.parametrize(
    "content",
    [
        *POINTERS,
        *BOMBS,
        pickle.dumps(Trap()),
        pickle.dumps({b"data": Trap(), b"labels": []}),
        pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [1, 2]}),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": 5}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]})[:500],
        b"",
        b"\x00" * 100,
    ],
)
def test_foreign_and_malicious_batches_are_refused_unexecuted(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(BadInput, match="data_batch_1"):
        load("cifar10", datapath=tmp_path)
    assert not Path("executed").exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4"])
def test_batches_that_this_and_other_versions_of_python_write(tmp_path, protocol, kind):
    data = np.arange(6144, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    batch = {b"data": data, b"labels": np.array([3, 1], kind)}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol))
    found = load("cifar10", "test", datapath=tmp_path, raw=True)
    assert found.targets.tolist() == [3, 1]
    np.testing.assert_allclose(found.inputs.flatten(1).numpy() * 255, data, atol=1e-3)


def test_what_unpacks_to_far_more_than_it_is(tmp_path):
    head = bytes([0, 0, 8, 3]) + np.array([60000, 1000, 1000], ">u4").tobytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(1 << 24)))
    with pytest.raises(BadInput, match="compress less"):
        load("mnist", datapath=tmp_path)
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", bytes(1 << 27))
    for read in (lambda: load("npz", datapath=tmp_path / "d.npz"), lambda: load_file(tmp_path / "d.npz", "train")):
        with pytest.raises(BadInput, match="says that it unpacks to 134217728: nothing is read"):
            read()


@pytest.mark.parametrize("sizes", [[2**32 - 1] * 3, [0, 2**32 - 1, 2**32 - 1]])
def test_an_idx_header_whose_product_overflows(tmp_path, sizes):
    content = bytes([0, 0, 8, 3]) + np.array(sizes, ">u4").tobytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(BadInput, match="truncated"):
        load("mnist", datapath=tmp_path)


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
    with pytest.raises(BadInput, match=rf"data_batch_1.*{tmp_path}.*datapath"):
        load("cifar10", datapath=tmp_path)
    with pytest.raises(BadUsage, match=r"'imagenet'.*cifar10"):
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
    assert registry.SPLITS == ("train", "test")


def binary_batches(folder: Path, label_bytes: int, names: dict[str, int]) -> np.ndarray:
    generator, parts = np.random.default_rng(3), []
    for name, n in names.items():
        records = generator.integers(0, 256, (n, label_bytes + 3072), dtype=np.uint8)
        records[:, :label_bytes] %= 10
        (folder / name).write_bytes(records.tobytes())
        parts.append(records)
    return np.concatenate(parts[:-1])


def test_cifar10_in_the_binary_layout_is_the_python_layout(tmp_path):
    records = binary_batches(tmp_path, 1, {"data_batch_1.bin": 5, "data_batch_2.bin": 3, "test_batch.bin": 2})
    data = load("cifar10", datapath=tmp_path, raw=True)
    assert data.targets.tolist() == records[:, 0].tolist()
    np.testing.assert_allclose(data.inputs.flatten(1), records[:, 1:] / 255, rtol=1e-6)
    assert len(load("cifar10", "test", datapath=tmp_path)) == 2
    (tmp_path / "data_batch_1.bin").write_bytes(b"x" * 4000)
    with pytest.raises(BadInput, match="no whole records"):
        load("cifar10", datapath=tmp_path)


def test_cifar100_has_fine_labels_in_both_layouts(tmp_path):
    records = binary_batches(tmp_path, 2, {"train.bin": 6, "test.bin": 2})
    binary = load("cifar100", datapath=tmp_path)
    assert binary.targets.tolist() == records[:, 1].tolist()
    assert binary.classes == 100
    (tmp_path / "py").mkdir()
    batch = {b"data": records[:, 2:], b"fine_labels": records[:, 1].tolist(), b"coarse_labels": [0] * 6}
    (tmp_path / "py" / "train").write_bytes(pickle.dumps(batch, 2))
    assert torch.equal(load("cifar100", datapath=tmp_path / "py").inputs, binary.inputs)


def test_mnist_is_normalized_with_its_own_statistics(tmp_path):
    write_idx(tmp_path, True, np.full((2, 28, 28), 255, np.uint8), np.array([1, 2], np.uint8))
    assert load("mnist", datapath=tmp_path).inputs.mean() == pytest.approx((1 - 0.1307) / 0.3081, rel=1e-5)


def image_folder(folder: Path) -> None:
    from PIL import Image

    for split, count in (("train", 3), ("val", 1)):
        for k, name in enumerate(("ant", "bee", "cow")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40 + 10 * i, 60), (80 * k, 10, 200)).save(folder / split / name / f"{i}.png")


def test_an_image_folder_in_the_layout_of_imagenet(tmp_path):
    image_folder(tmp_path)
    data = load("imagefolder", datapath=tmp_path, image_size=16)
    assert data.inputs.shape == (9, 3, 16, 16)
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    raw = load("imagefolder", "test", datapath=tmp_path, image_size=16, raw=True)
    np.testing.assert_allclose(raw.inputs[2, :, 3, 3], np.array([160, 10, 200]) / 255, rtol=1e-6)
    (tmp_path / "train" / "ant" / "0.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"ant/0\.png"):
        load("imagefolder", datapath=tmp_path, image_size=16)


@pytest.mark.parametrize("layout", ["ours", "keras", "channels last"])
def test_a_file_of_arrays(tmp_path, layout):
    images, labels = np.random.default_rng(0).integers(0, 256, (6, 3, 9, 8), dtype=np.uint8), np.arange(6)
    names = ("train_images", "train_labels") if layout == "ours" else ("x_train", "y_train")
    stored = images.transpose(0, 2, 3, 1) if layout == "channels last" else images
    np.savez(tmp_path / "own.npz", **dict(zip(names, (stored, labels[:, None]), strict=True)))
    data = load("npz", datapath=tmp_path / "own.npz")
    np.testing.assert_allclose(data.inputs, images / 255, rtol=1e-6)
    with pytest.raises(BadInput, match="test_images"):
        load("npz", "test", datapath=tmp_path / "own.npz")
    with pytest.raises(BadUsage, match="datapath"):
        load("npz")


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that hands out an archive of a data set."""
    (tmp_path / "www" / "cifar-10-batches-py").mkdir(parents=True)
    cifar_folder(tmp_path / "www" / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "www" / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "www" / "cifar-10-batches-py", "cifar-10-batches-py")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/", tmp_path / "www" / "cifar.tar.gz"
        web.shutdown()


def offered(monkeypatch, url: str, md5: str) -> None:
    source = replace(registry.SOURCES["cifar10"], urls=((url, md5),))
    monkeypatch.setitem(registry.SOURCES, "cifar10", source)


def test_a_download_is_checked_unpacked_and_used(tmp_path, server, monkeypatch, capsys):
    address, archive = server
    offered(monkeypatch, address + "cifar.tar.gz", hashlib.md5(archive.read_bytes()).hexdigest())
    place = str(tmp_path / "new" / "place")
    assert main(["--dataset", "cifar10", "--datapath", place]) == 3  # never without being asked
    assert "--download" in capsys.readouterr().err
    assert not Path(place).exists()
    assert main(["--dataset", "cifar10", "--datapath", place, "--download"]) == 0
    assert "train: 10 images of 3x32x32" in capsys.readouterr().out
    assert [p.name for p in Path(place).iterdir()] == ["cifar-10-batches-py"]
    offered(monkeypatch, "http://127.0.0.1:9/none", "")
    assert main(["--dataset", "cifar10", "--datapath", place, "--download"]) == 0  # it is there already


@pytest.mark.parametrize(
    ("name", "md5", "message"), [("cifar.tar.gz", "0" * 32, "MD5"), ("absent", "", "404"), (None, "", "cannot fetch")]
)
def test_a_download_that_fails_keeps_nothing(tmp_path, server, monkeypatch, capsys, name, md5, message):
    address, _ = server
    offered(monkeypatch, address + name if name else "http://127.0.0.1:9/none", md5)
    assert main(["--dataset", "cifar10", "--datapath", str(tmp_path / "new"), "--download"]) == 3
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not [p for p in (tmp_path / "new").rglob("*") if p.is_file()]


def test_a_download_that_was_interrupted_is_completed(tmp_path, server, monkeypatch):
    address, archive = server
    files = tmp_path / "idx"
    files.mkdir()
    write_idx(files, True, np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8))
    urls = []
    for file in sorted(files.iterdir(), reverse=True):
        (archive.parent / file.name).write_bytes(file.read_bytes())
        urls.append((address + file.name, hashlib.md5(file.read_bytes()).hexdigest()))
    monkeypatch.setitem(registry.SOURCES, "mnist", replace(registry.SOURCES["mnist"], urls=tuple(urls)))
    for file in files.glob("*labels*"):
        file.unlink()
    assert main(["--dataset", "mnist", "--datapath", str(files), "--download"]) == 0
    assert len(load("mnist", datapath=files)) == 2


def test_an_archive_cannot_write_outside_its_folder(tmp_path, server, monkeypatch):
    address, archive = server
    (tmp_path / "evil").write_text("x")
    with tarfile.open(archive, "w:gz") as out:
        out.add(tmp_path / "evil", "../../escaped")
    offered(monkeypatch, address + "cifar.tar.gz", hashlib.md5(archive.read_bytes()).hexdigest())
    assert main(["--dataset", "cifar10", "--datapath", str(tmp_path / "a" / "b"), "--download"]) == 3
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("name", registry.DATASET_NAMES)
def test_every_name_says_what_is_found_or_what_is_missing(name, capsys):
    code = main(["--dataset", name])
    out = capsys.readouterr()
    assert (code == 0 and "train: " in out.out) or (code in (2, 3) and "--datapath" in out.err)
