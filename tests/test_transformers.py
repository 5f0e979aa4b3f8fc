"""Models of Hugging Face's transformers in tiny random configurations, called as users do, against a naive twin."""

import copy

import pytest
import torch
import torch.nn.functional as F

import lossatlas
from lossatlas import Losses
from lossatlas.errors import BadInput
from lossatlas.parameter_space import as_point

try:
    import transformers
    from transformers import BertForSequenceClassification, GPT2LMHeadModel, T5ForConditionalGeneration
    from transformers import ViTForImageClassification as Vit
except (ImportError, RuntimeError) as error:  # also where a torchvision that belongs to another torch is in the way
    pytest.skip(f"transformers cannot be imported: {str(error).splitlines()[0]}", allow_module_level=True)

WORDS, LENGTH = 50, 12
generator = torch.Generator().manual_seed(0)
ids = torch.randint(0, WORDS, (70, LENGTH), generator=generator)
mask = (torch.arange(LENGTH) < torch.randint(4, LENGTH + 1, (70, 1), generator=generator)).long()
labels = torch.randint(0, 3, (70,), generator=generator)
answers = torch.randint(1, WORDS, (70, 6), generator=generator)
pixels = torch.randn(70, 1, 16, 16, generator=generator)
TEXTS = {"input_ids": ids, "attention_mask": mask}
SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def next_tokens(model, batch):
    logits, used = model(**batch).logits, batch["attention_mask"][:, 1:].double()
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
    return Losses(per_sample=(each * used).sum(1) / used.sum(1), weights=used.sum(1))


def mean_of_tokens(net):
    logits, used = net(**TEXTS).logits, mask[:, 1:].double()
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    return (each * used).sum() / used.sum()


def translated(model, batch):
    return F.cross_entropy(model(**batch).logits.transpose(1, 2), batch["labels"], reduction="none").mean(1)


def cases():
    config = transformers.BertConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=20, num_labels=3)
    yield (
        BertForSequenceClassification(config),
        {**TEXTS, "labels": labels},
        "crossentropy",
        lambda net: F.cross_entropy(net(**TEXTS).logits, labels),
    )
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=WORDS, n_positions=20)
    yield GPT2LMHeadModel(config), TEXTS, next_tokens, mean_of_tokens
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=WORDS, decoder_start_token_id=0
    )
    batch = {**TEXTS, "labels": answers}
    yield (
        T5ForConditionalGeneration(config),
        batch,
        translated,
        lambda net: F.cross_entropy(net(**batch).logits.transpose(1, 2), answers),
    )
    config = transformers.ViTConfig(**SMALL, image_size=16, patch_size=4, num_channels=1, num_labels=3)
    yield (
        Vit(config),
        {"pixel_values": pixels, "labels": labels},
        "crossentropy",
        lambda net: F.cross_entropy(net(pixel_values=pixels.double()).logits, labels),
    )


torch.manual_seed(0)


@pytest.mark.parametrize(("net", "data", "loss", "mean"), list(cases()), ids=["bert", "gpt2", "t5", "vit"])
def test_surface_and_eigenvalues(net, data, loss, mean):
    line = lossatlas.surface(net, data, loss=loss, x="-0.5:0.5:5", progress=False)
    twin = copy.deepcopy(net).double().eval()
    moves = as_point(line.directions.x, twin, "weights", "x")
    at = {name: p.detach().clone() for name, p in twin.named_parameters()}
    for k, a in enumerate(line.x):
        with torch.no_grad():
            for name, p in twin.named_parameters():
                p.copy_(at[name] + a * moves[name])
            assert line.loss[k] == pytest.approx(float(mean(twin)), rel=1e-5)
    found = lossatlas.spectrum(net, data, loss=loss, top=1, bottom=0, max_trace_products=4, progress=False)
    assert found.resolved.all()
    vector = found.vector(0)
    with torch.no_grad():
        for name, p in twin.named_parameters():
            p.copy_(at[name])
    parameters = dict(twin.named_parameters())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradients = torch.autograd.grad(mean(twin), list(parameters.values()), create_graph=True, allow_unused=True)
        inner = sum(
            (g * vector[name].double()).sum() for name, g in zip(parameters, gradients, strict=True) if g is not None
        )
        products = torch.autograd.grad(inner, list(parameters.values()), allow_unused=True)
    top = sum(
        float((h * vector[name].double()).sum()) for name, h in zip(parameters, products, strict=True) if h is not None
    )
    assert found.eigenvalues[0] == pytest.approx(top, rel=1e-4)


def test_a_causal_model_without_shifted_labels_is_refused():
    net = GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=WORDS, n_positions=20))
    with pytest.raises(BadInput, match="its labels have to be shifted: give loss='next_token'"):
        lossatlas.surface(net, {"input_ids": ids, "labels": ids}, x="-1:1:3", progress=False)


@pytest.mark.parametrize("architecture", ["GPT2", "Llama"])
def test_next_token_is_the_loss_of_transformers(architecture):
    """`labels` as transformers takes them, and its mean over the tokens of the batch."""
    torch.manual_seed(0)
    if architecture == "GPT2":
        net = GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=WORDS, n_positions=20)
        ).eval()
    else:
        net = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, vocab_size=WORDS)).eval()
    batch = {**TEXTS, "labels": ids.masked_fill(mask == 0, -100)}
    for given in (TEXTS, batch):
        found = lossatlas.data.LOSSES["next_token"](net, given)
        assert float(found.mean().detach()) == pytest.approx(float(net(**batch).loss.detach()), rel=1e-6)
        assert torch.equal(found.weights, mask[:, 1:].sum(1).to(found.weights))
