"""Spectra of several matrices in one figure: the bars against dense matrices, and what the command refuses."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import seeded
from torch import nn

import lossatlas
from lossatlas import figures
from lossatlas.commands import plot_spectrum
from lossatlas.data import LOSSES, Dataset
from lossatlas.errors import BadUsage
from lossatlas.figures.spectra_plots import explained_part, spectra_figure
from lossatlas.hessian import GaussNewton, Hessian
from lossatlas.io import read_findings
from lossatlas.io.spectrum_files import write_findings

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(1))
SIZE = 4 * 6 + 6 + 6 * 3 + 3


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("spectra")
    found = {name: folder / f"{name}.h5" for name in ("hessian", "ggn", "empirical_fisher")}
    for matrix, file in found.items():
        lossatlas.spectrum(network(), (X, LABELS), top=5, matrix=matrix, probes=2, file=file, progress=False)
    lossatlas.spectrum(network(), (X[:20], LABELS[:20]), top=5, matrix="ggn", file=folder / "other.h5", progress=False)
    return found | {"other": folder / "other.h5"}


def dense(operator) -> np.ndarray:
    return torch.stack([operator(unit) for unit in torch.eye(operator.size)]).double().numpy()


def test_the_part_in_the_gauss_newton_matrix_against_dense_matrices(files):
    data = Dataset("it", "train", (X, LABELS), 3)
    h = dense(Hessian(network(), data, LOSSES["crossentropy"]))
    g = dense(GaussNewton(network(), data, LOSSES["crossentropy"], matrix="ggn"))
    values, vectors = np.linalg.eigh(h)
    parts, axes = np.linalg.eigh(g)
    for order in (["hessian", "ggn"], ["ggn", "hessian"]):
        part = explained_part([read_findings(files[name]) for name in order])
        n = len(part.eigenvalues)
        np.testing.assert_allclose(part.eigenvalues, values[::-1][:n], rtol=1e-4)
        along = (axes[:, ::-1][:, : part.vectors].T @ vectors[:, ::-1][:, :n]) ** 2
        np.testing.assert_allclose(part.least, parts[::-1][: part.vectors] @ along, rtol=1e-3)
        whole = np.einsum("pn,pq,qn->n", vectors, g, vectors)[::-1][:n]
        assert (part.least <= whole * (1 + 1e-4)).all()
        assert part.least[0] > 0.5 * whole[0]


def test_the_function_takes_results_and_refuses_too_few_labels(files):
    found = lossatlas.Curvature(read_findings(files["hessian"]))
    with plt.ioff():
        one = figures.spectra([found, read_findings(files["ggn"])], ["Hessian", "G"])
        assert len(one.axes) >= 1
        figures.spectrum(found)
    plt.close("all")
    with pytest.raises(BadUsage, match=r"labels=\['Hessian'\]: give a list of 2 names, one for each spectrum"):
        figures.spectra([found, found], ["Hessian"])
    with pytest.raises(BadUsage, match="str is no spectrum: give what"):
        figures.spectra(["a.h5", found], ["a", "b"])
    with pytest.raises(BadUsage, match="takes a list of spectra, not Curvature"):
        figures.spectra(found, ["a"])


def test_the_part_is_a_lower_bound_where_the_loss_is_not_convex(tmp_path):
    """The squared error of probabilities has a Gauss-Newton matrix with negative eigenvalues."""
    net, data = network(), Dataset("it", "train", (X, LABELS), 3)
    found = [
        lossatlas.spectrum(net, (X, LABELS), loss="mse", top=3, matrix=matrix, progress=False).findings
        for matrix in ("hessian", "ggn")
    ]
    g = dense(GaussNewton(net, data, LOSSES["mse"], matrix="ggn"))
    assert np.linalg.eigvalsh(g)[0] < 0
    part = explained_part(found)
    vectors = found[0].arrays["eigenvectors"][: len(part.eigenvalues)].astype(float)
    assert (part.least <= np.einsum("np,pq,nq->n", vectors, g, vectors) + 1e-6 * abs(g).max()).all()


@pytest.mark.parametrize(
    "names",
    [["hessian"], ["hessian", "empirical_fisher"], ["hessian", "other"], ["ggn", "ggn"], ["hessian", "hessian"]],
)
def test_there_is_no_such_part_of_other_matrices_and_other_data(files, names):
    assert explained_part([read_findings(files[name]) for name in names]) is None


def test_lines_of_spectra_differ_in_grey_too(files):
    found = [read_findings(files[name], "spectrum") for name in ("hessian", "ggn", "empirical_fisher")]
    with figures.style() as plt:
        density, counts = spectra_figure(plt, found, ["one", "two", "three"]).axes[:2]
    for axis in (density, counts):
        curves = [line for line in axis.lines if line.get_marker() == "None" and len(line.get_xdata()) > 2]
        assert len({str(line._dash_pattern) for line in curves}) == len(curves) == 3


@pytest.mark.pictures
@pytest.mark.parametrize("more", [[], ["--columns", "1", "--look", "dark", "--labels", "one", "two"]])
def test_the_command_draws_several_files_in_one_figure(files, tmp_path, more):
    out = tmp_path / "both"
    argv = ["-f", str(files["hessian"]), str(files["ggn"]), "--out", str(out), *more]
    assert plot_spectrum.main(argv) == 0
    assert Path(f"{out}_spectra.png").stat().st_size > 1000


def test_names_and_files_that_do_not_fit_are_refused(files, tmp_path, capsys):
    assert plot_spectrum.main(["-f", str(files["hessian"]), str(files["ggn"]), "--labels", "one"]) == 2
    assert "gives 1 name for 2 files" in capsys.readouterr().err
    write_findings(tmp_path / "few.h5", read_findings(files["hessian"]).without("density/grid"))
    assert plot_spectrum.main(["-f", str(files["ggn"]), str(tmp_path / "few.h5")]) == 3
    assert "holds no density yet" in capsys.readouterr().err
