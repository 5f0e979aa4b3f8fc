"""Checkpoints as other programs write them: which are read and which are named, by library and commands alike."""

import io
import json
import warnings
import zipfile
from argparse import Namespace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import seeded
from safetensors.torch import save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

import lossatlas
from lossatlas.commands import plot_surface, plot_trajectory
from lossatlas.errors import BadInput, BadUsage, Note
from lossatlas.io.checkpoint_names import checkpoints_in, split_word
from lossatlas.models import checkpoint, load_into, read_state
from lossatlas.models.inert_pickle import read_inert
from lossatlas.models.state_names import match_names, plain_name

X, Y = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 2
QUIET = {"progress": False}


def make():
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(torch.tanh(self.embed(x)))


def trained(seed):
    """A network with other values everywhere, in its buffers too."""
    net = seeded(make, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    return net


def same(net, state):
    """Compare the values of a network with a state, bit for bit and without counters."""
    own = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    return all(torch.equal(value, state[name]) for name, value in own.items())


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def fsdp(state):
    return {
        f"_fsdp_wrapped_module.{n.replace('.', '._fsdp_wrapped_module._checkpoint_wrapped_module.', 1)}": v
        for n, v in state.items()
    }


class Lit(nn.Module):
    def __init__(self, net, name):
        super().__init__()
        setattr(self, name, net)


FORMS = {
    "bare": lambda net: net.state_dict(),
    "state_dict": lambda net: {"state_dict": net.state_dict(), "epoch": 3},
    "model": lambda net: {"model": net.state_dict(), "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda net: {"model_state_dict": net.state_dict(), "loss": 0.5},
    "Lightning, model": lambda net: {"state_dict": Lit(net, "model").state_dict(), "hyper_parameters": {"lr": 0.1}},
    "Lightning, net": lambda net: {"state_dict": Lit(net, "net").state_dict(), "hyper_parameters": Namespace(lr=0.1)},
    "Lightning with a loss": lambda net: {
        "state_dict": {**Lit(net, "model").state_dict(), "loss.weight": torch.ones(2), "hparams.scale": torch.ones(1)}
    },
    "DataParallel": lambda net: nn.DataParallel(net).state_dict(),
    "compiled": lambda net: torch.compile(net).state_dict(),
    "Lightning, compiled, DDP": lambda net: {"state_dict": prefixed(net.state_dict(), "model._orig_mod.module.")},
    "FSDP": lambda net: fsdp(net.state_dict()),
    "activation checkpointing": lambda net: nn.Sequential(*[checkpoint_wrapper(each) for each in net]).state_dict(),
    "wrapper's own names": lambda net: fsdp(prefixed(net.state_dict(), "model.")),
    "AveragedModel": lambda net: AveragedModel(net).state_dict(),
    "AveragedModel of DDP": lambda net: prefixed(AveragedModel(net).state_dict(), "module."),
    "only averaged": lambda net: {"model_ema": AveragedModel(net).state_dict(), "epoch": 1},
    "objects beside": lambda net: {
        "state_dict": net.state_dict(),
        "config": Namespace(a=Path("x")),
        "when": np.float64(2.0),
    },
    "parameters": lambda net: {"model": {**net.state_dict(), **dict(net.named_parameters())}, "args": Namespace(lr=1)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_by_name_and_bit_for_bit(tmp_path, form):
    net, own = trained(1), seeded(make, 2)
    torch.save(FORMS[form](net), tmp_path / "net.ckpt")
    load_into(own, read_state(tmp_path / "net.ckpt"))
    assert same(own, net.state_dict())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_a_network_for_the_library(tmp_path, form):
    """`towards` compares the loss at coordinate 1 with that of the network there; here it is also computed apart."""
    net, other = seeded(make, 2).eval(), trained(1).eval()
    content = FORMS[form](other)
    torch.save(content, tmp_path / "net.ckpt")
    expected = float(nn.functional.cross_entropy(other(X), Y))
    given = [str(tmp_path / "net.ckpt"), tmp_path / "net.ckpt", *([content] if "averaged" not in form else [])]
    for towards in given:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Note)
            line = lossatlas.surface(net, (X, Y), x=[0.0, 1.0], towards=towards, **QUIET)
        assert line.loss[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, AveragedModel])
def test_a_wrapped_network_takes_plain_names(wrap):
    net, wrapped = trained(1), wrap(seeded(make, 2))
    load_into(wrapped, net.state_dict())
    assert same(net, {plain_name(name): value for name, value in wrapped.state_dict().items()})


def test_a_wrapped_module_is_a_network_for_the_library():
    net, other = seeded(make, 2).eval(), AveragedModel(trained(1)).eval()
    line = lossatlas.surface(net, (X, Y), x=[0.0, 1.0], towards=other, **QUIET)
    assert line.loss[1] == pytest.approx(float(nn.functional.cross_entropy(other(X), Y)), rel=1e-5)


def test_safetensors_under_any_name_and_without_the_second_name_of_tied_weights(tmp_path):
    net, own = seeded(Tied, 1), seeded(Tied, 2)
    save_file({"embed.weight": net.embed.weight.detach()}, tmp_path / "one.bin")
    save_file({"head.weight": net.embed.weight.detach()}, tmp_path / "other.safetensors")
    for file in ("one.bin", "other.safetensors"):
        load_into(own, read_state(tmp_path / file))
        assert torch.equal(own.embed.weight, net.embed.weight)
        assert own.head.weight is own.embed.weight
        nn.init.zeros_(own.embed.weight)
    torch.save(net.state_dict(), tmp_path / "torch.safetensors")
    assert torch.equal(read_state(tmp_path / "torch.safetensors")["head.weight"], net.head.weight)
    lossatlas.surface(own, (X, X), x=[0.0, 1.0], loss="mse", towards=tmp_path / "one.bin", **QUIET)


def test_folders_and_shards(tmp_path):
    net = trained(1)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    with pytest.raises(BadInput, match="holds no checkpoint"):
        read_state(folder)
    torch.save({}, folder / "optimizer.pt")
    save_file(state, folder / "model.safetensors")
    assert same(net, read_state(folder))
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert same(net, read_state(folder))
    (folder / "pytorch_model.bin").unlink()
    names = list(state)
    parts = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(net, read_state(folder))
    assert same(net, read_state(folder / "model.safetensors.index.json"))
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(BadInput, match=r"lists model-2.safetensors, which is not there \(1 of 2 files\)"):
        read_state(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../elsewhere.safetensors"}}')
    with pytest.raises(BadInput):
        read_state(folder)


def test_averaged_weights_are_chosen_with_a_word(tmp_path):
    net, averaged, own = trained(1), trained(2), seeded(make, 3)
    file = tmp_path / "last.ckpt"
    torch.save({"state_dict": net.state_dict(), "state_dict_ema": prefixed(averaged.state_dict(), "module.")}, file)
    checkpoint._note_averaged.cache_clear()
    with pytest.warns(Note, match=r"averaged weights 'state_dict_ema' too.*last.ckpt:state_dict_ema"):
        load_into(own, read_state(file))
    assert same(own, net.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_into(own, read_state(f"{file}:state_dict_ema"))
        assert same(own, averaged.state_dict())
        load_into(own, read_state(f"{file}:state_dict"))
        read_state(file)  # it is said once
    with pytest.raises(BadInput, match=r"nothing under 'ema': it has 'state_dict', 'state_dict_ema'"):
        read_state(f"{file}:ema")
    torch.save(averaged.state_dict(), tmp_path / "last.ckpt:ema")  # a file of this name wins
    load_into(own, read_state(f"{file}:ema"))
    assert same(own, averaged.state_dict())
    assert split_word("C:/no/such.ckpt") == (Path("C:/no/such.ckpt"), "")
    with pytest.raises(BadInput, match=r"no checkpoint at .*absent.ckpt:ema"):
        read_state(tmp_path / "absent.ckpt:ema")


def test_a_prefix_is_removed_only_where_it_alone_fits(tmp_path):
    one, two, own = trained(1), trained(2), seeded(make, 3)
    both = {**prefixed(one.state_dict(), "model."), **prefixed(two.state_dict(), "net.")}
    torch.save({"state_dict": both}, tmp_path / "last.ckpt")
    with pytest.raises(BadInput, match=r"several networks whose names fit: choose one as .*last.ckpt:model or .*:net"):
        load_into(own, read_state(tmp_path / "last.ckpt"), str(tmp_path / "last.ckpt"))
    load_into(own, read_state(f"{tmp_path}/last.ckpt:net"))
    assert same(own, two.state_dict())
    torch.save({"state_dict": prefixed(one.state_dict(), "backbone.")}, tmp_path / "b.ckpt")
    with pytest.raises(
        BadInput, match=r"lacks '0.weight' \(6, 3\).*names under 'backbone.' fit: name it as b.ckpt:backbone"
    ):
        load_into(own, read_state(tmp_path / "b.ckpt"), "b.ckpt")
    load_into(own, read_state(tmp_path / "b.ckpt:backbone"))
    assert same(own, one.state_dict())
    inner = Lit(seeded(make, 3), "model")  # a network that has the prefix itself
    load_into(inner, prefixed(one.state_dict(), "model."))
    assert same(inner.model, one.state_dict())
    load_into(inner, prefixed(one.state_dict(), "module.model."))


def test_what_does_not_fit_is_listed_with_what_was_tried():
    net = seeded(make, 1)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    deeper = {**state, "9.weight": torch.zeros(1), "9.bias": torch.zeros(2)}
    with pytest.raises(BadInput, match=r"it holds '9.weight' \(1,\), '9.bias' \(2,\), which the model does not have$"):
        load_into(net, deeper, "it")
    with pytest.raises(
        BadInput, match=r"holds 'model.9.weight' .* \(names were compared without the prefix 'model.'\)"
    ):
        load_into(net, {**prefixed(deeper, "model."), "loss.weight": torch.zeros(1)}, "it")
    del state["0.weight"]
    state["3.weight"] = torch.zeros(2, 5)
    with pytest.raises(
        BadInput,
        match=r"lacks '0.weight' \(6, 3\); '3.weight' has shape \(2, 5\), the model expects \(2, 6\).*architecture",
    ):
        load_into(net, state, "it")
    with pytest.raises(
        BadInput, match=r"^it lacks '0.weight' \(6, 3\), .* \(8 tensors\) and holds 'a' \(1,\)"
    ) as error:
        load_into(net, {"a": torch.zeros(1)}, "it")
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match=r"the other network lacks '3.weight' \(2, 6\), '3.bias' \(2,\)"):
        lossatlas.surface(net, (X, Y), x=[0.0, 1.0], towards=seeded(make, 2)[:3], **QUIET)


def keras(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["model_weights"] = np.zeros(3)


FOREIGN = {
    "empty": (lambda p: p.write_bytes(b""), r"is empty \(0 bytes\)"),
    "HTML": (lambda p: p.write_text("\n<!DOCTYPE html>\n<html><body>Not found"), "is a web page.*download"),
    "LFS": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
        "Git LFS pointer.*git lfs pull",
    ),
    "HDF5": (hdf5, "an HDF5 file, as of a network of Keras"),
    "keras": (keras, "a .keras archive"),
    "JSON": (lambda p: p.write_text('{"epoch": 3}'), "a JSON file"),
    "npz": (lambda p: np.savez(open(p, "wb"), w=np.zeros(3)), "NumPy arrays"),  # noqa: SIM115
    "TorchScript": (lambda p: torch.jit.script(make()).save(p), r"TorchScript archive.*torch.jit.load\('.*state_dict"),
    "optimizer": (
        lambda p: torch.save(torch.optim.Adam(make().parameters()).state_dict(), p),
        "the state of an optimizer .*and no weights",
    ),
    "optimizer beside others": (lambda p: torch.save({"optimizer": {"lr": 1}, "epoch": 3}, p), "state of an optimizer"),
    "module": (
        lambda p: torch.save(make(), p),
        r"pickled object of class torch.nn.modules.container.Sequential.*weights_only=False\).state_dict\(\)",
    ),
    "module within": (lambda p: torch.save({"model": make(), "epoch": 1}, p), "'model' is a pickled object of class"),
    "old pickle": (
        lambda p: torch.save(make(), p, _use_new_zipfile_serialization=False),
        r"an object of class [a-z.]*Seq",
    ),
    "numbers": (lambda p: torch.save({"epoch": 3}, p), "'epoch' is int, not a tensor"),
    "list": (lambda p: torch.save([1], p), "holds list, not a state dict"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_another_kind_are_named(tmp_path, kind, ending):
    write, message = FOREIGN[kind]
    if kind == "old pickle" and ending == "safetensors":
        message = "not readable as safetensors"
    file = tmp_path / f"net.{ending}"
    write(file)
    with pytest.raises(BadInput, match=message) as error:
        read_state(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match=message):
        lossatlas.surface(make(), (X, Y), x=[0.0, 1.0], towards=file, **QUIET)


class Trap:
    """Objects whose unpickling would create a file."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        if self.how == "eval":
            return eval, ("__import__('pathlib').Path('executed').touch()",)
        if self.how == "nested":
            return torch.storage._load_from_bytes, (saved(Trap("call")),)
        if self.how == "state":
            return Namespace, (), {"a": Trap("call")}
        return Path.touch, (Path("executed"),)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize("how", ["call", "eval", "nested", "state"])
def test_objects_beside_the_tensors_are_not_executed(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    net = trained(1)
    torch.save(
        {"state_dict": net.state_dict(), "hyper_parameters": {"a": [Trap(how)], (1, Path("a")): {1}}}, "last.ckpt"
    )
    assert same(net, read_state("last.ckpt"))
    assert not Path("executed").exists()
    torch.load("last.ckpt", weights_only=False)
    assert Path("executed").exists()  # the trap would have worked


def test_a_file_cannot_change_the_functions_that_it_may_call(tmp_path):
    class Changed:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (), {"__defaults__": (1,)}

    file = tmp_path / "a.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Changed(), "y": Namespace()}, file)
    with pytest.raises(Exception, match="argument"):
        read_inert(file)
    with pytest.raises(BadInput):
        read_state(file)
    assert torch._utils._rebuild_tensor_v2.__defaults__ != (1,)


def test_checkpoints_of_a_folder_are_found_by_the_names_of_each_program(tmp_path):
    for k, names in enumerate(
        [
            ["model_0.t7", "model_2.t7", "model_10.t7", "opt_state_0.t7"],
            ["model_0.safetensors", "model_5.safetensors", "model_3.old1.safetensors"],
            ["checkpoint-500", "checkpoint-1000", "runs"],
            ["epoch=0-step=40.ckpt", "epoch=1-step=80-v1.ckpt", "last.ckpt"],
            ["epoch=3.ckpt", "epoch=12.ckpt"],
        ]
    ):
        folder = tmp_path / str(k)
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    numbers = [[number for number, _ in checkpoints_in(tmp_path / str(k))] for k in range(5)]
    assert numbers == [[0, 2, 10], [0, 5], [500, 1000], [40, 80], [3, 12]]
    assert checkpoints_in(tmp_path) == []
    (tmp_path / "1" / "model_5.pt").touch()
    with pytest.raises(BadInput, match="checkpoint 5 twice"):
        checkpoints_in(tmp_path / "1")


def test_a_trajectory_of_paths_is_that_of_the_networks_and_reads_them_one_at_a_time(tmp_path, monkeypatch):
    net, states = seeded(make, 0), []
    for k in range(7):
        states.append({name: value.clone() for name, value in trained(k).state_dict().items()})
        torch.save({"state_dict": prefixed(states[-1], "model.")}, tmp_path / f"epoch={k}-step={10 * k}.ckpt")
    alive, most = set(), []
    usual = checkpoint.read_content

    class Counted(dict):  # a state that says when it is gone
        def __init__(self, content):
            super().__init__(content)
            alive.add(id(self))
            most.append(len(alive))

        def __del__(self):
            alive.discard(id(self))

    monkeypatch.setattr(checkpoint, "read_content", lambda path: Counted(usual(path)))
    expected = lossatlas.trajectory(net, states)
    paths = [tmp_path / f"epoch={k}-step={10 * k}.ckpt" for k in range(7)]
    for given in (paths, [str(path) for path in paths], tmp_path, str(tmp_path)):
        found = lossatlas.trajectory(net, given)
        np.testing.assert_array_equal(found.coordinates, expected.coordinates)
    assert len(most) > 20
    assert max(most) <= 2
    with pytest.raises(BadUsage, match="one network is no trajectory"):
        lossatlas.trajectory(net, states[0])
    with pytest.raises(BadInput, match="no folder of checkpoints at"):
        lossatlas.trajectory(net, paths[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no checkpoints of a run"):
        lossatlas.trajectory(net, tmp_path / "empty")


def test_the_memory_of_a_trajectory_does_not_grow_with_the_checkpoints(tmp_path):
    """The rows are small arrays here: the peak of Python's allocations is that of few of them, not of all."""
    import tracemalloc

    net = nn.Linear(400, 100)
    for k in range(12):
        torch.save(seeded(lambda: nn.Linear(400, 100), k).state_dict(), tmp_path / f"model_{k}.pt")
    size, peaks = 4 * 40_100, []
    for count in (4, 12):
        paths = [tmp_path / f"model_{k}.pt" for k in range(count)]
        tracemalloc.start()
        lossatlas.trajectory(net, paths)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4 * size  # all of them would be 8 more


def test_align_takes_a_path(tmp_path):
    net, other = seeded(make, 1).eval(), seeded(make, 2).eval()
    torch.save({"state_dict": prefixed(other.state_dict(), "model.")}, tmp_path / "last.ckpt")
    by_path, by_net = lossatlas.align(net, tmp_path / "last.ckpt", X), lossatlas.align(net, other, X)
    assert all(torch.equal(by_path[name], by_net[name]) for name in by_net)
    assert set(by_path) == set(net.state_dict())


OWN = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
def data():
    return torch.load("d.pt")
"""


def test_commands_take_the_same_names_and_the_same_files(tmp_path, monkeypatch, capsys):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    torch.save((X, Y), "d.pt")
    net, averaged = trained(1), trained(2)
    torch.save({"state_dict": prefixed(net.state_dict(), "net."), "state_dict_ema": averaged.state_dict()}, "last.ckpt")
    Path("checkpoint-7").mkdir()
    save_file(dict(net.state_dict()), "checkpoint-7/model.safetensors")
    line = (
        "--model own.py:make --dataset own.py:data --x=0:1:2 --batch_size 24 --surf_file s.h5 --dir_file d.h5".split()
    )
    checkpoint._note_averaged.cache_clear()
    assert plot_surface.main([*line, "--model_file", "checkpoint-7/", "--model_file2", "last.ckpt:state_dict_ema"]) == 0
    found = lossatlas.read("s.h5").loss
    for loss, each in zip(found, (net, averaged), strict=True):
        assert loss == pytest.approx(float(nn.functional.cross_entropy(each.eval()(X), Y)), rel=1e-5)
    ours = lossatlas.surface(net, (X, Y), x="0:1:2", towards="last.ckpt:state_dict_ema", batch_size=24, **QUIET)
    np.testing.assert_array_equal(ours.loss, found)
    line = [*line[:-1], "e.h5"]
    assert plot_surface.main([*line, "--force", "--model_file", "last.ckpt"]) == 0
    assert "note: last.ckpt holds averaged weights 'state_dict_ema' too" in capsys.readouterr().out
    assert plot_surface.main([*line, "--force", "--model_file", "own.py"]) == 3
    assert plot_surface.main([*line, "--force", "--model_file", "last.ckpt:ema"]) == 3
    assert "nothing under 'ema'" in capsys.readouterr().err


def test_the_trajectory_command_finds_the_checkpoints_of_other_programs(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    for k in range(4):
        Path(f"run/checkpoint-{10 * k}").mkdir(parents=True)
        save_file(dict(trained(k).state_dict()), f"run/checkpoint-{10 * k}/model.safetensors")
    assert plot_trajectory.main("--model own.py:make --model_folder run".split()) == 0
    place = next(Path("run").glob("PCA*"))
    from lossatlas.io import read_projection

    path = read_projection(place / "directions.h5_proj_cos.h5")
    expected = lossatlas.trajectory(make(), "run")
    np.testing.assert_allclose(np.stack([path.x, path.y], 1), expected.coordinates, rtol=1e-5, atol=1e-6)
    assert path.epochs.tolist() == [0, 10, 20, 30]


def test_matching_prefers_names_as_they_are():
    net = nn.ModuleDict({"module": nn.Linear(2, 2), "model": nn.Linear(2, 2)})
    names = list(net.state_dict())
    match = match_names(net, names, names, names)
    assert match.names == {name: name for name in names}
    assert match.tried == ""
