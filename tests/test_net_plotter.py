"""Directions from curvature: the surface along them has the slope and the curvature that they promise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import surface_command, write_checkpoint
from oracles import explicit_hessian, mean_cross_entropy

from lossatlas.commands import hessian_spectrum, net_plotter, plot_surface
from lossatlas.datasets.registry import load
from lossatlas.figures.network_marks import network_marks
from lossatlas.io import read_directions, read_surface, write_directions
from lossatlas.landscape import Grid, Surface
from lossatlas.models import build, load_into, read_state


@pytest.fixture(scope="module")
def spectrum(tmp_path_factory, perceptron) -> Path:
    out = tmp_path_factory.mktemp("spectrum") / "s.h5"
    line = [
        *"--model mlp --dataset fashion_mnist_mini --limit 40 --model_file".split(),
        str(perceptron),
        "--spectrum_file",
        str(out),
        *"--top 3 --trace_most 5".split(),
    ]
    assert hessian_spectrum.main(line) == 0
    return out


def run(net: Path, out: Path, *more: str) -> int:
    """Without the usual norms, which the given ones come after."""
    plain = ["--xnorm", "", "--ynorm", "", "--xignore", "", "--yignore", ""]
    return plot_surface.main(
        surface_command(net, out, *plain, "--dir_file", str(out.with_name(f"{out.stem}_d.h5")), *more)
    )


def flat(arrays) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in arrays]).astype(np.float64)


def second_difference(out: Path) -> float:
    surface = read_surface(out)
    loss, step = surface.fields["train_loss"], surface.grid.x[1] - surface.grid.x[0]
    return float((loss[0] - 2 * loss[1] + loss[2]) / step**2)


FINE = ["--x=-1e-5:1e-5:3", "--precision", "float64"]


def test_along_a_unit_eigenvector_the_curvature_is_the_eigenvalue(tmp_path, perceptron, spectrum):
    from lossatlas.io import read_findings

    values = read_findings(spectrum).arrays["eigenvalues"]
    for k, what in ((1, "eigenvector"), (2, "eigenvector:2"), (3, f"{spectrum}:3")):
        out = tmp_path / f"{k}.h5"
        assert run(perceptron, out, "--xdirection", what, *FINE) == 0
        stored = read_surface(out).about["second_derivatives"]["xx"]
        assert stored == pytest.approx(values[k - 1], rel=1e-4)
        assert second_difference(out) == pytest.approx(stored, rel=2e-2)  # the network has kinks
        assert np.linalg.norm(flat(read_directions(tmp_path / f"{k}_d.h5").x)) == pytest.approx(1, rel=1e-5)


def test_along_the_gradient_the_slope_is_its_length(tmp_path, perceptron, capsys):
    out = tmp_path / "g.h5"
    assert run(perceptron, out, "--xdirection", "gradient", *FINE) == 0
    length = float(capsys.readouterr().out.split("length ")[1].split()[0])
    loss = read_surface(out).fields["train_loss"]
    assert (loss[2] - loss[0]) / 2e-5 == pytest.approx(length, rel=1e-4)


def test_mixed_with_random_ones_and_orthogonal(tmp_path, perceptron, capsys):
    out = tmp_path / "m.h5"
    line = ["--xdirection", "eigenvector", "--ydirection", "gradient", "--orthogonalize", "--x=-1:1:3", "--y=-1:1:3"]
    assert run(perceptron, out, *line) == 0
    found = read_directions(tmp_path / "m_d.h5")
    x, y = flat(found.x), flat(found.y)
    assert abs(x @ y) <= 1e-6
    assert np.linalg.norm(y) == pytest.approx(1, rel=1e-5)
    assert set(read_surface(out).about["second_derivatives"]) == {"xx", "xy", "yy"}
    assert "second derivative of the train loss along y" in capsys.readouterr().out
    assert run(perceptron, out, *line) == 0  # complete: nothing to do
    assert (
        run(
            perceptron,
            tmp_path / "r.h5",
            "--xdirection",
            "random",
            "--xnorm",
            "unit",
            "--ydirection",
            "eigenvector:2",
            "--ynorm",
            "filter",
            "--x=-1:1:3",
            "--y=-1:1:3",
        )
        == 0
    )
    random = read_directions(tmp_path / "r_d.h5").x
    assert np.linalg.norm(flat(random)) == pytest.approx(1, rel=1e-5)


def test_a_filter_normalized_eigenvector_has_the_filters_norms(tmp_path, perceptron):
    from lossatlas.models import read_state

    filtered = ["--xdirection", "eigenvector", "--xnorm", "filter", "--xignore", "biasbn"]
    assert run(perceptron, tmp_path / "f.h5", *filtered, "--x=-1:1:3") == 0
    weights = [
        value for _, value in sorted(read_state(perceptron).items(), key=lambda item: item[0].replace("weight", "a"))
    ]
    for d, w in zip(read_directions(tmp_path / "f_d.h5").x, weights, strict=True):
        if w.dim() > 1:
            np.testing.assert_allclose(np.linalg.norm(d, axis=1), w.flatten(1).norm(dim=1), rtol=1e-4)
        else:
            assert not d.any()


def test_a_saved_direction_is_used_as_it_is(tmp_path, perceptron):
    assert run(perceptron, tmp_path / "a.h5", "--x=-1:1:3", "--y=-1:1:3") == 0
    saved = tmp_path / "a_d.h5"
    assert run(perceptron, tmp_path / "b.h5", "--xdirection", f"{saved}:2", "--x=-1:1:3") == 0
    np.testing.assert_array_equal(flat(read_directions(tmp_path / "b_d.h5").x), flat(read_directions(saved).y))


def test_a_surface_goes_on_when_its_spectrum_file_has_grown(tmp_path, perceptron):
    """The vector is what counts, not what else the file holds."""
    line = [
        *"--model mlp --dataset fashion_mnist_mini --limit 40 --model_file".split(),
        str(perceptron),
        "--spectrum_file",
        str(tmp_path / "s.h5"),
        *"--trace_most 5".split(),
    ]
    assert hessian_spectrum.main([*line, "--top", "3"]) == 0
    along = surface_command(perceptron, tmp_path / "a.h5", "--xdirection", f"{tmp_path / 's.h5'}:2", "--x=-1:1:3")
    assert plot_surface.main(along) == 0
    assert hessian_spectrum.main([*line, "--top", "2", "--layers", "--most", "30"]) == 0
    assert plot_surface.main(along) == 0


@pytest.mark.parametrize(
    ("more", "code", "line"),
    [
        (["--xdirection", "sideways"], 2, "give random, gradient, eigenvector"),
        (["--xdirection", "eigenvector:0"], 2, "numbered from 1"),
        (["--xdirection", "gradient:2"], 2, "others not at all"),
        (["--xdirection", "missing.h5"], 3, "no file missing.h5"),
        (["--xdirection", "SPECTRUM:9"], 3, "holds 4 eigenvectors, and number 9"),
        (["--xdirection", "gradient", "--dir_type", "states"], 2, "belong to the parameters alone"),
        (["--ydirection", "gradient"], 2, "give --y too"),
        (["--orthogonalize"], 2, "give --y too"),
        (
            ["--xdirection", "gradient", "--ydirection", "gradient", "--orthogonalize", "--y=-1:1:3"],
            3,
            "parallel to the x direction",
        ),
        (["--xdirection", "gradient", "--model_file2", "NET"], 2, "leave one out"),
    ],
)
def test_bad_input_is_one_line(tmp_path, perceptron, spectrum, capsys, more, code, line):
    more = [word.replace("SPECTRUM", str(spectrum)).replace("NET", str(perceptron)) for word in more]
    assert run(perceptron, tmp_path / "s.h5", "--x=-1:1:3", *more) == code
    message = capsys.readouterr().err
    assert line in message
    assert message.count("\n") == 1


def moved(file: Path) -> dict[str, np.ndarray]:
    """What a direction file moves of each tensor, by name: (axes,)."""
    extra = read_directions(file).extra
    return dict(zip([name.decode() for name in extra["tensors"]], extra["lengths"][:, 1:], strict=True))


def test_only_what_is_selected_is_moved_and_the_rest_as_without(tmp_path, perceptron):
    plane = ["--xnorm", "filter", "--ynorm", "unit", "--yignore", "biasbn", "--x=-1:1:3", "--y=-1:1:3"]
    assert run(perceptron, tmp_path / "all.h5", *plane) == 0
    assert run(perceptron, tmp_path / "some.h5", *plane, "--only", "^3", "weight", "--except", "5") == 0
    every, some = (read_directions(tmp_path / f"{name}_d.h5") for name in ("all", "some"))
    found = moved(tmp_path / "some_d.h5")
    assert {name for name, (x, _) in found.items() if x} == {"1.weight", "3.weight", "3.bias"}
    assert {name for name, (_, y) in found.items() if y} == {"1.weight", "3.weight"}
    for k, (name, (x, _)) in enumerate(found.items()):
        np.testing.assert_array_equal(some.x[k], every.x[k] if x else 0, err_msg=name)
        assert np.linalg.norm(some.x[k]) == pytest.approx(x, rel=1e-5)
    assert np.linalg.norm(flat(some.y)) == pytest.approx(1, rel=1e-5)  # the norm is that of what is moved
    assert "only ^3 weight, except 5" in some.about["x"]


def test_a_selected_eigenvector_is_one_of_the_block(tmp_path, perceptron, exact_block):
    out = tmp_path / "e.h5"
    assert run(perceptron, out, "--xdirection", "eigenvector", "--only", "^5", *FINE) == 0
    assert read_surface(out).about["second_derivatives"]["xx"] == pytest.approx(exact_block[-1], rel=1e-4)
    assert {name for name, x in moved(tmp_path / "e_d.h5").items() if x} == {"5.weight", "5.bias"}
    out = tmp_path / "g.h5"
    assert run(perceptron, out, "--xdirection", "gradient", "--except", "^5", *FINE) == 0
    assert {name for name, x in moved(tmp_path / "g_d.h5").items() if not x} == {"5.weight", "5.bias"}
    assert np.linalg.norm(flat(read_directions(tmp_path / "g_d.h5").x)) == pytest.approx(1, rel=1e-5)


@pytest.fixture(scope="module")
def exact_block(perceptron) -> np.ndarray:
    """The eigenvalues of the last layer's block of the Hessian over 40 samples."""
    own, data = build("mlp", (1, 28, 28)), load("fashion_mnist_mini", limit=40)
    load_into(own, read_state(perceptron), str(perceptron))
    return np.linalg.eigvalsh(
        explicit_hessian(own.eval(), mean_cross_entropy(data.inputs, data.targets), ["5.weight", "5.bias"]).numpy()
    )


def test_a_selection_that_leaves_nothing_is_said(tmp_path, perceptron, capsys):
    assert run(perceptron, tmp_path / "n.h5", "--only", "lora_") == 2
    assert "no tensor is left by 'only lora_': there are 1.weight" in capsys.readouterr().err


def test_another_selection_gets_another_file_and_is_not_continued(tmp_path, perceptron, capsys):
    assert run(perceptron, tmp_path / "s.h5", "--x=-1:1:3", "--only", "^5") == 0
    other = ["--dir_file", str(tmp_path / "other.h5"), "--only", "^3"]
    assert run(perceptron, tmp_path / "s.h5", "--x=-1:1:3", *other) == 3
    assert "was made with other directions" in capsys.readouterr().err


def test_the_command_makes_and_describes_direction_files(tmp_path, perceptron, capsys):
    line = [
        *"--model mlp --dataset fashion_mnist_mini --limit 40 --model_file".split(),
        str(perceptron),
        *"--xnorm filter --xignore biasbn --ydirection gradient".split(),
    ]
    made = tmp_path / "d.h5"
    assert net_plotter.main([*line, "--dir_file", str(made)]) == 0
    said = capsys.readouterr().out
    assert f"wrote {made}" in said
    assert (
        run(
            perceptron,
            tmp_path / "s.h5",
            "--x=-1:1:3",
            "--y=-1:1:3",
            "--xnorm",
            "filter",
            "--xignore",
            "biasbn",
            "--ydirection",
            "gradient",
            "--dir_file",
            str(made),
        )
        == 0
    )
    assert read_surface(tmp_path / "s.h5").request["directions"] == read_directions(made).sha256
    capsys.readouterr()
    assert net_plotter.main([*line, "--dir_file", str(made)]) == 0
    assert "holds them already" in capsys.readouterr().out
    assert net_plotter.main([*line, "--seed", "5", "--dir_file", str(made)]) == 3
    assert "was made with x = random" in capsys.readouterr().err
    for file in (made, tmp_path / "s.h5"):
        assert net_plotter.main([str(file)]) == 0
        said = capsys.readouterr().out
        biases = [row.split() for row in said.splitlines() if row.startswith("1.bias")]
        assert biases[0][2:4] == ["not", "moved"]
        assert "cosine between them" in said
    assert net_plotter.main([str(tmp_path / "none.h5")]) == 3


def test_networks_are_marked_where_they_lie(tmp_path):
    """Also on axes that were made orthogonal, and not where the directions lead elsewhere."""
    nets = [write_checkpoint(tmp_path / f"{seed}.safetensors", "mlp", seed=seed) for seed in range(3)]

    def surface(name: str, *more: str):
        file = tmp_path / f"{name}.h5"
        own = (
            f"--model mlp --dataset fashion_mnist_mini --limit 40 --x=-3:3:7 --y=-3:3:7 --model_file {nets[0]}".split()
        )
        ends = ["--model_file2", str(nets[1]), "--model_file3", str(nets[2])]
        assert plot_surface.main([*own, *ends, "--surf_file", str(file), *more]) == 0
        return read_surface(file)

    plain = surface("plain", "--dir_file", str(tmp_path / "d.h5"))
    turned = surface("turned", "--dir_file", str(tmp_path / "o.h5"), "--orthogonalize")
    found = [(each.x, each.y) for each in network_marks(plain)][:3]
    np.testing.assert_allclose(found, [(0, 0), (1, 0), (0, 1)], atol=1e-5)
    third = network_marks(turned)[2]
    directions = read_directions(tmp_path / "o.h5")
    states = [read_state(path) for path in (nets[0], nets[2])]
    names = list(states[0])
    order = [name for name, _ in build("mlp", (1, 28, 28)).named_parameters()]
    for name, x, y in zip(order, directions.x, directions.y, strict=True):
        there = states[0][name].numpy() + third.x * x + third.y * y
        np.testing.assert_allclose(there, states[1][name].numpy(), atol=1e-5)
    assert len(names) == len(order)
    assert abs(third.x) > 0.1
    average = network_marks(turned)[3]
    assert (average.x, average.y) == pytest.approx(((1 + third.x) / 3, third.y / 3))


def test_a_network_whose_place_an_earlier_version_does_not_record_is_not_marked():
    grid = Grid.parse("0:1:3", "0:1:3")
    command = "plot_surface.py --model_file a.pt --model_file2 b.pt --model_file3 c.pt"
    for more, names in (("", ["a", "b", "c", "average of the three"]), (" --orthogonalize", ["a", "b"])):
        surface = Surface.of_values(grid, ["train_loss"], about={"command": command + more})
        assert [each.name for each in network_marks(surface)] == names


TRANSPOSED = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.ConvTranspose2d(1, 3, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))

def data():
    g = torch.Generator().manual_seed(1)
    return torch.randn(12, 1, 2, 2, generator=g), torch.randint(3, (12,), generator=g)
"""


def test_directions_of_the_earlier_filter_rule_stay_what_they_are_and_new_ones_say_theirs(
    tmp_path, capsys, monkeypatch
):
    """The file's numbers are used, and no second direction of the new rule is put beside them."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(TRANSPOSED)
    line = [
        "--model",
        "own.py:net",
        "--dataset",
        "own.py:data",
        "--xnorm",
        "filter",
        "--xignore",
        "biasbn",
        "--x=-1:1:3",
    ]
    assert plot_surface.main([*line, "--surf_file", "new.h5"]) == 0
    file = next(path for path in Path().glob("*.h5") if path.name != "new.h5")
    made = read_directions(file)
    assert "norm=filter by output channel" in made.about["x"]
    weight = net_of(TRANSPOSED)[0].weight.detach()
    np.testing.assert_allclose(
        np.sqrt((made.x[0] ** 2).sum((0, 2, 3))), weight.transpose(0, 1).flatten(1).norm(dim=1), rtol=1e-5
    )
    generator = torch.Generator().manual_seed(1)
    old = [torch.randn(array.shape, generator=generator).numpy() for array in made.x]
    about = {**made.about, "x": made.about["x"].replace(" by output channel", "")}
    write_directions(file, replace(made, x=old, about=about))
    capsys.readouterr()
    for named in ([], ["--dir_file", str(file)]):
        assert plot_surface.main([*line, *named, "--surf_file", "old.h5"]) == 0
        assert "used as they are" in capsys.readouterr().out
    for kept, array in zip(read_directions("old.h5").x, old, strict=True):
        np.testing.assert_array_equal(kept, array)
    assert plot_surface.main([*line, "--surf_file", "new.h5"]) == 3  # computed along other directions
    assert plot_surface.main([*line, "--y=-1:1:3", "--surf_file", "two.h5"]) == 3
    assert "normalized differently" in capsys.readouterr().err
    np.testing.assert_array_equal(read_directions(file).x[0], old[0])
    rows = ["--repeat", "2", "--surf_file", "repeat.h5"]
    assert plot_surface.main([*line, *rows]) == 0
    assert all("by output channel" in row for row in read_surface("repeat.h5").request["rows"])


def net_of(source: str):
    found: dict = {}
    exec(source, found)
    return found["net"]()
