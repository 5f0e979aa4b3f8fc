"""The loss of causal language models against an independent loop in float64, and against transformers' own."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lossatlas
from lossatlas.data import LOSSES, as_dataset, losses
from lossatlas.errors import BadInput
from lossatlas.landscape.derived_fields import resolved_field
from lossatlas.parameter_space import as_point

WORDS, LENGTH = 11, 7
generator = torch.Generator().manual_seed(3)
IDS = torch.randint(0, WORDS, (70, LENGTH), generator=generator)
MASK = (torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (70, 1), generator=generator)).long()
LABELS = torch.where(torch.rand(70, LENGTH, generator=generator) < 0.3, -100, IDS)
BATCHES = {
    "tokens": IDS,
    "a tuple": (IDS,),
    "ids": {"input_ids": IDS},
    "masked": {"input_ids": IDS, "attention_mask": MASK},
    "left padding": {"input_ids": IDS, "attention_mask": MASK.flip(1)},
    "labels": {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS},
}


class Causal(nn.Module):
    """A model whose output at a position depends on the mean of the tokens up to there."""

    def __init__(self, width=6):
        super().__init__()
        self.embed, self.out = nn.Embedding(WORDS, width), nn.Linear(width, WORDS)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        seen = (x * mask[..., None]).cumsum(1) / mask.cumsum(1).clamp(min=1)[..., None]
        return {"logits": self.out(torch.tanh(seen) + x)}


def counted(batch):
    """(sample, position, token) of each token that counts, one after the other."""
    own = batch if isinstance(batch, dict) else {"input_ids": batch if isinstance(batch, torch.Tensor) else batch[0]}
    for i, row in enumerate(own["input_ids"].tolist()):
        for k in range(1, len(row)):
            token = row[k] if "labels" not in own else int(own["labels"][i, k])
            mask = own.get("attention_mask")
            real = "labels" in own or mask is None or (mask[i, k] == 1 and mask[i, k - 1] == 1)
            if real and token != -100:
                yield i, k, token


@torch.no_grad()
def naive(net, batch):
    """Sums of the losses, numbers of tokens and of right ones by sample, in float64."""
    net = copy.deepcopy(net).double()
    own = batch if isinstance(batch, dict) else {"input_ids": batch if isinstance(batch, torch.Tensor) else batch[0]}
    logits = net(own["input_ids"], own.get("attention_mask"))["logits"]
    found = np.zeros((3, len(logits)))
    for i, k, token in counted(batch):
        row = logits[i, k - 1]
        found[:, i] += float(row.exp().sum().log() - row[token]), 1, int(row.argmax()) == token
    return found


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Causal()


@pytest.mark.parametrize("name", BATCHES)
def test_each_token_is_predicted_from_those_before_it(net, name):
    batch = BATCHES[name]
    found, (total, count, right) = LOSSES["next_token"](net, batch), naive(net, batch)
    assert np.array_equal(found.weights.detach(), count)
    np.testing.assert_allclose(found.per_sample.detach(), total / np.maximum(count, 1), rtol=1e-5)
    np.testing.assert_allclose(found.metrics["accuracy"], right / np.maximum(count, 1), rtol=1e-6)
    assert float(found.mean().detach()) == pytest.approx(total.sum() / count.sum(), rel=1e-6)


def test_logits_are_converted_a_few_rows_at_a_time(net, monkeypatch):
    """With the same losses; the largest tensor that cross-entropy gets is a few rows."""
    net, batch, rows = net.bfloat16(), BATCHES["masked"], []
    whole = LOSSES["next_token"](net, batch).per_sample
    plain = F.cross_entropy
    monkeypatch.setattr(losses.F, "cross_entropy", lambda x, *a, **k: (rows.append(x.shape), plain(x, *a, **k))[1])
    monkeypatch.setattr(losses, "LARGEST_UPCAST", 4 * WORDS)
    torch.testing.assert_close(LOSSES["next_token"](net, batch).per_sample, whole.double(), rtol=1e-5, atol=0)
    assert set(rows) == {torch.Size([4, WORDS]), torch.Size([2, WORDS])}


@pytest.mark.parametrize("name", ["tokens", "masked"])
def test_a_surface_is_per_token_and_its_perplexity_is_an_expression(net, name):
    """Against a loop over points and tokens."""
    data = BATCHES[name]
    line = lossatlas.surface(net, data, loss="next_token", x="-1:1:5", progress=False)
    twin, moves = copy.deepcopy(net), as_point(line.directions.x, net, "weights", "x")
    for k, a in enumerate(line.x):
        with torch.no_grad():
            for p, (n, q) in zip(twin.parameters(), net.named_parameters(), strict=True):
                p.copy_(q + a * moves[n])
        total, count, right = naive(twin, data)
        assert line.loss[k] == pytest.approx(total.sum() / count.sum(), rel=1e-5)
        assert line.fields["train_acc"][k] == pytest.approx(100 * right.sum() / count.sum(), rel=1e-6)
    surface, field = resolved_field(line, "exp(train_loss)")
    np.testing.assert_allclose(surface.fields[field], np.exp(line.loss))


def test_figures_draw_the_perplexity(net):
    line = lossatlas.surface(net, IDS, loss="next_token", x="-1:1:3", progress=False)
    figure = line.plot(kind="curve", field="exp(train_loss)")
    drawn = [np.asarray(each.get_ydata(), float) for axes in figure.axes for each in axes.get_lines()]
    assert any(each.shape == (3,) and np.allclose(each, np.exp(line.loss)) for each in drawn)


def test_the_curvature_is_that_of_the_mean_over_tokens(net):
    """Against the dense Hessian of the loop's mean."""
    batch = BATCHES["masked"]
    found = lossatlas.spectrum(net, batch, loss="next_token", top=2, bottom=0, max_trace_products=4, progress=False)
    twin = copy.deepcopy(net).double()
    names, shapes = zip(*((n, p.shape) for n, p in twin.named_parameters()), strict=True)
    places = torch.tensor(list(counted(batch))).T

    def mean(flat):
        parts = flat.split([s.numel() for s in shapes])
        own = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        logits = torch.func.functional_call(twin, own, (batch["input_ids"], batch["attention_mask"]))["logits"]
        return F.cross_entropy(logits[places[0], places[1] - 1], places[2])

    flat = torch.cat([p.detach().flatten() for p in twin.parameters()])
    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(mean, flat))
    np.testing.assert_allclose(found.eigenvalues, exact[[-1, -2]], rtol=1e-4)


def test_lists_belong_to_the_samples(net):
    batch = {"input_ids": IDS, "text": [str(k) for k in range(70)]}
    assert torch.equal(LOSSES["next_token"](net, batch).per_sample, LOSSES["next_token"](net, IDS).per_sample)


def test_tokens_alone_are_data():
    data = as_dataset(IDS)
    assert torch.equal(data.read(slice(2)), IDS[:2])
    for other in (IDS.float(), IDS[0], IDS.bool()):
        with pytest.raises(BadInput, match="one tensor alone"):
            as_dataset(other)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((IDS, IDS), "several tensors without names: give a dict with 'input_ids', or, .* loss='crossentropy'"),
        ({"x": IDS}, "under 'input_ids': the batch has x"),
        ({"input_ids": IDS.float()}, r"the batch has torch.float32 \(70, 7\)"),
        ({"input_ids": IDS, "attention_mask": torch.ones(70, 1, 7, 7)}, "does not say which"),
    ],
    ids=["pairs", "names", "numbers", "mask"],
)
def test_what_is_no_text_is_refused(net, batch, message):
    with pytest.raises(BadInput, match=message):
        LOSSES["next_token"](net, batch)


def test_outputs_that_are_no_logits_are_refused():
    with pytest.raises(BadInput, match=r"outputs \(70, 7\) and tokens \(70, 7\) do not fit"):
        LOSSES["next_token"](lambda ids: ids.float(), IDS)


def test_the_error_about_shifted_labels_names_the_loss():
    class TinyForCausalLM(nn.Linear):
        pass

    with pytest.raises(BadInput, match=r"TinyForCausalLM predicts the next token.*: give loss='next_token'$"):
        LOSSES["crossentropy"](TinyForCausalLM(4, 3), {"input_ids": IDS, "labels": IDS})

    class TinyForConditionalGeneration(nn.Linear):
        pass

    with pytest.raises(BadInput, match="makes its own inputs of the labels"):
        LOSSES["crossentropy"](TinyForConditionalGeneration(4, 3), {"input_ids": IDS, "labels": IDS})
