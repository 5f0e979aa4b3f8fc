"""Rows of curves and the schemes of the Julia notebook: formulas written out again; commands against plain curves."""

import numpy as np
import pytest
import torch
from conftest import surface_command, write_checkpoint
from torch import nn

from lossatlas.commands import plot_1D, plot_2D, plot_layers, plot_surface, view_surface
from lossatlas.errors import BadInput
from lossatlas.io import read_directions, read_surface
from lossatlas.models import read_state
from lossatlas.parameter_space import Layout, SchemePlane, other_network, tensors
from lossatlas.parameter_space.schemes import free


@pytest.fixture
def three():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).double()
    first, layout = tensors(net), Layout.of(net)
    second, third = (other_network(first, seed, layout) for seed in (1, 2))
    return first, second, third, free(first, layout.norms)


def per_array(d, m):
    return np.linalg.norm(m) * d / np.linalg.norm(d)


def per_filter(d, m):
    if d.ndim == 1:
        return per_array(d, m)
    return np.stack([per_array(a, b) for a, b in zip(d, m, strict=True)])


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.3, -0.7), (-1.2, 2.0), (1.0, 1.0)])
@pytest.mark.parametrize("kind", ["linear2x", "barycentric"])
def test_the_formulas_of_the_notebook(three, kind, a, b):
    first, second, third, names = three
    found = SchemePlane(kind, first, second, third, names).point(a, b)
    assert sorted(names) == ["0.bias", "0.weight", "3.bias", "3.weight"]
    for name in first:
        one, two, three_ = (p[name].numpy() for p in (first, second, third))
        if name not in names:
            np.testing.assert_array_equal(found[name], one)
        elif kind == "linear2x":
            expected = b * three_ + (1 - b) * per_array(a * two + (1 - a) * one, one)
            np.testing.assert_allclose(found[name], expected, rtol=1e-7)
        else:
            phi, psi = one + a * (two - one), one + b * (three_ - one)
            np.testing.assert_allclose(
                found[name], a * per_filter(phi, one) + (1 - b) * per_filter(psi, one), rtol=1e-7
            )


def test_the_other_networks_have_filters_as_long_as_the_first(three):
    first, second, third, names = three
    for name in names:
        for other in (second, third):
            flat, own = (p[name].reshape(len(p[name]) if p[name].dim() > 1 else 1, -1) for p in (other, first))
            torch.testing.assert_close(flat.norm(dim=1), own.norm(dim=1), rtol=1e-8, atol=0)
            assert not torch.allclose(other[name], first[name])
    assert not torch.allclose(second["0.weight"], third["0.weight"])


@pytest.fixture
def net(tmp_path):
    return write_checkpoint(tmp_path / "net.safetensors", "mlp")


def run(net, file, *more):
    return plot_surface.main(surface_command(net, file, *more))


PLAIN = ("--xnorm", "", "--xignore", "", "--ynorm", "", "--yignore", "")
LINE = ("--x=-1:1:5", "--xnorm", "filter")


def test_repeats_are_the_curves_of_their_indices(tmp_path, net):
    assert run(net, tmp_path / "r.h5", *LINE, "--repeat", "3") == 0
    rows = read_surface(tmp_path / "r.h5")
    assert rows.grid.shape == (3, 5)
    for k in range(3):
        assert run(net, tmp_path / f"c_{k}.h5", *LINE, "--idx", str(k)) == 0
        one = read_surface(tmp_path / f"c_{k}.h5")
        np.testing.assert_allclose(rows.fields["train_loss"][k], one.fields["train_loss"], rtol=1e-6)
    assert len({row.tobytes() for row in rows.fields["train_loss"]}) == 3


def test_the_mean_of_repeats_in_one_file_is_that_of_files(tmp_path, net):
    run(net, tmp_path / "r.h5", *LINE, "--repeat", "3")
    for k in range(3):
        run(net, tmp_path / f"c_{k + 1}.h5", *LINE, "--idx", str(k))
    one = plot_1D.repeats_in(tmp_path / "r.h5")
    several = plot_1D.read_repeats(str(tmp_path / "c"), 1, 3)
    for a, b in zip(one, several, strict=True):
        np.testing.assert_allclose(a.fields["train_loss"], b.fields["train_loss"], rtol=1e-6)
    drawn = plot_1D.draw([tmp_path / "r.h5", tmp_path / "r.h5"], labels=["A", "B"])
    assert all(path.stat().st_size > 1000 for path in drawn)


def test_layers_move_alone(tmp_path, net):
    more = (*LINE, "--dir_file", str(tmp_path / "d.h5"))
    assert run(net, tmp_path / "l.h5", *more, "--per_layer") == 0
    rows = read_surface(tmp_path / "l.h5")
    names = rows.request["rows"]
    assert len(names) > 1
    for k, name in enumerate(names):
        only = ("--only", rf"^{name}\.")
        assert run(net, tmp_path / f"{k}.h5", *LINE, "--dir_file", str(tmp_path / f"d{k}.h5"), *only) == 0
        one = read_surface(tmp_path / f"{k}.h5")
        np.testing.assert_allclose(rows.fields["train_loss"][k], one.fields["train_loss"], rtol=1e-6)
    assert all(path.stat().st_size > 1000 for path in plot_layers.draw(tmp_path / "l.h5"))


def test_layers_that_do_not_move_have_no_row(tmp_path, net):
    every = {name.rpartition(".")[0] for name in read_state(net)}
    assert run(net, tmp_path / "l.h5", *LINE, "--per_layer", "--except", r"^1\.") == 0
    assert set(read_surface(tmp_path / "l.h5").request["rows"]) == every - {"1"}
    assert "1" in every


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["linear2x", "barycentric"])
def test_a_scheme_begins_at_the_network(tmp_path, net, kind):
    more = (*PLAIN, "--x=0:1:3", "--y=0:1:3", "--scheme", kind, "--dir_file", str(tmp_path / "d.h5"))
    assert run(net, tmp_path / "s.h5", *more) == 0
    run(net, tmp_path / "p.h5", "--x=0:1:3", "--y=0:1:3")
    found, plane = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in "sp")
    assert found[0, 0] == pytest.approx(plane[0, 0], rel=1e-6)
    assert not np.allclose(found, plane)
    assert "a network that the scheme goes to" in read_directions(tmp_path / "d.h5").about["x"]
    assert plot_2D.draw([tmp_path / "s.h5"])


def test_other_commands_say_what_draws_rows(tmp_path, net):
    run(net, tmp_path / "r.h5", *LINE, "--repeat", "2")
    run(net, tmp_path / "l.h5", *LINE, "--per_layer")
    for file, by in (("r.h5", "lossatlas plot-1d draws"), ("l.h5", "lossatlas plot-layers draws")):
        for wrong in (lambda f: plot_2D.draw([f]), lambda f: view_surface.view([f])):
            with pytest.raises(BadInput, match=by):
                wrong(tmp_path / file)
    with pytest.raises(BadInput, match="lossatlas plot-1d draws"):
        plot_layers.draw(tmp_path / "r.h5")
    run(net, tmp_path / "c.h5", *LINE)
    with pytest.raises(BadInput, match="--per_layer"):
        plot_layers.draw(tmp_path / "c.h5")
    with pytest.raises(BadInput, match="holds no repeats"):
        plot_1D.draw([tmp_path / "r.h5", tmp_path / "c.h5"])


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--repeat", "1"), "at least 2"),
        (("--repeat", "3", "--y=-1:1:3"), "leave out --y"),
        (("--repeat", "3", "--per_layer"), "exclude each other"),
        (("--repeat", "3", "--xdirection", "gradient"), "random directions"),
        (("--scheme", "linear2x"), "give --y too"),
        (("--scheme", "linear2x", "--y=-1:1:3"), "own normalization"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, net, capsys, more, word):
    command = surface_command(net, tmp_path / "s.h5", *LINE, *more)
    if word in ("at least 2", "random directions", "leave out --y", "exclude each other"):
        command = [each for each in command if not each.startswith("--dir_file")]
    assert plot_surface.main(command) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "s.h5").exists()
