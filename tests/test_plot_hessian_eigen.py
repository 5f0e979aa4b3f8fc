"""Eigenvalue maps against explicit Hessians; the same bits after kills; on several ranks: tests/mpi."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from binomial import counts
from conftest import LAST, surface_command, write_checkpoint
from oracles import explicit_hessian, mean_cross_entropy

import lossatlas
from lossatlas import figures
from lossatlas.commands import plot_1D, plot_2D, plot_hessian_eigen, plot_surface
from lossatlas.commands.figure_output import FigureOutput
from lossatlas.data import LOSSES
from lossatlas.data.drawn_targets import TargetDraws
from lossatlas.figures.kinds import Kind
from lossatlas.figures.line_plots import AxisLimits, eigenvalues_figure
from lossatlas.figures.matplotlib_style import style
from lossatlas.hessian import GaussNewton
from lossatlas.io import read_directions, read_surface, write_surface
from lossatlas.jobs.sweep.eigenvalue_quantity import FIELDS
from lossatlas.landscape import Grid, Surface, unresolved
from lossatlas.models import build, load_into, read_state
from lossatlas.parameter_space import AffinePlane, as_point, moved, tensors


def command(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [
        *"--model mlp --dataset fashion_mnist_mini --limit 50 --model_file".split(),
        str(checkpoint),
        "--surf_file",
        str(out),
        "--dir_file",
        str(out.with_name("directions.h5")),
        *"--xnorm filter --ynorm filter --xignore biasbn --yignore biasbn --parameters".split(),
        LAST,
        *"--threads 1".split(),
        *more,
    ]


PLANE = ["--x=-1:1:3", "--y=-1:1:2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, perceptron) -> Path:
    out = tmp_path_factory.mktemp("alone") / "e.h5"
    assert plot_hessian_eigen.main(command(perceptron, out, *PLANE, "--plot")) == 0
    return out


def test_against_the_explicit_hessian_at_every_cell(alone, perceptron, mini):
    own = build("mlp", (1, 28, 28))
    load_into(own, read_state(perceptron), str(perceptron))
    own.eval().requires_grad_(False)
    directions = read_directions(alone.with_name("directions.h5"))
    plane = AffinePlane(tensors(own), *(as_point(d, own, "weights", "it") for d in (directions.x, directions.y)))
    surface = read_surface(alone)
    for cell in range(surface.grid.size):
        with moved(own, plane.point(*surface.grid.point(cell))):
            values = np.linalg.eigvalsh(
                explicit_hessian(own, mean_cross_entropy(mini.inputs, mini.targets), ["5.weight", "5.bias"]).numpy()
            )
        for name, value in (("max_eig", values[-1]), ("min_eig", values[0])):
            found, residual = (surface.fields[f"{name}{end}"].flat[cell] for end in ("", "_residual"))
            assert abs(found - value) <= 1.01 * residual + 1e-5 * values[-1]
    assert (surface.fields["max_eig_residual"] <= 1e-2 * surface.fields["max_eig"]).all()


def test_a_resumed_map_has_the_same_bits(tmp_path, perceptron, alone, capsys):
    out, whole = tmp_path / "e.h5", read_surface(alone)
    shutil.copy(alone.with_name("directions.h5"), tmp_path / "directions.h5")
    done = whole.done.copy()
    done.flat[[1, 4]] = False
    values = {name: np.where(done, value, np.nan) for name, value in whole.values.items()}
    write_surface(out, replace(whole, done=done, values=values), tmp_path / "directions.h5")
    assert plot_hessian_eigen.main(command(perceptron, out, *PLANE)) == 0
    assert "4 of 6 cells done" in capsys.readouterr().out
    for name in FIELDS:
        np.testing.assert_array_equal(read_surface(out).fields[name], whole.fields[name])


@pytest.mark.parametrize("cells", counts(5, 17))
def test_every_cell_of_a_path_between_two_networks_has_the_extreme_eigenvalues(tmp_path, mini, cells):
    """A map between two networks, where eigenvalues overtake each other, against explicit Hessians."""
    files = [write_checkpoint(tmp_path / f"{seed}.safetensors", "mlp", seed) for seed in (1, 2)]
    out = tmp_path / "e.h5"
    more = ["--model_file2", str(files[1]), f"--x=-0.5:1.5:{cells}"]
    line = [part for part in command(files[0], out, *more) if part not in ("--xnorm", "--ynorm", "filter")]
    assert plot_hessian_eigen.main([p for p in line if p not in ("--xignore", "--yignore", "biasbn")]) == 0
    surface, own = read_surface(out), build("mlp", (1, 28, 28))
    load_into(own, read_state(files[0]), str(files[0]))
    own.eval().requires_grad_(False)
    direction = read_directions(out.with_name("directions.h5")).x
    plane = AffinePlane(
        {name: value.clone() for name, value in tensors(own).items()}, as_point(direction, own, "weights", "it")
    )
    for cell in range(surface.grid.size):
        with moved(own, plane.point(*surface.grid.point(cell))):
            values = np.linalg.eigvalsh(
                explicit_hessian(own, mean_cross_entropy(mini.inputs, mini.targets), ["5.weight", "5.bias"]).numpy()
            )
        found = {name: array.flat[cell] for name, array in surface.fields.items()}
        assert found["max_eig"] == pytest.approx(values[-1], rel=1e-2)
        assert found["min_eig"] == pytest.approx(values[0], rel=1e-2, abs=4e-6 * values[-1])
        assert found["max_eig_bound"] >= values[-1] * (1 - 1e-5)
        assert found["min_eig_bound"] <= values[0] + 1e-5 * values[-1]
    assert not unresolved(surface, "max_eig").any()
    assert not unresolved(surface, "min_eig").any()


@pytest.mark.full
def test_files_of_earlier_versions_are_drawn_unresolved_and_not_continued(tmp_path, perceptron, alone, capsys):
    out, whole = tmp_path / "e.h5", read_surface(alone)
    shutil.copy(alone.with_name("directions.h5"), tmp_path / "directions.h5")
    values = {name: value for name, value in whole.values.items() if not name.endswith("_bound")}
    write_surface(out, replace(whole, values=values), tmp_path / "directions.h5")
    assert unresolved(read_surface(out), "max_eig").all()
    assert plot_2D.main(["--surf_file", str(out)]) == 0
    assert plot_hessian_eigen.main(command(perceptron, out, *PLANE)) == 3
    assert "lacks max_eig_bound: an earlier version made it" in capsys.readouterr().err


def test_fewer_products_are_not_taken_for_more(tmp_path, perceptron, capsys):
    out = tmp_path / "e.h5"
    line = command(perceptron, out, "--x=0:0:1")
    assert plot_hessian_eigen.main([*line, "--most", "3"]) == 0
    assert "max_eig is not resolved at 1 of 1 cells" in capsys.readouterr().out
    assert plot_hessian_eigen.main([*line, "--most", "300"]) == 3
    assert "was made with --max_products = 3, now it is 300" in capsys.readouterr().err


def test_other_work_under_the_name_is_refused(tmp_path, perceptron, alone, capsys):
    out = tmp_path / "e.h5"
    shutil.copy(alone, out)
    shutil.copy(alone.with_name("directions.h5"), tmp_path / "directions.h5")
    for more in (["--tolerance", "0.1"], ["--matrices_only"], ["--loss_name", "mse"], ["--precision", "float64"]):
        assert plot_hessian_eigen.main(command(perceptron, out, *PLANE, *more)) == 3
        assert more[0].strip("-").removesuffix("_name") in capsys.readouterr().err


@pytest.mark.full
def test_a_file_of_the_original_is_not_continued(tmp_path, perceptron, capsys):
    import h5py

    out = tmp_path / "e.h5"
    with h5py.File(out, "w") as f:
        f["xcoordinates"], f["ycoordinates"] = np.linspace(-1, 1, 3), np.linspace(-1, 1, 2)
        f["min_eig"], f["max_eig"] = np.full((2, 3), -0.5), np.ones((2, 3))
    assert plot_hessian_eigen.main(command(perceptron, out, *PLANE)) == 3
    assert "sums over batches" in capsys.readouterr().err
    assert plot_2D.main(["--surf_file", str(out)]) == 0  # but drawn


def test_the_flag_of_the_original_leaves_out_parameters_with_one_axis(tmp_path, perceptron, mini):
    out = tmp_path / "e.h5"
    assert plot_hessian_eigen.main(command(perceptron, out, "--x=0:0:1", "--matrices_only", "--tolerance", "1e-4")) == 0
    own = build("mlp", (1, 28, 28))
    load_into(own, read_state(perceptron), str(perceptron))
    values = np.linalg.eigvalsh(
        explicit_hessian(own.eval(), mean_cross_entropy(mini.inputs, mini.targets), ["5.weight"]).numpy()
    )
    assert read_surface(out).fields["max_eig"][0] == pytest.approx(values[-1], rel=1e-5)


def test_points_that_are_not_finite_are_values(tmp_path, perceptron, capsys):
    out = tmp_path / "e.h5"
    line = command(perceptron, out, "--x=-1e30:1e30:3", "--y=0:0:1", "--dir_file", str(tmp_path / "far.h5"))
    assert plot_hessian_eigen.main(line) == 0
    assert "the Hessian is not finite at (-1e+30, 0)" in capsys.readouterr().out
    found = read_surface(out)
    assert found.done.all()
    assert np.isfinite(found.fields["max_eig"]).tolist() == [[False, True, False]]


def test_figures_and_the_mask_where_the_largest_is_not_resolved(tmp_path, alone, perceptron):
    for end in ("max_eig_2dcontour", "min_eig_2dheat", "min_eig_max_eig_abs_ratio_heat_sns"):
        assert Path(f"{alone}_{end}.png").stat().st_size > 1000
    grid = Grid(np.arange(4.0))
    rows = np.array(
        [
            [4.0, -1.0, 0.01, 0.01, 4.0, -1.0, 9],
            [4.0, -1.0, 1.0, 0.01, 4.0, -1.0, 9],
            [-4.0, -5.0, 0.01, 0.01, -4.0, -5.0, 9],
            [4.0, -1.0, 0.01, 0.01, 4.5, -1.0, 9],
        ]
    )
    surface = Surface.of_values(grid, FIELDS, request={"tolerance": 0.01}).with_cells(range(4), rows)
    np.testing.assert_array_equal(figures.eigen_ratio(surface), [0.25, np.nan, np.nan, np.nan])
    write_surface(tmp_path / "curve.h5", surface)
    assert plot_1D.main(["--surf_file", str(tmp_path / "curve.h5")]) == 0
    assert Path(f"{tmp_path / 'curve.h5'}_1d_eig.png").exists()
    assert Path(f"{tmp_path / 'curve.h5'}_1d_eig_ratio.png").exists()


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")
def test_on_a_device(tmp_path, perceptron, alone):
    assert plot_hessian_eigen.main(command(perceptron, tmp_path / "e.h5", *PLANE, "--cuda")) == 0
    found, expected = (read_surface(file).fields["max_eig"] for file in (tmp_path / "e.h5", alone))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_statistics_that_would_be_negative_are_set_to_zero_and_said(tmp_path, capsys):
    net = write_checkpoint(tmp_path / "conv.safetensors", "resnet20")
    line = [
        *"--model resnet20 --dataset fashion_mnist_mini --limit 8 --model_file".split(),
        str(net),
        *"--dir_type states --x=-3:0:2 --parameters linear --surf_file".split(),
        str(tmp_path / "e.h5"),
        *"--most 5 --dir_file".split(),
        str(tmp_path / "d.h5"),
    ]
    assert plot_hessian_eigen.main(line) == 0
    assert "variances were negative at (-3, 0)" in capsys.readouterr().out


def dense_matrix(operator) -> np.ndarray:
    return torch.stack([operator(unit) for unit in torch.eye(operator.size, dtype=operator.dtype)]).double().numpy()


@pytest.mark.few(1)
@pytest.mark.parametrize("matrix", ["ggn", "mc_fisher", "empirical_fisher"])
def test_the_largest_eigenvalue_of_another_matrix_at_every_cell(tmp_path, perceptron, mini, matrix):
    out = tmp_path / "e.h5"
    assert plot_hessian_eigen.main(command(perceptron, out, *PLANE, "--matrix", matrix, "--plot")) == 0
    assert list(tmp_path.glob(f"e.h5_{matrix}_max_eig_2dcontour.pdf"))
    surface, own = read_surface(out), build("mlp", (1, 28, 28))
    load_into(own, read_state(perceptron), str(perceptron))
    own.eval()
    directions = read_directions(tmp_path / "directions.h5")
    plane = AffinePlane(tensors(own), *(as_point(d, own, "weights", "it") for d in (directions.x, directions.y)))
    assert list(surface.fields) == [f"{matrix}_max_eig{end}" for end in ("", "_residual", "_bound")] + ["products"]
    for cell in range(surface.grid.size):
        with moved(own, plane.point(*surface.grid.point(cell))):
            there = GaussNewton(
                own, mini, LOSSES["crossentropy"], matrix=matrix, draws=TargetDraws(1, 123), parameters=LAST
            )
            value = np.linalg.eigvalsh(dense_matrix(there))[-1]
        assert surface.fields[f"{matrix}_max_eig"].flat[cell] == pytest.approx(value, rel=1e-2)
        assert surface.fields[f"{matrix}_max_eig_bound"].flat[cell] >= value * (1 - 1e-5)
    assert not unresolved(surface, f"{matrix}_max_eig").any()
    assert plot_hessian_eigen.main(command(perceptron, out, *PLANE)) != 0


def test_the_map_of_a_hessian_and_of_its_gauss_newton_matrix_in_one_figure(tmp_path, perceptron, capsys):
    files = [tmp_path / "h" / "e.h5", tmp_path / "g" / "e.h5"]
    for file, more in zip(files, ([], ["--matrix", "ggn"]), strict=True):
        file.parent.mkdir()
        assert plot_hessian_eigen.main(command(perceptron, file, "--x=-1:1:3", *more, "--plot")) == 0
    assert "ggn_max_eig" in capsys.readouterr().out
    surfaces = [read_surface(file) for file in files]
    with style() as plt:
        both = eigenvalues_figure(plt, surfaces, ["a", "b"], AxisLimits())
        alone = eigenvalues_figure(plt, surfaces[1:], ["b"], AxisLimits())
    largest, smallest = ([line.get_label() for line in axis.lines] for axis in both.axes)
    assert largest == ["a: Hessian", "b: Gauss-Newton matrix"]
    assert "b: Gauss-Newton matrix" not in smallest
    assert [axis.get_ylabel() for axis in alone.axes] == ["largest eigenvalue\nof the Gauss-Newton matrix"]
    assert plot_1D.main(["--surf_file", *map(str, files)]) == 0


def test_files_of_eigenvalues_and_of_losses_are_drawn_each_in_its_figure(tmp_path, perceptron, capsys, monkeypatch):
    losses, eigenvalues = tmp_path / "loss.h5", tmp_path / "e.h5"
    assert plot_surface.main(surface_command(perceptron, losses, "--x=-1:1:3", model="mlp")) == 0
    assert plot_hessian_eigen.main(command(perceptron, eigenvalues, "--x=-1:1:3")) == 0
    drawn: dict = {}
    monkeypatch.setattr(FigureOutput, "save", lambda self, figures, *a, **k: drawn.update(figures) or [])
    for files in ([losses, eigenvalues], [eigenvalues, losses]):
        drawn.clear()
        assert plot_1D.main(["--surf_file", *map(str, files)]) == 0
        assert {*drawn} == {Kind.CURVES, Kind.CURVE_EIGENVALUES, Kind.CURVE_RATIO}
        loss_axis = drawn[Kind.CURVES].axes[0]
        assert [line.get_label() for line in loss_axis.lines] == ["loss.h5"]
        np.testing.assert_allclose(loss_axis.lines[0].get_ydata(), read_surface(losses).fields["train_loss"])
        values = drawn[Kind.CURVE_EIGENVALUES].axes[0].lines[0].get_ydata()
        np.testing.assert_allclose(values, read_surface(eigenvalues).fields["max_eig"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--matrix", "ggn", "--compile"], "--compile is for the Hessian: leave it or --matrix ggn out"),
        (["--fisher_draws", "3"], "--fisher_draws 3 is for --matrix mc_fisher"),
    ],
)
def test_what_another_matrix_does_not_have_is_refused(tmp_path, perceptron, capsys, more, message):
    assert plot_hessian_eigen.main(command(perceptron, tmp_path / "e.h5", *PLANE, *more)) == 2
    assert message in capsys.readouterr().err


def test_a_map_from_python(tmp_path, perceptron, mini):
    net = build("mlp", (1, 28, 28))
    load_into(net, read_state(perceptron), str(perceptron))
    line = {"x": "-1:1:3", "matrix": "ggn", "only": LAST, "norm": "filter", "progress": False}
    found = lossatlas.eigenvalues(net, mini, **line)
    assert next(iter(found.fields)) == "ggn_max_eig"
    assert found.plot() is not None
