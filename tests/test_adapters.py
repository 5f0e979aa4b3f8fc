"""Low-rank adapters as ends of an axis, against forward passes that apply the factors and, where it is there, peft."""

import inspect
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lossatlas
from lossatlas.commands import plot_surface
from lossatlas.errors import BadInput
from lossatlas.io import read_directions, read_surface
from lossatlas.models.adapters import PREFIX, is_adapter, with_adapter

RANK, ALPHA = 2, 3.0
QUIET = {"progress": False}


class Conv1D(nn.Module):
    """A linear layer whose weight is (inputs, outputs), as GPT-2 has it in transformers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

    def forward(self, x):
        return x @ self.weight


def network():
    torch.manual_seed(0)
    layers = [nn.Embedding(11, 6), nn.Linear(6, 6), nn.Tanh(), Conv1D(6, 5), nn.Flatten(), nn.Linear(20, 3)]
    return nn.Sequential(*layers)


def factors(scale: float = 1.0, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return scale * torch.randn(shape, generator=generator)

    return {
        "0.lora_embedding_A": drawn(RANK, 11),
        "0.lora_embedding_B": drawn(6, RANK),
        "1.lora_A.weight": drawn(RANK, 6),
        "1.lora_B.weight": drawn(6, RANK),
        "3.lora_A.weight": drawn(RANK, 6),
        "3.lora_B.weight": drawn(5, RANK),
    }


def save(folder, tensors=None, **more):
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    named = {PREFIX + name: value.contiguous() for name, value in (tensors or factors()).items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def adapted(net, found, scale, x):
    """The network with each factor applied on its own, without any merged weight."""
    own = scale * found["0.lora_embedding_A"].T[x] @ found["0.lora_embedding_B"].T
    x = net[0](x) + own
    x = net[1](x) + scale * (x @ found["1.lora_A.weight"].T) @ found["1.lora_B.weight"].T
    x = torch.tanh(x)
    x = net[3](x) + scale * (x @ found["3.lora_A.weight"].T) @ found["3.lora_B.weight"].T
    return net[5](x.flatten(1))


def samples(n=40):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 11, (n, 4), generator=generator), torch.randint(0, 3, (n,), generator=generator)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [({}, ALPHA / RANK), ({"use_rslora": True}, ALPHA / RANK**0.5)],
    ids=["plain", "rank-stabilized"],
)
def test_the_loss_at_one_is_that_of_the_adapted_network(tmp_path, settings, scale):
    net, folder = network(), save(tmp_path / "adapter", **settings)
    x, y = samples()
    line = lossatlas.surface(net, (x, y), x="0:1:3", towards=folder, **QUIET)
    for k, part in enumerate(
        (0.0, 0.5, 1.0)
    ):  # the change is linear in the coordinate, and the scale is a factor of it
        with torch.no_grad():
            logits = adapted(net.double(), {n: v.double() for n, v in factors().items()}, part * scale, x)
        wanted = float(nn.functional.cross_entropy(logits, y))
        assert line.loss[k] == pytest.approx(wanted, rel=1e-5)


def test_the_kind_of_a_layer_decides_about_its_axes(tmp_path):
    """peft writes fan_in_fan_out=true for all layers where one of them is a Conv1D: here of square weights."""
    net = nn.Sequential(nn.Linear(4, 4), Conv1D(4, 4))
    tensors = {
        f"{k}.lora_{letter}.weight": torch.randn((RANK, 4) if letter == "A" else (4, RANK))
        for k in (0, 1)
        for letter in "AB"
    }
    found = with_adapter(net, net.state_dict(), save(tmp_path / "adapter", tensors, fan_in_fan_out=True))
    for k, turn in enumerate((False, True)):
        wanted = ALPHA / RANK * tensors[f"{k}.lora_B.weight"] @ tensors[f"{k}.lora_A.weight"]
        torch.testing.assert_close(found[f"{k}.weight"] - net[k].weight, wanted.T if turn else wanted)


def test_alphas_of_single_modules_are_used(tmp_path):
    net = network()
    folder = save(tmp_path / "adapter", alpha_pattern={"1": 30.0})
    changed = with_adapter(net, net.state_dict(), folder)["1.weight"] - net[1].weight
    found = factors()
    torch.testing.assert_close(changed, 15.0 * found["1.lora_B.weight"] @ found["1.lora_A.weight"])


def test_a_convolution_and_whole_tensors(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(2, 2))
    tensors = {
        "0.lora_A.weight": torch.randn(RANK, 3, 3, 3),
        "0.lora_B.weight": torch.randn(4, RANK, 1, 1),
        "1.weight": torch.ones(2, 2),
    }
    state = with_adapter(net, net.state_dict(), save(tmp_path / "adapter", tensors))
    x = torch.randn(2, 3, 5, 5)
    inner = nn.functional.conv2d(x, tensors["0.lora_A.weight"])
    wanted = net[0](x) + ALPHA / RANK * nn.functional.conv2d(inner, tensors["0.lora_B.weight"])
    torch.testing.assert_close(nn.functional.conv2d(x, state["0.weight"], net[0].bias), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(state["1.weight"], torch.ones(2, 2))
    assert state["0.bias"].data_ptr() == net[0].bias.data_ptr()


def test_the_change_is_not_rounded_to_the_type_of_the_network(tmp_path):
    """Of a bfloat16 network, whose own rounding is larger than this whole change."""
    net = network().to(torch.bfloat16)
    folder = save(tmp_path / "adapter", factors(0.01))
    found = factors(0.01)
    line = lossatlas.surface(net, samples(), x="0:1:2", towards=folder, file=tmp_path / "s.h5", **QUIET)
    assert line.directions is not None
    names = [name for name, _ in net.named_parameters()]
    direction = torch.from_numpy(line.directions.x[names.index("1.weight")])
    wanted = ALPHA / RANK * found["1.lora_B.weight"] @ found["1.lora_A.weight"]
    torch.testing.assert_close(direction, wanted, rtol=1e-3, atol=1e-7)


def command(tmp_path, *more):
    source = "".join(inspect.getsource(each) for each in (Conv1D, network, samples))
    (tmp_path / "own.py").write_text(f"import torch\nfrom torch import nn\n{source}")
    own = ["--model", f"{tmp_path}/own.py:network", "--dataset", f"{tmp_path}/own.py:samples"]
    return plot_surface.main([*own, "--surf_file", str(tmp_path / "s.h5"), *more])


def test_the_command_takes_adapters_at_every_place_and_gives_the_numbers_of_python(tmp_path):
    one, two = save(tmp_path / "one"), save(tmp_path / "two", factors(0.5, seed=9))
    grid = ["--x=0:1:2", "--y=0:1:2", "--dir_file", str(tmp_path / "d.h5")]
    assert command(tmp_path, *grid, "--model_file2", str(one), "--model_file3", str(two)) == 0
    found = read_surface(tmp_path / "s.h5").fields["train_loss"]
    by_python = lossatlas.surface(network(), samples(), x="0:1:2", y="0:1:2", towards=[one, two], **QUIET)
    assert found == pytest.approx(by_python.loss, rel=1e-6)
    assert "towards" in str(read_directions(tmp_path / "d.h5").about["x"])
    (tmp_path / "s.h5").unlink()
    more = ["--x=0:1:2", "--model_file", str(one), "--model_file2", str(two), "--dir_file", str(tmp_path / "e.h5")]
    assert command(tmp_path, *more) == 0  # both are changes of the base network, not the second one of the first
    between = read_surface(tmp_path / "s.h5").fields["train_loss"]
    assert between == pytest.approx([found[0, 1], found[1, 0]], rel=1e-5)


def test_little_memory_gives_the_same_losses_and_the_network_stays_as_it_is(tmp_path):
    folder, net, untouched = save(tmp_path / "adapter"), network(), network().state_dict()
    low, fast = (
        lossatlas.surface(net, samples(), x="0:1:3", towards=folder, memory=memory, **QUIET)
        for memory in ("low", "fast")
    )
    assert low.loss == pytest.approx(fast.loss, rel=1e-6)
    assert all(torch.equal(value, untouched[name]) for name, value in net.state_dict().items())


def damaged(folder, what):
    if what == "kind":
        return save(folder, peft_type="LOHA")
    if what == "start":
        return save(folder, init_lora_weights="pissa_niter_4")
    if what == "activated":
        return save(folder, alora_invocation_tokens=[3])
    if what == "dora":
        return save(folder, {**factors(), "1.lora_magnitude_vector": torch.ones(6)})
    if what == "foreign":
        return save(folder, {"9.lora_A.weight": torch.ones(2, 3), "9.lora_B.weight": torch.ones(3, 2)})
    if what == "shape":
        return save(folder, {**factors(), "1.lora_B.weight": torch.ones(7, RANK)})
    if what == "half":
        return save(folder, {"1.lora_A.weight": torch.ones(RANK, 6)})
    if what == "nan":
        return save(folder, {**factors(), "1.lora_B.weight": torch.full((6, RANK), torch.nan)})
    save(folder)
    (folder / "adapter_model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kind", "LOHA"),
        ("start", "pissa"),
        ("activated", "activated LoRA"),
        ("dora", "no part of a plain LoRA"),
        ("foreign", "9.weight"),
        ("shape", r"\(7, 6\)"),
        ("half", "one of the two factors"),
        ("nan", "NaN"),
        ("empty", "no adapter_model.safetensors"),
    ],
)
def test_what_is_no_plain_adapter_of_this_network_is_refused(tmp_path, what, words):
    folder = damaged(tmp_path / "adapter", what)
    assert is_adapter(folder)
    with pytest.raises(BadInput, match=words):
        lossatlas.surface(network(), samples(), x="0:1:2", towards=folder, **QUIET)


def test_a_tied_weight_is_refused(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
            self.head.weight = self.words.weight

    net = Tied()
    factors = {"words.lora_embedding_A": torch.ones(2, 11), "words.lora_embedding_B": torch.ones(6, 2)}
    for tensors in (factors, {"words.weight": torch.ones(11, 6)}):  # of `modules_to_save`, as a whole
        with pytest.raises(BadInput, match=r"'head.weight' too"):
            with_adapter(net, net.state_dict(), save(tmp_path / "adapter", tensors))


def test_an_adapter_alone_is_no_network(tmp_path):
    from lossatlas.models import read_state

    with pytest.raises(BadInput, match="no whole network"):
        read_state(save(tmp_path / "adapter"))


def test_the_merged_weights_are_those_of_peft(tmp_path):
    peft = pytest.importorskip("peft")
    net = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    chosen = {"target_modules": ["0", "1"], "modules_to_save": ["2"], "init_lora_weights": False, "bias": "all"}
    wrapped = peft.get_peft_model(net, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, **chosen))
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "modules_to_save" in name or name.endswith("bias"):
                value.add_(0.5)
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = wrapped.merge_and_unload().state_dict()
    plain = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    plain.load_state_dict(before)
    found = with_adapter(plain, before, tmp_path / "adapter")
    for name, value in merged.items():
        torch.testing.assert_close(found[name], value)
