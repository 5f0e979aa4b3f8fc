"""Networks that are moved in place with everything else on disk: the numbers, the files, and the network afterwards."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MPIRUN, ROOT, cut, python, seeded
from torch import nn

import lossatlas
from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import read_directions, read_surface
from lossatlas.io.seeded_directions import SeededDirection
from lossatlas.jobs.inputs.network_memory import LARGE_NETWORK, small_batch_size, takes_little_memory
from lossatlas.parameter_space import Layout, position, random_direction
from lossatlas.parameter_space.directions import seed_of

PLANE = {"x": "-1:1:3", "y": "-0.5:0.5:3", "progress": False}
TOKENS = torch.randint(0, 50, (24, 8), generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 5, (24,), generator=torch.Generator().manual_seed(2))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(50, 16), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 5)
    )


def naive(net: nn.Module, directions, x, y) -> np.ndarray:
    """The losses by the definition: each parameter computed in float32 and rounded once, in a loop over the grid."""
    start = {name: value.detach().clone() for name, value in net.named_parameters()}
    found = np.empty((len(y), len(x)))
    for j, b in enumerate(y):
        for i, a in enumerate(x):
            for name, value in net.named_parameters():
                at = start[name].float() + a * directions[0][name] + b * directions[1][name]
                value.data.copy_(at)
            with torch.no_grad():
                found[j, i] = float(F.cross_entropy(net(TOKENS).double(), LABELS))
    for name, value in net.named_parameters():
        value.data.copy_(start[name])
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_are_those_of_a_loop_over_the_module(dtype):
    net = seeded(network).to(dtype).eval()
    at = position(net)
    directions = [random_direction(at, "filter", "biasbn", seed_of(123, 0, k), Layout.of(net)) for k in (0, 1)]
    expected = naive(net, directions, np.linspace(-1, 1, 3), np.linspace(-0.5, 0.5, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = lossatlas.surface(net, (TOKENS, LABELS), memory="low", batch_size=24, **PLANE)
    assert np.allclose(found.loss, expected, rtol=1e-13)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert found.plan["memory"] == "low"
    assert found.plan["path"] == "in place"


def ends() -> list[nn.Module]:
    return [seeded(network, seed) for seed in (1, 2)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"orthogonalize": True},
        {"norm": "layer", "ignore": ""},
        {"towards": ends()},
        {"towards": ends()[0].state_dict(), "y": None},
        {"directions": ["gradient", "random"]},
        {"directions": ["eigenvector:1", "eigenvector:2"]},
        {"only": "5"},
        {"limit": 7},
    ],
    ids=lambda more: ",".join(more) or "random",
)
def test_low_and_fast_memory_give_the_same_surface(more):
    """Directions with the same bits, and losses that differ in the order of sums alone."""
    low, fast = (
        lossatlas.surface(seeded(network), (TOKENS, LABELS), memory=memory, **{**PLANE, **more})
        for memory in ("low", "fast")
    )
    assert low.directions.sha256 == fast.directions.sha256
    assert np.allclose(low.loss, fast.loss, rtol=1e-6)
    assert np.array_equal(low.fields["train_acc"], fast.fields["train_acc"])


def test_a_saved_direction_is_used_from_its_file(tmp_path):
    """Seeds in the file of a surface, vectors in that of another: both give the same surface again."""
    net = seeded(network)
    first = lossatlas.surface(net, (TOKENS, LABELS), memory="low", file=tmp_path / "a.h5", **PLANE)
    assert isinstance(lossatlas.read(tmp_path / "a.h5").directions.x, SeededDirection)
    stored = lossatlas.surface(net, (TOKENS, LABELS), memory="fast", file=tmp_path / "b.h5", **PLANE)
    assert not isinstance(lossatlas.read(tmp_path / "b.h5").directions.x, SeededDirection)
    assert stored.directions.sha256 == first.directions.sha256
    names = [f"{tmp_path}/{which}.h5:{k}" for which, k in (("a", 1), ("b", 2))]
    again = lossatlas.surface(net, (TOKENS, LABELS), memory="low", directions=names, **PLANE)
    assert np.array_equal(again.loss, first.loss)


def test_an_interrupted_surface_is_continued_with_the_same_bits(tmp_path):
    whole = lossatlas.surface(seeded(network), (TOKENS, LABELS), memory="low", file=tmp_path / "a.h5", **PLANE)
    cut(tmp_path / "a.h5", [0, 4])
    again = lossatlas.surface(seeded(network), (TOKENS, LABELS), memory="low", file=tmp_path / "a.h5", **PLANE)
    assert np.array_equal(again.loss, whole.loss)


def test_a_file_of_the_other_kind_is_not_continued(tmp_path):
    lossatlas.surface(seeded(network), (TOKENS, LABELS), memory="fast", file=tmp_path / "a.h5", **PLANE)
    with pytest.raises(BadInput, match="memory"):
        lossatlas.surface(seeded(network), (TOKENS, LABELS), memory="low", file=tmp_path / "a.h5", **PLANE)


def test_what_moves_no_plane_is_refused():
    for more in ({"repeat": 3}, {"per_layer": True}):
        with pytest.raises(BadUsage, match=r"memory='low' is for lines, planes and volumes"):
            lossatlas.surface(seeded(network), (TOKENS, LABELS), memory="low", x="-1:1:3", progress=False, **more)


def test_an_error_within_the_network_leaves_it_as_it_was():
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.first = seeded(network), None

        def forward(self, x):
            value = self.inner[2].weight.detach().clone()
            self.first = value if self.first is None else self.first
            if not torch.equal(value, self.first):
                raise ValueError("too far")
            return self.inner(x)

    net = Fragile()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(BadInput, match="too far"):
        lossatlas.surface(net, (TOKENS, LABELS), memory="low", **PLANE)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_choice_is_by_the_number_of_parameters():
    with torch.device("meta"):
        large, small = nn.Linear(LARGE_NETWORK, 1, bias=False), nn.Linear(LARGE_NETWORK - 1, 1, bias=False)
    assert takes_little_memory(large, None)
    assert not takes_little_memory(small, None)
    assert not takes_little_memory(large, "fast")
    assert takes_little_memory(small, "low")


def test_a_batch_of_sequences_has_2048_tokens():
    from lossatlas.data import as_dataset

    assert small_batch_size(as_dataset((torch.zeros(5, 512, dtype=torch.int64), torch.zeros(5)))) == 4
    assert small_batch_size(as_dataset((torch.zeros(5, 9000, dtype=torch.int64), torch.zeros(5)))) == 1
    assert small_batch_size(as_dataset((torch.zeros(5, 3, 8, 8), torch.zeros(5)))) == 16


# Commands -------------------------------------------------------------------------------------------------------------

SOURCE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(50, 16), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 5)
    )

def data(split):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 50, (24, 8), generator=generator), torch.randint(0, 5, (24,), generator=generator)
"""


def command(folder: Path, name: str, *more: str) -> list[str]:
    source = folder / "own.py"
    source.write_text(SOURCE)
    own = [f"--model={source}:make", f"--dataset={source}:data", f"--surf_file={folder / name}.h5"]
    own += [f"--dir_file={folder / name}_directions.h5", "--x=-1:1:3", "--y=-0.5:0.5:3", "--threads", "1"]
    return [*own, *"--xnorm filter --xignore biasbn --ynorm filter --yignore biasbn".split(), *more]


@pytest.mark.mpi
def test_any_number_of_ranks_gives_the_same_bits_and_small_direction_files(tmp_path):
    for ranks in (1, 2, 3):
        line = command(tmp_path, f"ranks{ranks}", "--mpi", "--memory", "low")
        result = python("plot_surface.py", *line, launcher=[MPIRUN, "-n", ranks])
        assert result.returncode == 0, result.stderr
    result = python("plot_surface.py", *command(tmp_path, "fast", "--memory", "fast"))
    assert result.returncode == 0, result.stderr
    one, two, three, fast = (lossatlas.read(tmp_path / f"{name}.h5") for name in ("ranks1", "ranks2", "ranks3", "fast"))
    assert np.array_equal(one.loss, two.loss)
    assert np.array_equal(one.loss, three.loss)
    assert np.allclose(one.loss, fast.loss, rtol=1e-6)
    assert isinstance(three.directions.x, SeededDirection)
    assert three.directions.sha256 == fast.directions.sha256
    assert (tmp_path / "ranks3_directions.h5").stat().st_size < (tmp_path / "fast_directions.h5").stat().st_size


@pytest.mark.commands
def test_stored_directions_give_the_bits_of_drawn_ones(tmp_path):
    """Also where the surface is continued with the other kind of file, and in fast memory."""
    drawn = command(tmp_path, "drawn", "--memory", "low")
    stored = command(tmp_path, "stored", "--memory", "low", "--store_directions")
    for line in (drawn, stored):
        result = python("plot_surface.py", *line)
        assert result.returncode == 0, result.stderr
    files = [tmp_path / f"{name}_directions.h5" for name in ("drawn", "stored")]
    assert files[1].stat().st_size > files[0].stat().st_size
    with h5py.File(files[1]) as file:
        assert "xdirection" in file
        assert "seeded_xdirection" not in file
    one, other = (read_directions(file) for file in files)
    assert all(np.array_equal(a, b) for a, b in zip(one.x, other.x, strict=True))
    assert other.y is not None
    assert all(np.array_equal(a, b) for a, b in zip(one.y or (), other.y, strict=True))
    losses = [read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in ("drawn", "stored")]
    assert np.array_equal(*losses)
    (tmp_path / "drawn.h5").unlink()
    files[1].replace(files[0])
    assert python("plot_surface.py", *drawn).returncode == 0
    assert np.array_equal(read_surface(tmp_path / "drawn.h5").fields["train_loss"], losses[0])


@pytest.mark.commands
def test_the_command_and_the_function_continue_each_others_files(tmp_path):
    assert python("plot_surface.py", *command(tmp_path, "a", "--memory", "low", "--self_contained")).returncode == 0
    whole = lossatlas.read(tmp_path / "a.h5")
    cut(tmp_path / "a.h5", [0, 4])
    sys.path.insert(0, str(tmp_path))
    try:
        import own
    finally:
        sys.path.remove(str(tmp_path))
    again = lossatlas.surface(own.make(), own.data("train"), memory="low", file=tmp_path / "a.h5", **PLANE)
    assert np.array_equal(again.loss, whole.loss)


@pytest.mark.commands
def test_a_large_network_takes_little_more_than_its_weights(tmp_path):
    """60 million parameters, 240 MB, in a process of its own: the anonymous memory beside the weights themselves."""
    code = """
import threading, time, torch, lossatlas
from torch import nn
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024
net = nn.Sequential(nn.EmbeddingBag(100_000, 500), nn.Linear(500, 20_000, bias=False), nn.Linear(20_000, 5))
data = torch.randint(0, 100_000, (4, 8)), torch.randint(0, 5, (4,))
size = sum(p.numel() * p.element_size() for p in net.parameters())
net(data[0])
peak, stop, before = [0], False, anonymous()
def watch():
    while not stop:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.005)
thread = threading.Thread(target=watch)
thread.start()
lossatlas.surface(net, data, x="-1:1:2", y="-1:1:2", memory="low", file="s.h5", progress=False)
stop = True
thread.join()
print(peak[0] - before, size, flush=True)
"""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown, size = map(int, done.stdout.split())
    assert size > 240e6
    assert grown < 0.25 * size + 350e6  # in fast memory it is more than 5 times the size, 1.2 GB
