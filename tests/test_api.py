"""The library as a notebook uses it: networks it has never seen, against plain loops and dense Hessians."""

import copy
import functools
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MPIRUN, ROOT, cut, seeded, surface_command
from oracles import differenced_hessian, explicit_hessian, loss_at
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lossatlas
from lossatlas.commands import plot_surface
from lossatlas.data import Losses
from lossatlas.errors import BadInput, BadUsage, Note
from lossatlas.io import read_directions, read_surface, write_surface
from lossatlas.landscape import unresolved
from lossatlas.models import save_state
from lossatlas.parameter_space import as_point
from lossatlas.signatures import types_in

QUIET = {"progress": False}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 2))


X = torch.randn(90, 2, generator=generator())
Y = (X.prod(1) > 0).long()


def naive(net, directions, points, mean):
    """mean(net) at points of a plane, in float64, by a plain loop."""
    vectors = [as_point(d, net, "weights", "it") for d in (directions.x, directions.y) if d is not None]
    return np.array([loss_at(net, mean, zip(point, vectors, strict=False)) for point in points])


def test_five_lines_give_the_surface_of_a_naive_loop():
    net = seeded(Mlp).train().requires_grad_(True)
    loader = DataLoader(TensorDataset(X, Y), batch_size=32)
    surface = lossatlas.surface(net, loader, x="-1:1:5", y="-1:1:3", norm="filter", ignore="biasbn", **QUIET)
    points = [(a, b) for b in surface.y for a in surface.x]
    expected = naive(net, surface.directions, points, lambda net: F.cross_entropy(net(X.double()), Y))
    np.testing.assert_allclose(surface.loss.ravel(), expected, rtol=1e-5)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert surface.done.all()


OWN = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 2))
def data():
    return torch.load("d.pt")
"""


def test_directions_and_digits_are_those_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    net = seeded(Mlp)
    torch.save((X, Y), "d.pt")
    save_state("net.safetensors", net)
    line = (
        "--model own.py:make --model_file net.safetensors --dataset own.py:data --x=-1:1:5 --xnorm filter "
        "--xignore biasbn --surf_file s.h5 --dir_file d.h5 --batch_size 32"
    ).split()
    assert plot_surface.main(line) == 0
    ours = lossatlas.surface(net, (X, Y), x="-1:1:5", batch_size=32, **QUIET)
    theirs = lossatlas.read("s.h5")
    assert np.array_equal(ours.loss, theirs.loss)
    assert ours.directions.sha256 == read_directions("d.h5").sha256


class Tagger(nn.Module):
    """Token classification with the interface of Hugging Face's models."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask):
        h = torch.tanh(self.mix(self.embed(input_ids))) * attention_mask[..., None]
        return {"logits": self.head(h)}


def token_batches():
    g = generator(1)
    for length in (5, 7, 4):
        ids = torch.randint(0, 9, (6, length), generator=g)
        mask = (torch.arange(length) < torch.randint(2, length + 1, (6, 1), generator=g)).float()
        labels = torch.where(mask > 0, ids % 3, -100)
        yield {"input_ids": ids, "attention_mask": mask, "labels": labels}


def mean_over_tokens(net):
    total = count = 0
    for batch in token_batches():
        logits = net(batch["input_ids"], batch["attention_mask"].double())["logits"]
        total += F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
        count += int((batch["labels"] >= 0).sum())
    return total / count


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 4), nn.Bilinear(4, 4, 2)

    def forward(self, x, z):
        return self.b(torch.tanh(self.a(x)), torch.tanh(self.a(z)))


class Segment(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.out(torch.relu(self.bn(self.conv(x))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Frozen(Mlp):
    def __init__(self):
        super().__init__()
        self[0].requires_grad_(False)


IMAGES = torch.randn(12, 1, 6, 6, generator=generator(2))
MASKS = torch.randint(0, 3, (12, 6, 6), generator=generator(3))
R = torch.randn(90, 2, generator=generator(4))
PROBLEMS = {
    "padded sequences in dicts": (Tagger, list(token_batches()), "crossentropy", mean_over_tokens),
    "several inputs": (
        Two,
        (X, 2 * X, Y),
        "crossentropy",
        lambda net: F.cross_entropy(net(X.double(), 2 * X.double()), Y),
    ),
    "segmentation": (
        Segment,
        (IMAGES, MASKS),
        nn.CrossEntropyLoss(),
        lambda net: F.cross_entropy(net(IMAGES.double()), MASKS),
    ),
    "regression": (Mlp, (X, R), "mse", lambda net: F.mse_loss(net(X.double()), R.double())),
    "a mean alone": (
        Mlp,
        (X, R),
        lambda output, target: ((output - target) ** 2).mean(),
        lambda net: F.mse_loss(net(X.double()), R.double()),
    ),
    "tied weights": (Tied, (X, Y), "crossentropy", lambda net: F.cross_entropy(net(X.double()), Y)),
    "frozen parts": (Frozen, (X, Y), "crossentropy", lambda net: F.cross_entropy(net(X.double()), Y)),
    "weights, and a term of the parameters": (
        Mlp,
        (X, Y),
        lambda model, batch: Losses(
            F.cross_entropy(model(batch[0]), batch[1], reduction="none"),
            weights=1.0 + batch[1],
            penalty=0.1 * sum((p**2).sum() for p in model.parameters()),
        ),
        lambda net: (
            (F.cross_entropy(net(X.double()), Y, reduction="none") * (1 + Y)).sum() / (1 + Y).sum()
            + 0.1 * sum((p**2).sum() for p in net.parameters())
        ),
    ),
}


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_networks_and_data_of_every_kind(name):
    make, data, loss, mean = PROBLEMS[name]
    net = seeded(make)
    line = lossatlas.surface(net, data, loss=loss, x="-1:1:5", batch_size=32, **QUIET)
    np.testing.assert_allclose(line.loss, naive(net, line.directions, [(a,) for a in line.x], mean), rtol=1e-5)
    operator = lossatlas.eigenvalues(net, data, loss=loss, x=[0.0], tolerance=1e-6, **QUIET)
    assert not unresolved(operator, "max_eig").any()
    exact = dense(net, mean)
    assert operator.fields["max_eig"][0] == pytest.approx(exact[-1], rel=1e-4)
    assert operator.fields["min_eig"][0] == pytest.approx(exact[0], rel=1e-4, abs=1e-5 * exact[-1])


def dense(net, mean) -> np.ndarray:
    """Eigenvalues of the Hessian, from the smallest on."""
    return np.linalg.eigvalsh(differenced_hessian(net, mean).numpy())


def test_a_spectrum_is_that_of_the_dense_hessian():
    net = seeded(Mlp)
    found = lossatlas.spectrum(net, (X, Y), top=3, bottom=2, tolerance=1e-6)
    exact = dense(net, lambda net: F.cross_entropy(net(X.double()), Y))
    np.testing.assert_allclose(found.eigenvalues, [*exact[:-4:-1], *exact[1::-1]], rtol=1e-4)
    assert found.resolved.all()
    assert abs(found.trace.value - exact.sum()) <= 4 * found.trace.error + 1e-9
    positive = np.maximum(exact, 0)
    assert found.dimension.low - 1e-3 <= (positive / (positive + 5e-4)).sum() <= found.dimension.high + 1e-3


def test_all_parts_of_a_spectrum_and_a_file_that_is_continued(tmp_path):
    net, file = seeded(Mlp), tmp_path / "s.h5"
    wanted = {"top": 3, "layers": True, "activations": [], "activation_error": 0.3, "trace_error": 0.05, "file": file}
    found = lossatlas.spectrum(net, (X, Y), **wanted, progress=False)
    matrix, offset = differenced_hessian(net, lambda net: F.cross_entropy(net(X.double()), Y)).numpy(), 0
    for k, layer in enumerate(found.findings.about["layers"]):
        size = sum(p.numel() for name, p in net.named_parameters() if name.startswith(layer + "."))
        block = matrix[offset : offset + size, offset : offset + size]
        offset += size
        assert found.findings.arrays["layers/max_eig"][k] == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=2e-3)
        assert abs(found.trace.blocks[k] - np.trace(block)) <= 4 * found.trace.block_errors[k] + 1e-6
    vector = torch.cat([value.flatten() for value in found.vector(0).values()]).double().numpy()
    np.testing.assert_allclose(matrix @ vector, found.eigenvalues[0] * vector, atol=2e-3 * found.eigenvalues[0])
    assert found.bounds[1] >= found.eigenvalues[0] * 0.999
    assert "with respect to activations" in found.table()
    again = lossatlas.spectrum(net, (X, Y), **wanted, progress=False)  # nothing is computed, the same is there
    np.testing.assert_array_equal(found.findings.arrays["trace"], again.findings.arrays["trace"])
    more = lossatlas.spectrum(net, (X, Y), **{**wanted, "top": 6}, progress=False)
    assert len(more.eigenvalues) == 7
    np.testing.assert_array_equal(found.trace.value, more.trace.value)
    with pytest.raises(BadInput, match="loss = crossentropy, now it is mse"):
        lossatlas.spectrum(net, (X, F.one_hot(Y).float()), **{**wanted, "top": 6}, loss="mse", progress=False)
    for kind in ("density", "layers", "activations"):
        assert more.plot(kind).axes
    with pytest.raises(BadUsage, match="no figure of 'weights': there are density, layers, activations"):
        more.plot("weights")


def test_ctrl_c_ends_a_spectrum_between_two_products(monkeypatch):
    from lossatlas.jobs.curvature import spectrum_parts

    def interrupted(operator, *, progress, **options):
        os.kill(os.getpid(), signal.SIGINT)
        for count in range(100):
            time.sleep(0.01)
            progress(count, 1.0)
        raise AssertionError("it went on")

    monkeypatch.setattr(spectrum_parts, "hutchinson", interrupted)
    with pytest.warns(UserWarning, match="parts of the spectrum"):
        found = lossatlas.spectrum(seeded(Mlp), (X, Y), top=2, **QUIET)
    assert found.trace is None
    assert found.table().splitlines()[-1] == "not complete: it was stopped before the other parts"
    assert "no eigenvalue is below" in found.table()


def test_an_interrupted_spectrum_gives_its_finished_parts(tmp_path, monkeypatch):
    from lossatlas.jobs.curvature import spectrum_parts

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(spectrum_parts, "density", interrupted)
    with pytest.warns(UserWarning, match="parts of the spectrum"):
        found = lossatlas.spectrum(seeded(Mlp), (X, Y), top=2, file=tmp_path / "s.h5", progress=False)
    assert len(found.eigenvalues) == 3
    assert found.trace.value
    assert found.density is None
    assert found.dimension is None
    assert "trace" in repr(found)
    monkeypatch.undo()
    assert lossatlas.spectrum(seeded(Mlp), (X, Y), top=2, file=tmp_path / "s.h5", progress=False).dimension.low > 0


def test_only_what_is_selected_is_moved_and_differentiated():
    net = seeded(Mlp)
    last = [name for name, _ in net.named_parameters()][-2:]
    chosen = rf"^{last[0].rpartition('.')[0]}\."
    line = lossatlas.surface(net, (X, Y), x="-1:1:3", norm="unit", ignore="", only=[chosen], **QUIET)
    moves = dict(zip(line.directions.extra["tensors"], line.directions.extra["lengths"][:, 1], strict=True))
    assert [name.decode() for name, length in moves.items() if length] == last
    assert np.sqrt(sum(length**2 for length in moves.values())) == pytest.approx(1, rel=1e-5)
    count = sum(dict(net.named_parameters())[name].numel() for name in last)
    matrix = differenced_hessian(net, lambda net: F.cross_entropy(net(X.double()), Y)).numpy()[-count:, -count:]
    top = np.linalg.eigvalsh(matrix)[-1]
    assert lossatlas.spectrum(net, (X, Y), top=1, only=[chosen], progress=False).eigenvalues[0] == pytest.approx(
        top, rel=1e-3
    )
    map_of = lossatlas.eigenvalues(net, (X, Y), x=[0.0], only=[chosen], tolerance=1e-4, **QUIET)
    assert map_of.fields["max_eig"][0] == pytest.approx(top, rel=1e-3)
    others = lossatlas.eigenvalues(net, (X, Y), x=[0.0], without=["0"], precision="float64", **QUIET)
    assert others.request["without"] == ["0"]
    with pytest.raises(BadUsage, match="no tensor is left by 'only lora_'"):
        lossatlas.surface(net, (X, Y), x="-1:1:3", only=["lora_"], **QUIET)


def test_a_trajectory_lies_in_the_plane_that_it_spans():
    net = seeded(Mlp)
    steps = [torch.randn(sum(p.numel() for p in net.parameters()), generator=generator(k)) for k in range(2)]
    states = []
    for a, b in ((3, 0), (2, 1), (1, 1.5), (0.5, 0.2), (0, 0)):
        state, offset = {}, 0
        for name, p in net.named_parameters():
            piece = (a * steps[0] + b * steps[1])[offset : offset + p.numel()].view_as(p)
            state[name], offset = p.detach() + piece, offset + p.numel()
        states.append(state)
    found = lossatlas.trajectory(net, states)
    assert found.explained.sum() == pytest.approx(1, rel=1e-5)
    assert found.distance.max() < 1e-4
    x, y = found.coordinates[0]
    surface = lossatlas.surface(net, (X, Y), x=[x - 1, x], y=[y - 1, y], norm="", directions=found.plane, **QUIET)
    moved = seeded(Mlp).eval()
    moved.load_state_dict(states[0])
    assert surface.loss[1, 1] == pytest.approx(float(F.cross_entropy(moved(X), Y)), rel=1e-4)


def test_towards_another_network():
    one, two = seeded(Mlp), Mlp()
    line = lossatlas.surface(one, (X, Y), x="0:1:3", towards=two, **QUIET)
    assert re.search(r"directions +towards [0-9a-f]{8}$", line.table(), re.MULTILINE)
    for k, net in ((0, one), (2, two)):
        assert line.loss[k] == pytest.approx(float(F.cross_entropy(net.eval()(X), Y)), rel=1e-5)
    with pytest.raises(BadInput, match=r"'0.weight' has shape \(16, 3\), the model expects \(16, 2\)"):
        lossatlas.surface(one, (X, Y), x="0:1:3", towards=nn.Sequential(nn.Linear(3, 16)), **QUIET)


def test_along_the_gradient_and_an_eigenvector():
    net = seeded(Mlp)
    line = lossatlas.surface(
        net, (X, Y), x=[-1e-2, 0.0, 1e-2], norm="unit", ignore="", directions=["gradient"], **QUIET
    )
    slope = (line.loss[2] - line.loss[0]) / 2e-2
    loss = F.cross_entropy(net.eval().requires_grad_(True)(X), Y)
    length = float(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]).norm())
    assert slope == pytest.approx(length, rel=1e-3)
    line = lossatlas.surface(
        net,
        (X, Y),
        x=[-3e-2, 0.0, 3e-2],
        norm="unit",
        ignore="",
        directions=["eigenvector"],
        precision="float64",
        **QUIET,
    )
    bend = (line.loss[0] - 2 * line.loss[1] + line.loss[2]) / 9e-4
    assert bend == pytest.approx(dense(net, lambda net: F.cross_entropy(net(X.double()), Y))[-1], rel=2e-2)


def test_a_file_continues_and_refuses_something_else(tmp_path):
    net, file = seeded(Mlp), tmp_path / "s.h5"
    whole = lossatlas.surface(net, (X, Y), x="-1:1:5", file=file, **QUIET)
    assert np.array_equal(lossatlas.read(file).loss, whole.loss)
    assert lossatlas.read(file).directions.sha256 == whole.directions.sha256
    before = file.read_bytes()
    again = lossatlas.surface(net, (X, Y), x="-1:1:5", file=file, **QUIET)
    assert np.array_equal(again.loss, whole.loss)
    assert file.read_bytes() == before
    with pytest.raises(BadInput, match="was made with other train data"):
        lossatlas.surface(net, (X, 1 - Y), x="-1:1:5", file=file, **QUIET)
    with pytest.raises(BadInput, match="was made with another loss"):
        lossatlas.surface(net, (X, Y), x="-1:1:5", loss=nn.CrossEntropyLoss(label_smoothing=0.1), file=file, **QUIET)
    with pytest.raises(BadInput, match="no folder"):
        lossatlas.surface(net, (X, Y), x="-1:1:5", file=tmp_path / "no" / "s.h5", **QUIET)


class Interrupting(Mlp):
    """Sends Ctrl-C to its own process at the fifth point."""

    calls = 0

    def forward(self, x):
        Interrupting.calls += 1
        if Interrupting.calls == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return super().forward(x)


@pytest.mark.parametrize("file", [None, "s.h5"])
def test_ctrl_c_gives_what_is_there(tmp_path, file):
    assert threading.current_thread() is threading.main_thread()
    Interrupting.calls, net = 0, seeded(Interrupting)
    file = file and tmp_path / file
    with pytest.warns(UserWarning, match="stopped with"):
        part = lossatlas.surface(net, (X, Y), x="-1:1:101", batch_size=90, file=file, **QUIET)
    assert 0 < part.done.sum() < 101
    whole = lossatlas.surface(net, (X, Y), x="-1:1:101", batch_size=90, file=file, **QUIET)
    assert whole.done.all()
    assert np.array_equal(whole.loss[part.done], part.loss[part.done])


@pytest.mark.pictures
def test_figures_leave_the_backend_and_other_figures_alone(tmp_path):
    import matplotlib.pyplot as plt

    from lossatlas import figures

    backend, own = matplotlib.get_backend(), plt.figure()
    net = seeded(Mlp)
    plane = lossatlas.surface(net, (X, Y), x="-1:1:5", y="-1:1:5", **QUIET)
    line = lossatlas.surface(net, (X, Y), x="-1:1:5", **QUIET)
    made = [
        plane.plot(),
        plane.plot(kind="solid"),
        plane.plot(kind="heat", name="train_acc"),
        plane.plot(kind="filled"),
        line.plot(),
    ]
    fig, ax = plt.subplots()
    assert figures.contour(plane, ax) is fig
    assert ax.collections
    assert matplotlib.get_backend() == backend
    assert {own.number, *(f.number for f in made)} <= set(plt.get_fignums())  # plt.show() will show them
    plane.save(tmp_path / "s.h5")
    plt.close("all")
    from lossatlas.commands import plot_2D

    other = plt.figure()
    assert len(plot_2D.draw([tmp_path / "s.h5"], files_as=figures.FigureFiles(("png",)))) == 4
    assert plt.get_fignums() == [other.number]
    plt.close("all")
    with pytest.raises(BadUsage, match="a line has no contours"):
        figures.contour(line)
    with pytest.raises(BadUsage, match="unknown kind of figure 'pie'"):
        plane.plot(kind="pie")


def test_a_tolerance_and_several_splits():
    g = generator(7)
    x = torch.randn(6000, 2, generator=g)
    y = (x.prod(1) > 0).long()
    net = seeded(Mlp)
    few = lossatlas.surface(net, (x, y), test=(X, Y), x="-1:1:3", tolerance=(0.05, 0.05), **QUIET)
    whole = lossatlas.surface(net, (x, y), x="-1:1:3", **QUIET)
    assert (few.statistics["train"]["n"] < 6000).any()
    assert (np.abs(few.loss - whole.loss) <= 4 * few.fields["train_loss_se"] + 1e-6).all()
    assert "test_loss" in few.fields
    with pytest.raises(BadUsage, match="this loss gives the mean of a batch alone"):
        lossatlas.surface(
            net, (x, y), loss=lambda output, target: F.cross_entropy(output, target) * 1, tolerance=0.1, **QUIET
        )
    with pytest.raises(BadUsage, match="batches that stay as they are"):
        lossatlas.surface(seeded(Tagger), list(token_batches()), tolerance=0.1, **QUIET)


class Random(Mlp):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": "1:0:3"}, BadUsage, "needs min < max"),
        ({"x": [0.0, 0.0]}, BadUsage, "increasing finite coordinates"),
        ({"directions": ["up"]}, BadUsage, "directions up: give random, gradient"),
        ({"loss": "huber"}, BadUsage, "loss='huber': choose from"),
        ({"net": Random()}, BadInput, "differs when it is computed twice"),
        ({"tolerance": -1.0}, BadUsage, "give REL or REL,ABS"),
        (
            {"y": "-1:1:3", "directions": ["random"]},
            BadUsage,
            "2 directions are needed: there are 0 networks in towards, 1 direction",
        ),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else None,
)
def test_bad_input_is_said(change, error, message):
    asked = {"net": seeded(Mlp), "x": "-1:1:3", **QUIET, **change}
    with pytest.raises(error, match=message):
        lossatlas.surface(asked.pop("net"), (X, Y), **asked)


SCRIPT = """
import sys, torch
from torch import nn
import lossatlas
from mpi4py import MPI
torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
x = torch.randn(90, 2)
def loss(output, target):
    if sys.argv[2] == "fail" and MPI.COMM_WORLD.rank == 1:
        raise ValueError("this rank is tired")
    return nn.functional.cross_entropy(output, target, reduction="none")
surface = lossatlas.surface(net, (x, (x.prod(1) > 0).long()), loss=loss, x="-1:1:7", y="-1:1:3", batch_size=30,
                            ranks=MPI.COMM_WORLD, progress=False, file=sys.argv[1] if len(sys.argv[1]) > 1 else None)
surface.loss.tofile(f"{MPI.COMM_WORLD.size}_{MPI.COMM_WORLD.rank}.loss")
"""


def run_script(folder, ranks, file, how="work"):
    (folder / "script.py").write_text(SCRIPT)
    command = [MPIRUN, "-n", str(ranks), sys.executable, "script.py", file, how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, check=False, text=True, capture_output=True, timeout=1500, env=environment
    )


@pytest.mark.mpi
def test_a_script_under_mpirun_shares_the_work(tmp_path):
    """The same bits on any number of ranks: tests/mpi."""
    found = run_script(tmp_path, 2, "two.h5")
    assert found.returncode == 0, found.stderr[-500:]
    surface = lossatlas.read(tmp_path / "two.h5")
    assert surface.done.all()
    for rank in (0, 1):
        assert (tmp_path / f"2_{rank}.loss").read_bytes() == surface.loss.tobytes()


@pytest.mark.full
@pytest.mark.mpi
def test_a_script_under_mpirun_fails_as_a_whole(tmp_path):
    """Also in the session of tests/mpi: an error on one rank is one on all."""
    failed = run_script(tmp_path, 2, "-", "fail")
    assert failed.returncode != 0
    assert "this rank is tired" in failed.stderr


def test_a_launcher_without_ranks_is_told(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.warns(UserWarning, match="a launcher started 4 processes"):
        lossatlas.surface(seeded(Mlp), (X, Y), x="0:1:2", **QUIET)


CLASS = torch.tensor([1.0, 5.0])


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda output, target: F.cross_entropy(output, target, reduction="sum"),
            "it is a sum, or a mean over something else",
        ),
        (
            lambda output, target: F.cross_entropy(output, target, weight=CLASS),
            "it is a sum, or a mean over something else",
        ),
        (lambda model, batch: Losses(model(batch[0])[:, :1]), r"gave per_sample \(64, 1\) for 64 samples"),
        (lambda model, batch: Losses(model(batch[0])[:, 0], metrics={"loss": batch[1]}), "a metric called 'loss'"),
        (lambda model, batch: Losses(model(batch[0])[:, 0], penalty=3.0), "a penalty that is not a tensor"),
    ],
    ids=["a sum", "weights of classes", "shapes", "a reserved name", "a number"],
)
def test_losses_that_are_none_are_refused(loss, message):
    with pytest.raises(BadInput, match=message):
        lossatlas.surface(seeded(Mlp), (X, Y), loss=loss, x="-1:1:3", **QUIET)


def test_ignored_labels_and_weights_of_classes_as_torch_has_them():
    labels = Y.clone()
    labels[:30] = -100
    net = seeded(Mlp)
    for loss in (F.cross_entropy, nn.CrossEntropyLoss(), "crossentropy"):
        line = lossatlas.surface(net, (X, labels), loss=loss, x=[0.0], batch_size=16, **QUIET)
        assert line.loss[0] == pytest.approx(float(F.cross_entropy(net(X), labels)), rel=1e-5)
    from functools import partial

    weighted = partial(F.cross_entropy, weight=CLASS, label_smoothing=0.1)
    line = lossatlas.surface(net, (X, Y), loss=weighted, x=[0.0], batch_size=16, **QUIET)
    assert line.loss[0] == pytest.approx(float(weighted(net(X), Y)), rel=1e-5)


class Batched(nn.Module):
    """Normalizes over the batch even in eval mode."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(2, track_running_stats=False), nn.Linear(2, 2)

    def forward(self, x):
        return self.out(self.norm(x))


def test_a_network_that_looks_at_the_whole_batch_is_refused():
    with pytest.raises(BadInput, match="depends on the others in its batch"):
        lossatlas.surface(seeded(Batched), (X, Y), x="-1:1:3", **QUIET)


class Counting(Mlp):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_the_network_is_not_touched_and_neither_are_the_data():
    net = seeded(Counting)
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def writing(model, batch):
        output = model(batch.pop(0) if isinstance(batch, list) else batch[0])
        target = batch[-1]
        target.add_(1).sub_(1)
        return F.cross_entropy(output, target, reduction="none")

    x, y = X.clone(), Y.clone()
    lossatlas.surface(net, (x, y), loss=writing, x="-1:1:3", **QUIET)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


@pytest.mark.slow
def test_a_large_grid_takes_penalties_and_networks_of_every_kind(monkeypatch):
    """Several points in one call do not suit them, which is no error."""
    few = {"data": (X, Y), "x": "-1:1:61", "y": "-1:1:61", **QUIET}
    decay = PROBLEMS["weights, and a term of the parameters"][2]
    for net, loss in ((seeded(Mlp), decay), (seeded(Tupled), "crossentropy")):
        assert np.isfinite(lossatlas.surface(net, loss=loss, **few).loss).all()


class Tupled(Mlp):
    def forward(self, x):
        return super().forward(x), x


def test_a_file_is_not_continued_with_another_loss_or_precision(tmp_path):
    net, file = seeded(Mlp), tmp_path / "s.h5"
    first = nn.CrossEntropyLoss()
    lossatlas.surface(net, (X, Y), x="-1:1:5", loss=first, file=file, **QUIET)
    for other in (nn.CrossEntropyLoss(label_smoothing=0.3), nn.CrossEntropyLoss(weight=CLASS)):
        with pytest.raises(BadInput, match="was made with another loss"):
            lossatlas.surface(net, (X, Y), x="-1:1:5", loss=other, file=file, **QUIET)
    net[1] = nn.ReLU()
    with pytest.raises(BadInput, match="was made with other settings or code of the network"):
        lossatlas.surface(net, (X, Y), x="-1:1:5", loss=first, file=file, **QUIET)
    net[1] = nn.Tanh()
    with pytest.raises(BadInput, match="was made with precision"):
        lossatlas.surface(net, (X, Y), x="-1:1:5", loss=first, precision="float64", file=file, **QUIET)


def test_results_are_shown_in_a_line_and_listed():
    line = lossatlas.surface(seeded(Mlp), (X, Y), x="-1:1:3", **QUIET)
    assert repr(line) == "<Landscape on [-1, 1] in 3, 3 of 3 cells done: train_loss, train_loss_se, train_acc>"
    assert {"surface", "spectrum", "figures"} <= set(dir(lossatlas))


def test_a_network_that_has_learnt_everything_is_no_reason_to_refuse():
    """Losses of single samples are rounding of float32 there, if the loss is not computed in float64."""
    net = seeded(Mlp)
    with torch.no_grad():
        net[3].weight.mul_(300)
        labels = net.eval()(X).argmax(1)
    line = lossatlas.surface(net, (X, labels), x=[0.0], **QUIET)
    exact = copy.deepcopy(net).double()
    assert line.loss[0] == pytest.approx(float(F.cross_entropy(exact(X.double()), labels)), rel=1e-3)
    assert (F.cross_entropy(exact(X.double()), labels, reduction="none") < 1e-9).float().mean() > 0.5


@pytest.mark.parametrize("loss", [lambda output, target: F.cross_entropy(output, target, reduction="sum")])
def test_curvature_refuses_a_sum_too(loss):
    for function in (lossatlas.spectrum, lossatlas.eigenvalues):
        with pytest.raises(BadInput, match="it is a sum"):
            function(seeded(Mlp), (X, Y), loss=loss)


def test_on_another_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    net = seeded(Mlp)
    cpu = lossatlas.surface(net, (X, Y), x="-1:1:5", **QUIET)
    cuda = lossatlas.surface(net.cuda(), (X, Y), x="-1:1:5", **QUIET)
    np.testing.assert_allclose(cuda.loss, cpu.loss, rtol=1e-4)
    assert lossatlas.spectrum(net, (X, Y), top=1).resolved.all()


def test_data_that_a_network_cannot_take_are_one_error():
    with pytest.raises(BadInput, match="Mlp cannot take inputs of 5: mat1 and mat2"):
        lossatlas.surface(seeded(Mlp), (torch.zeros(9, 5), Y[:9]), x="-1:1:3", **QUIET)
    with pytest.raises(
        BadInput, match="the loss failed with inputs of 2, for which Mlp gave 64x2: Target 7 is out of bounds"
    ):
        lossatlas.spectrum(seeded(Mlp), (X, Y + 6), **QUIET)


def test_a_single_text_is_a_pattern():
    net = seeded(Mlp)
    for only in ("^3", ["^3"]):
        line = lossatlas.surface(net, (X, Y), x="-1:1:3", only=only, ignore="", **QUIET)
        moved = line.directions.extra["lengths"][:, 1] > 0
        assert moved.tolist() == [False, False, True, True]
    found = lossatlas.spectrum(net, (X, Y), top=1, only="^3", activations="Linear", max_activation_probes=3, **QUIET)
    assert found.findings.about["parameters"] == [["3.weight", [2, 16]], ["3.bias", [2]]]
    assert [kind for _, kind, _ in found.findings.about["activations"]] == ["Linear", "Linear"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.dec.weight = self.enc.weight

    def forward(self, x):
        return self.dec(torch.tanh(self.enc(x)))


def test_a_tied_tensor_is_meant_by_each_of_its_names():
    net = seeded(Tied)
    with pytest.raises(BadUsage, match="no tensor is left by 'except \\^dec'"):
        lossatlas.surface(net, (X, Y), x="-1:1:3", without="^dec", **QUIET)
    assert lossatlas.surface(net, (X, Y), x="-1:1:3", only="^dec", **QUIET).directions.extra["lengths"][0, 1] > 0
    assert lossatlas.spectrum(net, (X, Y), top=1, bottom=0, only="^dec", **QUIET).findings.about["parameters"]


def test_given_directions_are_scaled_where_a_norm_is_asked_for_and_the_record_says_so():
    net = seeded(Mlp)
    given = {name: torch.randn(p.shape, generator=generator(3)) for name, p in net.named_parameters()}
    lengths = {}
    for norm in (None, "unit", "filter"):
        line = lossatlas.surface(net, (X, Y), x="-1:1:3", norm=norm, directions=[given], **QUIET)
        lengths[norm] = line.directions.extra["lengths"]
        assert re.search(f", norm={norm or 'none'}[^,]*, ignore=none$", line.directions.about["x"])
    np.testing.assert_allclose(lengths[None][:, 1], [float(v.norm()) for v in given.values()], rtol=1e-5)
    assert np.linalg.norm(lengths["unit"][:, 1]) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(lengths["filter"][0, 1], lengths["filter"][0, 0], rtol=1e-5)
    random = lossatlas.surface(net, (X, Y), x="-1:1:3", **QUIET).directions.about["x"]
    assert random == "random, norm=filter, ignore=biasbn, seed=123, idx=0"


class Clamped(Mlp):
    def __init__(self, limit=5.0):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        return super().forward(x).clamp(-self.limit, self.limit)


def test_another_loss_or_network_of_the_same_name_is_not_continued(tmp_path):
    sorted_labels = torch.arange(90) // 45  # the first samples show one class alone
    weights = [nn.CrossEntropyLoss(weight=torch.tensor([1.0, w])) for w in (1, 3)]
    partials = [functools.partial(F.cross_entropy, weight=torch.tensor([1.0, w])) for w in (1, 3)]
    lambdas = [
        lambda o, t: F.cross_entropy(o, t, reduction="none"),
        lambda o, t: 2 * F.cross_entropy(o, t, reduction="none"),
    ]
    for k, (one, other) in enumerate((weights, partials, lambdas)):
        line = {"x": "-1:1:3", "file": tmp_path / f"{k}.h5", **QUIET}
        lossatlas.surface(seeded(Mlp), (X, sorted_labels), loss=one, **line)
        lossatlas.surface(seeded(Mlp), (X, sorted_labels), loss=one, **line)
        with pytest.raises(BadInput, match="loss_settings"):
            lossatlas.surface(seeded(Mlp), (X, sorted_labels), loss=other, **line)
    line = {"x": "-1:1:3", "file": tmp_path / "c.h5", **QUIET}
    lossatlas.surface(seeded(Clamped), (X, Y), **line)
    with pytest.raises(BadInput, match="model_settings"):
        lossatlas.surface(seeded(lambda: Clamped(50.0)), (X, Y), **line)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("surface", {"norm": "filtr"}, "norm='filtr' (did you mean filter?): choose from '', 'filter'"),
        ("surface", {"ignore": "bn"}, "ignore='bn': choose from '', 'biasbn'"),
        ("surface", {"dir_type": "foo"}, "dir_type='foo': choose from 'weights', 'states'"),
        ("surface", {"precision": "half"}, "precision='half': choose from 'float32', 'float64'"),
        ("surface", {"bn": "keeps"}, "bn='keeps' (did you mean keep?): choose from 'keep', 'recalibrate'"),
        ("surface", {"memory": 1}, "memory=1: choose from 'fast', 'low'"),
        ("eigenvalues", {"norm": "unt"}, "norm='unt' (did you mean unit?): choose from"),
        ("eigenvalues", {"precision": "tf32"}, "precision='tf32': choose from 'float32', 'float64'"),
        ("spectrum", {"precision": "float16"}, "precision='float16' (did you mean float64?): choose from"),
        ("spectrum", {"activation_site": "in"}, "activation_site='in': choose from 'output', 'input'"),
        ("trajectory", {"ignore": "bn"}, "ignore='bn'"),
    ],
)
def test_words_that_are_none_are_refused(name, words, message):
    data = ([], (X, Y)) if name == "trajectory" else ((X, Y),)
    with pytest.raises(BadUsage, match=f"^{re.escape(message)}"):
        getattr(lossatlas, name)(seeded(Mlp), *data, **words, **QUIET)


def test_a_file_of_an_unknown_evaluation_is_drawn_and_not_continued(tmp_path):
    line = {"x": "-1:1:3", "file": tmp_path / "s.h5", **QUIET}
    lossatlas.surface(seeded(Mlp), (X, Y), **line)
    stored = read_surface(line["file"])
    plan = {**stored.plan, "path": "sideways"}
    write_surface(line["file"], replace(stored, done=np.array([True, False, False]), plan=plan))
    lossatlas.read(line["file"]).plot()
    with pytest.raises(BadInput, match="started with 'sideways' evaluation, which is not known: write another file"):
        lossatlas.surface(seeded(Mlp), (X, Y), **line)


def test_axes_that_are_no_right_angles_and_patterns_that_match_nothing_are_said():
    one = {name: torch.randn(p.shape, generator=generator(3)) for name, p in seeded(Mlp).named_parameters()}
    other = {name: value + 0.5 * torch.randn(value.shape, generator=generator(4)) for name, value in one.items()}
    with pytest.warns(UserWarning, match=r"the cosine between the directions is 0\.[89]"):
        lossatlas.surface(seeded(Mlp), (X, Y), x="-1:1:3", y="-1:1:3", directions=[one, other], **QUIET)
    with pytest.warns(UserWarning, match="no tensor is called like zzz"):
        lossatlas.surface(seeded(Mlp), (X, Y), x="-1:1:3", without="zzz", **QUIET)


def test_both_ends_are_drawn_of_a_line_of_eigenvalues():
    line = lossatlas.eigenvalues(seeded(Mlp), (X, Y), x="-1:1:3", **QUIET)
    (ax,) = line.plot().axes
    assert len(ax.get_legend().get_texts()) == 2
    assert ax.get_ylabel() == "eigenvalue of the Hessian"


@pytest.mark.few(1)
@pytest.mark.commands
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", pytest.param("SIGUSR1", marks=pytest.mark.full)])
def test_a_script_that_is_asked_to_end_saves_and_ends(tmp_path, name):
    """Ctrl-C gives the script what there is, and it goes on; other signals end it, as they would without us."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
import torch, lossatlas
class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(3, 2), 0
    def forward(self, x):
        self.calls += 1
        if self.calls == 60:
            os.kill(os.getpid(), signal.{name})
        time.sleep(0.02)
        return self.layer(x)
torch.manual_seed(0)
found = lossatlas.surface(Slow(), (torch.randn(8, 3), torch.zeros(8, dtype=torch.long)), x="-1:1:99", file="s.h5",
                          batch_size=8, progress=False)
print("went on with", int(found.done.sum()))
""")
    result = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    done = int(read_surface(tmp_path / "s.h5").done.sum())
    assert 0 < done < 99
    assert not list(tmp_path.glob(".s.h5*"))
    if name == "SIGINT":
        assert result.returncode == 0, result.stderr
        assert f"went on with {done}" in result.stdout
    else:
        assert result.returncode == -getattr(signal, name)
        assert "went on" not in result.stdout


def heat(net, z, derivatives):
    """The squared residual of u_t = u_xx / 10, (n,), from the first and second derivatives of u by (t, x)."""
    first, second = derivatives(net, z)
    return (first[:, 0] - 0.1 * second) ** 2


def by_autograd(net, z):
    z.requires_grad_()
    (first,) = torch.autograd.grad(net(z).sum(), z, create_graph=True)
    return first, torch.autograd.grad(first[:, 1].sum(), z, create_graph=True)[0][:, 1]


def by_forward_mode(net, z):
    along = [torch.eye(2)[k].expand_as(z).to(z) for k in (0, 1)]
    first = [torch.func.jvp(net, (z,), (v,))[1][:, 0] for v in along]
    second = torch.func.jvp(lambda y: torch.func.jvp(net, (y,), (along[1],))[1], (z,), (along[1],))[1][:, 0]
    return torch.stack(first, dim=1), second


def by_hessian(net, z):
    one = lambda p: net(p[None])[0, 0]  # noqa: E731
    first = torch.func.vmap(torch.func.grad(one))(z)
    return first, torch.func.vmap(torch.func.hessian(one))(z)[:, 1, 1]


class Residual(nn.Module):
    """Folded, its ReLU would be overwritten by the addition, which its derivative needs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norms, self.last = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)]), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.relu(self.norms[0](self.first(x)))
        return self.last(torch.tanh(torch.relu(self.norms[1](self.second(h))) + h).mean((2, 3)))


def test_a_loss_that_differentiates_through_batchnorm_leaves_everything_alone():
    net, labels = seeded(Residual).eval().requires_grad_(True), torch.arange(48) % 3
    inputs = torch.rand(48, 1, 6, 6, generator=generator())

    def attacked(model, batch):
        x = batch[0].requires_grad_()
        F.cross_entropy(model(x), batch[1], reduction="sum").backward()
        return F.cross_entropy(model(x + 0.05 * x.grad.sign()), batch[1], reduction="none")

    line = lossatlas.surface(net, (inputs, labels), x="0:0.5:2", loss=attacked, batch_size=16, **QUIET)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert inputs.grad is None
    assert not inputs.requires_grad
    exact = attacked(copy.deepcopy(net).double(), (inputs.double(), labels)).mean()
    assert float(line.loss[0]) == pytest.approx(float(exact.detach()), rel=1e-5)


def test_a_loss_without_a_graph_has_no_hessian():
    net, places = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), torch.rand(20, 2)

    def cut(model, batch):
        return model(batch["places"]).detach()[:, 0] ** 2

    assert lossatlas.surface(net, {"places": places}, x="0:1:2", loss=cut, **QUIET).done.all()
    with pytest.raises(BadInput, match="autograd sees no parameter"):
        lossatlas.spectrum(net, {"places": places}, loss=cut, top=1, **QUIET)


@pytest.mark.parametrize("graph", [{}, {"retain_graph": True}])
def test_a_loss_whose_derivative_has_no_graph_has_no_hessian(graph):
    net, places = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), torch.rand(40, 2)

    def penalty(model, batch):
        z = batch["places"].requires_grad_()
        value = model(z)[:, 0]
        (slope,) = torch.autograd.grad(value.sum(), z, **graph)
        return value**2 + 3 * (slope.norm(dim=1) - 1) ** 2

    assert lossatlas.surface(net, {"places": places}, x="0:1:2", loss=penalty, **QUIET).done.all()
    with pytest.raises(BadInput, match="create_graph=True"):
        lossatlas.spectrum(net, {"places": places}, loss=penalty, top=1, **QUIET)


def test_one_tensor_alone_is_refused_and_names_that_are_taken():
    net, places = nn.Linear(2, 1), torch.rand(20, 2)
    with pytest.raises(BadInput, match="one tensor alone"):
        lossatlas.surface(net, places, x="0:1:2", loss=lambda model, batch: model(batch)[:, 0] ** 2, **QUIET)
    for name, problem in (("penalty", "has already"), ("a/b", "slash")):

        def loss(model, batch, name=name):
            value = model(batch["x"])[:, 0] ** 2
            return Losses(value, metrics={name: value})

        with pytest.raises(BadInput, match=problem):
            lossatlas.surface(net, {"x": places}, x="0:1:2", loss=loss, **QUIET)


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("derivatives", [by_autograd, by_forward_mode, by_hessian])
def test_a_loss_may_differentiate_by_its_inputs(derivatives):
    """Against a plain loop; with batches side by side, of which forward mode allows one at a time."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    places = torch.rand(200, 2)

    def loss(model, batch):
        return lossatlas.Losses(heat(model, batch["places"], derivatives))

    line = lossatlas.surface(net, {"places": places}, x="0:0.5:2", loss=loss, batch_size=32, **QUIET)
    twin = copy.deepcopy(net).double()
    exact = heat(twin, places.double(), by_autograd).mean()
    assert float(line.loss[0]) == pytest.approx(float(exact.detach()), rel=1e-5)
    assert not places.requires_grad
    hessian = explicit_hessian(net, lambda model: heat(model, places.double(), by_hessian).mean())
    largest = torch.linalg.eigvalsh(hessian)[-1]
    few = {"top": 1, "bottom": 0, "max_trace_products": 2, "steps": 3, "batch_size": 64}
    found = lossatlas.spectrum(net, {"places": places}, loss=loss, **few, **QUIET)
    assert found.eigenvalues[0] == pytest.approx(float(largest), rel=1e-3)


def test_a_line_towards_a_network_has_a_barrier_and_another_has_none():
    """Neither was known to be between networks: each had one."""
    from lossatlas.landscape.flatness_measures import flatness

    one, two = seeded(Mlp, 0), seeded(Mlp, 1)
    assert "barrier from 0 to 1" in flatness(lossatlas.surface(one, (X, Y), x="0:1:5", towards=two, **QUIET))
    assert "barrier from 0 to 1" not in flatness(lossatlas.surface(one, (X, Y), x="0:1:5", **QUIET))
    part = lossatlas.surface(one, (X, Y), x="0:1:5", towards=two, only=["^0"], **QUIET)
    assert "barrier from 0 to 1" not in flatness(part)


def test_a_message_says_whether_the_network_or_the_loss_failed_and_what_it_was_given():
    net = seeded(Mlp)

    def early(model, batch):
        return model(batch["x"]) + batch["y"]

    def wrong(model, batch):
        return F.nll_loss(model(batch["x"]), torch.zeros(3).long())

    with pytest.raises(BadInput, match=r"^the network Mlp cannot take inputs of 5: .*mat1 and mat2"):
        lossatlas.surface(net, (torch.zeros(9, 5), Y[:9]), x="-1:1:3", **QUIET)
    with pytest.raises(
        BadInput, match=r"^the loss failed with a batch of \['x'\]: 2, for which Mlp gave 64x2: .*test_api.py"
    ):
        lossatlas.surface(net, {"x": X}, loss=early, x="-1:1:3", **QUIET)
    with pytest.raises(BadInput, match=r"^the loss failed .* for which Mlp gave 64x2: .*batch_size"):
        lossatlas.surface(net, {"x": X}, loss=wrong, x="-1:1:3", **QUIET)
    with pytest.raises(
        BadInput, match=r"^the loss failed with a batch of \['x'\]: 2, before it called Mlp: .*KeyError: 'z'"
    ):
        lossatlas.surface(net, {"x": X}, loss=lambda model, batch: model(batch["z"]), x="-1:1:3", **QUIET)


def test_losses_within_a_batch_are_refused_with_the_way():
    def contrastive(model, batch):
        likeness = model(batch["x"]) @ model(batch["x"] + 0.1).T
        return F.cross_entropy(likeness, torch.arange(len(likeness)), reduction="none")

    with pytest.raises(BadInput, match=r"depends on the others in its batch.*pass each batch as one sample"):
        lossatlas.surface(seeded(Mlp), {"x": X}, loss=contrastive, x="-1:1:3", **QUIET)
    with pytest.raises(BadInput, match=r"gave 1 values for a batch of 64 samples.*pass each batch as one sample"):
        lossatlas.surface(seeded(Mlp), {"x": X}, loss=lambda model, batch: model(batch["x"])[:1], x="-1:1:3", **QUIET)


@pytest.mark.parametrize("count", [3, 4, 6])
def test_a_trajectory_has_the_components_of_all_its_checkpoints(count):
    net = seeded(Mlp)
    states = [
        {name: p.detach() + 0.3 * torch.randn(p.shape, generator=generator(k)) for name, p in net.named_parameters()}
        for k in range(count)
    ]
    rows = np.stack([np.concatenate([value.double().numpy().ravel() for value in state.values()]) for state in states])
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    found = lossatlas.trajectory(net, states)
    np.testing.assert_allclose(found.explained, singular[:2] ** 2 / (singular**2).sum(), rtol=1e-5)
    with pytest.raises(BadInput, match="span 0 directions beyond rounding"):
        lossatlas.trajectory(net, [states[0]] * count)


CROSS = "--x=-1:1:3 --y=-1:1:3 --batch_size 40".split()
PYTHON = {"x": "-1:1:3", "y": "-1:1:3", "batch_size": 40, "progress": False}


def of_the_command(checkpoint):
    """The network and the data of `surface_command` as objects."""
    from lossatlas.datasets.registry import load
    from lossatlas.models import load_network

    data = load("fashion_mnist_mini", "train", limit=40)
    return load_network("mlp", checkpoint, shape=(1, 28, 28)), (data.inputs, data.targets)


@pytest.mark.parametrize("first", ["command", "python"])
def test_a_file_begun_by_a_command_is_finished_by_python_and_the_other_way_round(checkpoint, tmp_path, first):
    file, whole = tmp_path / "s.h5", tmp_path / "whole.h5"
    command = [*CROSS, "--dir_file", str(tmp_path / "d.h5")]
    net, data = of_the_command(checkpoint)
    assert plot_surface.main(surface_command(checkpoint, whole, *command)) == 0
    if first == "command":
        assert plot_surface.main(surface_command(checkpoint, file, *command)) == 0
        cut(file, [0, 4])
        found = lossatlas.surface(net, data, file=file, **PYTHON)
    else:
        lossatlas.surface(net, data, file=file, **PYTHON)
        cut(file, [0, 4])
        assert plot_surface.main(surface_command(checkpoint, file, *command)) == 0
        found = lossatlas.read(file)
    expected = lossatlas.read(whole)
    assert found.done.all()
    for name, array in expected.fields.items():
        assert found.fields[name].tobytes() == array.tobytes(), name


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("first", ["command", "python"])
def test_a_map_of_eigenvalues_is_continued_by_the_other_front_end(checkpoint, tmp_path, first):
    from lossatlas.commands import plot_hessian_eigen

    file = tmp_path / "e.h5"
    line = surface_command(checkpoint, file, "--x=-1:1:3", "--batch_size", "40", "--only", "5", "--dir_file", "d.h5")
    line[line.index("d.h5")] = str(tmp_path / "d.h5")
    arguments = {"x": "-1:1:3", "batch_size": 40, "only": "5", "progress": False}
    net, data = of_the_command(checkpoint)
    expected = lossatlas.eigenvalues(net, data, **arguments)
    if first == "command":
        assert plot_hessian_eigen.main(line) == 0
    else:
        lossatlas.eigenvalues(net, data, file=file, **arguments)
    surface = read_surface(file)
    done = np.array([True, False, False])
    values = {name: np.where(done, array, np.nan) for name, array in surface.values.items()}
    write_surface(file, replace(surface, done=done, values=values))
    if first == "command":
        found = lossatlas.eigenvalues(net, data, file=file, **arguments)
    else:
        assert plot_hessian_eigen.main(line) == 0
        found = lossatlas.read(file)
    assert found.done.all()
    for name in ("max_eig", "min_eig"):
        np.testing.assert_array_equal(found.fields[name], expected.fields[name])


@pytest.mark.slow
@pytest.mark.parametrize("first", ["command", "python"])
def test_a_line_along_an_eigenvector_of_a_spectrum_is_continued_by_the_other_front_end(checkpoint, tmp_path, first):
    net, data = of_the_command(checkpoint)
    found = lossatlas.spectrum(net, data, top=2, bottom=1, only="5", file=tmp_path / "spectrum.h5", progress=False)
    file, d_file = tmp_path / "s.h5", tmp_path / "d.h5"
    along = ["--x=-1:1:3", "--batch_size", "40", "--xdirection", f"{tmp_path}/spectrum.h5:2", "--xnorm", "unit"]
    command = surface_command(checkpoint, file, *along, "--xignore", "", "--dir_file", str(d_file))
    arguments = {"x": "-1:1:3", "batch_size": 40, "norm": "unit", "progress": False}
    if first == "command":
        assert plot_surface.main(command) == 0
        before = lossatlas.read(file)
        cut(file, [0, 2])
        after = lossatlas.surface(net, data, directions=found.vector(1), file=file, **arguments)
    else:
        before = lossatlas.surface(net, data, directions=found.vector(1), file=file, **arguments)
        cut(file, [0, 2])
        assert plot_surface.main(command) == 0
        after = lossatlas.read(file)
    assert after.done.all()
    np.testing.assert_array_equal(after.loss, before.loss)
    by_name = lossatlas.surface(net, data, directions=f"{tmp_path}/spectrum.h5:2", **arguments)
    np.testing.assert_array_equal(by_name.loss, before.loss)
    described = lossatlas.surface(net, data, directions=found.vector(1), **arguments).directions.about["x"]
    assert described == read_directions(d_file).about["x"]


def test_a_file_of_another_network_or_loss_is_refused_whoever_began_it(checkpoint, tmp_path):
    file = tmp_path / "s.h5"
    assert plot_surface.main(surface_command(checkpoint, file, *CROSS, "--dir_file", str(tmp_path / "d.h5"))) == 0
    net, (inputs, targets) = of_the_command(checkpoint)
    with pytest.raises(BadInput, match="made with loss = crossentropy, now it is mse: give another file"):
        lossatlas.surface(net, (inputs, targets), loss="mse", file=file, **PYTHON)

    def half(output, target):
        return 0.5 * torch.nn.functional.cross_entropy(output, target, reduction="none")

    with pytest.raises(BadInput, match="another loss"):
        lossatlas.surface(net, (inputs, targets), loss=half, file=file, **PYTHON)
    with pytest.raises(BadInput, match="train_data"):
        lossatlas.surface(net, (inputs[:30], targets[:30]), file=file, **PYTHON)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] += 1
    with pytest.raises(BadInput, match="checkpoint"):
        lossatlas.surface(net, (inputs, targets), file=file, **PYTHON)


OWN_RELU = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 2)
    def forward(self, x):
        return self.b(F.relu(self.a(x)))

def make():
    torch.manual_seed(0)
    return Net()

def data(split):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    return x, (x.prod(1) > 0).long()

def loss(output, target):
    return F.cross_entropy(output, target, reduction="none")
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("F.relu(", "F.relu6(", "code of the network"),
        ('reduction="none")', 'reduction="none").clamp(max=5)', "another loss"),
    ],
    ids=["another function between the layers", "a loss that differs far away"],
)
@pytest.mark.parametrize("first", ["command", "python"])
def test_code_that_differs_far_from_the_origin_is_noticed_by_both_front_ends(
    tmp_path, monkeypatch, old, new, words, first
):
    """All of it gives the same loss at the origin."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("same", OWN_RELU), ("other", OWN_RELU.replace(old, new))):
        (tmp_path / f"{name}.py").write_text(text)

    def by_command(name):
        line = ["--model", f"{name}.py:make", "--dataset", f"{name}.py:data", "--loss_name", f"{name}.py:loss"]
        grid = ["--x=-1:1:5", "--xnorm", "filter", "--xignore", "biasbn", "--surf_file", "s.h5", "--dir_file", "d.h5"]
        return plot_surface.main([*line, *grid, "--threads", "1"])

    def by_python(name):
        code = compile((tmp_path / f"{name}.py").read_text(), str(tmp_path / f"{name}.py"), "exec")
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
        exec(code, module.__dict__)
        net, samples = module.make(), module.data("train")
        return lossatlas.surface(net, samples, loss=module.loss, x="-1:1:5", file="s.h5", progress=False)

    if first == "command":
        assert by_command("same") == 0
        by_python("same")
        with pytest.raises(BadInput, match=words):
            by_python("other")
    else:
        by_python("same")
        assert by_command("same") == 0
        assert by_command("other") == 3


FIRST = {  # arguments of the public functions, up to their keywords
    **{
        name: lambda: (seeded(Mlp), (X, Y))
        for name in ("surface", "eigenvalues", "spectrum", "sharpness", "learning_coefficient")
    },
    "learning_coefficients": lambda: (seeded(Mlp), [], (X, Y)),
    "trajectory": lambda: (seeded(Mlp), [], (X, Y)),
    "language_model": lambda: ("no folder", []),
    "question_data": lambda: ("no folder", []),
}


def keywords_of(kinds):
    """Return pairs of a public function and the name of a keyword that takes one of some types."""
    for function in lossatlas.__all__:
        found = getattr(lossatlas, function)
        if not isinstance(found, type):
            for name, each in inspect.signature(found).parameters.items():
                if any(kind in kinds for kind in types_in(each.annotation)):
                    yield function, name


@pytest.mark.parametrize(("function", "name"), list(keywords_of((int, float))))
def test_every_number_that_is_a_text_is_refused(function, name):
    with pytest.raises(BadUsage, match=rf"^{name}='3' is a text: give a (whole )?number"):
        getattr(lossatlas, function)(*FIRST[function](), **{name: "3"})


@pytest.mark.parametrize(("function", "name"), list(keywords_of((bool,))))
def test_every_switch_is_true_or_false(function, name):
    with pytest.raises(BadUsage, match=f"^{name}='no': give True or False"):
        getattr(lossatlas, function)(*FIRST[function](), **{name: "no"})


def test_functions_of_texts_name_the_argument_that_was_meant():
    with pytest.raises(BadUsage, match=r"language_model\(\) has no argument lenght \(did you mean length\?\)"):
        lossatlas.language_model("no folder", [], lenght=3)
    with pytest.raises(BadUsage, match=r"^top=None: give a whole number"):
        lossatlas.spectrum(seeded(Mlp), (X, Y), top=None)
    with pytest.raises(BadUsage, match=r"^tolerance=\('a', 1\) is a text: give a number, or 2 of them"):
        lossatlas.surface(seeded(Mlp), (X, Y), tolerance=("a", 1))


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        ("surface", {"batch_size": -1}),
        ("surface", {"only": "["}),
        ("surface", {"device": "nope"}),
        ("surface", {"ranks": 2}),
        ("spectrum", {"ranks": 2}),
        ("eigenvalues", {"precision": "bfloat16"}),
        ("eigenvalues", {"max_products": 0}),
        ("spectrum", {"top": -1}),
        ("spectrum", {"probes": 0}),
        ("spectrum", {"damping": -1}),
        ("spectrum", {"tolerance": -1}),
        ("spectrum", {"seed": -1}),
    ],
    ids=str,
)
def test_values_that_a_command_refuses_python_refuses_in_its_words(function, wrong):
    (name,) = wrong
    with pytest.raises(BadUsage, match=f"^{name}"):
        getattr(lossatlas, function)(seeded(Mlp), (X, Y), progress=False, **wrong)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ({"repeat": 3}, ["--repeat", "3"]),
        ({"per_layer": True}, ["--per_layer"]),
        ({"limit": 20}, ["--limit", "20"]),
        ({"y": "-1:1:3", "orthogonalize": True}, ["--y=-1:1:3", "--orthogonalize"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", ["command", "python"])
def test_every_argument_gives_the_file_of_the_option_of_its_name(checkpoint, tmp_path, arguments, command, first):
    net, data = of_the_command(checkpoint)
    file = tmp_path / "s.h5"
    there = [] if "--repeat" in command else ["--dir_file", str(tmp_path / "d.h5")]
    line = surface_command(checkpoint, file, "--x=-1:1:3", "--batch_size", "20", *there, *command)
    common = {"x": "-1:1:3", "batch_size": 20, "progress": False, **arguments}
    if first == "command":
        assert plot_surface.main(line) == 0
        before = lossatlas.read(file)
        cut(file, [1])
        after = lossatlas.surface(net, data, file=file, **common)
    else:
        before = lossatlas.surface(net, data, file=file, **common)
        cut(file, [1])
        assert plot_surface.main(line) == 0
        after = lossatlas.read(file)
    assert after.done.all()
    assert after.rows_of == before.rows_of
    np.testing.assert_array_equal(after.loss, before.loss)


def test_lines_of_repeats_and_layers_are_those_of_single_directions():
    net = seeded(Mlp)
    several = lossatlas.surface(net, (X, Y), x="-1:1:3", repeat=3, **QUIET)
    assert several.loss.shape == (3, 3)
    alone = lossatlas.surface(net, (X, Y), x="-1:1:3", **QUIET)
    np.testing.assert_array_equal(several.loss[0], alone.loss)
    layers = lossatlas.surface(net, (X, Y), x="-1:1:3", per_layer=True, **QUIET)
    for name, row in zip(layers.request["rows"], layers.loss, strict=True):
        own = lossatlas.surface(net, (X, Y), x="-1:1:3", only=rf"^{re.escape(name)}\.", **QUIET)
        np.testing.assert_allclose(row, own.loss, rtol=1e-6)


def test_second_derivatives_are_those_of_the_loss_along_the_axes():
    net = seeded(Mlp).double()
    data = X.double(), Y
    found = lossatlas.surface(net, data, x="-1:1:3", y="-1:1:3", curvature=True, **QUIET)
    second = found.about["second_derivatives"]
    step = 1e-3
    near = lossatlas.surface(net, data, x=[-step, 0, step], y=[-step, 0, step], **QUIET).loss
    assert second["xx"] == pytest.approx((near[1, 2] - 2 * near[1, 1] + near[1, 0]) / step**2, rel=1e-3)
    assert second["yy"] == pytest.approx((near[2, 1] - 2 * near[1, 1] + near[0, 1]) / step**2, rel=1e-3)
    mixed = (near[2, 2] - near[2, 0] - near[0, 2] + near[0, 0]) / (4 * step**2)
    assert second["xy"] == pytest.approx(mixed, rel=1e-2, abs=1e-4)


def test_orthogonal_directions_and_the_first_samples(tmp_path):
    net = seeded(Mlp)
    found = lossatlas.surface(net, (X, Y), x="-1:1:3", y="-1:1:3", orthogonalize=True, limit=7, **QUIET)
    x, y = (as_point(axis, net, "weights", "") for axis in (found.directions.x, found.directions.y))
    product = sum(float((x[name].double() * y[name].double()).sum()) for name in x)
    assert abs(product) < 1e-4 * float(found.directions.extra["lengths"].prod(0).sum())
    few = lossatlas.surface(net, (X[:7], Y[:7]), x="-1:1:3", y="-1:1:3", orthogonalize=True, **QUIET)
    np.testing.assert_array_equal(found.loss, few.loss)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4)
    read = lossatlas.surface(net, loader, x="-1:1:3", y="-1:1:3", orthogonalize=True, limit=7, **QUIET)
    np.testing.assert_array_equal(found.loss, read.loss)


def test_force_starts_over_and_keeps_the_earlier_file(tmp_path, capsys):
    net, file = seeded(Mlp), tmp_path / "s.h5"
    before = lossatlas.surface(net, (X, Y), x="-1:1:3", file=file, **QUIET)
    with pytest.raises(BadInput, match="force=True"):
        lossatlas.surface(seeded(Mlp), (X, 1 - Y), x="-1:1:3", file=file, **QUIET)
    with pytest.warns(Note, match=r"the file that was there is now .*s\.old1\.h5"):
        after = lossatlas.surface(net, (X, 1 - Y), x="-1:1:3", file=file, force=True, **QUIET)
    assert not capsys.readouterr().out
    np.testing.assert_array_equal(lossatlas.read(tmp_path / "s.old1.h5").loss, before.loss)
    np.testing.assert_array_equal(lossatlas.read(file).loss, after.loss)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeat": 2, "y": "-1:1:3"}, "repeat computes several lines: leave out y"),
        ({"per_layer": True, "y": "-1:1:3"}, "per_layer computes several lines: leave out y"),
        ({"per_layer": True, "repeat": 2}, "repeat and per_layer exclude each other"),
        ({"repeat": 2, "directions": "gradient"}, "repeat draws random directions: leave out directions"),
        ({"orthogonalize": True}, "orthogonalize takes the x direction out of the y direction: give y too"),
        ({"curvature": True, "dir_type": "states"}, "second derivatives belong to the parameters alone"),
        ({"repeat": 0}, "repeat: "),
        (
            {"directions": "eigenvector:0"},
            "directions eigenvector:0: eigenvectors and vectors of files are numbered from 1",
        ),
        ({"directions": "gradient:"}, "directions gradient:: give random, gradient, eigenvector"),
        ({"directions": "eigenvector:²"}, "directions eigenvector:²: give random"),
        ({"directions": [1.0]}, "a direction is a text or a dict of tensors by name, not float"),
        ({"repeat": 1}, "repeat=1: a spread needs at least 2 directions"),
        ({"limit": 0}, "limit: "),
        ({"device": "cuda"}, "device='cuda': torch finds no CUDA device here"),
    ],
    ids=str,
)
def test_arguments_that_contradict_each_other_are_named(arguments, message):
    if arguments.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BadUsage, match=re.escape(message)):
        lossatlas.surface(seeded(Mlp), (X, Y), **{"x": "-1:1:3", **arguments}, **QUIET)


def test_coordinates_that_look_like_a_range_are_noted():
    with pytest.warns(Note, match="x='-1:1:21' means 21 points from -1 to 1"):
        lossatlas.surface(seeded(Mlp), (X, Y), x=(-1, 1, 21), **QUIET)


def test_progress_goes_to_stderr_or_to_the_log_that_the_user_set_up(monkeypatch, capsys, caplog):
    from lossatlas.io import progress

    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(progress.LOGGER, "hasHandlers", lambda: False)
    lossatlas.surface(seeded(Mlp), (X, Y), x="-1:1:3")
    shown = capsys.readouterr()
    assert not shown.out
    assert "3/3 cells saved" in shown.err
    monkeypatch.undo()
    with caplog.at_level("INFO", logger="lossatlas"):
        lossatlas.surface(seeded(Mlp), (X, Y), x="-1:1:3")
    assert "3/3 cells saved" in caplog.text
    shown = capsys.readouterr()
    assert not shown.out
    assert "cells saved" not in shown.err


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(2, 1)

    def forward(self, x):
        return {"classes": self.first(x), "value": self.second(x)}


def test_a_loss_that_fails_with_one_of_several_outputs_says_which_one_it_received():
    with pytest.raises(
        BadInput, match=r"gave \['classes'\] of 64x3, \['value'\] of 64x1 \(loss\(output, target\) receives"
    ):
        lossatlas.surface(seeded(TwoHeads), (X, X), x="-1:1:3", loss=lambda out, t: (out @ t).sum(1), **QUIET)


def test_the_network_may_be_named_and_other_things_in_its_place_are_told():
    net = seeded(Mlp)
    named_one = lossatlas.surface(net=net, data=(X, Y), x="-1:1:3", **QUIET)
    np.testing.assert_array_equal(named_one.loss, lossatlas.surface(net, (X, Y), x="-1:1:3", **QUIET).loss)
    with pytest.raises(BadUsage, match=r"surface\(net, \.\.\.\): the first argument is a tuple, and no nn\.Module"):
        lossatlas.surface((X, Y), net)
    with pytest.raises(BadUsage, match="needs a network, as its first argument"):
        lossatlas.spectrum(data=(X, Y))
    with pytest.raises(BadUsage, match=r"has no argument xnorm \(did you mean norm\?\)"):
        lossatlas.surface(net, (X, Y), xnorm="filter")
    with pytest.raises(BadUsage, match=r"has no argument cuda \(did you mean device\?\)"):
        lossatlas.surface(net, (X, Y), cuda=True)
