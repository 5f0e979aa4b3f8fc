"""hessian_spectrum.py against explicit Hessians; on several ranks: tests/mpi."""

import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LAST, write_checkpoint
from oracles import explicit_hessian, mean_cross_entropy

import lossatlas
from lossatlas import figures
from lossatlas.commands import hessian_spectrum, plot_spectrum
from lossatlas.data import as_loss
from lossatlas.datasets.registry import load
from lossatlas.errors import BadInput
from lossatlas.figures.spectrum_plots import density_figure
from lossatlas.hessian import Hessian
from lossatlas.io import Findings, read_findings, write_findings
from lossatlas.io.contents import describe, export
from lossatlas.jobs.curvature import spectrum_parts
from lossatlas.models import build, load_into, load_network, read_state


def command(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [
        *"--model mlp --dataset fashion_mnist_mini --limit 50 --model_file".split(),
        str(checkpoint),
        "--spectrum_file",
        str(out),
        *"--top 3 --threads 1".split(),
        *more,
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, perceptron) -> Path:
    """Everything there is, of the last layer."""
    out = tmp_path_factory.mktemp("whole") / "s.h5"
    more = ["--parameters", LAST, *"--layers --activations --probes 3 --steps 20 --trace_error 0.01".split()]
    assert hessian_spectrum.main(command(perceptron, out, *more, "--npz", str(out.with_suffix(".npz")), "--plot")) == 0
    return out


@pytest.fixture(scope="module")
def exact(perceptron, mini) -> np.ndarray:
    own = build("mlp", (1, 28, 28))
    load_into(own, read_state(perceptron), str(perceptron))
    return explicit_hessian(own.eval(), mean_cross_entropy(mini.inputs, mini.targets), ["5.weight", "5.bias"]).numpy()


def test_against_the_explicit_hessian(whole, exact):
    found, values = read_findings(whole).arrays, np.linalg.eigvalsh(exact)
    np.testing.assert_allclose(found["eigenvalues"], values[:-4:-1], rtol=1e-3)
    assert (found["residuals"] <= 1e-3 * found["eigenvalues"]).all()
    assert abs(float(found["min_eig"]) - values[0]) <= 1e-5 * values[-1]
    assert abs(float(found["trace"]) - values.sum()) <= 3 * float(found["trace_se"])
    assert float(found["trace_se"]) <= 0.01 * float(found["trace"])
    assert found["layers/trace"][0] == pytest.approx(float(found["trace"]))
    assert found["layers/max_eig"][0] == pytest.approx(values[-1], rel=1e-3)
    vectors = found["eigenvectors"][:3].astype(float)
    np.testing.assert_allclose(exact @ vectors.T, vectors.T * values[:-4:-1], atol=2e-3 * values[-1])
    known, low, high = found["effective_dimension"]
    assert known <= low * 1.001
    assert low <= (np.maximum(values, 0) / (np.maximum(values, 0) + 5e-4)).sum() <= high
    below, above = found["bounds"]
    assert below <= values[0] + 1e-5 * values[-1]
    assert above >= values[-1] * (1 - 1e-5)


@pytest.mark.pictures
def test_the_numpy_file_figures_and_description(whole):
    with np.load(whole.with_suffix(".npz")) as saved:
        np.testing.assert_array_equal(saved["pos_evals"][:3], read_findings(whole).arrays["eigenvalues"])
    for end in ("density", "layers", "activations"):
        assert Path(f"{whole}_{end}.png").stat().st_size > 1000
    assert "trace: " in describe(whole)
    export(whole, whole.with_name("all.npz"))
    with np.load(whole.with_name("all.npz")) as saved:
        np.testing.assert_array_equal(saved["density/grid"], read_findings(whole).arrays["density/grid"])
    assert plot_spectrum.main(["--spectrum_file", str(whole), "--out", str(whole.with_name("again"))]) == 0


def test_a_damaged_file_is_noticed(tmp_path, whole, capsys):
    broken = tmp_path / "s.h5"
    content = bytearray(whole.read_bytes())
    content[content.index(read_findings(whole).arrays["eigenvectors"].tobytes()[:64])] ^= 1
    broken.write_bytes(content)
    assert plot_spectrum.main(["--spectrum_file", str(broken)]) == 3
    assert "checksum" in capsys.readouterr().err


@pytest.mark.slow
def test_a_second_run_adds_what_is_missing(tmp_path, perceptron, capsys, exact):
    out = tmp_path / "s.h5"
    assert hessian_spectrum.main(command(perceptron, out, "--parameters", LAST)) == 0
    before = read_findings(out).arrays
    capsys.readouterr()
    more = ["--parameters", LAST, "--layers", "--trace_error", "0.01"]
    assert hessian_spectrum.main(command(perceptron, out, *more)) == 0
    said, after = capsys.readouterr().out, read_findings(out).arrays
    assert "eigenvalues: in the file already" in said
    assert "density: in the file already" in said
    np.testing.assert_array_equal(before["eigenvalues"], after["eigenvalues"])
    assert abs(float(after["trace"]) - np.trace(exact)) <= 3 * float(after["trace_se"])
    twelve = ["--parameters", LAST, "--top", "12"]
    assert hessian_spectrum.main(command(perceptron, out, *twelve)) == 0
    assert "density: in the file already" in capsys.readouterr().out
    kept = read_findings(out).arrays
    assert len(kept["eigenvalues"]) == 12
    fewer = ["--parameters", LAST, "--bottom", "0", "--top", "4", "--trace_error", "0.03", "--plot"]
    for line in (["--parameters", LAST, "--layers"], fewer):  # less is asked for: nothing is thrown away
        assert hessian_spectrum.main(command(perceptron, out, *line)) == 0
        np.testing.assert_array_equal(read_findings(out).arrays["eigenvectors"], kept["eigenvectors"])
    for more in (
        ["--bottom", "3"],
        ["--tolerance", "1e-5", "--top", "4"],
    ):  # computed again, together with what was there
        assert hessian_spectrum.main(command(perceptron, out, "--parameters", LAST, *more)) == 0
        found = read_findings(out).arrays
        assert (len(found["eigenvalues"]), len(found["smallest"]), len(found["eigenvectors"])) == (12, 3, 15)
    assert (found["residuals"] <= 1e-5 * found["eigenvalues"]).all()
    capsys.readouterr()
    assert hessian_spectrum.main(command(perceptron, out, "--parameters", LAST, "--seed", "9")) == 3
    assert "was made with seed = 0, now it is 9" in capsys.readouterr().err
    assert hessian_spectrum.main(command(perceptron, out, "--parameters", LAST, "--limit", "40")) == 3
    assert "data = " in capsys.readouterr().err


def test_what_is_not_resolved_is_not_called_so(tmp_path, perceptron, capsys):
    out = tmp_path / "s.h5"
    line = command(perceptron, out, "--parameters", LAST, "--most", "4", "--top", "2")
    assert hessian_spectrum.main([*line, "--npz", str(tmp_path / "s.npz")]) == 0
    said = capsys.readouterr().out
    assert "not resolved: more products with --max_products" in said
    assert "in " + str(tmp_path / "s.npz") + " are not resolved" in said
    found = read_findings(out)
    assert not found.arrays["converged"].all()
    with figures.style() as plt:
        labels = [line.get_label() for line in density_figure(plt, found).axes[0].get_lines()]
    assert "not resolved" in labels
    assert hessian_spectrum.main(command(perceptron, out, "--parameters", LAST, "--top", "2")) == 0  # a higher limit
    assert read_findings(out).arrays["converged"].all()


@pytest.mark.parametrize(
    ("more", "code", "line"),
    [
        (["--parameters", "nothing"], 2, "no parameter is called like nothing"),
        (["--activations", "nothing"], 2, "no layer is called like nothing"),
        (["--npz", "out.txt"], 2, "has to end in .npz"),
        (["--spectrum_file", "/missing/s.h5"], 3, "no folder /missing"),
        (["--spectrum_file", "/proc/s.h5"], 5, "cannot write /proc/s.h5"),
        (["--trace_error", "0"], 2, "is not above 0"),
        (["--split", "both"], 2, "invalid choice"),
        (["--model", "resnet20"], 3, "of another architecture"),
        (["--compile"], 2, "only a folded network can be compiled"),
        (["--cuda"], 2, "no CUDA device"),
    ],
)
def test_bad_input_is_one_line(tmp_path, perceptron, capsys, more, code, line):
    if more == ["--cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    try:
        found = hessian_spectrum.main(command(perceptron, tmp_path / "s.h5", *more))
    except SystemExit as error:
        found = error.code
    assert found == code
    message = capsys.readouterr().err
    assert line in message
    assert message.count("\n") == 1


def test_a_random_network_is_refused(tmp_path, capsys, monkeypatch):
    from torch import nn

    from lossatlas import models
    from lossatlas.jobs.inputs import named_inputs as inputs

    class Noisy(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + torch.randn(len(x), 10)

    def noisy(*_):
        return Noisy(nn.Flatten(), nn.Linear(784, 10))

    monkeypatch.setattr(models, "build", noisy)
    monkeypatch.setattr(inputs, "network_for", noisy)
    models.save_state(tmp_path / "noisy.safetensors", noisy())
    assert hessian_spectrum.main(command(tmp_path / "noisy.safetensors", tmp_path / "s.h5")) == 3
    assert "random" in capsys.readouterr().err


@pytest.mark.commands
def test_a_signal_keeps_what_is_finished(tmp_path, perceptron):
    import os
    import signal
    import subprocess
    import time

    from conftest import ROOT

    out = tmp_path / "s.h5"
    args = command(perceptron, out, "--probes", "200", "--steps", "200")
    run = subprocess.Popen(
        [sys.executable, "hessian_spectrum.py", *args],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 600  # against a hang
    while not (out.exists() and "trace" in read_findings(out).arrays):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGTERM)
    assert "stopped by SIGTERM in the part 'density'" in run.communicate(timeout=600)[1]
    assert run.returncode == 4
    assert hessian_spectrum.main(command(perceptron, out)) == 0
    assert "density/grid" in read_findings(out).arrays


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")
def test_on_a_device(tmp_path, perceptron, whole):
    out = tmp_path / "s.h5"
    assert hessian_spectrum.main(command(perceptron, out, "--parameters", LAST, "--activations", "--cuda")) == 0
    found, expected = (read_findings(file).arrays["eigenvalues"] for file in (out, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


EVERY_PART = spectrum_parts.SpectrumSettings(top=2, bottom=1, max_trace_products=12, probes=2, steps=10, layers=True)
FRESH = Findings({}, {"loss": "crossentropy"})


@pytest.fixture(scope="module")
def operator(networks, mini) -> Hessian:
    return Hessian(networks["mlp"], mini, as_loss("crossentropy"), parameters=[r"^5\."], batch_size=16)


@pytest.fixture(scope="module")
def every_part(operator) -> Findings:
    return spectrum_parts.compute_parts(operator, EVERY_PART, FRESH)


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("small_basis", [10**9, 0])
@pytest.mark.parametrize("part", ["trace", "density", "layers"])
def test_a_spectrum_that_was_killed_between_parts_has_the_same_bits(
    tmp_path, monkeypatch, operator, every_part, part, small_basis
):
    """What the trace and the density take over from the eigenvalues is saved with them, or computed again."""
    monkeypatch.setattr(spectrum_parts, "SMALL_BASIS", small_basis)

    @contextmanager
    def killed(name):
        if name == part:
            raise KeyboardInterrupt
        yield lambda count, error: None

    file = tmp_path / "s.h5"
    with pytest.raises(KeyboardInterrupt):
        spectrum_parts.compute_parts(
            operator, EVERY_PART, FRESH, during=killed, save=lambda found: write_findings(file, found)
        )
    there = read_findings(file)
    computed = []
    again = spectrum_parts.compute_parts(operator, EVERY_PART, there, during=lambda name: seen(computed, name))
    assert every_part.arrays.keys() == again.arrays.keys()
    for name, array in every_part.arrays.items():
        assert np.array_equal(array, again.arrays[name], equal_nan=True), name
    assert not [name for name in every_part.arrays if name in spectrum_parts.BASIS]  # it does not stay
    assert ("eigenvalues" in computed) == (part == "trace" and small_basis == 0)


def test_findings_give_eigenpairs_in_the_order_of_a_whole_decomposition(operator):
    """The smallest eigenvalues are stored from the outside too; all of them together fall, as the vectors do."""
    wanted = spectrum_parts.SpectrumSettings(top=3, bottom=2, max_trace_products=3, probes=1, steps=5)
    found = spectrum_parts.compute_parts(operator, wanted, Findings({}, {"loss": "crossentropy"}))
    values, residuals, resolved = found.eigenpairs()
    assert len(values) == len(residuals) == len(resolved) == 5
    assert (np.diff(values) <= 0).all()
    assert resolved.dtype == bool
    for number, value in enumerate(values):
        pieces = found.vector(number)
        assert {name: piece.shape for name, piece in pieces.items()} == {
            name: tuple(shape) for name, shape in zip(operator.names, operator.shapes, strict=True)
        }
        vector = torch.cat([torch.from_numpy(piece).flatten() for piece in pieces.values()])
        off = float((operator(vector) - value * vector).norm())
        assert off == pytest.approx(residuals[number], rel=0.05, abs=1e-5)
    assert [len(each) for each in Findings({}, {}).eigenpairs()] == [0, 0, 0]


def by_command(perceptron: Path, out: Path, *more: str) -> int:
    own = "--trace_most 12 --probes 2 --steps 10 --batch_size 16 --parameters".split()
    return hessian_spectrum.main(command(perceptron, out, *own, LAST, *more))


def by_python(perceptron: Path, out: Path) -> None:
    lossatlas.spectrum(
        load_network("mlp", perceptron, (1, 28, 28)),
        load("fashion_mnist_mini", "train", limit=50).samples,  # tensors, without a number of classes
        top=3,
        max_trace_products=12,
        probes=2,
        steps=10,
        batch_size=16,
        only=[LAST],
        file=out,
        progress=False,
    )


@pytest.fixture(scope="module")
def by_one_command(tmp_path_factory, perceptron) -> Path:
    out = tmp_path_factory.mktemp("by_command") / "s.h5"
    assert by_command(perceptron, out) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begins", "continues"), [(by_command, by_python), (by_python, by_command)], ids=["Python", "the command"]
)
@pytest.mark.filterwarnings("ignore:stopped")
def test_a_spectrum_begun_by_the_other_front_end_is_continued_to_the_same_bits(
    tmp_path, perceptron, monkeypatch, by_one_command, begins, continues
):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    out = tmp_path / "s.h5"
    with monkeypatch.context() as patch:
        patch.setattr(spectrum_parts, "density", interrupted)
        begins(perceptron, out)
    before = read_findings(out)
    assert "trace" in before.arrays
    assert "density/grid" not in before.arrays
    continues(perceptron, out)
    found, wanted = read_findings(out), read_findings(by_one_command)
    assert found.request == before.request  # the command's holds the names of the data set and the network, too
    assert found.plan == wanted.plan
    assert found.arrays.keys() == wanted.arrays.keys()
    assert [name for name, array in wanted.arrays.items() if array.tobytes() != found.arrays[name].tobytes()] == []


def test_a_spectrum_of_other_things_is_refused_by_both_front_ends(tmp_path, perceptron, by_one_command, capsys):
    for name in ("s.h5", "t.h5"):
        shutil.copy(by_one_command, tmp_path / name)
    other = write_checkpoint(tmp_path / "other.safetensors", "mlp", seed=1)
    assert by_command(other, tmp_path / "s.h5") == 3
    assert "checkpoint = " in capsys.readouterr().err
    net, data = load_network("mlp", perceptron, (1, 28, 28)), load("fashion_mnist_mini", "train", limit=40)
    with pytest.raises(BadInput, match="data = "):
        lossatlas.spectrum(net, data, only=[LAST], file=tmp_path / "t.h5", progress=False)
    with pytest.raises(BadInput, match="loss = crossentropy, now it is mse"):
        data = (torch.zeros(50, 1, 28, 28), torch.zeros(50, 10))
        lossatlas.spectrum(net, data, loss="mse", only=[LAST], file=tmp_path / "t.h5", progress=False)


def test_a_file_of_an_earlier_version_is_continued(tmp_path, perceptron, by_one_command):
    """It records neither the loss of some samples nor the digest of the samples alone."""
    out = tmp_path / "s.h5"
    found = read_findings(by_one_command)
    request = {name: value for name, value in found.request.items() if not name.endswith("samples")}
    assert len(request) == len(found.request) - 2
    write_findings(out, replace(found, request=request))
    assert by_command(perceptron, out, "--layers") == 0
    again = read_findings(out)
    assert again.request == request
    assert "layers/max_eig" in again.arrays


@contextmanager
def seen(names, name):
    names.append(name)
    yield lambda count, error: None


def test_where_every_eigenvalue_is_known_the_effective_dimension_is_exact():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    net = torch.nn.Linear(3, 1).double()
    options = {"top": 3, "bottom": 1, "tolerance": 1e-9, "damping": 1e-1, "progress": False}
    found = lossatlas.spectrum(net, (x, x.sum(1, keepdim=True)), loss="mse", **options)
    rows = torch.cat([x, torch.ones(20, 1)], dim=1).numpy()
    values = np.linalg.eigvalsh(2 / 20 * rows.T @ rows)
    expected = (values / (values + 1e-1)).sum()
    np.testing.assert_allclose(found.findings.arrays["effective_dimension"], [expected] * 3, rtol=1e-7)
    assert found.findings.arrays["effective_dimension_estimate"][1] == 0
