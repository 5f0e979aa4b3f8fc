"""Commands on all ranks of this session, against one process: surfaces to the last bit, sums but for rounding."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LAST, cut, seeded, surface_command, write_checkpoint, write_noise
from torture.place import numbers

import lossatlas
from lossatlas.commands import hessian_spectrum, plot_hessian_eigen, plot_surface, plot_trajectory, sharpness
from lossatlas.datasets.registry import load
from lossatlas.io import read_findings, read_projection, read_surface, write_surface
from lossatlas.jobs.sweep import loss_plan
from lossatlas.models import build, load_network

GRID = ["--x=-1:1:5", "--y=-0.5:1:4"]
SAME = ["--threads", "1", "--batch_size", "16"]


def assert_same(one: Path, other: Path) -> None:
    expected, found = numbers(one), numbers(other)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    assert read_surface(other).done.all() or read_surface(other).interpolated.any()


KINDS = {
    "a network of the zoo, both splits": ("resnet20", [*GRID, "--split", "both"]),
    "recalibrated statistics": ("resnet20", ["--x=-0.6:1:3", "--y=0:1:2", "--bn", "recalibrate", "--split", "test"]),
    "a curve": ("mlp", ["--curve", "polygonal", "--bend", "BEND", "--model_file2", "SECOND", "--x=0:1:5"]),
    "curves along several directions": ("mlp", ["--x=-1:1:4", "--repeat", "3"]),
    "one layer at a time": ("mlp", ["--x=-1:1:4", "--per_layer"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_surfaces_have_the_same_bits(both_ways, folder, kind):
    model, more = KINDS[kind]
    files = {name: folder / f"{name}.safetensors" for name in ("FIRST", "SECOND", "BEND")}

    def before():
        for seed, file in enumerate(files.values()):
            write_checkpoint(file, model, seed=seed)

    def command(out):
        words = [str(files.get(word, word)) for word in more]
        own = [] if {"--curve", "--repeat", "--per_layer"} & {*words} else ["--dir_file", f"{out}.d.h5"]
        return surface_command(files["FIRST"], out, *words, *SAME, *own, model=model)

    assert_same(*both_ways(plot_surface.main, command, before))


def test_a_barycentric_scheme_has_the_same_bits(both_ways, folder):
    net = folder / "net.safetensors"

    def command(out):
        own = ["--model", "mlp", "--dataset", "fashion_mnist_mini", "--limit", "40", "--model_file", net]
        return [*own, "--x=-1:1:3", "--y=-1:1:3", "--scheme", "barycentric", *SAME, "--surf_file", out]

    assert_same(*both_ways(plot_surface.main, command, lambda: write_checkpoint(net, "mlp")))


@pytest.mark.parametrize(
    "more", [["--tolerance", "0.02", "--precision", "bfloat16"], ["--tolerance", "0.05", "--x=-1:1:33", "--y=0:0:1"]]
)
def test_samples_that_are_drawn_are_the_same(both_ways, folder, more):
    """Those of a cell may rest on those of its neighbours, which other ranks have computed."""
    net, noise = folder / "net.safetensors", folder / "data.npz"

    def before():
        write_checkpoint(net, "mlp")
        write_noise(noise, 2000)

    def command(out):
        own = ["--testloader", str(noise), "--trainloader", str(noise), *GRID, "--split", "both", *SAME, *more]
        return surface_command(net, out, *own, "--dir_file", f"{out}.d.h5", limit=2000)

    one, other = both_ways(plot_surface.main, command, before)
    assert_same(one, other)
    if "--x=-1:1:33" in more:
        assert (read_surface(other).statistics["train"]["helpers"] > 0).sum() > 8


def test_cells_that_help_each_other_are_the_same_after_kills(world, both_ways, folder):
    net, noise, directions = folder / "net.safetensors", folder / "data.npz", folder / "d.h5"

    def before():
        write_checkpoint(net, "mlp")
        write_noise(noise, 3000)

    def command(out):
        own = ["--testloader", str(noise), "--trainloader", str(noise), "--tolerance", "0.01,0.002", "--split", "both"]
        plane = ["--x=-0.5:0.5:9", "--y=-0.5:0.5:9", "--dir_file", str(directions)]
        return surface_command(net, out, *own, *plane, *SAME, limit=3000)

    one, other = both_ways(plot_surface.main, command, before)
    assert_same(one, other)
    assert "samples/test/loss" in numbers(one)
    surface = read_surface(one)
    assert surface.statistics["train"]["helpers"].max() == 4
    order = surface.hierarchy.order(np.arange(81))
    for k, kept in enumerate((order[:30], np.r_[order[:20], order[40:45]])):
        killed = folder / f"killed{k}.h5"
        if world.root:
            shutil.copy(one, killed)
            cut(killed, kept)
            assert read_surface(killed).done.sum() == len(kept)
        assert plot_surface.main([*command(killed), "--mpi"]) == 0
        if world.root:
            assert_same(one, killed)


@pytest.mark.parametrize("extra", [[], ["--tolerance", "0.02,0.02"]], ids=["exact", "levels"])
def test_cells_that_are_left_out_are_the_same_after_a_kill_too(world, both_ways, folder, capsys, extra):
    net, noise = folder / "net.safetensors", folder / "data.npz"

    def before():
        write_checkpoint(net, "mlp")
        write_noise(noise, 600)

    def command(out):
        plane = ["--testloader", str(noise), "--trainloader", str(noise), "--x=-0.4:0.4:17", "--y=-0.4:0.4:17"]
        own = [*plane, "--adaptive", "0.05,0.05", *extra, *SAME]
        return surface_command(net, out, *own, "--dir_file", str(folder / "d.h5"), limit=600)

    one, other = both_ways(plot_surface.main, command, before)
    assert_same(one, other)
    surface = read_surface(one)
    assert 20 < surface.interpolated.sum() < 289
    killed = folder / "killed.h5"
    if world.root:
        shutil.copy(one, killed)
        order = surface.hierarchy.order(np.flatnonzero(surface.done))
        cut(killed, order[: len(order) // 2])
    assert "interpolated within max(0.05 x loss, 0.05)" in capsys.readouterr().out or not world.root
    for _ in range(2):
        assert plot_surface.main([*command(killed), "--mpi"]) == 0
    if world.root:
        assert_same(one, killed)
        assert "289 of 289 cells done" in capsys.readouterr().out


def test_points_that_share_a_call_keep_their_bits_through_kills(monkeypatch, world, both_ways, folder):
    """The choice is forced, because no measurement of such small work would make it."""

    def tune(evaluator, cells, **_):
        evaluator.batch_size, evaluator.points_per_call = 16, 6
        return 1.0

    monkeypatch.setattr(loss_plan, "tune", tune)
    net, killed = folder / "net.safetensors", folder / "killed.h5"

    def command(out):
        more = [*GRID, "--split", "both", "--threads", "1", "--dir_file", str(folder / "d.h5")]
        return surface_command(net, out, *more)

    one, other = both_ways(plot_surface.main, command, lambda: write_checkpoint(net, "mlp"))
    assert read_surface(other).plan["points_per_call"] == 6
    assert_same(one, other)
    if world.root:  # whole calls are done
        surface = read_surface(one)
        done = np.zeros(surface.grid.size, bool)
        done[surface.grid.coarse_first()[6:12]] = True
        done = done.reshape(surface.grid.shape)
        kept = {
            split: {name: np.where(done, array, np.nan) for name, array in arrays.items()}
            for split, arrays in surface.statistics.items()
        }
        write_surface(killed, replace(surface, done=done, statistics=kept), folder / "d.h5")
    assert plot_surface.main([*command(killed), "--mpi"]) == 0
    if world.root:
        assert_same(one, killed)


PHOTOS = """
import torch
from torch import nn
from torch.utils.data import Dataset

class Photos(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, k):
        return torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(k)), k % 3

def data():
    return Photos()

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
"""


@pytest.mark.parametrize("stream", ["always", "never"])
def test_a_users_own_network_and_data_which_every_rank_may_read_for_itself(both_ways, folder, stream):
    own = folder / "own.py"

    def command(out):
        how = stream if out.name == "all.h5" else "never"
        line = ["--model", f"{own}:net", "--dataset", f"{own}:data", "--x=-1:1:7", "--dir_file", folder / "d.h5"]
        return [*line, "--batch_size", "64", "--threads", "1", "--stream", how, "--surf_file", out]

    one, other = both_ways(plot_surface.main, command, lambda: own.write_text(PHOTOS))
    np.testing.assert_array_equal(*(read_surface(file).fields["train_loss"] for file in (one, other)))


def curvature(net: Path, *more: object) -> list[object]:
    own = ["--model", "mlp", "--dataset", "fashion_mnist_mini", "--limit", "50", "--model_file", net, "--threads", "1"]
    return [*own, *more]


def test_maps_of_eigenvalues_have_the_same_bits(both_ways, folder):
    net = folder / "net.safetensors"

    def command(out):
        norms = "--xnorm filter --ynorm filter --xignore biasbn --yignore biasbn --parameters".split()
        plane = ["--x=-1:1:2", "--y=-1:1:2", "--surf_file", out, "--dir_file", f"{out}.d.h5", "--limit", "20"]
        return curvature(net, *norms, LAST, *plane)

    assert_same(*both_ways(plot_hessian_eigen.main, command, lambda: write_checkpoint(net, "mlp")))


def test_spectra_of_samples_that_are_spread_are_the_same_numbers(both_ways, folder):
    net = folder / "net.safetensors"

    def command(out):
        what = ["--top", "3", "--parameters", LAST, "--activations", "--trace_error", "0.03", "--spectrum_file", out]
        return curvature(net, *what)

    files = both_ways(hessian_spectrum.main, command, lambda: write_checkpoint(net, "mlp"))
    one, other = (read_findings(file).arrays for file in files)
    np.testing.assert_allclose(other["eigenvalues"], one["eigenvalues"], rtol=1e-6)
    np.testing.assert_allclose(other["trace"], one["trace"], rtol=1e-5)
    errors = np.hypot(other["activations/trace_se"], one["activations/trace_se"])
    assert (np.abs(other["activations/trace"] - one["activations/trace"]) <= 4 * errors).all()


@pytest.mark.parametrize("by", ["the command", "Python"])
def test_a_spectrum_is_continued_by_both_front_ends_to_the_same_bits(world, folder, alone, by):
    """Begun by `by`, continued by both."""
    net = folder / "net.safetensors"
    alone(lambda: write_checkpoint(net, "mlp"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = load("fashion_mnist_mini", "train", limit=50).samples

    def by_command(out, *more):
        own = [
            "--trace_most",
            "10",
            "--top",
            "2",
            "--parameters",
            LAST,
            "--batch_size",
            "16",
            "--threads",
            "1",
            "--mpi",
        ]
        line = ["--model", "mlp", "--dataset", "fashion_mnist_mini", "--limit", "50", "--model_file", net]
        assert hessian_spectrum.main([*map(str, [*line, *own, "--spectrum_file", out, *more])]) == 0

    def by_python(out, **more):
        own = {"max_trace_products": 10, "top": 2, "only": [LAST], "batch_size": 16, "progress": False}
        lossatlas.spectrum(load_network("mlp", net, (1, 28, 28)), data, ranks=world.comm, file=out, **own, **more)

    first = folder / "first.h5"
    (by_command if by == "the command" else by_python)(first)
    alone(lambda: [shutil.copy(first, folder / name) for name in ("command.h5", "python.h5")])
    by_command(folder / "command.h5", "--layers", "--activations", "--probes", "2", "--steps", "8")
    by_python(folder / "python.h5", layers=True, activations=[], probes=2, steps=8)
    torch.set_num_threads(threads)
    one, other = (read_findings(folder / name) for name in ("command.h5", "python.h5"))
    assert one.plan == other.plan
    assert one.request == other.request
    assert one.arrays.keys() == other.arrays.keys()
    assert [name for name in one.arrays if one.arrays[name].tobytes() != other.arrays[name].tobytes()] == []


def test_sharpness_of_samples_that_are_spread_is_the_same(both_ways, folder):
    net = folder / "net.safetensors"

    def command(out):
        few = "--rho 0.1 0.5 --adaptive_rho 0.2 --steps 4 --directions 3 --precision float64".split()
        return curvature(net, *few, "--sharpness_file", out)

    files = both_ways(sharpness.main, command, lambda: write_checkpoint(net, "mlp"))
    one, other = (read_findings(file, "sharpness").arrays["plain/rises"] for file in files)
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("command", [hessian_spectrum, sharpness])
def test_a_dry_run_at_one_point_ends_every_rank_and_writes_nothing(folder, alone, command):
    net = folder / "net.safetensors"
    alone(lambda: write_checkpoint(net, "mlp"))
    assert command.main([*map(str, curvature(net)), "--dry_run", "--mpi"]) == 0
    assert [file.name for file in folder.iterdir()] == ["net.safetensors"]


def write_run(folder: Path) -> None:
    """Checkpoints of a training, whose statistics of BatchNorm differ."""
    net = seeded(lambda: build("resnet20", (1, 28, 28)))
    torch.manual_seed(1)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    u, v = ({name: torch.randn_like(p) for name, p in net.named_parameters()} for _ in range(2))
    for k, (a, b) in enumerate([(1.0, 0.0), (0.3, 0.4), (0.1, -0.1), (0.0, 0.0)]):
        state = {n: w + 0.02 * (a * u[n] + b * v[n]) if n in u else w.clone() for n, w in start.items()}
        state |= {n: w * (1 + 0.1 * (3 - k)) for n, w in state.items() if n.endswith("running_var")}
        torch.save({"state_dict": state}, folder / f"model_{10 * k}.t7")


@pytest.mark.parametrize("plane", ["pca", "local"])
def test_a_trajectory_and_its_surface_have_the_same_bits(both_ways, folder, plane):
    def before():
        for name in ("one", "all"):
            (folder / name).mkdir()
            write_run(folder / name)

    def command(out):
        own = ["--model", "resnet20", "--dataset", "fashion_mnist_mini", "--limit", "20", "--threads", "1"]
        where = ["--model_folder", folder / out.stem, "--surf_file", folder / out.stem / "s.h5"]
        return [*own, "--batch_size", "20", "--surface", "3x3", "--plane", plane, *where]

    both_ways(plot_trajectory.main, command, before)
    one, other = (folder / name for name in ("one", "all"))
    np.testing.assert_array_equal(*(read_surface(f / "s.h5").fields["train_loss"] for f in (one, other)))
    np.testing.assert_array_equal(*(read_projection(f / "s_path.h5").loss for f in (one, other)))
