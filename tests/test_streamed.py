"""Samples that are read when they are needed: the digits of samples in memory, and nothing read that is not drawn."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import MPIRUN, python, seeded
from torch import nn
from torch.utils.data import DataLoader, Dataset

import lossatlas
from lossatlas.commands import dataloader, plot_surface
from lossatlas.data import Streamed, as_dataset, collect, memory
from lossatlas.data.dataset import spread_numbers
from lossatlas.datasets import registry
from lossatlas.errors import BadInput, BadUsage
from lossatlas.evaluation import sample_storage
from lossatlas.io import read_surface
from lossatlas.jobs.sweep import loss_plan
from lossatlas.models import save_state

QUIET = {"progress": False}
COUNT = 3000


class Photos(Dataset):
    """Images that are drawn from their number, as if they were decoded; it counts how often each is read."""

    def __init__(self, count=COUNT, shift=0.0):
        self.count, self.shift, self.read = count, shift, Counter()

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        self.read[k] += 1
        generator = torch.Generator().manual_seed(k)
        return torch.randn(1, 8, 8, generator=generator) + self.shift, k % 3


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))


@pytest.fixture
def net():
    return seeded(Net)


def fields(surface):
    return {name: array for name, array in surface.fields.items() if name != "seconds"}


def streamed(source=None, **options):
    return as_dataset(source if source is not None else Photos(), stream=True, **options)


@pytest.mark.few(1)
@pytest.mark.parametrize("room", ["all of it", "some of it", "none"])
@pytest.mark.parametrize("loader", [False, True])
def test_the_digits_are_those_of_samples_in_memory(net, monkeypatch, room, loader):
    bytes_of_all = COUNT * (64 * 4 + 8)
    monkeypatch.setattr(
        sample_storage, "budget", lambda: {"all of it": bytes_of_all, "none": 0}.get(room, bytes_of_all // 3)
    )
    source = DataLoader(Photos(), batch_size=50) if loader else Photos()
    plane = {"x": "-1:1:5", "y": "-1:1:3", "batch_size": 64, **QUIET}
    wanted = lossatlas.surface(net, as_dataset(Photos(), stream=False), **plane)
    found = lossatlas.surface(net, streamed(source), **plane)
    assert isinstance(streamed(source), Streamed)
    for name, array in fields(wanted).items():
        np.testing.assert_array_equal(array, found.fields[name], err_msg=name)


def test_processes_that_read_give_the_same(net):
    line = {"x": "-1:1:3", "batch_size": 64, **QUIET}
    wanted = lossatlas.surface(net, as_dataset(Photos(500), stream=False), **line)
    found = lossatlas.surface(net, streamed(DataLoader(Photos(500), batch_size=50, num_workers=2)), **line)
    np.testing.assert_array_equal(wanted.loss, found.loss)


def test_a_tolerance_reads_what_it_draws_and_each_of_it_once(net):
    source = Photos(200_000)
    found = lossatlas.surface(net, streamed(source), x="-0.1:0.1:3", tolerance=0.05, batch_size=64, **QUIET)
    drawn = int(np.nanmax(found.statistics["train"]["n"]))
    assert drawn < 10_000
    assert len(source.read) <= drawn + 64 + 64 + 3 + 8  # the sketch, the first ones, those that are read twice
    assert sum(source.read.values()) <= drawn + 64 + 2 * 64 + 9 + 3 * 64
    twin = lossatlas.surface(
        net, as_dataset(Photos(20_000), stream=False), x="-0.1:0.1:3", tolerance=0.05, batch_size=64, **QUIET
    )
    same = lossatlas.surface(net, streamed(Photos(20_000)), x="-0.1:0.1:3", tolerance=0.05, batch_size=64, **QUIET)
    np.testing.assert_array_equal(twin.loss, same.loss)
    np.testing.assert_array_equal(twin.statistics["train"]["n"], same.statistics["train"]["n"])


def test_a_pass_over_the_data_serves_several_points(net, monkeypatch):
    monkeypatch.setattr(sample_storage, "budget", lambda: 0)
    monkeypatch.setattr(loss_plan, "points_per_pass", lambda evaluator, seconds: 4)
    source = Photos(600)
    lossatlas.surface(net, streamed(source), x="-1:1:8", batch_size=64, **QUIET)
    others = set(range(64, 600)) - set(spread_numbers(600)) - {299, 300, 599}  # which are looked at beside
    assert {source.read[k] for k in others} == {2}  # two passes of four points


def test_eigenvalues_and_a_spectrum_of_streamed_samples(net):
    in_memory = as_dataset(Photos(300), stream=False)
    line = {"x": [0.0, 0.5], "batch_size": 64, **QUIET}
    wanted, found = (lossatlas.eigenvalues(net, data, **line) for data in (in_memory, streamed(Photos(300))))
    np.testing.assert_array_equal(wanted.fields["max_eig"], found.fields["max_eig"])
    wanted, found = (
        lossatlas.spectrum(net, data, top=2, activations=["Linear"], max_activation_probes=3, batch_size=64, **QUIET)
        for data in (in_memory, streamed(Photos(300)))
    )
    for name in ("eigenvalues", "trace", "activations/trace"):
        np.testing.assert_array_equal(wanted.findings.arrays[name], found.findings.arrays[name])


def test_what_does_not_fit_into_memory_is_streamed_or_refused(monkeypatch):
    monkeypatch.setattr(collect, "budget", lambda: 100_000)
    assert isinstance(as_dataset(Photos(100)), lossatlas.data.Dataset)
    assert isinstance(as_dataset(Photos()), Streamed)
    assert isinstance(as_dataset(DataLoader(Photos(), batch_size=10)), Streamed)
    with pytest.raises(BadInput, match="takes more than the 100 kB of memory"):
        as_dataset(batch for batch in DataLoader(Photos(), batch_size=10))
    with pytest.raises(BadInput, match="no samples by number"):
        as_dataset([(torch.zeros(2, 3), torch.zeros(2))], stream=True)
    assert 0 < memory.budget() <= memory.available()
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    assert memory.budget() <= memory.available() / 8


def test_a_file_is_continued_in_the_other_way_and_not_with_other_samples(net, tmp_path):
    file = tmp_path / "s.h5"
    plane = {"x": "-1:1:5", "batch_size": 64, "file": file, **QUIET}
    lossatlas.surface(net, streamed(), tolerance=0.1, **plane)
    whole = lossatlas.surface(net, as_dataset(Photos(), stream=False), **plane)  # all samples, of the same data
    assert (whole.statistics["train"]["n"] == COUNT).all()
    with pytest.raises(BadInput, match="train_data = "):
        lossatlas.surface(net, streamed(Photos(shift=0.1)), **plane)
    with pytest.raises(BadInput, match="train_data = "):
        lossatlas.surface(net, as_dataset(Photos(shift=0.1), stream=False), **plane)


def images(folder, count=40):
    from PIL import Image

    for k in range(count):
        (folder / "train" / f"c{k % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 255, (70, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "train" / f"c{k % 2}" / f"{k}.png")
    return folder


def folder_command(folder, out, *more):
    return [
        *"--model resnet18 --dataset imagefolder --datapath".split(),
        str(folder),
        *"--image_size 32 --model_file".split(),
        str(folder / "net.safetensors"),
        *"--x=-0.1:0.1:3 --xnorm filter --batch_size 16 --surf_file".split(),
        str(out),
        *"--threads 1".split(),
        *more,
    ]


def test_a_folder_of_images(tmp_path, capsys):
    from lossatlas.models import build

    folder = images(tmp_path / "photos")
    save_state(folder / "net.safetensors", seeded(lambda: build("resnet18", (3, 32, 32), 2)))
    in_memory = registry.load("imagefolder", datapath=folder, image_size=32, stream=False)
    streaming = registry.load("imagefolder", datapath=folder, image_size=32, stream=True)
    for a, b in zip(in_memory.batches(7), streaming.batches(7), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    for way in ("never", "always"):
        assert plot_surface.main(folder_command(folder, tmp_path / f"{way}.h5", "--stream", way)) == 0
    assert "40 samples of 492 kB in all, are read when they are needed" in capsys.readouterr().out
    one, other = (read_surface(tmp_path / f"{way}.h5") for way in ("never", "always"))
    np.testing.assert_array_equal(one.fields["train_loss"], other.fields["train_loss"])
    assert plot_surface.main(folder_command(folder, tmp_path / "always.h5", "--stream", "never")) == 0
    assert dataloader.main(["--dataset", "imagefolder", "--datapath", str(folder)]) == 0


OWN = """
import torch
from torch import nn
from torch.utils.data import Dataset

class Photos(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, k):
        generator = torch.Generator().manual_seed(k)
        return torch.randn(1, 8, 8, generator=generator), k % 3

def data():
    return Photos()

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
"""


@pytest.mark.mpi
def test_a_rank_that_reads_other_samples_is_noticed(tmp_path):
    (tmp_path / "own.py").write_text(
        OWN.replace("manual_seed(k)", "manual_seed(k + int(os.environ['PMI_RANK']))").replace(
            "import torch\n", "import os\nimport torch\n", 1
        )
    )
    line = [
        *"plot_surface.py --model".split(),
        f"{tmp_path}/own.py:net",
        "--dataset",
        f"{tmp_path}/own.py:data",
        *"--x=-1:1:3 --surf_file".split(),
        tmp_path / "s.h5",
        "--dir_file",
        tmp_path / "d.h5",
        *"--stream always --mpi".split(),
    ]
    result = python(*line, launcher=[MPIRUN, "-n", 2])
    assert result.returncode == 3
    assert "rank 1: own.py:data() holds other train samples here" in result.stderr


class Broken(Photos):
    def __getitem__(self, k):
        if k == 277:
            raise OSError("truncated file")
        return super().__getitem__(k)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_named(net, workers):
    source = DataLoader(Broken(600), batch_size=50, num_workers=workers)
    with pytest.raises(BadInput, match="truncated file"):
        lossatlas.surface(net, streamed(source), x="-1:1:3", batch_size=64, **QUIET)


class Words(Dataset):
    """Sequences of different lengths, padded by the loader."""

    def __len__(self):
        return 90

    def __getitem__(self, k):
        return torch.randn(2 + k % 3 + k // 10, 3, generator=torch.Generator().manual_seed(k)), k % 2


def padded(items):
    words, labels = zip(*items, strict=True)
    return nn.utils.rnn.pad_sequence(words, batch_first=True), torch.tensor(labels)


class OverPositions(nn.Module):
    """A mean over positions that does not mask the padding, so that a sample's loss depends on its batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return torch.tanh(self.layer(x)).mean(1)


@pytest.mark.full
def test_batches_that_a_loader_makes_its_own_way_stay_as_they_are():
    net = seeded(OverPositions)
    loader = DataLoader(Words(), batch_size=10, collate_fn=padded)
    in_memory, streaming = as_dataset(loader), as_dataset(loader, stream=True)
    line = {"x": "-1:1:3", **QUIET}
    for size in (0, 1, 64):
        wanted, found = (lossatlas.surface(net, data, batch_size=size, **line).loss for data in (in_memory, streaming))
        np.testing.assert_allclose(found, wanted, rtol=1e-12 if size == 0 else 0)  # measured, ways may differ
    assert [len(part) for part in (streaming.first(11), streaming.share(0, 2), streaming.share(1, 2))] == [20, 40, 50]
    with pytest.raises(BadUsage, match="batches that stay as they are"):
        lossatlas.surface(net, streaming, tolerance=0.1, **line)


class Tenfold(DataLoader):
    def __iter__(self):
        for inputs, labels in super().__iter__():
            yield 10 * inputs, labels


def test_a_loader_that_does_more_than_load_keeps_what_it_does():
    plain, tenfold = as_dataset(DataLoader(Photos(30), batch_size=10)), as_dataset(Tenfold(Photos(30), batch_size=10))
    assert torch.equal(tenfold.inputs, 10 * plain.inputs)
    with pytest.raises(BadInput, match="no samples by number"):
        as_dataset(Tenfold(Photos(30), batch_size=10), stream=True)
    with pytest.raises(BadInput, match="shuffles or draws"):
        as_dataset(Tenfold(Photos(30), batch_size=10, shuffle=True))


@pytest.mark.full
def test_random_numbers_of_the_user_stay_where_they_were(net):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for stream in (False, True):
        lossatlas.surface(net, as_dataset(Photos(100), stream=stream), x="-1:1:3", **QUIET)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.full
def test_processes_that_read_do_so_after_a_training_loop_and_in_a_pool(net, monkeypatch):
    """Workers that were forked by a thread of a pool ended with an error."""
    monkeypatch.setattr(sample_storage, "budget", lambda: 0)
    for _ in DataLoader(Photos(20), batch_size=10, num_workers=2):
        pass
    data = streamed(DataLoader(Photos(120), batch_size=30, num_workers=2))
    for _ in range(5):
        lossatlas.surface(net, data, x="-1:1:3", batch_size=30, **QUIET)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lossatlas.surface, net, data, x="-1:1:3", batch_size=30, **QUIET).result()
    assert found.done.all()


def test_other_data_and_another_loss_go_along_the_same_directions(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    line = [
        "--model",
        f"{tmp_path}/own.py:net",
        "--dataset",
        f"{tmp_path}/own.py:data",
        "--x=-1:1:3",
        "--dir_file",
        str(tmp_path / "d.h5"),
        "--threads",
        "1",
    ]
    for k, more in enumerate(([], ["--limit", "20"], ["--loss_name", "mse"], ["--stream", "always"])):
        assert plot_surface.main([*line, "--surf_file", str(tmp_path / f"{k}.h5"), *more]) == 0
    assert len({read_surface(tmp_path / f"{k}.h5").request["directions"] for k in range(4)}) == 1
    assert "no --model_file, so the network has the parameters that own.py:net() gives it" in capsys.readouterr().out
    for x in ("--x=-1:1", "--x=-1:1:abc"):
        assert plot_surface.main([*line, x]) == 2
        assert "give min:max:num" in capsys.readouterr().err
    assert plot_surface.main([*line[:2], "--x=-1:1:3"]) == 3
    assert "data of your own: --dataset FILE.py:FUNCTION" in capsys.readouterr().err
