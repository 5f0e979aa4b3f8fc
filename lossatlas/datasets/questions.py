"""Questions with choices as samples of a causal language model: contexts, and continuations of which one is right.

    --dataset choices:FILE.jsonl      {"context": "Two and two are", "choices": ["four", "five"], "answer": 0} on each
    line

Contexts and choices become tokens as in lm-evaluation-harness: they are tokenized together, spaces at the end of a
context belong to the choice, and tokens beyond the length are left out at the beginning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.data.transformers_library import model_folder, text_config, transformers_library
from lossatlas.datasets.texts import TextSettings, check_vocabulary, read_objects, read_tokenizer
from lossatlas.errors import BadInput, BadUsage, say
from lossatlas.signatures import checking_keywords

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

    from lossatlas.data import Dataset

IGNORED = -100  # a token that does not count, as in torch
KEYS = ("context", "choices", "answer")


def load_questions(
    file: str, tokenizer: str = "", split: str = "train", test: str = "", length: int = 0, *, delimiter: str = " "
) -> "dict[str, Tensor]":
    """Read the questions of a file as samples: the data set `choices:FILE.jsonl`.

    Args:
        file: A .jsonl file, each line of which has the keys `context`, `choices` (texts) and `answer` (number or text).
        tokenizer: The folder of the tokenizer, by default the tokenizer of the model `hf:FOLDER`.
        split: "train" for `file`, "test" for `test`.
        test: The file of the test questions.
        length: Largest number of tokens that the model sees, see `question_data`.
        delimiter: The text between a context and a choice.

    Returns:
        The samples, see `question_data`.

    Raises:
        BadUsage: There is no tokenizer, or an argument is wrong.
        BadInput: A file is missing or damaged, or holds no questions.
    """
    if not tokenizer:
        raise BadUsage(
            f"choices:{file} needs a tokenizer: give the model as hf:FOLDER, or the argument tokenizer=FOLDER"
        )
    if split == "test" and not test:
        raise BadInput(
            f"choices:{file} is one file, of training data: name the test questions by the argument test=FILE"
        )
    place = Path(test if split == "test" else file)
    samples, line = question_samples(read_objects(place, KEYS), tokenizer, length, delimiter)
    say(f"{place.name}: {line}")
    return samples


@checking_keywords
def question_data(
    folder: str | Path,
    questions: str | Path | Sequence[Mapping[str, Any]],
    *,
    length: int = 0,
    delimiter: str = " ",
    progress: bool = True,
) -> "Dataset":
    """Tokenize questions with choices for a causal language model of Hugging Face, as lm-evaluation-harness does.

    Args:
        folder: The local folder of the model, with its tokenizer.
        questions: Each a dict of `context`, `choices` (texts) and `answer` (the number of the right choice, from 0, or
            its text); or a .jsonl file of such objects. One choice alone is a text that the model should continue so.
        length: Largest number of tokens that the model sees; 0 for 2,048, or for the positions of the model where
            these are fewer. Longer contexts are cut at the beginning.
        delimiter: The text between a context and a choice.
        progress: Print a line that says how many questions there are, and how many were cut.

    Returns:
        The samples, for the loss 'multiple_choice': `input_ids`, `attention_mask` and `following`, the token behind
        each position, (questions, choices, tokens); `characters` (questions, choices), and `answer` (questions,).

    Raises:
        BadUsage: The length is too small.
        BadInput: transformers or a tokenizer is missing, or a question is none.

    Example:
        >>> import lossatlas
        >>> questions = [{"context": "Two and two are", "choices": ["four", "five"], "answer": 0}]
        >>> data = lossatlas.question_data("path/to/model", questions)  # doctest: +SKIP
        >>> lossatlas.question_data("no/folder", questions)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lossatlas.errors.BadInput: there is no folder no/folder: name one with config.json, weights and tokenizer; ...
    """
    from lossatlas.data import Dataset

    name = "questions"
    if isinstance(questions, str | Path):
        name = Path(questions).name
        questions = read_objects(Path(questions), KEYS)
    samples, line = question_samples(questions, folder, length, delimiter)
    if progress:
        say(f"{name}: {line}")
    return Dataset(name, "train", samples)


@dataclass(frozen=True)
class Question:
    """A context with choices.

    Attributes:
        context: The text before each choice.
        choices: The choices.
        answer: The number of the right one, from 0.
    """

    context: str
    choices: tuple[str, ...]
    answer: int

    @classmethod
    def of(cls, number: int, given: Any) -> "Question":
        """Check a question.

        Args:
            number: Its number, from 1.
            given: A dict with KEYS.

        Raises:
            BadInput: It is no such dict, a part has another type, or the answer is none of the choices.
        """
        if not isinstance(given, Mapping) or not set(KEYS) <= set(given):
            raise BadInput(f"question {number} is no dict with {', '.join(KEYS)}")
        context, choices, answer = (given[key] for key in KEYS)
        if not isinstance(context, str) or not isinstance(choices, list | tuple) or not choices:
            raise BadInput(f"question {number}: the context is a text, and the choices are a list of texts")
        if not all(isinstance(choice, str) and choice for choice in choices):
            raise BadInput(f"question {number} has a choice that is no text, or an empty one")
        if isinstance(answer, str) and answer in choices:
            answer = list(choices).index(answer)
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
            raise BadInput(f"question {number}: the answer {answer!r} is none of its {len(choices)} choices")
        return cls(context, tuple(choices), answer)


def question_samples(
    questions: Sequence[Any], folder: str | Path, length: int, delimiter: str
) -> "tuple[dict[str, Tensor], str]":
    """Return the samples of questions, see `question_data`, and a line about them.

    Args:
        questions: Each a dict of `context`, `choices` (texts) and `answer` (number from 0, or text).
        folder: Local folder of the model, with its tokenizer.
        length: Largest number of tokens that the model sees; 0 for the usual number.
        delimiter: The text between a context and a choice.

    Returns:
        The samples, and a line that says how many questions there are, and how many were cut.

    Raises:
        BadInput: There are no questions, one of them is incomplete, or the folder cannot be read.
    """
    asked = [Question.of(number, each) for number, each in enumerate(questions, 1)]
    if not asked:
        raise BadInput("there are no questions")
    path = model_folder(folder)
    with transformers_library() as library:
        config, words = text_config(library, path), read_tokenizer(library, path)
        length = TextSettings(length).length_for(config, words)
        pairs = [[encoded_pair(words, q.context, delimiter + choice) for choice in q.choices] for q in asked]
    check_vocabulary([(*context, *end) for each in pairs for context, end in each], config, path)
    return padded_questions(asked, pairs, length)


def encoded_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a context and of its continuation.

    Args:
        tokenizer: The tokenizer.
        context: The context; spaces at its end belong to the continuation. Where it is empty, the model sees the token
            of the beginning or of the end of a text.
        continuation: The continuation.

    Raises:
        BadInput: The continuation has no token of its own, or the tokenizer no token for an empty context.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    if kept:
        plain = list(tokenizer(kept, add_special_tokens=False)["input_ids"])
        first = start_tokens(tokenizer, kept, plain) + plain
        rest = list(tokenizer(kept + continuation, add_special_tokens=False)["input_ids"])[len(plain) :]
    else:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise BadInput("a question without a context needs a tokenizer with a token that begins or ends a text")
        first, rest = [start], list(tokenizer(continuation, add_special_tokens=False)["input_ids"])
        rest = rest[1:] if rest[:1] == first else rest
    if not rest:
        raise BadInput(f"the choice {continuation!r} has no token of its own behind its context")
    return first, rest


def start_tokens(tokenizer: Any, text: str, plain: list[int]) -> list[int]:
    """Return the special tokens that the tokenizer puts in front of a text; those behind it are no part of a question.

    Args:
        tokenizer: The tokenizer.
        text: A text.
        plain: Its tokens without special ones.
    """
    whole = list(tokenizer(text)["input_ids"])
    places = range(len(whole) - len(plain) + 1)
    return whole[: next((k for k in places if whole[k : k + len(plain)] == plain), 0)]


def padded_questions(
    questions: Sequence[Question], pairs: Sequence[Sequence[tuple[list[int], list[int]]]], length: int
) -> "tuple[dict[str, Tensor], str]":
    """Make the samples, padded on the right and by choices that do not exist.

    Args:
        questions: The questions.
        pairs: The tokens of context and choice, by question and choice.
        length: Largest number of tokens that the model sees.

    Returns:
        See `question_samples`.

    Raises:
        BadInput: A choice has more tokens than the model sees.
    """
    import torch

    if longest := next((end for each in pairs for _, end in each if len(end) > length), None):
        raise BadInput(f"a choice has {len(longest)} tokens, more than the {length} that the model sees")
    rows = [[(*context, *end)[-length - 1 :] for context, end in each] for each in pairs]
    size, most = max(len(row) for each in rows for row in each) - 1, max(map(len, rows))
    ids = torch.zeros(len(rows), most, size, dtype=torch.int64)
    mask, following = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    mask[..., 0] = 1  # also of choices that do not exist, because attention to nothing is not a number
    characters = torch.zeros(len(rows), most, dtype=torch.int64)
    for i, (question, each) in enumerate(zip(questions, rows, strict=True)):
        for k, row in enumerate(each):
            end, seen = len(pairs[i][k][1]), len(row) - 1
            ids[i, k, :seen], mask[i, k, :seen] = torch.tensor(row[:-1]), 1
            following[i, k, seen - end : seen] = torch.tensor(row[-end:])
            characters[i, k] = len(question.choices[k])
    answer = torch.tensor([question.answer for question in questions])
    cut = sum(len(context) + len(end) - 1 > length for each in pairs for context, end in each)
    line = f"questions: {len(rows):,}, of up to {most} choices and {size:,} tokens" + (
        f"; contexts cut at the beginning to {length:,} tokens: {cut:,}" if cut else ""
    )
    samples = {"input_ids": ids, "attention_mask": mask, "following": following}
    return {**samples, "characters": characters, "answer": answer}, line
