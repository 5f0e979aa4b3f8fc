"""Recording a training run: bits of the network, the training, resumed runs; failures; processes; trajectories."""

import errno
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT, seeded
from safetensors.torch import load_file
from torch import nn

import lossatlas
from lossatlas import run_recorder
from lossatlas.commands import plot_trajectory
from lossatlas.errors import BadInput, BadUsage, CannotWrite, Note
from lossatlas.figures import style
from lossatlas.figures.trajectory_plots import path_losses_figure
from lossatlas.io import read_projection, write_projection
from lossatlas.io.run_folder import read_log, thinned

X = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 2


def make():
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))


def fresh(seed=0, factory=make):
    """A network in training mode."""
    return seeded(factory, seed).train().requires_grad_(True)


def train(net, steps, on_step=lambda loss: None):
    """Training with dropout, momentum and a shuffled order: it draws from torch's generator in every step."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        order = torch.randperm(32)
        loss = nn.functional.cross_entropy(net(X[order]), Y[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(loss)


def bits(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def recorded(folder, steps=4, **options):
    net = fresh()
    recorder = lossatlas.Recorder(net, folder, **options)
    train(net, steps, lambda loss: recorder.step(loss=loss))
    return net, recorder


def test_the_training_has_the_same_bits_with_and_without(tmp_path):
    results = []
    for folder in (None, tmp_path / "run"):
        net = fresh()
        torch.manual_seed(5)
        recorder = None if folder is None else lossatlas.Recorder(net, folder, keep=3)
        losses, gradients = [], []

        def on_step(loss, net=net, recorder=recorder, losses=losses, gradients=gradients):
            before = [p.grad.clone() for p in net.parameters()]
            if recorder is not None:
                assert recorder.step(loss=loss, accuracy=0.5)
            assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), before, strict=True))
            assert all(module.training for module in net.modules())
            assert all(p.requires_grad for p in net.parameters())
            assert loss.requires_grad
            losses.append(loss.item())
            gradients.extend(before)

        train(net, 7, on_step)
        results.append((bits(net), losses, gradients, torch.get_rng_state()))
    (one, losses, gradients, random), (two, losses2, gradients2, random2) = results
    assert equal(one, two)
    assert losses == losses2
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients2, strict=True))
    assert torch.equal(random, random2)


def test_checkpoints_are_those_of_the_training_bit_for_bit(tmp_path):
    net, states, losses = fresh(), [], []
    recorder = lossatlas.Recorder(net, tmp_path / "a" / "run")
    states.append(bits(net))

    def on_step(loss):
        recorder.step(loss=loss, accuracy=torch.tensor(0.25), lr=1)
        states.append(bits(net))
        losses.append(loss.item())

    train(net, 3, on_step)
    assert [path.name for path in recorder.checkpoints] == [f"model_{k}.safetensors" for k in range(4)]
    for path, state in zip(recorder.checkpoints, states, strict=True):
        assert equal(load_file(path), state)
    assert np.isnan(recorder.losses[0])
    assert recorder.losses[1:].tolist() == losses
    assert recorder.metrics["accuracy"][1:].tolist() == [0.25] * 3
    assert sorted(os.listdir(tmp_path / "a" / "run")) == [
        *(f"model_{k}.safetensors" for k in range(4)),
        "recorder.json",
    ]
    assert "4 checkpoints, steps 0 to 3" in repr(recorder)


def test_every_and_explicit_numbers(tmp_path):
    net, recorder = fresh(), lossatlas.Recorder(fresh(), tmp_path / "a", every=3)
    assert [recorder.step() for _ in range(7)] == [False, False, True, False, False, True, False]
    assert recorder.step(now=True)
    assert recorder.steps == [0, 3, 6, 8]
    recorder = lossatlas.Recorder(net, tmp_path / "b", every=10)
    assert [recorder.step(step=k) for k in (4, 9, 13, 19, 20, 45)] == [False, False, True, False, True, True]
    assert recorder.steps == [0, 13, 20, 45]
    for values in ({"every": 0}, {"every": 1.5}, {"keep": 2}, {"start": -1}):
        with pytest.raises(BadUsage):
            lossatlas.Recorder(net, tmp_path / "c", **values)
    (tmp_path / "net.py").write_text("x = 1\n")
    with pytest.raises(BadUsage, match="is a file: give the path of a folder"):
        lossatlas.Recorder(net, tmp_path / "net.py")
    with pytest.raises(BadUsage, match="takes the network"):
        lossatlas.Recorder(net.state_dict(), tmp_path / "c")
    for values in ({"loss": torch.zeros(2)}, {"loss": 1.0, "accuracy": "high"}):
        with pytest.raises(BadUsage, match="has to be a number, not "):
            recorder.step(**values)
    assert not (tmp_path / "c").exists()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("coarse", torch.randn(4).bfloat16())
        self.register_buffer("turned", torch.randn(3, 5).T)
        self.register_buffer("counts", torch.arange(3))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, torch.compile])
def test_tied_weights_buffers_and_wrapped_networks(tmp_path, wrap):
    net = fresh(0, Tied)
    state = bits(net)
    recorder = lossatlas.Recorder(wrap(net), tmp_path)
    assert equal(load_file(recorder.checkpoints[0]), state)
    twin = fresh(1, Tied)
    twin.load_state_dict(load_file(recorder.checkpoints[0]))
    assert equal(bits(twin), state)
    lossatlas.Recorder.open(twin, tmp_path)


def test_averaged_models_are_recorded_as_the_network_of_averages(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(fresh())
    recorder = lossatlas.Recorder(averaged, tmp_path)
    assert equal(load_file(recorder.checkpoints[0]), bits(averaged.module))


@pytest.mark.parametrize(("keep", "count"), [(3, 1), (3, 9), (5, 40), (50, 49), (50, 123)])
def test_thinning_is_even_and_keeps_the_ends(keep, count):
    steps, interval = [0], 1
    for step in range(1, count + 1):
        steps, interval = thinned([*steps, step], interval, keep)
        assert steps[0] == 0
        assert steps[-1] == step
        assert len(steps) <= keep
        gaps = np.diff(steps)
        assert set(gaps[:-1]) <= {interval}
        assert 0 < gaps[-1] <= interval
    assert interval & (interval - 1) == 0
    assert len(steps) > keep // 2 or count < keep


def test_thinning_removes_its_own_files_alone(tmp_path):
    folder = tmp_path / "run"
    net, recorder = fresh(), None
    recorder = lossatlas.Recorder(net, folder, keep=4)
    mine = folder / "model_99.safetensors"
    mine.write_bytes(b"mine")
    (folder / "notes.txt").write_text("mine")
    for _ in range(11):
        recorder.step(loss=1.0)
    assert recorder.steps == [0, 4, 8, 11]
    assert set(os.listdir(folder)) == {*(p.name for p in recorder.checkpoints), "recorder.json", mine.name, "notes.txt"}
    assert mine.read_bytes() == b"mine"


def test_a_run_is_continued_where_the_network_fits(tmp_path):
    net, recorder = recorded(tmp_path, 3)
    before = {path.name: path.read_bytes() for path in recorder.checkpoints}
    with pytest.warns(Note, match=r"is continued after step 3, with 4 checkpoints"):
        again = lossatlas.Recorder(net, str(tmp_path))
    assert again.losses[1:].tolist() == recorder.losses[1:].tolist()
    train(net, 2, lambda loss: again.step(loss=loss))
    assert again.steps == [0, 1, 2, 3, 4, 5]
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    times = [entry.time for entry in read_log(tmp_path).entries]
    assert times == sorted(times)
    (tmp_path / "model_2.safetensors").unlink()  # somebody tidied up
    assert lossatlas.Recorder.open(net, tmp_path).steps == [0, 1, 3, 4, 5]


def test_other_folders_and_other_networks_are_refused(tmp_path):
    recorded(tmp_path / "run", 1)
    with pytest.raises(BadInput, match=r"the run of another network \('0.weight' is \(6, 3\) there, \(4, 3\) here\)"):
        lossatlas.Recorder(nn.Sequential(nn.Linear(3, 4)), tmp_path / "run")
    with pytest.raises(BadInput, match="another network"):
        lossatlas.Recorder.open(nn.Linear(3, 4), tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").touch()
    with pytest.raises(BadInput, match=r"holds text.tex and is no recorded run: give a new folder"):
        lossatlas.Recorder(make(), tmp_path / "thesis")
    with pytest.raises(BadInput, match="no recorded run"):
        lossatlas.Recorder.open(make(), tmp_path / "thesis")
    assert os.listdir(tmp_path / "thesis") == ["text.tex"]
    with pytest.raises(CannotWrite, match="cannot make the folder"):
        lossatlas.Recorder(make(), tmp_path / "thesis" / "text.tex" / "run")
    (tmp_path / "run" / "recorder.json").write_text('{"format": "other"}')
    with pytest.raises(BadInput, match=r"not written by lossatlas.Recorder"):
        lossatlas.Recorder(make(), tmp_path / "run")
    (tmp_path / "run" / "recorder.json").write_text('{"format": "lossatlas recorder 1", "entries": [{}]}')
    with pytest.raises(BadInput, match="is damaged"):
        lossatlas.Recorder(make(), tmp_path / "run")
    with pytest.raises(BadInput, match="lazy"):
        lossatlas.Recorder(nn.LazyLinear(2), tmp_path / "lazy")


def test_opening_writes_nothing(tmp_path):
    net, _ = recorded(tmp_path, 3)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    opened = lossatlas.Recorder.open(net, tmp_path)
    assert len(opened.checkpoints) == 4
    opened.trajectory()
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before
    opened.step(loss=1.0)
    assert opened.steps[-1] == 4


def test_a_training_that_goes_back_sets_the_later_checkpoints_aside(tmp_path):
    net, recorder = recorded(tmp_path, 5)
    kept = (tmp_path / "model_4.safetensors").read_bytes()
    with pytest.warns(Note, match=r"at step 3 again, so 3 checkpoints .* set aside, as model_3.old1.safetensors"):
        recorder.step(step=3, loss=7.0)
    assert recorder.steps == [0, 1, 2, 3]
    assert recorder.losses[-1] == 7
    assert (tmp_path / "model_4.old1.safetensors").read_bytes() == kept
    recorder.step()
    with pytest.warns(Note, match="at step 0 again"):
        again = lossatlas.Recorder(fresh(9), tmp_path, start=0)
    assert again.steps == [0]
    assert equal(load_file(again.checkpoints[0]), bits(fresh(9)))
    assert lossatlas.Recorder(net, tmp_path / "new", start=40).steps == [40]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_a_warning_and_the_training_goes_on(tmp_path, monkeypatch):
    net, recorder = recorded(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr("lossatlas.io.atomic_write.write_to_disk", full_disk)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            train(net, 2, lambda loss: recorder.step(loss=loss))
        assert [str(each.message) for each in seen] == [
            f"step {k} was NOT recorded in {tmp_path}, the training goes on: cannot write "
            f"{tmp_path / f'model_{k}.safetensors'}: No space left on device"
            for k in (2, 3)
        ]
        with pytest.raises(CannotWrite, match="No space left"):
            lossatlas.Recorder(net, tmp_path)
        with pytest.raises(CannotWrite, match="No space left"):
            lossatlas.Recorder(net, tmp_path / "new")
    recorder.step(loss=3.0)
    assert recorder.steps == [0, 1, 4]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_losses_that_are_no_finite_numbers_stay_in_a_valid_log(tmp_path):
    net, recorder = recorded(tmp_path, 0)
    for loss in (float("inf"), float("nan"), -float("inf"), 1e-30):
        recorder.step(loss=loss, other=loss)
    json.loads((tmp_path / "recorder.json").read_text(), parse_constant=pytest.fail)
    np.testing.assert_array_equal(
        lossatlas.Recorder.open(net, tmp_path).losses, [np.nan, np.inf, np.nan, -np.inf, 1e-30]
    )


def test_a_loss_that_is_known_later_is_added(tmp_path):
    _, recorder = recorded(tmp_path, 2)
    assert recorder.amend(1, accuracy=0.5)
    assert recorder.amend(2, loss=torch.tensor(4.0))
    assert not recorder.amend(7, loss=1.0)
    assert read_log(tmp_path).entries[2].loss == 4
    assert recorder.metrics["accuracy"][1] == 0.5
    assert recorder.losses[1] == read_log(tmp_path).entries[1].loss < 4


@pytest.mark.commands
def test_the_trajectory_of_a_recorder_of_its_folder_and_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), "
        "nn.Dropout(0.3), nn.Linear(6, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    net, recorder = recorded("run", 6)
    found = recorder.trajectory(ignore="biasbn")
    assert found.coordinates.shape == (7, 2)
    assert found.plot() is not None
    states = [load_file(path) for path in recorder.checkpoints]
    expected = lossatlas.trajectory(net, states, ignore="biasbn")
    np.testing.assert_array_equal(found.coordinates, expected.coordinates)
    np.testing.assert_array_equal(lossatlas.trajectory(net, "run", ignore="biasbn").coordinates, found.coordinates)
    assert plot_trajectory.main("--model own.py:make --model_folder run --ignore biasbn".split()) == 0
    from pathlib import Path

    path = read_projection(next(Path("run").glob("PCA*")) / "directions.h5_proj_cos.h5")
    np.testing.assert_allclose(np.stack([path.x, path.y], 1), found.coordinates, rtol=1e-4, atol=1e-6)
    assert path.epochs.tolist() == [0, 1, 2, 3, 4, 5, 6]
    code = "import lossatlas, own; print(lossatlas.Recorder.open(own.make(), 'run').trajectory().coordinates.shape)"
    run = subprocess.run(
        [sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": f"{ROOT}:."}, capture_output=True
    )
    assert run.stdout.strip() == b"(7, 2)", run.stderr
    with pytest.warns(Note):  # the folder of the plane in it does not matter
        lossatlas.Recorder(net, "run")


def test_with_data_the_surface_under_the_path_and_own_losses_are_computed(tmp_path):
    _, recorder = recorded(tmp_path, 4)
    found = recorder.trajectory((X, Y), points=3, progress=False)
    assert found.surface.loss.shape == (3, 3)
    assert found.epochs.tolist() == recorder.steps
    twin = make().eval()
    for path, loss in zip(recorder.checkpoints, found.losses, strict=True):
        twin.load_state_dict(load_file(path))
        assert loss == pytest.approx(nn.functional.cross_entropy(twin(X), Y).item(), rel=1e-5)


SCRIPT = """
import sys, warnings, torch, torch.distributed as dist
from torch import nn
import lossatlas
from lossatlas.run_recorder import recorded_state
kind, folder, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
warnings.simplefilter("ignore")
dist.init_process_group("gloo", init_method=f"file://{folder}.rendezvous", rank=rank, world_size=2)
torch.manual_seed(3)
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
if kind == "ddp":
    net = nn.parallel.DistributedDataParallel(torch.compile(net, backend="eager"))
elif kind == "fsdp2":
    from torch.distributed.fsdp import fully_shard
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    fully_shard(net[0], mesh=mesh); fully_shard(net, mesh=mesh)
for attempt in range(2):
    recorder = lossatlas.Recorder(net, folder)
    for epoch in range(2):
        loss = net(torch.ones(3, 4)).square().mean()
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
                p.grad = None
        recorder.step(loss=loss)
    dist.barrier()
assert recorder.steps == [0, 1, 2, 3, 4], recorder.steps
dist.destroy_process_group()
"""


@pytest.mark.commands
@pytest.mark.parametrize("kind", [pytest.param("ddp", marks=pytest.mark.full), "fsdp2"])
def test_one_of_several_processes_writes_the_whole_network(tmp_path, kind):
    folder = tmp_path / "run"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, kind, str(folder), str(rank)], cwd=ROOT, stdout=-1, stderr=subprocess.STDOUT
        )
        for rank in (0, 1)
    ]
    outputs = [run.communicate(timeout=300)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    assert equal(load_file(folder / "model_0.safetensors"), bits(net))
    for k in range(1, 5):
        net(torch.ones(3, 4)).square().mean().backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
                p.grad = None
        found = load_file(folder / f"model_{k}.safetensors")
        for name, value in bits(net).items():
            torch.testing.assert_close(found[name], value)
    assert sorted(os.listdir(folder)) == [*(f"model_{k}.safetensors" for k in range(5)), "recorder.json"]


def test_processes_that_do_not_write_read_the_log(tmp_path, monkeypatch):
    net, recorder = recorded(tmp_path, 2)
    monkeypatch.setattr(run_recorder, "process_rank", lambda: 1)
    other = lossatlas.Recorder(net, tmp_path)
    other.step(loss=1.0)
    assert other.steps == recorder.steps == [0, 1, 2]
    assert other.checkpoints == recorder.checkpoints


def test_a_second_recorder_of_a_folder_ends_the_first_one(tmp_path):
    first = lossatlas.Recorder(fresh(), tmp_path)
    first.step(loss=1.0)
    with pytest.warns(Note, match="is continued after step 1.*the network is not the one recorded there: start=0"):
        second = lossatlas.Recorder(fresh(1), tmp_path)
    second.step(loss=2.0)
    with pytest.warns(Note, match="another recorder writes"):
        first.step(loss=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first.step(loss=4.0)
        second.step(loss=5.0)
    assert second.losses[1:].tolist() == [1.0, 2.0, 5.0]
    assert equal(load_file(second.checkpoints[2]), bits(second.net))
    log = read_log(tmp_path)
    assert [entry.step for entry in log.entries] == [0, 1, 2, 3]


def test_files_that_the_log_does_not_name_are_kept_and_are_not_of_the_run(tmp_path):
    _, recorder = recorded(tmp_path, 3)
    stale = tmp_path / "model_4.safetensors"
    stale.write_bytes(b"of the user")
    assert len(lossatlas.trajectory(recorder.net, tmp_path).coordinates) == 4
    with pytest.warns(Note, match=r"model_4\.safetensors is not in recorder\.json and is kept as model_4\.old1"):
        recorder.step(loss=1.0)
    assert (tmp_path / "model_4.old1.safetensors").read_bytes() == b"of the user"
    assert len(lossatlas.trajectory(recorder.net, tmp_path).coordinates) == 5


@pytest.mark.parametrize("wrong", [{"start": 1.5}, {"start": True}, {"start": "a"}, {"every": 0}, {"keep": 2}])
def test_numbers_that_are_not_whole_are_refused(tmp_path, wrong):
    with pytest.raises(BadUsage, match="give a whole number"):
        lossatlas.Recorder(fresh(), tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_a_step_may_be_a_number_of_numpy_and_a_type_without_a_name_is_an_error_at_the_start(tmp_path):
    recorder = lossatlas.Recorder(fresh(), tmp_path / "run")
    assert recorder.step(step=np.int64(7), loss=1.0)
    assert recorder.steps == [0, 7]
    wide = nn.Linear(2, 2).to(torch.complex128)
    with pytest.raises(BadInput, match=r"safetensors files cannot hold torch\.complex128"):
        lossatlas.Recorder(wide, tmp_path / "wide")


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 2)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    def forward(self, x):
        return self.body(x @ torch.softmax(self.mask, -1))


def test_an_infinite_mask_is_no_obstacle_to_a_trajectory(tmp_path):
    net = fresh(factory=Masked)
    recorder = lossatlas.Recorder(net, tmp_path)
    for _ in range(3):
        net.body.weight.data += torch.randn(2, 3)
        recorder.step()
    assert recorder.trajectory().coordinates.shape == (4, 2)
    assert recorder.trajectory((X, Y), points=3, progress=False).surface.done.all()
    states = [load_file(path) for path in recorder.checkpoints]
    states[0]["mask"] = torch.full((3, 3), torch.nan)
    with pytest.raises(BadInput, match="'mask' holds NaN or infinite values"):
        lossatlas.trajectory(net, states, dir_type="states")


def test_figures_of_a_recorded_run_count_steps_and_old_files_epochs(tmp_path):
    net = nn.Linear(2, 2)
    recorder = lossatlas.Recorder(net, tmp_path / "run", every=4)
    for _ in range(12):
        nn.init.normal_(net.weight)
        recorder.step()
    path = recorder.trajectory().projection
    for given in (lossatlas.trajectory(net, tmp_path / "run"), lossatlas.trajectory(net, recorder.checkpoints)):
        assert given.counted == "step"
    write_projection(tmp_path / "path.h5", path, "", "")
    assert read_projection(tmp_path / "path.h5").at(1) == "step 4"
    with style() as plt:
        assert path_losses_figure(plt, [(path, np.ones(4))], "train_loss", log=False).axes[-1].get_xlabel() == "step"
    write_projection(tmp_path / "old.h5", replace(path, counted="epoch"), "", "")
    with h5py.File(tmp_path / "old.h5") as f:
        assert "counted" not in f
    assert read_projection(tmp_path / "old.h5").at(1) == "epoch 4"
