"""Curves between networks: their formulas, that training lowers the loss along them, and the commands together."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import surface_command, write_checkpoint

from lossatlas.commands import plot_2D, plot_surface, train_curve
from lossatlas.datasets.registry import load
from lossatlas.errors import BadInput
from lossatlas.figures import FigureFiles
from lossatlas.figures.network_marks import curve_kind, curve_points, network_marks
from lossatlas.io import read_directions, read_surface
from lossatlas.jobs.curves.curve_record import read_curve_record
from lossatlas.models import load_network, read_state
from lossatlas.parameter_space import CurvePlane
from lossatlas.parameter_space.curves import control_weights


def casteljau(points, t):
    while len(points) > 1:
        points = [(1 - t) * a + t * b for a, b in itertools.pairwise(points)]
    return points[0]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("t", [-0.3, 0.0, 0.2, 0.5, 0.77, 1.0, 1.2])
def test_shares_against_other_ways_to_the_same_point(count, t):
    points = [torch.tensor(v, dtype=torch.float64) for v in np.random.default_rng(0).normal(size=(count, 4))]
    for kind in ("bezier", "polygonal"):
        parts = control_weights(kind, t, count)
        assert sum(parts) == pytest.approx(1)
        found = CurvePlane(kind, [{"w": point} for point in points]).point(t)["w"]
        if kind == "bezier":
            expected = casteljau(points, t)
        else:
            k = min(max(int(np.floor(t * (count - 1))), 0), count - 2)
            part = t * (count - 1) - k
            expected = (1 - part) * points[k] + part * points[k + 1]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.fixture
def ends(tmp_path):
    return [write_checkpoint(tmp_path / f"{seed}.safetensors", "mlp", seed=seed) for seed in (0, 1)]


def trained(tmp_path, ends, *more, model="mlp", name="bend", limit=200):
    out = tmp_path / f"{name}.safetensors"
    own = f"--model {model} --dataset fashion_mnist_mini --limit {limit} --model_file {ends[0]} --model_file2 {ends[1]}"
    code = train_curve.main([*own.split(), "--out", str(out), *more])
    return code, out


def test_training_lowers_the_loss_along_it_and_leaves_the_ends(tmp_path, ends, capsys):
    before = [path.read_bytes() for path in ends]
    code, out = trained(tmp_path, ends, "--epochs", "15", "--lr", "0.05", "--batch_size", "50")
    assert code == 0
    assert "largest loss along" in capsys.readouterr().out
    about = json.loads(out.with_suffix(".json").read_text())
    straight, curve = (about[name]["train"] for name in ("straight", "losses"))
    assert max(curve[5:16]) < 0.9 * max(straight[5:16])
    assert curve[0] == pytest.approx(straight[0], rel=1e-5)
    assert curve[-1] == pytest.approx(straight[-1], rel=1e-5)
    assert [path.read_bytes() for path in ends] == before


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 1), ("polygonal", 2)])
def test_the_loss_along_it_by_hand(tmp_path, ends, kind, bends):
    code, out = trained(tmp_path, ends, "--epochs", "2", "--kind", kind, "--bends", str(bends))
    assert code == 0
    files = [out] if bends == 1 else [tmp_path / f"bend_bend{k + 1}.safetensors" for k in range(bends)]
    more = ["--curve", kind, "--bend", *map(str, files), "--model_file2", str(ends[1]), "--x=0:1:5"]
    assert plot_surface.main(surface_command(ends[0], tmp_path / "s.h5", *more, limit=200)) == 0
    surface, data = read_surface(tmp_path / "s.h5"), load("fashion_mnist_mini", limit=200)
    states = [read_state(file) for file in (ends[0], *files, ends[1])]
    net = load_network("mlp", ends[0], (1, 28, 28)).double()
    for k, t in enumerate(surface.grid.x):
        parts = control_weights(kind, float(t), len(states))
        for name, p in net.named_parameters():
            p.data = sum(part * state[name].double() for part, state in zip(parts, states, strict=True))
        loss = F.cross_entropy(net(data.inputs.double()), data.targets).item()
        assert surface.fields["train_loss"][k] == pytest.approx(loss, rel=1e-5)
    own = json.loads(files[0].with_suffix(".json").read_text())["losses"]["train"]
    np.testing.assert_allclose(surface.fields["train_loss"], own[::5], rtol=1e-5)


@pytest.mark.full
@pytest.mark.slow
def test_with_batchnorm_the_command_and_the_surface_agree(tmp_path):
    ends = [write_checkpoint(tmp_path / f"{seed}.safetensors", "resnet20", seed=seed) for seed in (0, 1)]
    code, out = trained(tmp_path, ends, "--epochs", "1", model="resnet20", limit=50)
    assert code == 0
    more = ["--curve", "bezier", "--bend", str(out), "--model_file2", str(ends[1]), "--x=0:1:3", "--bn", "recalibrate"]
    assert plot_surface.main(surface_command(ends[0], tmp_path / "s.h5", *more, model="resnet20", limit=50)) == 0
    own = json.loads(out.with_suffix(".json").read_text())["losses"]["train"]
    np.testing.assert_allclose(read_surface(tmp_path / "s.h5").fields["train_loss"], own[::10], rtol=1e-4)


@pytest.mark.slow
def test_a_curve_ends_at_both_networks_with_their_statistics(tmp_path, capsys):
    """It ended at 1.1904 where the network there has 0.9877: its BatchNorm statistics were those of the first one."""
    ends = [write_checkpoint(tmp_path / f"{seed}.safetensors", "resnet20", seed=seed) for seed in (0, 1)]
    bend = write_checkpoint(tmp_path / "bend.safetensors", "resnet20", seed=2)
    more = ["--curve", "bezier", "--bend", str(bend), "--model_file2", str(ends[1]), "--x=0:1:3"]
    assert plot_surface.main(surface_command(ends[0], tmp_path / "s.h5", *more, model="resnet20")) == 0
    assert "differ in BatchNorm statistics" in capsys.readouterr().out
    found = read_surface(tmp_path / "s.h5").fields["train_loss"]
    for end, loss in zip(ends, (found[0], found[-1]), strict=True):
        line = surface_command(
            end,
            tmp_path / f"{end.stem}.h5",
            "--x=0:0:1",
            "--dir_file",
            str(tmp_path / f"{end.stem}_d.h5"),
            model="resnet20",
        )
        assert plot_surface.main(line) == 0
        assert read_surface(tmp_path / f"{end.stem}.h5").fields["train_loss"][0] == pytest.approx(loss, rel=1e-5)


def test_the_record_of_an_unknown_kind_of_curve_is_refused(tmp_path):
    bend, record = str(tmp_path / "bend.safetensors"), {"kind": "polygonal", "bends": ["bend.safetensors"], "ends": []}
    path = tmp_path / "bend.json"
    path.write_text(json.dumps(record))
    assert read_curve_record([bend]) == (path, ("polygonal", ["bend.safetensors"], []))
    for kind in ("spline", "", None, ["bezier"]):
        path.write_text(json.dumps({**record, "kind": kind}))
        with pytest.raises(BadInput, match=r"is damaged: .* is no kind of curve, which is bezier or polygonal$"):
            read_curve_record([bend])
    for unreadable in ("{", "[]", "{}"):
        path.write_text(unreadable)
        assert read_curve_record([bend]) == (path, None)


def test_repeats_are_reported_together(tmp_path, ends, capsys):
    code, _ = trained(tmp_path, ends, "--epochs", "1", "--repeat", "2", "--split", "test")
    assert code == 0
    printed = capsys.readouterr().out
    assert "largest test loss along 2 curves" in printed
    assert "largest train loss along 2 curves" in printed
    assert {"bend_1.safetensors", "bend_2.safetensors"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--model_file2", "SAME"), "the same network"),
        (("--out", "bend.pt"), ".safetensors"),
        (("--out", "SAME"), "one of the ends"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, ends, capsys, more, word):
    more = [str(ends[0]) if each == "SAME" else each for each in more]
    assert trained(tmp_path, ends, "--epochs", "1", *more)[0] in (2, 3)
    assert word in capsys.readouterr().err


def test_no_end_is_replaced_and_what_was_there_is_kept(tmp_path, ends, capsys):
    first = tmp_path / "E_1.safetensors"
    first.write_bytes(ends[0].read_bytes())
    ends_given = ["--model_file", str(first), "--model_file2", str(ends[1])]
    own = ["--model", "mlp", *"--dataset fashion_mnist_mini --limit 50 --epochs 1".split(), *ends_given]
    assert train_curve.main([*own, "--out", str(tmp_path / "E.safetensors"), "--repeat", "2"]) == 2
    assert "one of the ends" in capsys.readouterr().err
    assert first.read_bytes() == ends[0].read_bytes()
    mine = tmp_path / "mine.safetensors"
    mine.write_text("mine")
    mine.with_suffix(".json").write_text("mine too")
    assert train_curve.main([*own, "--out", str(mine)]) == 0
    assert (tmp_path / "mine.old1.safetensors").read_text() == "mine"
    assert (tmp_path / "mine.old1.json").read_text() == "mine too"


def test_bends_of_another_curve_are_refused(tmp_path, ends, capsys):
    trained(tmp_path, ends, "--epochs", "1", "--kind", "polygonal", "--bends", "2")
    one, two = (str(tmp_path / f"bend_bend{k}.safetensors") for k in (1, 2))

    def at(*more, end=ends[1]):
        line = ["--x=0:1:3", "--model_file2", str(end), *more]
        return plot_surface.main(surface_command(ends[0], tmp_path / "s.h5", *line, limit=50))

    for more, word in (
        (["--curve", "bezier", "--bend", one, two], "polygonal"),
        (["--curve", "polygonal", "--bend", two, one], "in this order"),
        (["--curve", "polygonal", "--bend", one, two, "--align"], "leave out --align"),
    ):
        assert at(*more) == 3
        assert word in capsys.readouterr().err
    third = write_checkpoint(tmp_path / "2.safetensors", "mlp", seed=2)
    assert at("--curve", "polygonal", "--bend", one, two, end=third) == 3
    assert at("--curve", "polygonal", "--bend", one, two) == 0


@pytest.mark.few(1)
@pytest.mark.pictures
@pytest.mark.parametrize("kind", ["bezier", "polygonal"])
def test_it_is_drawn_in_its_plane(tmp_path, ends, kind):
    """Through the same points of the plane as the networks on it; not where the third network is no bend of it."""
    _, out = trained(tmp_path, ends, "--epochs", "1", "--kind", kind)

    def surface(third):
        file = tmp_path / f"{Path(third).stem}_plane.h5"
        line = [
            "--x=-1:2:4",
            "--y=-1:2:4",
            "--model_file2",
            str(ends[1]),
            "--model_file3",
            str(third),
            "--orthogonalize",
        ]
        assert plot_surface.main(surface_command(ends[0], file, *line, "--dir_file", f"{file}_d.h5", limit=50)) == 0
        return read_surface(file)

    plane = surface(out)
    assert curve_kind(plane) == kind
    marked = network_marks(plane)
    assert len(marked) == 3
    directions = read_directions(tmp_path / "bend_plane.h5_d.h5")
    states = [read_state(file) for file in (ends[0], out, ends[1])]
    net = load_network("mlp", ends[0], (1, 28, 28))
    xs, ys = curve_points(kind, marked)
    for t, x, y in [(0.0, xs[0], ys[0]), (0.5, xs[len(xs) // 2], ys[len(ys) // 2]), (1.0, xs[-1], ys[-1])]:
        parts = control_weights(kind, t, 3)
        for (name, p), dx, dy in zip(net.named_parameters(), directions.x, directions.y, strict=True):
            expected = sum(part * state[name] for part, state in zip(parts, states, strict=True))
            torch.testing.assert_close(
                p + x * torch.from_numpy(dx) + y * torch.from_numpy(dy), expected, atol=1e-4, rtol=0
            )
    assert plot_2D.draw([tmp_path / "bend_plane.h5"], files_as=FigureFiles(("png",)))
    other = surface(write_checkpoint(tmp_path / "other.safetensors", "mlp", seed=5))
    assert curve_kind(other) == ""
    assert network_marks(other)[-1].name == "average of the three"


def test_a_curve_needs_its_bends(tmp_path, ends, capsys):
    for more in (["--curve", "bezier"], ["--bend", str(ends[0])]):
        assert plot_surface.main(surface_command(ends[0], tmp_path / "s.h5", *more)) == 2
        assert "belong together" in capsys.readouterr().err
    more = ["--curve", "bezier", "--bend", str(ends[0]), "--y=0:1:3", "--model_file2", str(ends[1])]
    assert plot_surface.main(surface_command(ends[0], tmp_path / "s.h5", *more)) == 2
