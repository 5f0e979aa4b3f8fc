"""Multiple choice by log-likelihood against an independent loop, and scores by a user's function."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import lossatlas
from lossatlas.data import LOSSES, as_loss
from lossatlas.datasets.questions import Question, encoded_pair, load_questions, padded_questions
from lossatlas.errors import BadInput, BadUsage
from lossatlas.parameter_space import as_point

WORDS = 30


class Letters:
    """A tokenizer of letters, in which 'th' and ' a' are one token each: pieces that a cut of the text may divide."""

    bos_token_id, eos_token_id = 1, 2
    pieces = ("th", " a", *"abcdefghijklmnopqrstuvwxyz ")

    def __call__(self, text, add_special_tokens=True):
        tokens = [self.bos_token_id] if add_special_tokens else []
        while text:
            piece = next(piece for piece in self.pieces if text.startswith(piece))
            tokens.append(self.pieces.index(piece) % (WORDS - 3) + 3)
            text = text[len(piece) :]
        return {"input_ids": tokens}


class Causal(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.embed, self.out = nn.Embedding(WORDS, width), nn.Linear(width, WORDS)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        seen = (x * mask[..., None]).cumsum(1) / mask.cumsum(1)[..., None]
        return {"logits": self.out(torch.tanh(seen) + x)}


def questions():
    generator = np.random.default_rng(0)

    def text(low, high):
        return "".join(generator.choice(list("abcdeht "), generator.integers(low, high)))

    for k in range(40):
        choices = [text(1, 9).strip() or "a" for _ in range(generator.integers(2, 5))]
        context = ("", "ab ", "the cat  ", "t")[k] if k < 4 else text(0, 12)
        yield {"context": context, "choices": choices, "answer": int(generator.integers(len(choices)))}


QUESTIONS = list(questions())


def samples(length=64, asked=QUESTIONS):
    checked = [Question.of(k, each) for k, each in enumerate(asked, 1)]
    pairs = [[encoded_pair(Letters(), q.context, " " + choice) for choice in q.choices] for q in checked]
    return padded_questions(checked, pairs, length)[0]


@torch.no_grad()
def log_likelihood(net, context, continuation, length):
    """As lm-evaluation-harness has it: of one text, by a loop over its tokens, in float64."""
    words, spaces = Letters(), len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    first = words(context)["input_ids"]
    rest = words(context + continuation)["input_ids"][len(first) :]
    tokens = (first + rest)[-(length + 1) :]
    rows = net(torch.tensor([tokens[:-1]]))["logits"][0]
    total, greedy = 0.0, True
    for k in range(len(rest)):
        row, token = rows[len(rows) - len(rest) + k], rest[k]
        total += float(row[token] - row.exp().sum().log())
        greedy &= int(row.argmax()) == token
    return total, greedy


def naive(net, length=64):
    """Losses, and right answers by log-likelihood, by it per character, and by greedy continuation."""
    net, found = copy.deepcopy(net).double(), []
    for question in QUESTIONS:
        each = [log_likelihood(net, question["context"], " " + choice, length) for choice in question["choices"]]
        sums, answer = np.array([total for total, _ in each]), question["answer"]
        norms = sums / np.array([len(choice) for choice in question["choices"]])
        found.append((-sums[answer], sums.argmax() == answer, norms.argmax() == answer, each[answer][1]))
    return np.array(found, float).T


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Causal()


@pytest.mark.parametrize("length", [64, 10])
def test_choices_have_the_log_likelihoods_of_a_loop(net, length):
    found = LOSSES["multiple_choice"](net, samples(length))
    loss, right, right_per_character, greedy = naive(net, length)
    np.testing.assert_allclose(found.per_sample.detach(), loss, rtol=1e-5)
    assert np.array_equal(found.metrics["accuracy"], right)
    assert np.array_equal(found.metrics["accuracy_norm"], right_per_character)
    assert np.array_equal(found.metrics["exact_match"], greedy)
    assert 0 < right.mean() < 1
    assert (right != right_per_character).any()


def test_a_greedy_continuation_is_an_exact_match(net):
    """One choice: the text that the model itself continues with, and another one."""
    with torch.no_grad():
        token = int(net(torch.tensor([Letters()("ab")["input_ids"]]))["logits"][0, -1, 3:].argmax()) + 3
    pair, other = ([1, 3 + 2, 3 + 3], [token]), ([1, 3 + 2, 3 + 3], [(token - 2) % 27 + 3])
    batch, _ = padded_questions([Question("ab", ("x",), 0)] * 2, [[pair], [other]], 64)
    found = LOSSES["multiple_choice"](net, batch)
    logits = net(torch.tensor([pair[0]]))["logits"][0, -1]
    assert set(found.metrics) == {"exact_match"}
    assert found.metrics["exact_match"].tolist() == [int(logits.argmax()) == token, False]
    torch.testing.assert_close(found.per_sample[0], logits.logsumexp(0) - logits[token])


def test_a_surface_has_the_scores_of_each_point(net):
    line = lossatlas.surface(net, samples(), loss="multiple_choice", x="-1:1:5", progress=False)
    twin, moves = copy.deepcopy(net), as_point(line.directions.x, net, "weights", "x")
    for k, a in enumerate(line.x):
        with torch.no_grad():
            for p, (n, q) in zip(twin.parameters(), net.named_parameters(), strict=True):
                p.copy_(q + a * moves[n])
        loss, right, right_per_character, greedy = naive(twin)
        assert line.loss[k] == pytest.approx(loss.mean(), rel=1e-5)
        assert line.fields["train_acc"][k] == pytest.approx(100 * right.mean())
        assert line.fields["train_accuracy_norm"][k] == pytest.approx(right_per_character.mean())
        assert line.fields["train_exact_match"][k] == pytest.approx(greedy.mean())


def test_an_empty_context_is_the_beginning_of_a_text():
    assert encoded_pair(Letters(), "", "b") == ([1], Letters()("b")["input_ids"][1:])
    assert encoded_pair(Letters(), "  ", "b") == ([1], Letters()("  b")["input_ids"][1:])

    class OnlyAnEnd(Letters):
        bos_token_id, eos_token_id = None, 2

    class Nothing(Letters):
        bos_token_id = eos_token_id = None

    assert encoded_pair(OnlyAnEnd(), "", "b")[0] == [2]
    with pytest.raises(BadInput, match="a token that begins or ends a text"):
        encoded_pair(Nothing(), "", "b")
    with pytest.raises(BadInput, match="no token of its own"):
        encoded_pair(Letters(), "t", "")


def test_an_end_that_the_tokenizer_appends_is_no_part_of_a_question():
    class WithEnd(Letters):
        def __call__(self, text, add_special_tokens=True):
            found = super().__call__(text, add_special_tokens)["input_ids"]
            return {"input_ids": found + [self.eos_token_id] * add_special_tokens}

    for context, choice in (("the", " a"), ("t", "he"), ("", "b")):
        assert encoded_pair(WithEnd(), context, choice) == encoded_pair(Letters(), context, choice)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"context": "a", "choices": ["b"]}, "question 1 is no dict with context, choices, answer"),
        ({"context": "a", "choices": "bc", "answer": 0}, "the choices are a list of texts"),
        ({"context": "a", "choices": ["b", ""], "answer": 0}, "a choice that is no text, or an empty one"),
        ({"context": "a", "choices": ["b", "c"], "answer": 2}, "the answer 2 is none of its 2 choices"),
        ({"context": "a", "choices": ["b", "c"], "answer": "d"}, "the answer 'd' is none"),
    ],
    ids=["keys", "text", "empty", "number", "name"],
)
def test_what_is_no_question_is_refused(question, message):
    with pytest.raises(BadInput, match=message):
        Question.of(1, question)


def test_answers_are_numbers_or_texts_and_choices_fit():
    assert Question.of(1, {"context": "a", "choices": ["b", "c"], "answer": "c"}).answer == 1
    with pytest.raises(BadInput, match="a choice has 4 tokens, more than the 3 that the model sees"):
        samples(3, [{"context": "a", "choices": ["bcd"], "answer": 0}])
    with pytest.raises(BadInput, match="multiple_choice needs questions"):
        LOSSES["multiple_choice"](Causal(), {"input_ids": torch.zeros(1, 1, 1)})
    with pytest.raises(BadUsage, match=r"choices:a\.jsonl needs a tokenizer"):
        load_questions("a.jsonl")
    with pytest.raises(BadInput, match="name the test questions by the argument test=FILE"):
        load_questions("a.jsonl", "folder", split="test")


def test_a_file_of_questions_has_one_object_a_line(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"context": "a", "choices": ["b"]}))
    with pytest.raises(BadInput, match=r"line 1: no key 'answer': it has context, choices$"):
        load_questions(str(tmp_path / "a.jsonl"), "folder")
    with pytest.raises(BadUsage, match=r"read from a \.jsonl file"):
        load_questions(str(tmp_path / "a.csv"), "folder")


# Scores by a user's function ----------------------------------------------------------------------------------------

IDS = torch.randint(0, WORDS, (40, 6), generator=torch.Generator().manual_seed(1))


def last_is_most_probable(model, tokenizer, samples):
    assert isinstance(tokenizer, Letters)
    return model(samples["input_ids"][:, :-1])["logits"][:, -1].argmax(1) == samples["input_ids"][:, -1]


def test_scores_are_fields_beside_the_loss(net):
    data = {"input_ids": IDS, "text": [str(k) for k in range(40)]}
    loss = lossatlas.with_scores(last_is_most_probable, Letters())
    line = lossatlas.surface(net, data, loss=loss, x="-1:1:3", progress=False)
    plain = lossatlas.surface(net, IDS, loss="next_token", x="-1:1:3", progress=False)
    np.testing.assert_allclose(line.loss, plain.loss, rtol=1e-6)
    with torch.no_grad():
        right = net(IDS[:, :-1])["logits"][:, -1].argmax(1) == IDS[:, -1]
    assert line.fields["train_last_is_most_probable"][1] == pytest.approx(float(right.double().mean()))


def test_each_sample_counts_once_in_the_mean_of_a_score(net):
    """Although samples have 1 to 5 tokens to predict."""
    mask = (torch.arange(6) < torch.arange(40)[:, None] % 5 + 2).long()

    def first_is_even(model, tokenizer, samples):
        return samples["input_ids"][:, 0] % 2 == 0

    data, loss = {"input_ids": IDS, "attention_mask": mask}, lossatlas.with_scores(first_is_even)
    line = lossatlas.surface(net, data, loss=loss, x="0:1:2", batch_size=7, progress=False)
    assert line.fields["train_first_is_even"][0] == pytest.approx(float((IDS[:, 0] % 2 == 0).double().mean()))
    each = LOSSES["next_token"](net, data).per_sample.detach()
    assert line.loss[0] == pytest.approx(float(each.mean()), rel=1e-5)


def test_scores_by_name_may_be_lists_and_draw_the_same_each_time(net):
    def drawn(model, tokenizer, samples):
        return {"luck": torch.rand(len(samples)), "number": [1.0] * len(samples)}

    loss = lossatlas.with_scores(drawn)
    before = torch.random.get_rng_state()
    found, again = loss(net, IDS), loss(net, IDS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(found.metrics["luck"], again.metrics["luck"])
    assert found.metrics["number"].tolist() == [1.0] * 40
    assert not found.metrics["luck"].requires_grad
    with pytest.raises(BadInput, match="a score gave str, not one number for each sample"):
        lossatlas.with_scores(lambda model, tokenizer, samples: "good")(net, IDS)
    with pytest.raises(BadInput, match=r"a loss gave metrics\['short'\] \(2,\) for 40 samples"):

        def short(model, tokenizer, samples):
            return [0, 1]

        lossatlas.surface(net, IDS, loss=lossatlas.with_scores(short), x="0:1:2", progress=False)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (3, r"^score=3: give a function score\(model, tokenizer, samples\)"),
        (lambda a: 0, r"^the score lambda\(a\) does not take three arguments: give a function score\(model"),
    ],
)
def test_a_score_that_is_no_function_of_three_arguments_is_refused(score, message):
    with pytest.raises(BadUsage, match=message):
        lossatlas.with_scores(score)


def test_a_score_in_the_place_of_a_loss_is_told():
    def ends_right(model, tokenizer, samples):
        return samples[:, 0]

    with pytest.raises(
        BadUsage, match=r"^ends_right\(model, tokenizer, samples\) .* lossatlas.with_scores\(ends_right"
    ):
        as_loss(ends_right)
