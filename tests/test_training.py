import json

import pytest
import torch

from lossatlas.commands import plot_trajectory, train
from lossatlas.data import Dataset, FixedBatches, Streamed
from lossatlas.errors import BadUsage
from lossatlas.models import build, load_network, read_state
from lossatlas.training.loop import TrainingRecipe, augmented, corrupted, initialize, measure, rate
from lossatlas.training.loop import train as fit
from lossatlas.training.training_run import TrainingRun


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
    recipe = TrainingRecipe(10, lr=0.2, warmup=0)
    assert rate(recipe, 0, 100) == pytest.approx(0.2)
    assert rate(recipe, 50, 100) == pytest.approx(0.1)
    step = TrainingRecipe(10, lr=0.2, warmup=0, schedule="step")
    assert [rate(step, k, 100) for k in (49, 50, 75, 95)] == pytest.approx([0.2, 0.02, 0.002, 0.0002])
    assert rate(TrainingRecipe(10, lr=0.2, warmup=10), 4, 100) == pytest.approx(0.1, rel=0.01)


def test_initialization_depends_on_the_seed_alone():
    a, b, c = (build("resnet20", (1, 28, 28)) for _ in range(3))
    for net, seed in ((a, 1), (b, 1), (c, 2)):
        initialize(net, seed)
    assert torch.equal(a.conv1.weight, b.conv1.weight)
    assert not torch.equal(a.conv1.weight, c.conv1.weight)


RUN = (
    "--model mlp --limit 300 --warmup 5 --lr 0.05 --threads 1 --save_epoch 2 --augment --label_corrupt_prob 0.1".split()
)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_continued_run_is_the_run_that_was_never_interrupted(tmp_path, monkeypatch, optimizer):
    args = [*RUN, "--epochs", "4", "--optimizer", optimizer]
    assert train.main([*args, "--save", str(tmp_path / "whole")]) == 0
    original = TrainingRun.on_epoch

    def stop(self, epoch, state):
        original(self, epoch, state)
        if epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "on_epoch", stop)
    assert train.main([*args, "--save", str(tmp_path / "parts")]) == 4
    monkeypatch.setattr(TrainingRun, "on_epoch", original)
    assert train.main([*args, "--save", str(tmp_path / "parts")]) == 3  # not without being asked
    assert train.main([*args, "--save", str(tmp_path / "parts"), "--resume"]) == 0
    name = f"mlp_{optimizer}_lr=0.05_bs=128_wd=0.0005_mom=0.9_save_epoch=2_randlabel=0.1/model_4.t7"
    whole, parts = (read_state(tmp_path / folder / name) for folder in ("whole", "parts"))
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    for more in (["--schedule", "step"], ["--limit", "200"]):
        assert train.main([*args, "--save", str(tmp_path / "parts"), "--resume", *more]) == 3
    next((tmp_path / "parts").glob("*/opt_state_4.t7")).write_bytes((tmp_path / "whole" / name).read_bytes())
    assert train.main([*args, "--save", str(tmp_path / "parts"), "--resume"]) == 3


def test_checkpoints_have_the_layout_of_the_original(tmp_path):
    args = [
        *"--model mlp --limit 50 --epochs 3 --save_epoch 2 --save".split(),
        str(tmp_path),
        *"--loss_name mse --raw_data --lr_decay 0.2 --idx 1".split(),
    ]
    assert train.main(args) == 0
    folder = tmp_path / "mlp_sgd_lr=0.1_lr_decay=0.2_bs=128_wd=0.0005_mom=0.9_save_epoch=2_loss=mse_noaug_rawdata_idx=1"
    assert sorted(p.name for p in folder.glob("model_*")) == ["model_0.t7", "model_2.t7", "model_3.t7"]
    content = torch.load(folder / "model_2.t7", weights_only=True)
    assert set(content) == {"state_dict", "epoch", "acc"}


def test_augmentation_shifts_and_mirrors_each_image_on_its_own():
    inputs = torch.arange(6 * 2 * 5 * 7.0).view(6, 2, 5, 7) + 1
    found = augmented(inputs, torch.Generator().manual_seed(0), padding=1)
    again = augmented(inputs, torch.Generator().manual_seed(0), padding=1)
    assert torch.equal(found, again)
    padded = torch.nn.functional.pad(inputs, (1, 1, 1, 1))
    for k in range(6):
        views = [padded[k, :, i : i + 5, j : j + 7] for i in range(3) for j in range(3)]
        assert any(torch.equal(found[k], v) or torch.equal(found[k], v.flip(2)) for v in views)


def test_corrupted_labels_are_as_many_as_asked_and_repeatable():
    labels = torch.zeros(20_000, dtype=torch.int64)
    found = corrupted(labels, 10, 0.3, 1)
    assert (found != 0).float().mean() == pytest.approx(0.27, abs=0.01)  # a tenth of the random ones are right
    assert torch.equal(found, corrupted(labels, 10, 0.3, 1))
    assert torch.equal(corrupted(labels, 10, 0.0, 1), labels)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--out", "x.onnx"], 2),
        (["--dataset", "nothing"], 2),
        (["--model", "x"], 2),
        (["--out", "no/folder/x.safetensors"], 3),
        (["--resume"], 2),
        (["--augment", "--noaug"], 2),
    ],
)
def test_bad_requests_are_one_line(tmp_path, capsys, args, code):
    assert train.main(["--out", str(tmp_path / "a.safetensors"), *args]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("args", [["--epochs", "0"], ["--label_corrupt_prob", "2"], ["--optimizer", "lbfgs"]])
def test_values_out_of_range_are_one_line(capsys, args):
    with pytest.raises(SystemExit) as stop:
        train.main(["--out", "a.safetensors", *args])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("model", "size"), [("vgg9", "1"), ("resnet20", "33")])
def test_one_sample_is_no_batch_for_batchnorm(tmp_path, capsys, model, size):
    """It ended in a traceback with --batch_size 1."""
    line = ["--model", model, "--limit", "100", "--batch_size", size, "--epochs", "1", "--out", str(tmp_path / "n.t7")]
    assert train.main(line) == 2
    assert "leaves one of 100 samples for a batch" in capsys.readouterr().err


def test_out_may_be_a_torch_file(tmp_path):
    for name in ("a.t7", "a.safetensors"):
        assert (
            train.main(
                ["--model", "mlp", "--limit", "100", "--epochs", "1", "--out", str(tmp_path / name), "--threads", "1"]
            )
            == 0
        )
    one, other = (read_state(tmp_path / name) for name in ("a.t7", "a.safetensors"))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert train.main(["--model", "mlp", "--limit", "100", "--epochs", "1", "--out", str(tmp_path / "a.onnx")]) == 2


OWN = """
import torch
from torch import nn

class Spiral(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.frozen = nn.Linear(2, 8).requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.BatchNorm1d(width), nn.Linear(width, 2))

    def forward(self, point=None, label=None):
        return self.head(self.frozen(point))

def net(width=16):
    return Spiral(width)

def data(split):
    generator = torch.Generator().manual_seed(0 if split == "train" else 1)
    x = torch.randn(300, 2, generator=generator)
    return {"point": x, "labels": (x[:, 0] * x[:, 1] > 0).long()}

def loss(model, batch):
    per_sample = nn.functional.cross_entropy(model(point=batch["point"]), batch["labels"], reduction="none")
    return per_sample
"""


def test_a_network_of_ones_own_is_trained_and_its_path_drawn(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    own = ["--model", f"{tmp_path}/own.py:net", "--model_args", "width=12"]
    line = [
        *own,
        "--dataset",
        f"{tmp_path}/own.py:data",
        "--loss_name",
        f"{tmp_path}/own.py:loss",
        *"--lr 0.1 --warmup 0 --save_epoch 1 --save".split(),
        str(tmp_path),
        *"--threads 1 --batch_size 32".split(),
    ]
    assert train.main([*line, "--epochs", "6"]) == 0
    said = capsys.readouterr().out
    first, last = (
        float(row.split("test loss ")[1].split(",")[0])
        for row in said.splitlines()
        if "epoch 1/" in row or "epoch 6/" in row
    )
    assert last < 0.8 * first
    folder = next(tmp_path.glob("own_net_width=12_sgd_*_loss=loss_noaug"))
    states = [read_state(folder / f"model_{k}.t7") for k in (0, 6)]
    assert torch.equal(*(state["frozen.weight"] for state in states))
    assert not torch.equal(*(state["head.0.weight"] for state in states))
    more = [*line, "--epochs", "6", "--resume"]
    assert train.main(more) == 0
    assert "continuing after epoch 6" in capsys.readouterr().out
    (tmp_path / "own.py").write_text(OWN + "\n# changed\n")
    assert train.main(more) == 3
    assert "was trained with model_code" in capsys.readouterr().err
    assert plot_trajectory.main([*own, "--model_folder", str(folder), "--max_epoch", "6", "--except", "frozen"]) == 0
    assert (folder / "PCA_weights_except_frozen_save_epoch=1" / "directions.h5").exists()


def test_training_on_samples_that_are_read_and_on_batches_that_differ():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    y = (x.sum(1) > 0).long()
    rows = [(x[k], y[k]) for k in range(60)]
    held = Dataset("it", "train", (x, y), 2)
    streamed = Streamed("it", "train", rows, 2)
    batches = FixedBatches("it", "train", [(x[:20], y[:20]), (x[20:], y[20:])], 2)
    nets = []
    for data in (held, streamed, batches):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        before = measure(net, data)[0]
        fit(net, data, TrainingRecipe(5, batch_size=16, lr=0.1, warmup=0), channels_last=False)
        nets.append(net)
        assert measure(net, data)[0] < 0.7 * before
    assert torch.equal(nets[0].weight, nets[1].weight)
    for recipe in (TrainingRecipe(1, augment=True), TrainingRecipe(1, label_corrupt_prob=0.5)):
        with pytest.raises(BadUsage, match="augment" if recipe.augment else "label_corrupt_prob"):
            fit(net, streamed, recipe)


def test_without_test_data_the_training_data_are_measured_and_it_is_said(tmp_path, capsys):
    code = OWN.replace("def data(split):", "def data(split='train', seed=0):")
    (tmp_path / "own.py").write_text(code.replace("    x = torch", "    assert split == 'train', split\n    x = torch"))
    line = [
        "--model",
        f"{tmp_path}/own.py:net",
        "--dataset",
        f"{tmp_path}/own.py:data",
        "--loss_name",
        f"{tmp_path}/own.py:loss",
        *"--epochs 1 --out".split(),
        str(tmp_path / "n.t7"),
        *"--threads 1".split(),
    ]
    assert train.main(line) == 0
    assert "no test data, so the test loss is measured on the training data" in capsys.readouterr().out
    about = json.loads((tmp_path / "n.json").read_text())
    assert about["train_loss"] == pytest.approx(about["test_loss"])
    assert about["train_acc"] is None


NOISY = (
    OWN.replace("nn.Tanh(),", "nn.Tanh(), nn.Dropout(0.3),")
    + """
def with_penalty(model, batch):
    from lossatlas import Losses
    per_sample = nn.functional.cross_entropy(model(point=batch["point"]), batch["labels"], reduction="none")
    return Losses(per_sample=per_sample, penalty=1e-3 * sum((p**2).sum() for p in model.parameters()))
"""
)


@pytest.mark.parametrize("more", [[], ["--bfloat16"]])
def test_a_run_with_dropout_and_a_penalty_is_continued_to_the_same_weights(tmp_path, more):
    (tmp_path / "own.py").write_text(NOISY)
    line = [
        "--model",
        f"{tmp_path}/own.py:net",
        "--dataset",
        f"{tmp_path}/own.py:data",
        "--loss_name",
        f"{tmp_path}/own.py:with_penalty",
        "--epochs",
        "4",
        "--save_epoch",
        "1",
        "--save",
        str(tmp_path),
        "--threads",
        "1",
        *more,
    ]
    assert train.main(line) == 0
    (folder,) = tmp_path.glob("own_net_*")
    whole = read_state(folder / "model_4.t7")
    for name in ("model_3.t7", "model_4.t7", "opt_state_3.t7", "opt_state_4.t7"):
        (folder / name).unlink()
    assert train.main([*line, "--resume"]) == 0
    assert all(torch.equal(value, whole[name]) for name, value in read_state(folder / "model_4.t7").items())


def test_a_device_that_is_not_there_is_refused_before_data_are_loaded(tmp_path, capsys, monkeypatch):
    """In the words of all commands, which name the host."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train.main(["--cuda", "--dataset", "nowhere.py:data", "--out", str(tmp_path / "net.safetensors")]) == 2
    assert "--cuda: no CUDA device on " in capsys.readouterr().err
