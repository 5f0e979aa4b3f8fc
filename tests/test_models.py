"""Names and shapes are those of the published networks; checkpoints are read safely and strictly."""

import hashlib
import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from lossatlas.errors import BadInput, BadUsage
from lossatlas.models import MODELS, build, load_into, load_network, read_state, save_state
from lossatlas.models.checkpoint import state_digest

# For 3x32x32 inputs and 10 classes: the number of parameters and of states, and the SHA-256 of the lines "name shape".
PUBLISHED = json.loads((Path(__file__).parent / "published_models.json").read_text())


def test_every_published_model_is_there():
    assert set(PUBLISHED) <= set(MODELS)
    assert len(PUBLISHED) == 29


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_as_published(name):
    with torch.device("meta"):
        net = build(name)
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items())
    assert hashlib.sha256(lines.encode()).hexdigest() == PUBLISHED[name]["sha256"]
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name]["parameters"]
    assert len(net.state_dict()) == PUBLISHED[name]["entries"]


@pytest.mark.parametrize(
    "name", ["resnet20", "resnet20_noshort", "resnet18", "resnet50_noshort", "mlp", "vgg9", "vgg13", "densenet121"]
)
@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 7), ((4, 21, 17), 3)])
def test_channels_size_and_classes_follow_the_data(name, shape, classes):
    assert build(name, shape, classes)(torch.zeros(2, *shape)).shape == (2, classes)


def test_without_shortcuts_nothing_is_added():
    with_shortcuts, without = build("resnet20"), build("resnet20_noshort")
    load = {k: v for k, v in with_shortcuts.state_dict().items() if "shortcut" not in k}
    without.load_state_dict(load)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(with_shortcuts.eval()(x), without.eval()(x))


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(BadUsage, match=r"'resnet57'.*resnet56"):
        build("resnet57")


def variants(state):
    prefixed = OrderedDict((f"module.{k}", v) for k, v in state.items())
    old = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    return {
        "bare": state,
        "under state_dict": {"state_dict": state, "epoch": 3, "acc": 91.2},
        "module": {"state_dict": prefixed},
        "of 2018": old,
        "parameter objects": {k: torch.nn.Parameter(v, False) for k, v in state.items()},
    }


@pytest.mark.parametrize("kind", ["bare", "under state_dict", "module", "of 2018", "parameter objects"])
def test_every_published_kind_of_checkpoint_is_read(tmp_path, kind):
    net = build("resnet20", (1, 28, 28)).eval()
    torch.save(variants(net.state_dict())[kind], tmp_path / "net.t7")
    again = load_network("resnet20", tmp_path / "net.t7", (1, 28, 28))
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(net(x), again(x))
    assert state_digest(net.state_dict()) == state_digest(read_state(tmp_path / "net.t7"))


def test_safetensors_round_trip(tmp_path):
    net = build("resnet20")
    save_state(tmp_path / "net.safetensors", net)
    assert state_digest(read_state(tmp_path / "net.safetensors")) == state_digest(net.state_dict())
    assert list(tmp_path.iterdir()) == [tmp_path / "net.safetensors"]


def test_digests_see_values_names_and_shapes():
    base = {"a": torch.zeros(4), "b": torch.tensor(1.0)}
    changed = [
        {"a": torch.zeros(4), "b": torch.tensor(2.0)},
        {"a": torch.zeros(2, 2), "b": torch.tensor(1.0)},
        {"c": torch.zeros(4), "b": torch.tensor(1.0)},
    ]
    assert len({state_digest(state) for state in [base, *changed]}) == 4


def change(state, kind):
    if kind == "shape":
        state["linear.weight"] = torch.zeros(10, 3)
    elif kind == "missing":
        del state["layer2.1.conv1.weight"]
    elif kind == "extra":
        state["more.weight"] = torch.zeros(1)
    elif kind == "nan":
        state["conv1.weight"][0, 0, 0, 0] = float("nan")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shape", r"'linear.weight' has shape \(10, 3\), the model expects \(10, 64\)"),
        ("missing", r"lacks 'layer2.1.conv1.weight' \(32, 32, 3, 3\)"),
        ("extra", r"'more.weight' \(1,\)"),
        ("nan", "'conv1.weight' holds NaN"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(kind, message):
    net = build("resnet20")
    state = {k: v.clone() for k, v in net.state_dict().items()}
    change(state, kind)
    with pytest.raises(BadInput, match=message):
        load_into(net, state)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Trap()}, "trap.t7")
    Path("raw.t7").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.t7", "raw.t7"):
        with pytest.raises(BadInput, match=name):
            read_state(name)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.to(torch.complex64), "is complex64, the model's is float32, which would lose a part"),
        (lambda w: w.to_sparse(), "is sparse"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "is quantized"),
        (lambda w: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "is nested"),
        (lambda w: w.to(torch.float8_e4m3fn), "is float8_e4m3fn"),
        (lambda w: w.to("meta"), "on the device 'meta'"),
        (lambda w: torch.zeros(1).expand(1 << 20, 1 << 14), "on far fewer numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_every_other_kind_are_named(tmp_path, change, message):
    net = build("mlp", (1, 28, 28))
    state = net.state_dict()
    name = next(iter(state))
    torch.save({**state, name: change(state[name])}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match=message) as error:
        load_into(net, read_state(tmp_path / "net.pt"), "net.pt")
    assert f"'{name}'" in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_plain_numbers_of_every_kind_are_taken(tmp_path, dtype):
    net = build("mlp", (1, 28, 28))
    state = {name: value.to(dtype) for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    load_into(net, read_state(tmp_path / "net.pt"))
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name].float())


@pytest.mark.parametrize("name", ["broken.t7", "broken.safetensors", "empty.t7", "list.t7", "numbers.t7", "absent.t7"])
def test_files_that_are_no_checkpoint_are_refused(tmp_path, name):
    (tmp_path / "broken.t7").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "empty.t7").write_bytes(b"")
    torch.save([torch.zeros(1)], tmp_path / "list.t7")
    torch.save({"epoch": 3}, tmp_path / "numbers.t7")
    with pytest.raises(BadInput, match=name):
        read_state(tmp_path / name)


def test_views_and_attributes_of_tensors_do_not_matter(tmp_path):
    net = build("mlp", (1, 28, 28))
    state = net.state_dict()
    name, weight = next(iter(state.items()))
    odd = torch.nn.Parameter(weight.clone())
    odd.detach = 5
    torch.save({**state, name: odd}, tmp_path / "a.pt")
    torch.save({**state, name: torch._neg_view(-weight)}, tmp_path / "b.pt")
    for file in ("a.pt", "b.pt"):
        assert torch.equal(read_state(tmp_path / file)[name], weight)
        state_digest(read_state(tmp_path / file))


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    state = build("mlp", (1, 28, 28)).state_dict()
    name = next(iter(state))
    torch.save({**state, f"module.{name}": torch.zeros_like(state[name])}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match=f"holds '{name}' twice"):
        read_state(tmp_path / "net.pt")
