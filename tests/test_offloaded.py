"""Networks that accelerate spreads over devices or keeps out of memory, against the same networks without it."""

import os

import numpy as np
import pytest
import torch
from conftest import python, seeded
from torch import nn

import lossatlas
from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import read_surface
from lossatlas.jobs.inputs.network_memory import takes_little_memory
from lossatlas.parameter_space.offloaded import is_dispatched, offloaded_tensors, weights_on_host

accelerate = pytest.importorskip("accelerate", reason="make test-integrations")

CPU = torch.device("cpu")
QUIET = {"progress": False}
X = torch.randint(0, 30, (24, 7), generator=torch.Generator().manual_seed(0))
DATA = X[:, :-1], X[:, 1:]


class Decoder(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.hidden, self.norm = nn.Embedding(30, 12), nn.Linear(12, 12), nn.LayerNorm(12)
        self.register_buffer("scale", torch.tensor(1.5))
        self.out = nn.Linear(12, 30, bias=False)
        if tied:
            self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.norm(torch.tanh(self.hidden(self.embed(tokens))) * self.scale))


def decoder(tied: bool = False, seed: int = 0) -> nn.Module:
    return seeded(lambda: Decoder(tied), seed)


def in_memory(net: nn.Module, folder) -> nn.Module:
    return accelerate.cpu_offload(net, execution_device=CPU)


def buffers_too(net: nn.Module, folder) -> nn.Module:
    return accelerate.cpu_offload(net, execution_device=CPU, offload_buffers=True)


def parents(net: nn.Module, folder) -> nn.Module:
    """The weights of all modules by the hook of the outermost one."""
    return accelerate.cpu_offload(net, execution_device=CPU, preload_module_classes=["Decoder"])


def by_map(net: nn.Module, folder) -> nn.Module:
    places = {"embed": "cpu", "hidden": "disk", "norm": "disk", "out": "cpu", "scale": "cpu"}
    return accelerate.dispatch_model(net, places, main_device="cpu", offload_dir=folder)


def all_on_disk(net: nn.Module, folder) -> nn.Module:
    return accelerate.disk_offload(net, str(folder), execution_device=CPU)


def surface(net: nn.Module, **more):
    return lossatlas.surface(net, DATA, **{"x": "-1:1:3", "y": "-1:1:3", "memory": "low", **more}, **QUIET)


KINDS = [in_memory, buffers_too, parents, by_map, all_on_disk]


@pytest.mark.parametrize("offload", KINDS)
@pytest.mark.parametrize("tied", [False, True])
def test_an_offloaded_network_has_the_surface_of_the_network_in_memory(tmp_path, offload, tied):
    if tied and offload is all_on_disk:
        pytest.skip("refused, see below")
    expected, net = surface(decoder(tied)), offload(decoder(tied), tmp_path)
    output = seeded(lambda: Decoder(tied))(X)
    for _ in range(2):  # the second time after a forward pass, in which accelerate takes tied names apart
        names, devices = [each.name for each in offloaded_tensors(net)], [str(p.device) for p in net.parameters()]
        assert names
        np.testing.assert_array_equal(surface(net).loss, expected.loss)
        assert [each.name for each in offloaded_tensors(net)] == names
        assert [str(p.device) for p in net.parameters()] == devices
        assert torch.equal(net(X), output)


@pytest.mark.parametrize("offload", KINDS)
def test_curvature_and_the_ends_of_axes_of_an_offloaded_network(tmp_path, offload):
    (plain, end), net = (decoder(), decoder(seed=5)), offload(decoder(), tmp_path)
    spectrum = {"top": 2, "bottom": 1, **QUIET}
    expected = lossatlas.spectrum(plain, DATA, **spectrum).eigenvalues
    np.testing.assert_allclose(lossatlas.spectrum(net, DATA, **spectrum).eigenvalues, expected, rtol=1e-6)
    towards = surface(plain, y=None, towards=end)
    np.testing.assert_array_equal(surface(net, y=None, towards=end).loss, towards.loss)
    other = tmp_path / "end"
    other.mkdir()
    moved = offload(decoder(seed=5), other)
    np.testing.assert_array_equal(surface(plain, y=None, towards=moved).loss, towards.loss)


def test_the_weights_of_an_offloaded_network_are_moved_where_they_lie(tmp_path):
    net = in_memory(decoder(), tmp_path)
    held = next(each for each in offloaded_tensors(net) if each.name == "hidden.weight").read()
    with weights_on_host(net):
        assert net.hidden.weight.data_ptr() == held.data_ptr()
        net.hidden.weight.data.add_(1)
        moved = net(X)
        net.hidden.weight.data.sub_(1)
    assert net.hidden.weight.is_meta
    assert not torch.equal(moved, net(X))


def test_equal_weights_in_files_are_tied_only_where_something_says_so(tmp_path):
    net = all_on_disk(decoder(tied=True), tmp_path)
    with pytest.raises(BadInput, match=r"'embed\.weight' and 'out\.weight' have the same values"):
        surface(net)
    net._tied_weights_keys = ["out.weight"]  # as a model of transformers does
    np.testing.assert_array_equal(surface(net).loss, surface(decoder(tied=True)).loss)
    other = tmp_path / "other"
    other.mkdir()
    constant = decoder()
    for parameter in (constant.embed.weight, constant.out.weight):
        nn.init.zeros_(parameter)
    assert surface(all_on_disk(constant, other), y=None).done.all()


def test_what_needs_copies_of_a_network_on_several_devices_is_refused(tmp_path):
    net = decoder()
    assert not is_dispatched(net)
    assert not takes_little_memory(net, "fast")
    net.hidden.to("meta")  # the other device that every machine has
    with pytest.raises(BadUsage, match="the network has weights on cpu and meta: they stay there"):
        takes_little_memory(net, "fast")
    assert takes_little_memory(in_memory(decoder(), tmp_path), None)
    with pytest.raises(BadInput, match="parameters on the meta device, which hold no values"):
        surface(net)


MODEL = """
import tempfile, torch
from accelerate import dispatch_model
from torch import nn
from torch.utils.data import TensorDataset


def plain():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def dispatched():
    return dispatch_model(plain(), {"0": "disk", "1": "cpu", "2": "cpu"}, main_device="cpu",
                          offload_dir=tempfile.mkdtemp(dir=FOLDER))


def samples(split):
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, (x[:, 0] > 0).long())
"""


@pytest.mark.commands
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_command_computes_a_network_that_is_dispatched(tmp_path, ranks):
    file = tmp_path / "own.py"
    file.write_text(f"FOLDER = {str(tmp_path)!r}\n{MODEL}")
    for name in ("plain", "dispatched"):
        command = ["--model", f"{file}:{name}", "--dataset", f"{file}:samples", "--x=-1:1:3", "--y=-1:1:3"]
        files = ["--surf_file", tmp_path / f"{name}.h5", "--dir_file", tmp_path / f"{name}_directions.h5"]
        out = ["--memory", "low", "--threads", "1", *files]
        result = python("plot_surface.py", *command, *out, *(["--ranks", ranks] if ranks > 1 else []))
        assert result.returncode == 0, result.stderr
    found, expected = (read_surface(tmp_path / f"{name}.h5").fields["train_loss"] for name in ("dispatched", "plain"))
    np.testing.assert_array_equal(found, expected)


def test_many_offloaded_tensors_need_few_open_files(tmp_path):
    net = all_on_disk(nn.Sequential(*[nn.Linear(2, 2) for _ in range(40)]), tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with weights_on_host(net):
        assert len(os.listdir("/proc/self/fd")) <= before + 4


@pytest.mark.parametrize("place", [{"0": "disk", "1": "cpu", "2": "cpu"}, {"0": "cpu", "1": "cpu", "2": "cpu"}])
def test_another_precision_of_a_placed_network_is_refused_in_plain_words(tmp_path, place):
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    net = accelerate.dispatch_model(net, place, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    data = torch.randn(20, 3), torch.arange(20) % 2
    with pytest.raises(BadUsage, match="accelerate has placed is computed where its weights lie, in their precision"):
        lossatlas.surface(net, data, x="-1:1:3", precision="bfloat16", **QUIET)
    if "disk" in place.values():
        with pytest.raises(BadInput, match="which no optimizer trains: record a network whose weights are all on"):
            lossatlas.Recorder(net, tmp_path / "run")
    else:
        assert lossatlas.Recorder(net, tmp_path / "run").step()
