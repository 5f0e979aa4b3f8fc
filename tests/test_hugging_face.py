"""Causal language models in local folders of Hugging Face: tiny random ones, made on the spot, without a network."""

import json
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MPIRUN, ROOT

import lossatlas
from lossatlas.commands import hessian_spectrum, plot_surface, train
from lossatlas.data import as_dataset
from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import read_directions, read_surface
from lossatlas.models.checkpoint import read_state, state_digest
from lossatlas.models.hugging_face import load_model
from lossatlas.parameter_space import as_point

try:
    import tokenizers
    import transformers
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
except (ImportError, RuntimeError) as error:  # also where a torchvision that belongs to another torch is in the way
    pytest.skip(f"transformers cannot be imported: {str(error).splitlines()[0]}", allow_module_level=True)

TEXTS = [
    "the cat sat on the mat",
    "a dog ran to the cat and the mat sat on a dog and ran to a cat",
    "one",
    "the dog ran",
]
WORDS = ["<unk>", "<s>", "</s>", *sorted(set(" ".join(TEXTS).split()))]
SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
CHAT = "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}"
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("something looks for a network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def tokenizer(**more):
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **more
    )


def saved(folder, net, **more):
    net.save_pretrained(folder, **more)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A GPT-2 with tied weights in float32, and a Llama in bfloat16 whose weights are in several files."""
    home = tmp_path_factory.mktemp("folders")
    torch.manual_seed(0)
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=len(WORDS), n_positions=12, initializer_range=0.2)
    saved(home / "gpt2", GPT2LMHeadModel(config))
    config = LlamaConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=64, initializer_range=0.2)
    saved(home / "llama", LlamaForCausalLM(config).bfloat16(), max_shard_size="3KB")
    assert len(list((home / "llama").glob("*.safetensors"))) > 1
    saved(home / "bert", BertForMaskedLM(BertConfig(**SMALL, vocab_size=len(WORDS))))
    return home


@pytest.fixture
def home(folders, tmp_path, monkeypatch):
    """The current folder, with the models and texts."""
    for name in ("gpt2", "llama"):
        (tmp_path / name).symlink_to(folders / name)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "test.txt").write_text("the dog\nsat on\n\na cat ran\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cut(length):
    """The tokens of each text, by hand."""
    found = [[WORDS.index(word) for word in text.split()][:length] for text in TEXTS]
    return [tokens for tokens in found if len(tokens) > 1]


@torch.no_grad()
def naive(folder, moves, points, length):
    """The mean loss over all tokens along a direction, one text at a time, by transformers alone, in float64."""
    net = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).double().eval()
    at, means = {name: p.clone() for name, p in net.named_parameters()}, []
    for a in points:
        for name, p in net.named_parameters():
            p.copy_(at[name] + a * moves[name].double())
        total = sum(
            float(net(input_ids=ids[None], labels=ids[None]).loss) * (len(ids) - 1)
            for ids in map(torch.tensor, cut(length))
        )
        means.append(total / sum(len(tokens) - 1 for tokens in cut(length)))
    return np.array(means)


def test_a_folder_and_texts_in_one_line(folders, capsys):
    """Against transformers' own loss, text by text."""
    line = lossatlas.surface(folders / "gpt2", TEXTS, x="-1:1:5")
    found = naive(
        folders / "gpt2", as_point(line.directions.x, load_model(folders / "gpt2"), "weights", "x"), line.x, 12
    )
    np.testing.assert_allclose(line.loss, found, rtol=1e-5)
    assert (
        line.about["request"]["loss"] == "next_token"
        if "request" in line.about
        else line.request["loss"] == "next_token"
    )
    said = [row for row in capsys.readouterr().out.splitlines() if row.startswith("texts: ")]
    assert said == [
        "texts: samples: 3 of up to 12 tokens, 21 tokens in all; cut at 12: 1, which loses 6 tokens; padded: 2; "
        "left out with fewer than 2 tokens: 1"
    ]


def test_files_and_other_functions_take_folders_too(home, capsys):
    line = lossatlas.surface("gpt2", "texts.jsonl", test="test.txt", x="-1:1:3", **QUIET)
    same = lossatlas.surface("gpt2", TEXTS, x="-1:1:3", **QUIET)
    assert np.array_equal(line.loss, same.loss)
    assert set(line.fields) >= {"train_loss", "test_loss"}
    data = {"input_ids": torch.tensor(cut(3))}
    assert lossatlas.surface("gpt2", data, x="0:1:2", **QUIET).done.all()
    found = lossatlas.spectrum("gpt2", TEXTS, top=1, bottom=0, max_trace_products=4, **QUIET)
    grid = lossatlas.eigenvalues("gpt2", data=TEXTS, x="0:0.1:2", **QUIET)
    assert grid.fields["max_eig"][0] == pytest.approx(found.eigenvalues[0], rel=1e-2)
    assert "samples" not in capsys.readouterr().out
    with pytest.raises(BadInput, match="its labels have to be shifted"):
        lossatlas.surface("gpt2", {**data, "labels": data["input_ids"]}, loss="crossentropy", x="0:1:2", **QUIET)
    assert lossatlas.surface("gpt2", TEXTS, x="0:1:2", towards="gpt2", norm="", **QUIET).loss[1] == same.loss[1]


def test_a_command_computes_what_python_does(home, capsys):
    """With a checkpoint in another folder as the end of the line, whose loss is that of the folder."""
    words = "--model hf:gpt2 --dataset text:texts.jsonl --dataset_args test=test.txt --split both".split()
    more = "--x=-1:1:3 --xnorm filter --xignore biasbn --dir_file d.h5 --batch_size 2 --threads 1".split()
    assert plot_surface.main([*words, *more, "--surf_file", "s.h5"]) == 0
    assert "no --model_file" not in capsys.readouterr().out
    found = read_surface("s.h5")
    moves = as_point(read_directions("d.h5").x, load_model("gpt2"), "weights", "x")
    np.testing.assert_allclose(found.fields["train_loss"], naive("gpt2", moves, found.grid.x, 12), rtol=1e-5)
    python = lossatlas.surface("gpt2", "texts.jsonl", test="test.txt", x="-1:1:3", batch_size=2, **QUIET)
    np.testing.assert_allclose(found.fields["test_loss"], python.fields["test_loss"], rtol=1e-6)
    assert found.request["model"] == "hf:gpt2"
    assert found.request["loss"] == "next_token"
    torch.manual_seed(5)
    other = GPT2LMHeadModel(GPT2Config.from_pretrained("gpt2", local_files_only=True))
    saved(home / "other", other)
    assert found.request["checkpoint"] != state_digest(read_state("other"))
    line = [*words, "--x=0:1:2", "--batch_size", "2", "--surf_file"]
    assert plot_surface.main([*line, "to.h5", "--model_file", "gpt2", "--model_file2", "other"]) == 0
    assert plot_surface.main([*line, "at.h5", "--model_file", "other", "--dir_file", "e.h5"]) == 0
    ends, there = read_surface("to.h5"), read_surface("at.h5")
    assert ends.request["checkpoint"] == state_digest(read_state("gpt2"))
    assert there.request["checkpoint"] == state_digest(read_state("other"))
    assert ends.fields["train_loss"][0] == pytest.approx(found.fields["train_loss"][1], rel=1e-6)
    assert ends.fields["train_loss"][1] == pytest.approx(there.fields["train_loss"][0], rel=1e-6)


@pytest.mark.mpi
def test_ranks_give_the_same_bits(home):
    words = "--model hf:llama --dataset text:texts.jsonl --x=-1:1:5 --xnorm filter --batch_size 2 --threads 1".split()
    command = [MPIRUN, "-n", "2", sys.executable, str(ROOT / "plot_surface.py"), "--mpi", *words, "--surf_file", "2.h5"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("samples: 3 of up to 18 tokens") == 1
    assert plot_surface.main([*words, "--surf_file", "1.h5"]) == 0
    one, two = (read_surface(file).fields["train_loss"] for file in ("1.h5", "2.h5"))
    assert np.array_equal(one, two)
    assert np.isfinite(one).all()


def test_half_precision_stays_and_another_is_on_request(home):
    net, data = lossatlas.language_model("llama", TEXTS, **QUIET)
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    assert not net.training
    state = read_state("llama")
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    wide, _ = lossatlas.language_model("llama", TEXTS, dtype="float32", **QUIET)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    half, full = (lossatlas.surface(each, data, loss="next_token", x="0:1:2", **QUIET) for each in (net, wide))
    assert half.loss[0] == pytest.approx(full.loss[0], rel=1e-2)
    assert half.loss[0] != full.loss[0]
    with pytest.raises(BadUsage, match=r"dtype='int8'.*: choose from 'float32'"):
        load_model("llama", "int8")


def test_little_memory_gives_the_same_losses(home):
    """In bfloat16, of one weight tensor at a time, with origin and directions on disk."""
    fast, low = (lossatlas.surface("llama", TEXTS, x="-1:1:3", memory=memory, **QUIET) for memory in ("fast", "low"))
    np.testing.assert_allclose(low.loss, fast.loss, rtol=2e-2)
    assert low.loss[1] == pytest.approx(fast.loss[1], rel=1e-6)


def test_texts_are_packed_on_request(home):
    _, data = lossatlas.language_model("gpt2", TEXTS, length=5, packed=True, **QUIET)
    stream = [WORDS.index(word) for text in TEXTS for word in (*text.split(), "</s>")]
    assert set(data.samples) == {"input_ids"}
    assert data.samples["input_ids"].flatten().tolist() == stream[: len(stream) // 5 * 5]


def test_chat_templates_are_used_on_request_alone(home):
    shutil.copytree(home / "gpt2", home / "chat")
    tokenizer(chat_template=CHAT).save_pretrained("chat")
    messages = [{"role": "dog", "content": "the cat"}, {"role": "cat", "content": "sat"}]
    (home / "chat.jsonl").write_text(json.dumps({"messages": messages}))
    expected = [[WORDS.index(word) for word in "dog the cat cat sat".split()]]
    for texts in ([messages], "chat.jsonl"):
        _, data = lossatlas.language_model("chat", texts, chat=True, **QUIET)
        assert data.samples["input_ids"].tolist() == expected
    _, data = lossatlas.language_model("chat", ["dog cat"], **QUIET)
    assert data.samples["input_ids"].tolist() == [[WORDS.index("dog"), WORDS.index("cat")]]
    with pytest.raises(BadInput, match="chat=True: the chat template fails"):
        lossatlas.language_model("gpt2", [messages], chat=True, **QUIET)


def without_a_layer(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state[next(name for name in state if "h.1.mlp.c_fc.weight" in name)]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as a causal language model"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
            "is not that of a causal language",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read as a causal language model"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"junk"),
            "cannot be read as a causal language model",
        ),
        (without_a_layer, "lacks weights .*h.1.mlp.c_fc.weight'$"),
        (lambda folder: [file.unlink() for file in folder.glob("tok*")], "holds no tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "the tokenizer in .* cannot be read"),
    ],
    ids=[
        "config",
        "damaged config",
        "not causal",
        "weights",
        "damaged weights",
        "a layer",
        "tokenizer",
        "damaged tokenizer",
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(folders, tmp_path, change, message):
    shutil.copytree(folders / "gpt2", tmp_path / "broken")
    change(tmp_path / "broken")
    with pytest.raises(BadInput, match=message) as caught:
        lossatlas.surface(tmp_path / "broken", TEXTS, x="0:1:2", **QUIET)
    assert "\n" not in str(caught.value)


def test_no_folder_and_models_that_see_later_tokens_are_refused(folders, capsys):
    with pytest.raises(BadInput, match=r"there is no folder nowhere/gpt2.*nothing is downloaded"):
        lossatlas.surface("nowhere/gpt2", TEXTS, x="0:1:2", **QUIET)
    with pytest.raises(BadInput, match="the output of BertLMHeadModel at a token depends on later ones"):
        load_model(folders / "bert")
    assert plot_surface.main(["--model", f"hf:{folders}", "--dataset", f"text:{folders}/a.txt", "--x=0:1:2"]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_a_tokenizer_of_another_model_is_refused(home):
    words = tokenizer()
    words.add_tokens(["zebra"])
    shutil.copytree(home / "gpt2", home / "other")
    words.save_pretrained("other")
    with pytest.raises(BadInput, match=f"gives the token {len(WORDS)}, the model there has {len(WORDS)}"):
        lossatlas.surface("other", ["the zebra"], x="0:1:2", **QUIET)


def test_spectra_and_fine_tuning_take_folders(home, capsys):
    words = "--model hf:gpt2 --dataset text:texts.jsonl".split()
    more = "--top 1 --bottom 0 --trace_most 4 --steps 5 --spectrum_file h.h5".split()
    assert hessian_spectrum.main([*words, *more]) == 0
    assert (
        train.main([*words, *"--epochs 2 --lr 0.05 --batch_size 2 --momentum 0 --save runs --save_epoch 1".split()])
        == 0
    )
    (tuned,) = (home / "runs").glob("gpt2_*/model_2.t7")
    line = [*words, "--model_file", "gpt2", "--model_file2", str(tuned), "--x=0:1:2", "--surf_file", "to.h5"]
    assert plot_surface.main(line) == 0
    before, after = read_surface("to.h5").fields["train_loss"]
    assert after < before


QUESTIONS = [
    {"context": "the cat sat", "choices": ["on", "on the mat", "dog"], "answer": "on the mat"},
    {"context": "a dog ran to", "choices": ["the cat", "mat"], "answer": 0},
    {"context": "", "choices": ["one", "dog ran"], "answer": 1},
]


def log_likelihoods(net, question):
    """Of each choice, by transformers' loss on the tokens of the choice alone."""
    for choice in question["choices"]:
        first = [WORDS.index(word) for word in question["context"].split()] or [WORDS.index("<s>")]
        rest = [WORDS.index(word) for word in choice.split()]
        ids, labels = torch.tensor([first + rest]), torch.tensor([[-100] * len(first) + rest])
        yield -float(net(input_ids=ids, labels=labels).loss) * len(rest)


def test_questions_with_choices(home):
    (home / "q.jsonl").write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS))
    words = "--model hf:gpt2 --dataset choices:q.jsonl --x=0:1:2 --surf_file q.h5".split()
    assert plot_surface.main(words) == 0
    found = read_surface("q.h5")
    assert found.request["loss"] == "multiple_choice"
    net, losses, right, by_length = load_model("gpt2").double(), [], [], []
    with torch.no_grad():
        for question in QUESTIONS:
            sums, answer = np.array(list(log_likelihoods(net, question))), question["answer"]
            answer = question["choices"].index(answer) if isinstance(answer, str) else answer
            losses.append(-sums[answer])
            right.append(sums.argmax() == answer)
            by_length.append((sums / [len(choice) for choice in question["choices"]]).argmax() == answer)
    assert found.fields["train_loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.fields["train_acc"][0] == pytest.approx(100 * np.mean(right))
    assert found.fields["train_accuracy_norm"][0] == pytest.approx(np.mean(by_length))
    data = lossatlas.question_data("gpt2", QUESTIONS, **QUIET)
    line = lossatlas.surface("gpt2", data, loss="multiple_choice", x="0:1:2", **QUIET)
    assert line.loss[0] == pytest.approx(found.fields["train_loss"][0], rel=1e-6)


def test_a_score_may_generate(home):
    """An exact match of generated tokens is that of the choice whose tokens are the most probable ones."""
    ids = torch.randint(3, len(WORDS), (30, 4), generator=torch.Generator().manual_seed(2))
    net, calls = load_model("gpt2"), []

    def generated(model, tokenizer, samples):
        prompts = samples["input_ids"][:, :3]
        calls.append(len(prompts))
        options = {"max_new_tokens": 1, "do_sample": False, "pad_token_id": 0}
        out = model.generate(prompts, attention_mask=torch.ones_like(prompts), **options)
        return out[:, 3] == samples["input_ids"][:, 3]

    with torch.no_grad():
        ids[::2, 3] = net(ids[::2, :3]).logits[:, -1].argmax(-1)
        right = net(ids[:, :3]).logits[:, -1].argmax(-1) == ids[:, 3]
    loss = lossatlas.with_scores(generated)
    line = lossatlas.surface(net, {"input_ids": ids}, loss=loss, x="-1:1:3", **QUIET)
    assert line.fields["train_generated"][1] == pytest.approx(float(right.double().mean()))
    assert calls


def test_the_python_of_the_page_runs(home):
    peft = pytest.importorskip("peft", reason="make test-integrations")
    chosen = peft.LoraConfig(target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    peft.get_peft_model(GPT2LMHeadModel.from_pretrained(home / "gpt2"), chosen).save_pretrained(home / "my_adapter")
    (home / "path" / "to").mkdir(parents=True)
    (home / "path" / "to" / "model").symlink_to(home / "gpt2")
    text = (ROOT / "docs" / "language-models.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    names = {}
    exec(compile(re.sub(r":\d+\"", ':3"', code), "language-models.md", "exec"), names)
    assert names["surface"].loss.shape == (3, 3)
    assert names["line"].done.all()


def test_the_samples_are_data_of_any_function(home):
    net, data = lossatlas.language_model("gpt2", "texts.jsonl", **QUIET)
    assert as_dataset(data) is data
    ids, mask = data.samples["input_ids"], data.samples["attention_mask"]
    logits = net(input_ids=ids, attention_mask=mask).logits[:, :-1]
    each = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * mask[:, 1:]
    line = lossatlas.surface(net, data, loss="next_token", x="0:1:2", **QUIET)
    assert line.loss[0] == pytest.approx(float((each.sum() / mask[:, 1:].sum()).detach()), rel=1e-6)
