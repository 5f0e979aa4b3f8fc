"""Everything with --cuda against the same on the CPU; on a machine with a device, and skipped elsewhere."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import LAST, MPIRUN, ROOT, python, surface_command, write_checkpoint

import lossatlas
from lossatlas.commands import hessian_spectrum, plot_hessian_eigen, plot_surface, train
from lossatlas.data import LOSSES
from lossatlas.datasets.registry import load
from lossatlas.evaluation import Evaluator, cuda_graphs, sample_storage
from lossatlas.io import read_findings, read_surface
from lossatlas.models import build, read_state
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PLANE = ["--x=-1:1:5", "--y=-0.5:0.5:3"]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("resnet") / "net.safetensors", "resnet20")


def command(net, out, *more, limit=300):
    return [
        *surface_command(net, out, *PLANE, "--dir_file", str(net.with_name("directions.h5")), model="resnet20"),
        "--limit",
        str(limit),
        *more,
    ]


def surface(net, out, *more, limit=300):
    assert plot_surface.main(command(net, out, *more, limit=limit)) == 0
    return read_surface(out)


@pytest.fixture(scope="module")
def on_the_cpu(resnet):
    return surface(resnet, resnet.with_name("cpu.h5"))


@pytest.fixture(scope="module")
def on_the_device(resnet):
    return surface(resnet, resnet.with_name("cuda.h5"), "--cuda")


def differences(found, wanted, field="train_loss"):
    return np.abs(found.fields[field] / wanted.fields[field] - 1).max()


def test_a_surface(on_the_cpu, on_the_device):
    assert differences(on_the_device, on_the_cpu) <= 1e-5
    assert np.abs(on_the_device.fields["train_acc"] - on_the_cpu.fields["train_acc"]).max() <= 100.5 / 300
    assert on_the_device.plan["device"] == "cuda"


@pytest.mark.parametrize(
    ("precision", "most"), [("float64", 1e-5), ("tf32", 1e-2), ("bfloat16", 0.1), ("float16", 2e-2)]
)
def test_precisions(tmp_path, resnet, on_the_cpu, precision, most):
    assert differences(surface(resnet, tmp_path / "s.h5", "--cuda", "--precision", precision), on_the_cpu) <= most


def test_batches_of_any_size(tmp_path, resnet, on_the_cpu):
    for size in ("7", "128", "100000"):
        found = surface(resnet, tmp_path / f"{size}.h5", "--cuda", "--batch_size", size)
        assert differences(found, on_the_cpu) <= 1e-5


def test_a_tolerance(tmp_path, resnet, on_the_cpu):
    wide = surface(resnet, tmp_path / "s.h5", "--cuda", "--tolerance", "0.05", limit=3000)
    same = surface(
        resnet, tmp_path / "cpu.h5", "--tolerance", "0.05", "--batch_size", str(wide.plan["batch_size"]), limit=3000
    )
    np.testing.assert_array_equal(wide.statistics["train"]["n"], same.statistics["train"]["n"])
    assert differences(wide, same) <= 1e-5


def test_statistics_of_batchnorm_move_too(tmp_path, resnet):
    own = ["--dir_type", "states", "--dir_file", str(tmp_path / "d.h5"), "--x=-0.2:0.2:3", "--y=-0.2:0.2:3"]
    found, wanted = (surface(resnet, tmp_path / f"{k}.h5", *own, *more) for k, more in enumerate((["--cuda"], [])))
    assert differences(found, wanted) <= 1e-5


def test_both_splits(tmp_path, resnet):
    found, wanted = (
        surface(resnet, tmp_path / f"{k}.h5", "--split", "both", *more) for k, more in enumerate((["--cuda"], []))
    )
    for field in ("train_loss", "test_loss"):
        assert differences(found, wanted, field) <= 1e-5


def test_samples_that_are_read_when_needed(tmp_path, resnet, on_the_cpu, monkeypatch):
    assert differences(surface(resnet, tmp_path / "a.h5", "--cuda", "--stream", "always"), on_the_cpu) <= 1e-5
    monkeypatch.setattr(sample_storage, "FULL", 0.0)  # nothing fits on the device, and nothing is kept there
    assert differences(surface(resnet, tmp_path / "b.h5", "--cuda"), on_the_cpu) <= 1e-5
    found = surface(resnet, tmp_path / "c.h5", "--cuda", "--tolerance", "0.05")
    monkeypatch.undo()
    wanted = surface(resnet, tmp_path / "d.h5", "--cuda", "--tolerance", "0.05")
    assert differences(found, wanted) <= 1e-6


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_that_share_a_device_have_the_same_bits(tmp_path, resnet, on_the_device, ranks):
    out = tmp_path / "s.h5"
    run = python("plot_surface.py", *command(resnet, out, "--cuda", "--mpi"), launcher=[MPIRUN, "-n", ranks])
    assert run.returncode == 0, run.stderr
    found = read_surface(out)
    if found.plan["batch_size"] == on_the_device.plan["batch_size"]:
        np.testing.assert_array_equal(found.fields["train_loss"], on_the_device.fields["train_loss"])
    assert differences(found, on_the_device) <= 1e-6


@pytest.mark.commands
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, resnet):
    own = ["--cuda", "--x=-1:1:40", "--y=-1:1:40", "--batch_size", "64"]
    out = tmp_path / "stopped.h5"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "plot_surface.py"), *command(resnet, out, *own)], cwd=ROOT, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if out.exists() and 0 < read_surface(out).done.sum() < 1600:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 4
    found = surface(resnet, out, *own)
    whole = surface(resnet, tmp_path / "whole.h5", *own)
    np.testing.assert_array_equal(found.fields["train_loss"], whole.fields["train_loss"])


def test_a_batch_that_does_not_fit_is_halved(tmp_path, resnet, capsys):
    wanted = surface(resnet, tmp_path / "wanted.h5", "--cuda", "--batch_size", "500", limit=4000)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.4e9) / total)
        found = surface(resnet, tmp_path / "s.h5", "--cuda", "--batch_size", "4000", limit=4000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.plan["batch_size"] == 4000
    assert found.plan["halved"][0]["batch_size"] < 4000
    assert "out of memory on cuda:0: batch size" in capsys.readouterr().out
    assert differences(found, wanted) <= 1e-5


def test_graphs_and_single_calls_have_the_same_bits(mini, resnet, monkeypatch):
    net = build("resnet20", (1, 28, 28))
    net.load_state_dict(read_state(resnet))
    at = {name: value.clone() for name, value in tensors(net).items()}
    plane = AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))

    def evaluator():
        return Evaluator(net, plane, {"train": mini}, LOSSES["crossentropy"], batch_size=16, device="cuda")

    captured, points = evaluator(), [(0.0, 0.0), (0.3, -0.2), (-1.0, 1.0)]
    found = captured(points)
    assert captured.graphs.supported
    assert captured.graphs.graphs
    monkeypatch.setattr("lossatlas.evaluation.evaluator.MAX_GRAPHS", 1)
    single = evaluator()
    np.testing.assert_array_equal(single(points), found)
    assert not single.graphs.graphs
    assert cuda_graphs.MAX_GRAPHS > 1


def test_a_network_that_cannot_be_captured_is_computed_all_the_same(capsys):
    class Asking(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, inputs):
            out = self.layer(inputs)
            return out if float(out.detach().sum()) < 1e30 else out * 2  # a synchronization

    torch.manual_seed(0)
    net, data = Asking(), (torch.randn(64, 4), torch.randint(0, 3, (64,)))
    found, wanted = (
        lossatlas.surface(net, data, x="-1:1:5", y="-1:1:5", device=device).fields["train_loss"]
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_curvature(tmp_path, perceptron):
    lines = {
        "spectrum": ["--top", "3", "--bottom", "1", "--trace_most", "20", "--parameters", LAST, "--layers"],
        "eigenvalues": ["--x=-1:1:3", "--y=-1:1:3", "--parameters", LAST],
    }
    common = [*"--model mlp --dataset fashion_mnist_mini --limit 100 --model_file".split(), str(perceptron)]
    for device in ("cpu", "cuda"):
        more = ["--cuda"] * (device == "cuda")
        own = [*common, *lines["spectrum"], "--spectrum_file", str(tmp_path / f"{device}.h5"), *more]
        assert hessian_spectrum.main(own) == 0
        files = ["--surf_file", str(tmp_path / f"{device}_map.h5"), "--dir_file", str(tmp_path / "d.h5")]
        assert plot_hessian_eigen.main([*common, *lines["eigenvalues"], *files, *more]) == 0
    found, wanted = (read_findings(tmp_path / f"{device}.h5").arrays for device in ("cuda", "cpu"))
    np.testing.assert_allclose(found["eigenvalues"][:3], wanted["eigenvalues"][:3], rtol=1e-3)
    np.testing.assert_allclose(found["trace"], wanted["trace"], rtol=1e-3)
    found, wanted = (read_surface(tmp_path / f"{device}_map.h5").fields["max_eig"] for device in ("cuda", "cpu"))
    np.testing.assert_allclose(found, wanted, rtol=2e-2)  # each is within 1e-2


@pytest.mark.mpi
def test_curvature_by_two_ranks(tmp_path, perceptron):
    common = [
        *"--model mlp --dataset fashion_mnist_mini --limit 100 --top 2 --cuda --model_file".split(),
        str(perceptron),
    ]
    for ranks in (0, 2):
        own = [*common, "--parameters", LAST, "--spectrum_file", str(tmp_path / f"{ranks}.h5")]
        launcher = [MPIRUN, "-n", ranks] if ranks else []
        run = python("hessian_spectrum.py", *own, *["--mpi"] * (ranks > 0), launcher=launcher)
        assert run.returncode == 0, run.stderr
    found, wanted = (read_findings(tmp_path / f"{ranks}.h5").arrays["eigenvalues"] for ranks in (2, 0))
    np.testing.assert_allclose(found[:2], wanted[:2], rtol=1e-5)


def test_from_python(mini):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))
    found, wanted = (lossatlas.surface(net, mini, x="-1:1:5", y="-1:1:3", device=device) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(found.fields["train_loss"], wanted.fields["train_loss"], rtol=1e-5)
    tops = [lossatlas.spectrum(net, mini, top=2, device=device).eigenvalues[:2] for device in ("cuda", "cpu")]
    np.testing.assert_allclose(*tops, rtol=1e-3)
    assert next(net.parameters()).device.type == "cpu"  # left as it was
    on_device = net.to("cuda")
    again = lossatlas.surface(on_device, load("fashion_mnist_mini", "train", limit=50), x="-1:1:5", y="-1:1:3")
    np.testing.assert_allclose(again.fields["train_loss"], wanted.fields["train_loss"], rtol=1e-5)


def test_training(tmp_path):
    own = "--model mlp --dataset fashion_mnist_mini --limit 500 --epochs 2 --batch_size 50 --cuda --out".split()
    assert train.main([*own, str(tmp_path / "net.safetensors")]) == 0
    assert read_state(tmp_path / "net.safetensors")
    surface_file = tmp_path / "s.h5"
    own = surface_command(tmp_path / "net.safetensors", surface_file, "--x=-1:1:3", "--cuda")
    assert plot_surface.main([*own, "--dir_file", str(tmp_path / "d.h5")]) == 0


def test_a_rehearsal_says_what_the_device_needs(tmp_path, resnet, capsys):
    assert plot_surface.main(command(resnet, tmp_path / "s.h5", "--cuda", "--dry_run")) == 0
    assert "on its device" in capsys.readouterr().out
    assert not (tmp_path / "s.h5").exists()


def test_provenance_names_the_device(on_the_device):
    assert torch.cuda.get_device_name(0) in str(on_the_device.about["computed_by"])


@pytest.mark.parametrize(
    "more",
    [
        ("--bn", "recalibrate", "--bn_samples", "200"),
        ("--bn", "recalibrate", "--bn_samples", "200", "--split", "test"),
        ("--bn", "recalibrate", "--bn_samples", "200", "--dir_type", "states", "--x=-0.2:0.2:3", "--y=-0.2:0.2:3"),
        ("--scheme", "linear2x", "--xnorm", "", "--ynorm", "", "--xignore", "", "--yignore", ""),
        ("--scheme", "barycentric", "--xnorm", "", "--ynorm", "", "--xignore", "", "--yignore", ""),
    ],
)
def test_other_ways_through_the_parameters(tmp_path, resnet, more):
    own = ("--dir_file", str(tmp_path / "d.h5"))
    found, wanted = (surface(resnet, tmp_path / f"{k}.h5", *more, *own, *c) for k, c in enumerate((["--cuda"], [])))
    assert differences(found, wanted, next(iter(found.fields))) <= 5e-5


@pytest.mark.parametrize("more", [("--repeat", "3"), ("--per_layer",)])
def test_rows_of_curves(tmp_path, resnet, more):
    lines = []
    for k, cuda in enumerate((["--cuda"], [])):
        own = surface_command(resnet, tmp_path / f"{k}.h5", "--x=-1:1:5", *more, *cuda, model="resnet20")
        assert (
            plot_surface.main([*own, *(["--dir_file", str(tmp_path / "d.h5")] if "--per_layer" in more else [])]) == 0
        )
        lines.append(read_surface(tmp_path / f"{k}.h5"))
    assert differences(*lines) <= 2e-5


def test_sharpness(tmp_path, resnet):
    from lossatlas.commands import sharpness

    found = []
    for k, cuda in enumerate((["--cuda"], [])):
        file = tmp_path / f"{k}.h5"
        own = (
            "--model resnet20 --dataset fashion_mnist_mini --limit 200 --rho 0.05 --adaptive_rho 0.2 --steps 3".split()
        )
        more = ["--model_file", str(resnet), "--sharpness_file", str(file), "--precision", "float64", *cuda]
        assert sharpness.main([*own, *more]) == 0
        found.append(read_findings(file, "sharpness").arrays)
    for name in ("plain/rises", "adaptive/rises", "critical"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-8)


def test_a_curve_of_low_loss(tmp_path):
    from lossatlas.commands import train_curve

    ends = [str(write_checkpoint(tmp_path / f"{seed}.safetensors", "resnet20", seed=seed)) for seed in (0, 1)]
    own = "--model resnet20 --dataset fashion_mnist_mini --limit 300 --epochs 1 --cuda".split()
    out = tmp_path / "bend.safetensors"
    assert train_curve.main([*own, "--model_file", ends[0], "--model_file2", ends[1], "--out", str(out)]) == 0
    more = ["--curve", "bezier", "--bend", str(out), "--bn", "recalibrate", "--model_file2", ends[1]]
    lines = []
    for k, cuda in enumerate((["--cuda"], [])):
        line = surface_command(ends[0], tmp_path / f"{k}.h5", "--x=0:1:5", *more, *cuda, model="resnet20")
        assert plot_surface.main(line) == 0
        lines.append(read_surface(tmp_path / f"{k}.h5"))
    assert differences(*lines) <= 5e-5
