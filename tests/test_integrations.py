"""The callbacks for Lightning and Hugging Face's Trainer, and the checkpoints that these write, with the real packages.

`make test-integrations` runs these tests in an environment of their own.
"""

import importlib
import itertools
import os
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lossatlas
from lossatlas.errors import BadInput, BadUsage
from lossatlas.models import load_into, read_state

X = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(48) % 2
HOW = "not installed: make test-integrations"
FLAVOURS = ["lightning.pytorch", "pytorch_lightning"]


def make():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_numbers(net, state):
    own = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    return all(torch.equal(value, state[name]) for name, value in own.items())


# Lightning --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=FLAVOURS)
def pl(request):
    pytest.importorskip(request.param, reason=HOW)
    warnings.simplefilter("ignore")
    return importlib.import_module(request.param)


def module_of(pl, seen, **settings):
    class Lit(pl.LightningModule):
        def __init__(self, width=6, note="plain"):
            super().__init__()
            self.save_hyperparameters()
            self.net = make()
            self.loss = nn.CrossEntropyLoss(weight=torch.ones(2))  # a tensor of its own in the checkpoint

        def training_step(self, batch, _):
            loss = self.loss(self.net(batch[0]), batch[1])
            self.log("train/loss", loss)
            self.log("loss", loss)
            seen.append((self.trainer.current_epoch, self.trainer.global_step, loss.item()))
            return loss

        def validation_step(self, batch, _):
            self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    return Lit(**settings)


def fit(pl, folder, callbacks, epochs=3, seen=None, module=None, ckpt=None, **options):
    """Train with 4 batches in an epoch; returns the module."""
    seen = [] if seen is None else seen
    module = module or module_of(pl, seen)
    loader = DataLoader(TensorDataset(X, Y), batch_size=12, shuffle=True)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "log_every_n_steps": 1}
    options = {"enable_checkpointing": False, **options}
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=callbacks, default_root_dir=folder, **quiet, **options
    )
    torch.manual_seed(8)
    trainer.fit(module, loader, DataLoader(TensorDataset(X, Y), batch_size=48), ckpt_path=ckpt)
    return module


def test_lightning_epochs(pl, tmp_path):
    from lossatlas.integrations.lightning import RecorderCallback

    states, seen = [], []

    class Watch(pl.Callback):
        def on_train_start(self, trainer, module):
            states.append({name: value.clone() for name, value in module.state_dict().items()})

        def on_train_epoch_end(self, trainer, module):
            self.on_train_start(trainer, module)

    recording = RecorderCallback(tmp_path / "run")
    assert isinstance(recording, pl.Callback)
    with pytest.raises(BadUsage, match=r"nothing is recorded before Trainer.fit"):
        recording.recorder  # noqa: B018
    module = fit(pl, tmp_path, [recording, Watch()], seen=seen)
    recorder = recording.recorder
    assert recorder.steps == [0, 1, 2, 3]
    for path, state in zip(recorder.checkpoints, states, strict=True):
        assert equal(load_file(path), state)
    means = [np.mean([loss for epoch, _, loss in seen if epoch == k]) for k in range(3)]
    np.testing.assert_allclose(recorder.losses[1:], means, rtol=1e-5)
    assert set(recorder.metrics) == {"train/loss", "val_acc"}
    assert np.isfinite(recorder.metrics["val_acc"][1:]).all()
    assert recorder.trajectory().coordinates.shape == (4, 2)
    again = lossatlas.Recorder.open(make(), tmp_path / "run")  # the network alone, outside of its module
    inner = again.trajectory()
    assert inner.coordinates.shape == (4, 2)
    np.testing.assert_allclose(
        inner.coordinates,
        lossatlas.trajectory(
            make(), [{n.removeprefix("net."): v for n, v in s.items() if n[:4] == "net."} for s in states]
        ).coordinates,
    )
    assert module.training


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_steps(pl, tmp_path, accumulate):
    from lossatlas.integrations.lightning import RecorderCallback

    seen = []
    recording = RecorderCallback(tmp_path / "run", every_n_steps=3)
    fit(pl, tmp_path, recording, epochs=4, seen=seen, accumulate_grad_batches=accumulate)  # a callback without a list
    total = 16 // accumulate
    assert recording.recorder.steps == sorted({*range(0, total + 1, 3), total})
    losses = [loss for *_, loss in seen]
    edges = [accumulate * step for step in recording.recorder.steps]
    means = [np.mean(losses[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(recording.recorder.losses[1:], means, rtol=1e-5)
    for wrong in ({"every_n_steps": 0}, {"every_n_epochs": 2, "every_n_steps": 3}, {"every_n_epochs": 1.5}):
        with pytest.raises(BadUsage):
            RecorderCallback(tmp_path / "run", **wrong)


def test_lightning_trains_the_same_bits_with_and_without(pl, tmp_path):
    from lossatlas.integrations.lightning import RecorderCallback

    ends = []
    for callbacks in ([], [RecorderCallback(tmp_path / "run", keep=3)]):
        torch.manual_seed(1)
        module = fit(pl, tmp_path, callbacks)
        ends.append((module.state_dict(), torch.get_rng_state()))
    assert equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_lightning_resumes_and_its_checkpoints_are_read(pl, tmp_path):
    from lossatlas.integrations.lightning import RecorderCallback

    saving = pl.callbacks.ModelCheckpoint(tmp_path / "ckpt", save_top_k=-1, every_n_epochs=1)
    recording = RecorderCallback(tmp_path / "run")
    fit(pl, tmp_path, [saving, recording], epochs=4, enable_checkpointing=True, module=module_of(pl, [], note=object))
    files = sorted((tmp_path / "ckpt").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert [file.name for file in files] == [f"epoch={k}-step={4 * k + 4}.ckpt" for k in range(4)]
    for k, file in enumerate(files):
        net = make()
        load_into(net, read_state(file))
        assert same_numbers(
            net, {n.removeprefix("net."): v for n, v in load_file(recording.recorder.checkpoints[k + 1]).items()}
        )
    found = lossatlas.trajectory(make(), files)
    np.testing.assert_array_equal(lossatlas.trajectory(make(), tmp_path / "ckpt").coordinates, found.coordinates)
    np.testing.assert_allclose(
        found.coordinates, lossatlas.trajectory(make(), recording.recorder.checkpoints[1:]).coordinates
    )
    losses = lossatlas.surface(make(), (X, Y), x=[0.0, 1.0], towards=files[-1], progress=False).loss
    net.eval()
    assert losses[1] == pytest.approx(float(nn.functional.cross_entropy(net(X), Y)), rel=1e-4)
    with pytest.raises(Exception, match="Unsupported global"):
        torch.load(files[0], weights_only=True)  # its hyperparameters hold a class
    # A training that is resumed after its second epoch.
    plain = pl.callbacks.ModelCheckpoint(tmp_path / "plain", save_top_k=-1, every_n_epochs=1)
    first = RecorderCallback(tmp_path / "run2")
    fit(pl, tmp_path, [plain, first], epochs=2, enable_checkpointing=True)
    again = RecorderCallback(tmp_path / "run2")
    fit(pl, tmp_path, [again], epochs=3, ckpt=str(tmp_path / "plain" / "epoch=1-step=8.ckpt"))
    assert again.recorder.steps == [0, 1, 2, 3]
    assert np.isfinite(again.recorder.losses[1:]).all()
    assert sorted(os.listdir(tmp_path / "run2")) == [*(f"model_{k}.safetensors" for k in range(4)), "recorder.json"]


# Hugging Face -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hf():
    pytest.importorskip("transformers", reason=HOW)
    pytest.importorskip("accelerate", reason=HOW)
    warnings.simplefilter("ignore")
    return importlib.import_module("transformers")


def tiny(hf):
    """A language model of a few numbers, whose input and output weights are tied."""
    torch.manual_seed(2)
    config = hf.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=11, n_positions=8, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    return hf.GPT2LMHeadModel(config)


class Sequences(torch.utils.data.Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, k):
        tokens = (torch.arange(6) * (k + 1) + k) % 11
        return {"input_ids": tokens, "labels": tokens}


def trained(hf, folder, callbacks, resume=None, **settings):
    settings = {"max_steps": 9, "logging_steps": 2, "save_strategy": "steps", "save_steps": 3, **settings}
    arguments = hf.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        seed=5,
        **settings,
    )
    trainer = hf.Trainer(
        model=tiny(hf), args=arguments, train_dataset=Sequences(), eval_dataset=Sequences(), callbacks=callbacks
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_the_trainer_of_hugging_face(hf, tmp_path):
    from lossatlas.integrations.transformers import RecorderCallback

    recording = RecorderCallback(tmp_path / "run", every_n_steps=2)
    with pytest.raises(BadUsage, match=r"nothing is recorded before Trainer.train"):
        recording.recorder  # noqa: B018
    trainer = trained(hf, tmp_path / "out", [recording], eval_strategy="steps", eval_steps=4)
    recorder = recording.recorder
    assert recorder.steps == [0, 2, 4, 6, 8, 9]
    logged = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    assert recorder.losses[1:5].tolist() == [logged[step] for step in (2, 4, 6, 8)]
    evaluated = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    assert recorder.metrics["eval_loss"][[2, 4]].tolist() == [evaluated[4], evaluated[8]]
    assert not [name for name in recorder.metrics if name.startswith("train_")]
    assert equal(load_file(recorder.checkpoints[-1]), trainer.model.state_dict())
    assert equal(load_file(recorder.checkpoints[0]), tiny(hf).state_dict())
    assert recorder.trajectory().coordinates.shape == (6, 2)
    # Its own checkpoints: folders, whose files hold tied weights once.
    folders = [tmp_path / "out" / f"checkpoint-{k}" for k in (3, 6, 9)]
    assert "lm_head.weight" not in load_file(folders[0] / "model.safetensors")
    net = tiny(hf)
    found = lossatlas.trajectory(net, folders)
    np.testing.assert_array_equal(lossatlas.trajectory(net, tmp_path / "out").coordinates, found.coordinates)
    by_file = lossatlas.trajectory(net, [folder / "model.safetensors" for folder in folders])
    np.testing.assert_array_equal(by_file.coordinates, found.coordinates)
    load_into(net, read_state(folders[-1]))
    assert equal(net.state_dict(), trainer.model.state_dict())
    step_6 = [load_file(recorder.checkpoints[3]), read_state(folders[1])]
    assert all(torch.equal(step_6[0][name], value) for name, value in step_6[1].items())
    with pytest.raises(BadInput, match=r"is no recorded run"):
        trained(hf, tmp_path / "out", [RecorderCallback(tmp_path / "out")], max_steps=1)
    with pytest.raises(BadUsage):
        RecorderCallback(tmp_path / "run", every_n_steps=0)


def test_the_trainer_computes_the_same_bits_with_and_without(hf, tmp_path):
    from lossatlas.integrations.transformers import RecorderCallback

    ends = []
    for callbacks in ([], [RecorderCallback(tmp_path / "run", every_n_steps=1, keep=4)]):
        trainer = trained(hf, tmp_path / f"out{len(callbacks)}", callbacks, save_strategy="no")
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        ends.append((trainer.model.state_dict(), torch.get_rng_state(), losses))
    assert equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert ends[0][2] == ends[1][2]


def test_the_trainer_resumes(hf, tmp_path):
    from lossatlas.integrations.transformers import RecorderCallback

    trained(hf, tmp_path / "out", [RecorderCallback(tmp_path / "run", every_n_steps=3)], max_steps=6)
    again = RecorderCallback(tmp_path / "run", every_n_steps=3)
    trained(hf, tmp_path / "out", [again], resume=str(tmp_path / "out" / "checkpoint-6"))
    assert again.recorder.steps == [0, 3, 6, 9]
    assert sorted(os.listdir(tmp_path / "run")) == [*(f"model_{k}.safetensors" for k in (0, 3, 6, 9)), "recorder.json"]
    earlier = RecorderCallback(tmp_path / "run", every_n_steps=3)
    trained(hf, tmp_path / "out", [earlier], resume=str(tmp_path / "out" / "checkpoint-3"), max_steps=5)
    assert earlier.recorder.steps == [0, 3, 5]
    assert (tmp_path / "run" / "model_9.old1.safetensors").exists()


def test_weights_in_several_files(hf, tmp_path):
    net = tiny(hf)
    net.save_pretrained(tmp_path, max_shard_size="1KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    twin = tiny(hf)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    load_into(twin, read_state(tmp_path))
    assert equal(twin.state_dict(), net.state_dict())


# Without them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "packages"), [("lightning", ["lightning", "pytorch_lightning"]), ("transformers", ["transformers"])]
)
def test_a_missing_package_is_named(monkeypatch, name, packages):
    usual = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda each, *more: None if each in packages else usual(each, *more)
    )
    monkeypatch.delitem(sys.modules, f"lossatlas.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=f"needs .*: pip install {name}"):
        importlib.import_module(f"lossatlas.integrations.{name}")
    sys.modules.pop(f"lossatlas.integrations.{name}", None)
