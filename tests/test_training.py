import json

import pytest
import torch

import train
from models import build, load_network
from training import Recipe, initialize, measure, rate


def test_a_run_can_be_repeated_and_learns(tmp_path):
    results = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.safetensors"
        args = ["--model", "mlp", "--epochs", "3", "--warmup", "5", "--lr", "0.05", "--out", str(out), "--threads", "1"]
        assert train.main(args) == 0
        results.append(load_network("mlp", out, (1, 28, 28)).state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
    about = json.loads((tmp_path / "a.json").read_text())
    assert about["test_acc"] > 70
    assert about["epochs"][0]["test_loss"] > about["test_loss"]
    assert {"command", "data_sha256", "versions", "train_acc"} <= set(about)


def test_measure_is_a_plain_mean(mini):
    torch.manual_seed(0)
    net = build("resnet20", (1, 28, 28))
    loss, accuracy = measure(net, mini, batch_size=7)
    assert net.training
    with torch.no_grad():
        outputs = net.eval()(mini.inputs)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(outputs, mini.targets).item(), rel=1e-5)
    assert accuracy == pytest.approx(100 * (outputs.argmax(1) == mini.targets).float().mean().item())


def test_schedules():
    recipe = Recipe(10, lr=0.2, warmup=0)
    assert rate(recipe, 0, 100) == pytest.approx(0.2)
    assert rate(recipe, 50, 100) == pytest.approx(0.1)
    step = Recipe(10, lr=0.2, warmup=0, schedule="step")
    assert [rate(step, k, 100) for k in (49, 50, 75, 95)] == pytest.approx([0.2, 0.02, 0.002, 0.0002])
    assert rate(Recipe(10, lr=0.2, warmup=10), 4, 100) == pytest.approx(0.1, rel=0.01)


def test_initialization_depends_on_the_seed_alone():
    a, b, c = (build("resnet20", (1, 28, 28)) for _ in range(3))
    for net, seed in ((a, 1), (b, 1), (c, 2)):
        initialize(net, seed)
    assert torch.equal(a.conv1.weight, b.conv1.weight)
    assert not torch.equal(a.conv1.weight, c.conv1.weight)


@pytest.mark.parametrize("args", [["--epochs", "0"], ["--out", "x.t7"], ["--dataset", "nothing"], ["--model", "x"]])
def test_bad_requests_are_one_line(tmp_path, capsys, args):
    assert train.main(["--out", str(tmp_path / "a.safetensors"), *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
