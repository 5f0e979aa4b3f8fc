"""The command in one process: names, directions, what may be continued and what is refused."""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT, surface_command, write_checkpoint, write_noise

from lossatlas import choices, hessian
from lossatlas.commands import plot_surface
from lossatlas.errors import option_names
from lossatlas.evaluation import PRECISION_TYPES, autotuning, loss_sums
from lossatlas.io import Directions, read_directions, read_surface, write_directions
from lossatlas.jobs.sweep import named_grid_inputs
from lossatlas.models import load_network

GRID = ("--x=-1:1:3", "--y=-0.5:1:4")


def run(checkpoint, surface, *more, **options) -> int:
    return plot_surface.main(surface_command(checkpoint, surface, *more, **options))


@pytest.fixture
def net(tmp_path) -> Path:
    return write_checkpoint(tmp_path / "net.safetensors", "mlp")


@pytest.mark.parametrize("name", ["mlp", "resnet20"])  # the second has statistics, which nothing may touch
def test_values_against_a_loop_over_the_written_directions(tmp_path, name):
    net = write_checkpoint(tmp_path / "net.safetensors", name)
    assert run(net, tmp_path / "s.h5", *GRID, model=name, limit=10) == 0
    surface, directions = read_surface(tmp_path / "s.h5"), read_directions(tmp_path / "s.h5")
    from lossatlas.datasets.registry import load

    data, model = load("fashion_mnist_mini", limit=10), load_network(name, net, (1, 28, 28)).double()
    origin = [p.clone() for p in model.parameters()]
    for j, b in enumerate(surface.grid.y):
        for i, a in enumerate(surface.grid.x):
            for p, w, x, y in zip(model.parameters(), origin, directions.x, directions.y, strict=True):
                p.copy_(w + a * torch.from_numpy(x) + b * torch.from_numpy(y))
            loss = torch.nn.functional.cross_entropy(model(data.inputs.double()), data.targets).item()
            assert surface.fields["train_loss"][j, i] == pytest.approx(loss, rel=1e-5)


def test_names_are_those_of_the_original(tmp_path, net):
    command = [
        *"--model mlp --dataset fashion_mnist_mini --model_file".split(),
        str(net),
        *"--x=-1:1:3 --y=-1:1:3 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn".split(),
    ]
    assert plot_surface.main(command) == 0
    directions = f"{net}_weights_xignore=biasbn_xnorm=filter_yignore=biasbn_ynorm=filter.h5"
    assert Path(directions).exists()
    assert Path(f"{directions}_[-1.0,1.0,3]x[-1.0,1.0,3].h5").exists()


def test_a_finished_surface_is_not_computed_again(tmp_path, net, capsys, monkeypatch):
    assert run(net, tmp_path / "s.h5", *GRID) == 0
    monkeypatch.setattr("lossatlas.jobs.sweep.named_grid_job.finalize_job", None)  # nothing may be evaluated
    before = (tmp_path / "s.h5").read_bytes()
    assert run(net, tmp_path / "s.h5", *GRID) == 0
    assert "12 of 12 cells done" in capsys.readouterr().out
    assert (tmp_path / "s.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (["--loss_name", "mse"], "loss = crossentropy, now it is mse"),
        (["--limit", "30"], "train_data ="),
        (["--raw_data"], "train_data ="),
        (["--split", "test"], "split = train, now it is test"),
        (["--y=-0.5:1:5"], "has the grid"),
        (["--x=-1:2:3"], "has the grid"),
        (["--seed", "9"], "directions ="),
        (["--xnorm", "layer"], "directions ="),
        (["--dir_type", "states"], "dir_type = weights, now it is states"),
        (["--model_file", "other"], "checkpoint ="),
    ],
)
def test_a_file_of_something_else_is_refused_with_both_values(tmp_path, net, capsys, change, field):
    assert run(net, tmp_path / "s.h5", *GRID) == 0
    if change[0] == "--model_file":
        change = ["--model_file", str(write_checkpoint(tmp_path / "other.safetensors", "mlp", seed=5))]
    before = (tmp_path / "s.h5").read_bytes()
    capsys.readouterr()
    assert run(net, tmp_path / "s.h5", *GRID, *change) == 3
    error = capsys.readouterr().err
    assert field in error
    assert error.count("\n") == 1
    assert (tmp_path / "s.h5").read_bytes() == before
    assert run(net, tmp_path / "s.h5", *GRID, *change, "--force") == 0


def test_the_files_plan_wins_over_a_new_batch_size(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", *GRID, "--batch_size", "7") == 0
    assert run(net, tmp_path / "s.h5", *GRID, "--batch_size", "9") == 0
    assert "batch size 7, which stays" in capsys.readouterr().out
    assert read_surface(tmp_path / "s.h5").plan["batch_size"] == 7


def test_seeds_and_repeats_give_other_directions_and_names(tmp_path, net):
    shas = set()
    for more in ([], ["--seed", "1"], ["--idx", "1"], ["--idx", "2"]):
        args = [
            *"--model mlp --dataset fashion_mnist_mini --limit 20 --model_file".split(),
            str(net),
            "--x=0:1:2",
            *more,
        ]
        assert plot_surface.main(args) == 0
    for file in tmp_path.glob("net.safetensors_weights*h5"):
        if "[" not in file.name:
            shas.add(read_directions(file).sha256)
    assert len(shas) == 4


def test_one_dimension_along_the_x_direction_of_a_plane(tmp_path, net):
    assert run(net, tmp_path / "plane.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    assert run(net, tmp_path / "line.h5", "--x=-1:1:3", "--dir_file", str(tmp_path / "d.h5")) == 0
    line = read_surface(tmp_path / "line.h5").fields["train_loss"]
    assert run(net, tmp_path / "check.h5", "--x=-1:1:3", "--y=0:0:1", "--dir_file", str(tmp_path / "d.h5")) == 0
    np.testing.assert_array_equal(line, read_surface(tmp_path / "check.h5").fields["train_loss"][0])


def test_interpolation_reaches_both_networks(tmp_path, net):
    other = write_checkpoint(tmp_path / "other.safetensors", "mlp", seed=4)
    third = write_checkpoint(tmp_path / "third.safetensors", "mlp", seed=8)
    assert (
        run(net, tmp_path / "s.h5", "--model_file2", str(other), "--model_file3", str(third), "--x=0:1:2", "--y=0:1:2")
        == 0
    )
    for file, name in ((other, "b"), (third, "c")):
        assert run(file, tmp_path / f"{name}.h5", "--x=0:0:1", "--dir_file", str(tmp_path / f"{name}_d.h5")) == 0
    plane = read_surface(tmp_path / "s.h5").fields["train_loss"]
    assert plane[0, 1] == pytest.approx(read_surface(tmp_path / "b.h5").fields["train_loss"][0], rel=1e-5)
    assert plane[1, 0] == pytest.approx(read_surface(tmp_path / "c.h5").fields["train_loss"][0], rel=1e-5)


def test_models_in_other_folders_get_a_name_in_the_first_folder(tmp_path, net):
    (tmp_path / "b").mkdir()
    other = write_checkpoint(tmp_path / "b" / "other.safetensors", "mlp", seed=4)
    args = [
        *"--model mlp --dataset fashion_mnist_mini --limit 20 --model_file".split(),
        str(net),
        "--model_file2",
        str(other),
        "--x=0:1:2",
    ]
    assert plot_surface.main(args) == 0
    assert (tmp_path / "net.safetensors_b_other.safetensors_weights.h5").exists()


def test_same_dir_uses_one_direction_twice(tmp_path, net):
    assert run(net, tmp_path / "s.h5", *GRID, "--same_dir") == 0
    directions = read_directions(tmp_path / "s.h5")
    assert all(np.array_equal(x, y) for x, y in zip(directions.x, directions.y, strict=True))


def test_a_self_contained_file_needs_no_other(tmp_path, net):
    assert run(net, tmp_path / "s.h5", *GRID, "--self_contained") == 0
    for file in tmp_path.glob("*weights*.h5"):
        file.unlink()
    assert read_directions(tmp_path / "s.h5").y is not None


def test_a_file_of_the_original_is_continued_and_its_cells_are_kept(tmp_path, net, capsys):
    """Strip what only this tool records, and lose two cells, as an interrupted run of the original would."""
    assert run(net, tmp_path / "new.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    done = read_surface(tmp_path / "new.h5").fields
    loss, accuracy = done["train_loss"].copy(), done["train_acc"].copy()
    for array in (loss, accuracy):
        array[0, 0] = array[3, 2] = -1
    loss[1, 1] = 77.0  # whatever the old tool found stays
    with h5py.File(tmp_path / "old.h5", "w") as f:
        f["dir_file"] = "somewhere/else/d.h5"
        f["xcoordinates"], f["ycoordinates"] = np.linspace(-1, 1, 3), np.linspace(-0.5, 1, 4)
        f["train_loss"], f["train_acc"] = loss.reshape(3, 4), accuracy.reshape(3, 4)
    assert run(net, tmp_path / "old.h5", *GRID, "--dir_file", str(tmp_path / "e.h5")) == 3
    assert "was made with the directions somewhere/else/d.h5" in capsys.readouterr().err
    assert run(net, tmp_path / "old.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    assert "10 of 12 cells done" in capsys.readouterr().out
    surface = read_surface(tmp_path / "old.h5")
    expected = done["train_loss"].copy()
    expected[1, 1] = 77.0
    np.testing.assert_array_equal(surface.fields["train_loss"], expected)
    assert surface.foreign.sum() == 10


def original_file(path, fields, **more) -> None:
    """A file as the original release writes it."""
    with h5py.File(path, "w") as f:
        f["dir_file"] = "somewhere/d.h5"
        f["xcoordinates"], f["ycoordinates"] = np.linspace(-1, 1, 3), np.linspace(-0.5, 1, 4)
        for name, values in {**fields, **more}.items():
            f[name] = values


def test_nothing_in_a_file_of_the_original_is_lost(tmp_path, net, capsys):
    """Train and test are there, one train cell is missing: the default --split train carries the test fields along."""
    assert run(net, tmp_path / "new.h5", *GRID, "--split", "both", "--dir_file", str(tmp_path / "d.h5")) == 0
    fields = {
        name: read_surface(tmp_path / "new.h5").fields[name]
        for name in ("train_loss", "train_acc", "test_loss", "test_acc")
    }
    gap = {name: np.where(np.arange(12).reshape(4, 3) == 5, -1.0, fields[name]) for name in ("train_loss", "train_acc")}
    original_file(tmp_path / "old.h5", {**fields, **gap})
    assert run(net, tmp_path / "old.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    found = read_surface(tmp_path / "old.h5")
    for name, values in fields.items():
        np.testing.assert_allclose(found.fields[name], values, rtol=1e-6)
    with h5py.File(tmp_path / "old.h5") as f:
        np.testing.assert_array_equal(f["test_acc"][()], fields["test_acc"])
    counts = np.full((4, 3), 2**60 + 1)
    for name, extra in (
        ("notes", "mine"),
        ("spectrum", np.arange(5.0)),
        ("phase", 1j * gap["train_loss"]),
        ("counts", counts),
    ):
        original_file(tmp_path / "extra.h5", gap, **{name: extra})
        before = (tmp_path / "extra.h5").read_bytes()
        assert run(net, tmp_path / "extra.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 3
        assert f"'{name}', which would be lost" in capsys.readouterr().err
        assert (tmp_path / "extra.h5").read_bytes() == before


def test_a_complete_file_of_the_original_stays_as_it_is(tmp_path, net, capsys):
    """It ended in a ZeroDivisionError."""
    assert run(net, tmp_path / "new.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    fields = {name: read_surface(tmp_path / "new.h5").fields[name] for name in ("train_loss", "train_acc")}
    original_file(tmp_path / "old.h5", fields)
    before = (tmp_path / "old.h5").read_bytes()
    assert run(net, tmp_path / "old.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    assert "12 of 12 cells done" in capsys.readouterr().out
    assert (tmp_path / "old.h5").read_bytes() == before


def test_a_reduced_precision_is_not_taken_for_float32(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", *GRID, "--precision", "bfloat16") == 0
    assert run(net, tmp_path / "s.h5", *GRID) == 3
    assert "was made with precision = bfloat16, now it is float32" in capsys.readouterr().err


def test_a_split_of_own_tensors_is_honoured(tmp_path, net):
    """As the original draws it; it was ignored beside --trainloader."""
    own = write_noise(tmp_path / "own.npz", 40)
    assert (
        run(net, tmp_path / "s.h5", "--x=0:0:1", "--trainloader", own, "--data_split", "4", "--batch_size", "10") == 0
    )
    found = read_surface(tmp_path / "s.h5")
    assert found.populations == {"train": 10}
    with np.load(own) as saved:
        chosen = np.random.RandomState(0).choice(40, 10, replace=False)
        inputs, targets = torch.from_numpy(saved["inputs"][chosen]), torch.from_numpy(saved["targets"][chosen])
    expected = torch.nn.functional.cross_entropy(load_network("mlp", net, (1, 28, 28))(inputs), targets)
    assert found.fields["train_loss"][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize("model", ["vgg9", "densenet121"])
@pytest.mark.parametrize("ending", ["safetensors", "t7"])
def test_the_classes_of_own_data_do_not_depend_on_the_order_in_a_file(tmp_path, model, ending):
    from lossatlas.models import build, save_state

    rng = np.random.default_rng(0)
    own = tmp_path / "own.npz"
    np.savez(own, inputs=rng.normal(size=(4, 3, 32, 32)).astype(np.float32), targets=rng.integers(0, 3, 4))
    save_state(tmp_path / f"net.{ending}", build(model, (3, 32, 32), 7))
    line = [
        "--model",
        model,
        "--model_file",
        str(tmp_path / f"net.{ending}"),
        "--trainloader",
        str(own),
        *"--x=0:0:1 --surf_file".split(),
        str(tmp_path / "s.h5"),
        "--dry_run",
    ]
    assert plot_surface.main(line) == 0


def test_a_dry_run_computes_no_curvature(tmp_path, net, capsys, monkeypatch):

    monkeypatch.setattr(hessian, "Hessian", None)
    assert run(net, tmp_path / "s.h5", "--x=0:1:3", "--xdirection", "eigenvector", "--dry_run") == 0
    out = capsys.readouterr().out
    assert "directions = not computed in a dry run" in out
    assert "would compute 3 of 3 cells" in out
    assert not (tmp_path / "s.h5").exists()


def test_the_chosen_way_is_printed_and_a_slow_run_is_said(tmp_path, net, capsys, monkeypatch):
    from lossatlas.io import progress as recorder

    assert run(net, tmp_path / "s.h5", *GRID, "--batch_size", "10", "--threads", "2", limit=40) == 0
    assert "batches of 10, 2 side by side" in capsys.readouterr().out
    now = iter(range(0, 10**6, 7))
    monkeypatch.setattr(recorder.time, "monotonic", lambda: float(next(now)))
    progress = recorder.Progress(100, 0, expected=0.1)
    with option_names():
        progress.show(2)
        progress.show(4)
    out = capsys.readouterr().out
    assert out.count("times as long as measured at the start") == 1
    assert "--threads 1" in out
    steady = recorder.Progress(100, 0, expected=10.0)
    steady.show(2)
    assert "times as long" not in capsys.readouterr().out


def test_what_is_left_is_guessed_from_the_later_half(capsys, monkeypatch):
    """Ten cells of a minute, then ninety of six seconds, as where coarse cells draw more samples."""
    from lossatlas.io import progress as recorder

    monkeypatch.setattr(recorder.FrontEnd, "command", True)
    now = [0.0]
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now[0])
    progress = recorder.Progress(100, 0)
    for cell in range(1, 101):
        now[0] += 60 if cell <= 10 else 6
        progress.show(cell)
    lines = capsys.readouterr().out.splitlines()
    assert lines[9].endswith("10/100 cells saved, 10:00 spent, 1:30:00 left")
    assert lines[79].endswith("80/100 cells saved, 17:00 spent, 2:30 left")  # from the mean of all it would be 4:15
    assert lines[98].endswith("99/100 cells saved, 18:54 spent, 0:07 left")


def test_directions_of_another_network_are_refused(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    big = write_checkpoint(tmp_path / "big.safetensors", "resnet20")
    assert run(big, tmp_path / "t.h5", *GRID, "--dir_file", str(tmp_path / "d.h5"), model="resnet20") == 3
    assert "has 6 tensors, the network" in capsys.readouterr().err
    assert run(net, tmp_path / "u.h5", *GRID, "--dir_file", str(tmp_path / "d.h5"), "--dir_type", "states") == 0


def test_directions_without_counters_are_read(tmp_path):
    """As files of states written before torch 0.4.1 are."""
    big = write_checkpoint(tmp_path / "big.safetensors", "resnet20")
    line = ("--x=-1:1:2", "--dir_type", "states", "--batch_size", "20")
    assert run(big, tmp_path / "a.h5", *line, "--dir_file", str(tmp_path / "d.h5"), model="resnet20", limit=20) == 0
    directions = read_directions(tmp_path / "d.h5")
    names = list(load_network("resnet20", big, (1, 28, 28)).state_dict())
    assert len(directions.x) == len(names)
    with h5py.File(tmp_path / "old.h5", "w") as f:
        kept = [array for name, array in zip(names, directions.x, strict=True) if "num_batches" not in name]
        for k, array in enumerate(kept):
            f[f"xdirection/{k}"] = array
    assert run(big, tmp_path / "b.h5", *line, "--dir_file", str(tmp_path / "old.h5"), model="resnet20", limit=20) == 0
    a, b = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in "ab")
    np.testing.assert_array_equal(a, b)


def test_data_by_file_name(tmp_path, net):
    from lossatlas.datasets.registry import load

    data = load("fashion_mnist_mini", limit=40)
    np.savez(tmp_path / "data.npz", inputs=data.inputs, targets=data.targets)
    assert run(net, tmp_path / "a.h5", *GRID) == 0
    assert run(net, tmp_path / "b.h5", *GRID, "--trainloader", str(tmp_path / "data.npz")) == 0
    a, b = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in "ab")
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--model", "resnet57"], 2, "--model resnet57 (did you mean"),
        (["--dataset", "imagenet"], 2, "--dataset imagenet"),
        (["--x=1:-1:5"], 2, "--x=1:-1:5"),
        (["--model_file3", "x"], 2, "--model_file3"),
        (["--model_file", "absent"], 3, "no checkpoint at absent"),
        (["--model", "resnet20"], 3, "lacks 'conv1.weight'"),
        (["--dir_file", "no/folder/d.h5"], 3, "no folder"),
        (["--surf_file", "no/folder/s.h5"], 3, "no folder no/folder"),
        (["--datapath", "nowhere"], 3, "no 'fashion_mnist_mini.npz' in nowhere"),
        (["--trainloader", "absent.npz"], 3, "no file absent.npz"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, net, capsys, monkeypatch, more, code, message):
    monkeypatch.chdir(tmp_path)
    assert run(net, tmp_path / "s.h5", "--x=-1:1:3", *more) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] in ([net.name], [net.name, "s.h5.log"], ["s.h5.log", net.name])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", *GRID, "--cuda") == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(tmp_path, net):
    assert run(net, tmp_path / "a.h5", *GRID) == 0
    assert run(net, tmp_path / "b.h5", *GRID, "--cuda") == 0
    a, b = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_unknown_options_are_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        plot_surface.main(["--model_file", "x", "--grid", "3"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", *GRID, "--dry_run") == 0
    out = capsys.readouterr().out
    assert "batch_size = to be measured" in out
    assert "would compute 12 of 12 cells" in out
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_dry_run_says_what_a_job_needs(tmp_path, net, capsys, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    assert run(net, folder / "s.h5", *GRID, "--dry_run", "--cuda") == 0
    out = capsys.readouterr().out
    if not torch.cuda.is_available():  # on a login node
        assert "no CUDA device" in out
        assert "time: not measured" in out
    assert run(net, folder / "s.h5", *GRID, "--dry_run") == 0
    out = capsys.readouterr().out
    said = re.search(r"surface file: about ([\d.]+) kB, directions: ([\d.]+) kB", out)
    assert re.search(r"time: about \S+ s for a cell \(from a few batches\), 0:\d\d for 12 cells", out)
    assert re.search(r"memory: [\d.]+ [MG]B for this rank", out)
    assert list(folder.iterdir()) == []
    assert run(net, folder / "s.h5", *GRID, "--dir_file", str(folder / "d.h5")) == 0
    for size, file in zip(said.groups(), ("s.h5", "d.h5"), strict=True):
        assert float(size) == pytest.approx((folder / file).stat().st_size / 1000, rel=0.2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=1000))
    assert run(net, folder / "t.h5", *GRID, "--dry_run") == 5
    assert "1 kB are free there" in capsys.readouterr().err


def test_force_keeps_the_file_that_was_there(tmp_path, net, capsys):
    for seed in (1, 2, 3):
        more = ["--seed", str(seed), "--dir_file", str(tmp_path / f"{seed}.dir.h5"), "--force"]
        assert run(net, tmp_path / "s.h5", *GRID, *more) == 0
    assert "the file that was there is now" in capsys.readouterr().out
    kept = [read_surface(tmp_path / name).request["directions"] for name in ("s.old1.h5", "s.old2.h5", "s.h5")]
    assert kept == [read_directions(tmp_path / f"{seed}.dir.h5").sha256 for seed in (1, 2, 3)]


def test_directions_that_another_run_has_just_written_are_not_replaced(tmp_path, net, capsys, monkeypatch):
    """Both found no file; the second to write hears of the first."""
    one = tmp_path / "d.h5"
    original = named_grid_inputs.find_directions

    def slow(*arguments, **more):
        found = original(*arguments, **more)
        write_directions(one, Directions([np.ones(3)]))
        return found

    monkeypatch.setattr(named_grid_inputs, "find_directions", slow)
    assert run(net, tmp_path / "s.h5", *GRID, "--dir_file", str(one)) == 3
    assert "another run has just written other directions" in capsys.readouterr().err
    assert read_directions(one).x[0].tolist() == [1, 1, 1]
    assert not (tmp_path / "s.h5").exists()


def test_a_symbolic_link_to_itself(tmp_path, net, capsys):
    (tmp_path / "s.h5").symlink_to(tmp_path / "s.h5")
    assert run(net, tmp_path / "s.h5", *GRID) in (3, 5)
    assert len(capsys.readouterr().err.splitlines()) == 1


NAMES = ("with space", "\udcff\udcfe", "漢" * 80, "$\\foo$", "[brackets]x", "quo'te\"s", "é" * 60, "x" * 300)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("drawn", [False, pytest.param(True, marks=pytest.mark.full)])
def test_strange_and_long_names(tmp_path, name, drawn):
    check_name(tmp_path, name, drawn)


@pytest.mark.parametrize("name", ['\udcff\udcfe$\\foo$[x]"é'])
def test_a_strange_name_in_figures(tmp_path, name):
    check_name(tmp_path, name, drawn=True)


def check_name(tmp_path, name, drawn):
    folder = tmp_path / name[:60]
    folder.mkdir()
    net = write_checkpoint(folder / f"{name[:100]}.safetensors", "mlp")
    command = [
        *"--model mlp --dataset fashion_mnist_mini --limit 20 --model_file".split(),
        str(net),
        *"--x=-1:1:3 --y=-1:1:3 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --idx 3".split(),
        *["--plot"] * drawn,
    ]
    assert plot_surface.main(command) == 0
    assert len(list(folder.glob("*.png"))) == 4 * drawn
    assert plot_surface.main(command) == 0  # found again under its shortened name


def test_long_names_do_not_collide():
    from lossatlas.jobs.inputs.file_names import shortened_name

    names = {shortened_name(Path("x" * 250 + end)).name for end in ("a.h5", "b.h5")}
    assert len(names) == 2
    assert all(len(name.encode()) <= 200 for name in names)


def test_a_name_that_is_too_long_for_the_file_system_cannot_be_written(tmp_path, net, capsys):
    assert run(net, tmp_path / ("s" * 300), *GRID, "--dir_file", str(tmp_path / "d.h5")) in (3, 5)
    assert capsys.readouterr().err.count("\n") == 1


def test_an_output_folder_that_cannot_be_written_to(tmp_path, net, capsys):
    """/proc takes no files from anyone, root included."""
    assert run(net, "/proc/s.h5", *GRID) == 5
    assert "cannot write /proc/s.h5" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["surface", "directions", "checkpoint"])
@pytest.mark.parametrize("content", [b"", b"foreign", "half"])
def test_damaged_files_are_refused_and_left_alone(tmp_path, net, capsys, damage, content):
    assert run(net, tmp_path / "s.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 0
    victim = {"surface": tmp_path / "s.h5", "directions": tmp_path / "d.h5", "checkpoint": net}[damage]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2] if content == "half" else content)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.h5")}
    capsys.readouterr()
    assert run(net, tmp_path / "s.h5", *GRID, "--dir_file", str(tmp_path / "d.h5")) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert victim.name in error
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.h5")} == before


def test_weights_that_are_not_finite_are_refused(tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    net = write_checkpoint(tmp_path / "net.safetensors", "mlp")
    state = load_file(net)
    state["3.weight"][2, 2] = float("nan")
    save_file(state, net)
    assert run(net, tmp_path / "s.h5", *GRID) == 3
    assert "'3.weight' holds NaN" in capsys.readouterr().err


def test_same_dir_wins_over_a_third_network_and_says_so_in_the_file(tmp_path, net):
    other = write_checkpoint(tmp_path / "other.safetensors", "mlp", seed=4)
    args = [
        *"--model mlp --dataset fashion_mnist_mini --limit 20 --model_file".split(),
        str(net),
        "--model_file2",
        str(other),
        "--model_file3",
        str(other),
        *"--x=0:1:2 --y=0:1:2".split(),
    ]
    assert plot_surface.main([*args, "--same_dir"]) == 0
    (same,) = tmp_path.glob("*_same_dir.h5")
    assert read_directions(same).about["y"] == "the x direction"
    assert plot_surface.main(args) == 0
    assert len(list(tmp_path.glob("*_weights*.h5"))) == 4


def test_a_named_direction_file_is_used_but_never_for_another_seed(tmp_path, net, capsys):
    d = ("--dir_file", str(tmp_path / "d.h5"))
    assert run(net, tmp_path / "a.h5", *GRID, *d) == 0
    assert f"new directions are in {tmp_path / 'd.h5'}" in capsys.readouterr().out
    assert run(net, tmp_path / "b.h5", *GRID, *d, "--xnorm", "layer") == 0
    assert "d.h5 was made with x = random, norm=filter" in capsys.readouterr().out
    for more in (["--idx", "2"], ["--seed", "5"]):
        assert run(net, tmp_path / "c.h5", *GRID, *d, *more) == 3
    assert not (tmp_path / "c.h5").exists()


def test_a_line_and_a_plane_share_a_default_direction_file(tmp_path, net):
    base = [*"--model mlp --dataset fashion_mnist_mini --limit 20 --model_file".split(), str(net), "--x=-1:1:3"]
    assert plot_surface.main(base) == 0
    first = read_directions(f"{net}_weights.h5")
    assert plot_surface.main([*base, "--y=-1:1:3"]) == 0  # the file gets a second direction
    both = read_directions(f"{net}_weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(first.x, both.x, strict=True))
    assert both.y is not None
    assert plot_surface.main(base) == 0  # and the line is still complete


def test_embedded_directions_are_kept_when_a_file_is_continued(tmp_path, net):
    assert run(net, tmp_path / "s.h5", *GRID, "--dir_file", str(tmp_path / "d.h5"), "--self_contained") == 0
    surface = read_surface(tmp_path / "s.h5")
    done = surface.done.copy()
    done[1, 1] = False
    from dataclasses import replace

    from lossatlas.io import write_surface

    directions = read_directions(tmp_path / "s.h5")
    write_surface(tmp_path / "s.h5", replace(surface, done=done), tmp_path / "d.h5", embed=directions)
    (tmp_path / "d.h5").unlink()
    assert run(net, tmp_path / "s.h5", *GRID, "--dir_file", str(tmp_path / "s.h5")) == 0
    again = read_surface(tmp_path / "s.h5")
    np.testing.assert_array_equal(again.fields["train_loss"], surface.fields["train_loss"])
    assert read_directions(tmp_path / "s.h5").sha256 == directions.sha256
    assert run(net, tmp_path / "d2.h5", *GRID, "--dir_file", str(tmp_path / "d2.h5"), "--force") == 2


@pytest.mark.commands
def test_progress_reaches_a_pipe_and_a_closed_pipe_stops_nothing(tmp_path, net):
    import os

    command = [sys.executable, "plot_surface.py", *surface_command(net, tmp_path / "s.h5", *GRID)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert "new directions" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=1200) == 0
    assert read_surface(tmp_path / "s.h5").done.all()


def test_a_complete_surface_that_cannot_be_drawn_is_still_complete(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", "--x=-1:1:3", "--y=0:0:1", "--plot") == 0
    assert "not drawn: " in capsys.readouterr().out


def test_own_data_with_few_classes(tmp_path, capsys):
    from conftest import seeded

    from lossatlas.models import build, save_state

    generator = np.random.default_rng(0)
    save_state(tmp_path / "net.safetensors", seeded(lambda: build("mlp", (2, 5, 5), 4)))
    data = {"inputs": generator.normal(size=(9, 2, 5, 5)).astype(np.float32), "targets": np.arange(9) % 3}
    np.savez(tmp_path / "own.npz", **data)
    args = ["--model", "mlp", "--model_file", str(tmp_path / "net.safetensors"), "--x=-1:1:3", "--trainloader"]
    assert plot_surface.main([*args, str(tmp_path / "own.npz")]) == 0
    np.savez(tmp_path / "more.npz", inputs=data["inputs"], targets=np.arange(9))
    capsys.readouterr()
    assert plot_surface.main([*args, str(tmp_path / "more.npz")]) == 3
    assert "the train data have the label 8, the network 4 classes" in capsys.readouterr().err
    assert plot_surface.main([*args, str(tmp_path / "own.npz"), "--model", "vgg9"]) == 3
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def samples(tmp_path) -> list[str]:
    """3,000 noisy samples as a user's own tensors, and the options that use them."""
    return ["--trainloader", write_noise(tmp_path / "data.npz", 3000)]


def test_a_tolerance_uses_few_samples_and_later_runs_add_some(tmp_path, net, samples, capsys):
    file, options = tmp_path / "s.h5", {"limit": 3000}
    assert run(net, file, *GRID, *samples, "--tolerance", "0.003", **options) == 0
    first = read_surface(file)
    used = first.statistics["train"]["n"]
    assert ((used >= 500) & (used < 3000)).all()
    assert (first.fields["train_loss_se"] <= 0.003 * first.fields["train_loss"]).all()
    assert "% of the train samples" in capsys.readouterr().out
    assert run(net, file, *GRID, *samples, "--tolerance", "0.003", **options) == 0
    assert "12 of 12 cells done" in capsys.readouterr().out
    assert run(net, file, *GRID, *samples, "--tolerance", "0.001,0.004", **options) == 0
    second = read_surface(file)
    assert (second.statistics["train"]["n"] > used).any()
    assert (second.fields["train_loss_se"] <= np.maximum(0.001 * second.fields["train_loss"], 0.004)).all()
    assert run(net, file, *GRID, *samples, **options) == 0
    third, other = read_surface(file), tmp_path / "all.h5"
    assert (third.statistics["train"]["n"] == 3000).all()
    assert run(net, other, *GRID, *samples, **options) == 0
    np.testing.assert_allclose(third.fields["train_loss"], read_surface(other).fields["train_loss"], rtol=1e-7)
    for coarse in (first, second):
        distance = np.abs(coarse.fields["train_loss"] - third.fields["train_loss"])
        assert (distance <= 4 * coarse.fields["train_loss_se"]).all()


@pytest.mark.parametrize(("precision", "error"), [("float64", 0), ("bfloat16", 0.1)])
def test_a_precision_is_recorded_and_its_error_measured(tmp_path, net, capsys, precision, error):
    assert run(net, tmp_path / "s.h5", *GRID, "--precision", precision) == 0
    assert run(net, tmp_path / "plain.h5", *GRID) == 0
    found, plain = (read_surface(tmp_path / name) for name in ("s.h5", "plain.h5"))
    assert found.plan["precision"] == precision
    np.testing.assert_allclose(found.fields["train_loss"], plain.fields["train_loss"], rtol=max(error, 1e-5))
    out = capsys.readouterr().out
    if error:
        assert "bfloat16 changes train_loss by" in out
        assert 0 < max(found.about["precision_error"]["relative"]["train_loss"]) < error
    for other in ([], ["--precision", "float16"]):  # without the option it is float32
        assert run(net, tmp_path / "s.h5", *GRID, *other) == 3
        asked = (other or ["", "float32"])[1]
        assert f"was made with precision = {precision}, now it is {asked}" in capsys.readouterr().err


def test_options_for_precision_and_tolerance_that_make_no_sense(tmp_path, net, capsys):
    assert run(net, tmp_path / "s.h5", *GRID, "--precision", "tf32") == 2
    assert "TF32 is a mode of CUDA devices" in capsys.readouterr().err
    assert run(net, tmp_path / "s.h5", *GRID, "--tolerance", "many") == 2
    assert "--tolerance many" in capsys.readouterr().err
    assert set(choices.PRECISIONS) == set(PRECISION_TYPES)


def test_a_batch_that_does_not_fit_is_halved_and_recorded(tmp_path, net, monkeypatch, capsys):
    whole = loss_sums.LossSums.__call__

    def small(self, model, batch):
        if len(batch[1]) > 7:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(self, model, batch)

    assert run(net, tmp_path / "plain.h5", *GRID, "--batch_size", "16") == 0
    monkeypatch.setattr(loss_sums.LossSums, "__call__", small)
    monkeypatch.setattr(autotuning, "seconds_per_sample", lambda *_: 1.0)
    assert run(net, tmp_path / "s.h5", *GRID, "--batch_size", "16") == 0
    assert "out of memory on cpu: batch size 4 from cell" in capsys.readouterr().out
    found = read_surface(tmp_path / "s.h5")
    assert len(found.about["notes"]) == 1
    assert found.plan["batch_size"] == 16
    (halved,) = found.plan["halved"]
    assert (halved["batch_size"], halved["from_cell"]) == (4, 0)
    assert halved["by"] == found.about["computed_by"][0]
    np.testing.assert_allclose(
        found.fields["train_loss"], read_surface(tmp_path / "plain.h5").fields["train_loss"], rtol=1e-6
    )
    monkeypatch.setattr(
        loss_sums.LossSums, "__call__", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("no"))
    )
    assert run(net, tmp_path / "t.h5", *GRID, "--batch_size", "16") == 2
    assert "one sample does not fit" in capsys.readouterr().err


def test_what_a_user_added_to_a_file_is_not_lost(tmp_path, net, capsys):
    for k, add in enumerate(
        (
            lambda f: f.create_dataset("notes", data="mine"),
            lambda f: f.attrs.update(comment="x"),
            lambda f: f["train_loss"].attrs.update(units="nats"),
            lambda f: f.create_group("more"),
        )
    ):
        assert run(net, tmp_path / f"{k}.h5", *GRID) == 0
        with h5py.File(tmp_path / f"{k}.h5", "r+") as f:
            add(f)
        before = (tmp_path / f"{k}.h5").read_bytes()
        assert run(net, tmp_path / f"{k}.h5", *GRID) == 3
        assert "which this program did not write and would lose" in capsys.readouterr().err
        assert (tmp_path / f"{k}.h5").read_bytes() == before


def test_own_tensors_that_are_none(tmp_path, net, capsys):
    good = {"inputs": np.zeros((3, 1, 28, 28), np.float32), "targets": np.arange(3)}
    for change in (
        {"inputs": np.float32(1)},
        {"targets": np.array([0, 0.5, 1])},
        {"inputs": good["inputs"] + np.nan},
        {"inputs": good["inputs"] + 1j},
    ):
        np.savez(tmp_path / "own.npz", **{**good, **change})
        assert run(net, tmp_path / "s.h5", *GRID, "--trainloader", str(tmp_path / "own.npz")) == 3
        assert capsys.readouterr().err.count("error:") == 1


def test_more_eigenvectors_than_there_are(tmp_path, net, capsys):
    line = ["--x=0:1:2", "--xdirection", "eigenvector:99999999"]
    monkey = pytest.MonkeyPatch()
    monkey.setattr("lossatlas.jobs.inputs.origin_curvature.MAX_PRODUCTS", 3)
    assert run(net, tmp_path / "s.h5", *line) == 3
    monkey.undo()
    assert "asks for more than the 3" in capsys.readouterr().err
