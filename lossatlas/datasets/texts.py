"""Texts as samples of a causal language model: of a file or a list, tokenized, cut and padded, or packed.

--dataset text:FILE.jsonl         one JSON object a line, its text under `text` (field=NAME for another key)
--dataset text:FILE.txt           one text a paragraph, with empty lines between (by=line: one a line)

samples = TextSettings(length=512).samples(["a text", "another one"], "path/to/model")
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.data.transformers_library import LOCAL, model_folder, text_config, transformers_library
from lossatlas.errors import BadInput, BadUsage, first_line, note, say

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

LONGEST = 2048  # tokens of a sample, unless the user gives another length
NO_LIMIT = 10**9  # tokens
CONVERSATIONS = "conversations need chat=True"
TOKENIZER_FILES = ("*token*", "vocab.*", "*.model", "*.tiktoken")
Text = str | Sequence[Any]  # a text, or with a chat template a conversation: a list of {"role": ..., "content": ...}


def load_texts(
    file: str,
    tokenizer: str = "",
    split: str = "train",
    test: str = "",
    length: int = 0,
    *,
    packed: bool = False,
    chat: bool = False,
    field: str = "",
    by: str = "paragraph",
) -> "dict[str, Tensor]":
    """Read the texts of a file as samples: the data set `text:FILE`.

    Args:
        file: A .jsonl file, or a .txt file.
        tokenizer: The folder of the tokenizer, by default the tokenizer of the model `hf:FOLDER`.
        split: "train" for `file`, "test" for `test`.
        test: The file of the test texts.
        length: Largest number of tokens of a sample, see `TextSettings`.
        packed: Concatenate the texts, see `TextSettings`.
        chat: Render conversations by the chat template of the tokenizer, see `TextSettings`.
        field: Key of the text in a line of a .jsonl file; by default `text`, or `messages` with `chat`.
        by: 'paragraph' or 'line': the texts of a .txt file.

    Returns:
        The samples, see `TextSettings.samples`.

    Raises:
        BadUsage: There is no tokenizer, or an argument is wrong.
        BadInput: A file is missing or damaged, or holds no texts.
    """
    if not tokenizer:
        raise BadUsage(f"text:{file} needs a tokenizer: give the model as hf:FOLDER, or the argument tokenizer=FOLDER")
    if split == "test" and not test:
        raise BadInput(f"text:{file} is one file, of training data: name the test texts by the argument test=FILE")
    place = Path(test if split == "test" else file)
    settings = TextSettings(length, packed, chat)
    texts = read_texts(place, field or ("messages" if chat else "text"), by, only_texts=not chat)
    samples, line = settings.samples(texts, tokenizer)
    say(f"{place.name}: {line}")
    return samples


def read_texts(file: Path, field: str = "text", by: str = "paragraph", *, only_texts: bool = False) -> list[Any]:
    """Read the texts of a file.

    Args:
        file: A .jsonl file with one object a line, or a .txt file.
        field: Key of the text in an object.
        by: 'paragraph' for texts with empty lines between, 'line' for one text a line, of a .txt file.
        only_texts: Refuse what is no text under the key, such as a conversation.

    Returns:
        The texts; of a .jsonl file what the objects hold under the key.

    Raises:
        BadUsage: The ending of the file, or `by`, is none of these.
        BadInput: The file is missing, empty, not UTF-8, or a line is no such object.
    """
    if by not in ("paragraph", "line"):
        raise BadUsage(f"by={by}: the texts of a file are its paragraphs (by=paragraph) or its lines (by=line)")
    if file.suffix == ".jsonl":
        hint = "; name the key by the argument field=NAME"
        texts = [found[field] for found in read_objects(file, (field,), hint, texts=(field,) if only_texts else ())]
    elif file.suffix != ".txt":
        raise BadUsage(f"{file}: texts are read from .jsonl and .txt files")
    else:
        content = read_text_file(file)
        parts = content.splitlines() if by == "line" else paragraphs(content)
        texts = [part for part in parts if part.strip()]
    if not texts:
        raise BadInput(f"{file} holds no text")
    return texts


def paragraphs(content: str) -> list[str]:
    """Return the groups of lines between empty lines."""
    groups: list[list[str]] = [[]]
    for line in content.splitlines():
        if line.strip():
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    return ["\n".join(lines) for lines in groups]


def read_text_file(file: Path) -> str:
    """Return the content of a file in UTF-8.

    Raises:
        BadInput: The file cannot be read, or is not in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadInput(f"{file} cannot be read as text: {reason}") from error


def read_objects(file: Path, keys: Sequence[str], hint: str = "", texts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read the objects in the lines of a .jsonl file.

    Args:
        file: The file; empty lines do not count.
        keys: Keys that each object has to have.
        hint: The end of the message where one is missing.
        texts: Those of them whose values have to be texts.

    Raises:
        BadUsage: The name of the file has another ending.
        BadInput: The file is missing, or a line is no such object.
    """
    if file.suffix != ".jsonl":
        raise BadUsage(f"{file}: this is read from a .jsonl file, one object on each line")
    lines, result = read_text_file(file).split("\n"), []  # not `splitlines`: texts may hold other line ends
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{file}, line {number}: no JSON ({first_line(error)})") from error
        if not isinstance(found, dict):
            raise BadInput(f"{file}, line {number}: it is no object with {', '.join(keys)}")
        if missing := [key for key in keys if key not in found]:
            raise BadInput(f"{file}, line {number}: no key '{missing[0]}': it has {', '.join(map(str, found))}{hint}")
        if odd := [key for key in texts if not isinstance(found[key], str)]:
            kind = type(found[odd[0]]).__name__
            raise BadInput(f"{file}, line {number}: '{odd[0]}' is {kind}, not a str ({CONVERSATIONS})")
        result.append(found)
    return result


@dataclass(frozen=True)
class TextSettings:
    """The way from texts to samples.

    Attributes:
        length: Largest number of tokens of a sample; 0 for LONGEST, or for the positions of the model where these are
            fewer.
        packed: Concatenate the texts, each with the end-of-text token behind it, and cut the whole into samples of
            `length`. Otherwise one text is one sample, cut at `length` and padded on the right.
        chat: The texts are conversations, rendered by the chat template of the tokenizer. Otherwise no template is
            used.
    """

    length: int = 0
    packed: bool = False
    chat: bool = False

    def samples(self, texts: Sequence[Text], tokenizer: str | Path) -> "tuple[dict[str, Tensor], str]":
        """Tokenize texts.

        Args:
            texts: The texts; with `chat` conversations.
            tokenizer: The folder of the model with the tokenizer, whose special tokens are added as it does by
                default.

        Returns:
            `input_ids` (n, t), and `attention_mask` (n, t) where samples are padded; and a line that says what was
            done.

        Raises:
            BadUsage: The length is too small.
            BadInput: There is no tokenizer, it lacks a template or a token, or its tokens are not those of the model.
        """
        folder = model_folder(tokenizer)
        with transformers_library() as library:
            config, words = text_config(library, folder), read_tokenizer(library, folder)
            length = self.length_for(config, words)
            encoded = self.encoded(texts, words)
        check_vocabulary(encoded, config, folder)
        if self.packed:
            return packed_samples(encoded, length, words.eos_token_id, folder)
        return padded_samples(encoded, length, words.pad_token_id)

    def length_for(self, config: Any, tokenizer: Any) -> int:
        """Return the largest number of tokens of a sample.

        Raises:
            BadUsage: The length of the settings is neither 0 nor a whole number of at least 2.
        """
        if self.length and (not isinstance(self.length, int) or self.length < 2):
            raise BadUsage(f"length={self.length}: a sample has at least 2 tokens, the second of which is predicted")
        own: Any = getattr(config, "max_position_embeddings", None) or getattr(tokenizer, "model_max_length", NO_LIMIT)
        if 1 < own < self.length:
            note(f"samples of {self.length:,} tokens are longer than the {own:,} positions that the model is made for")
        return self.length or (min(LONGEST, int(own)) if own > 1 else LONGEST)

    def encoded(self, texts: Sequence[Text], tokenizer: Any) -> list[list[int]]:
        """Return the tokens of each text.

        Raises:
            BadInput: The chat template fails, a text is no str, or there are no texts.
        """
        if self.chat:
            try:
                texts = [tokenizer.apply_chat_template(text, tokenize=False) for text in texts]
            except Exception as error:  # templates raise nearly anything
                raise BadInput(f"chat=True: the chat template fails: {first_line(error)}") from error
        elif odd := [number for number, text in enumerate(texts, 1) if not isinstance(text, str)]:
            kind = type(texts[odd[0] - 1]).__name__
            raise BadInput(f"text {odd[0]} of {len(texts)} is {kind}, not a str ({CONVERSATIONS})")
        if not texts:
            raise BadInput("there are no texts")
        return tokenizer(list(texts), add_special_tokens=not self.chat)["input_ids"]


def read_tokenizer(transformers: Any, folder: Path) -> Any:
    """Return the tokenizer in a folder.

    Raises:
        BadInput: The folder holds no tokenizer, or the tokenizer cannot be read.
    """
    if not any(any(folder.glob(name)) for name in TOKENIZER_FILES):
        raise BadInput(
            f"{folder} holds no tokenizer: save it there too, or name the folder that has it by tokenizer=FOLDER"
        )
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
    except Exception as error:  # damaged files raise nearly anything
        raise BadInput(f"the tokenizer in {folder} cannot be read: {first_line(error)}") from error


def check_vocabulary(encoded: Sequence[Sequence[int]], config: Any, folder: Path) -> None:
    """Raise BadInput where a token is none of the model's."""
    words = getattr(config, "vocab_size", None)
    largest = max((max(tokens) for tokens in encoded if tokens), default=0)
    if words is not None and largest >= words:
        raise BadInput(
            f"the tokenizer in {folder} gives the token {largest}, the model there has {words}: they do not belong "
            "together"
        )


def padded_samples(
    encoded: Sequence[Sequence[int]], length: int, padding: int | None
) -> "tuple[dict[str, Tensor], str]":
    """Make one sample of each text with two tokens or more.

    Args:
        encoded: The tokens of each text.
        length: Largest number of tokens of a sample.
        padding: The token of padding, which counts nowhere; None for 0.

    Returns:
        See `TextSettings.samples`.

    Raises:
        BadInput: No text has two tokens.
    """
    import torch

    kept = [tokens[:length] for tokens in encoded if len(tokens) > 1]
    if not kept:
        raise BadInput("no text has two tokens, the second of which could be predicted")
    sizes = torch.tensor([len(tokens) for tokens in kept])
    longest = int(sizes.max())
    ids = torch.full((len(kept), longest), padding or 0)
    for row, tokens in zip(ids, kept, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    padded = int((sizes < longest).sum())
    lost = [len(tokens) - length for tokens in encoded if len(tokens) > length]
    parts = [
        sample_counts(len(kept), int(sizes.sum()), longest),
        f"cut at {length:,}: {len(lost):,}, which loses {sum(lost):,} tokens" if lost else "",
        f"padded: {padded:,}" if padded else "",
        f"left out with fewer than 2 tokens: {len(encoded) - len(kept):,}" if len(kept) < len(encoded) else "",
    ]
    mask = {"attention_mask": (torch.arange(longest) < sizes[:, None]).long()} if padded else {}
    return {"input_ids": ids, **mask}, "; ".join(filter(None, parts))


def packed_samples(
    encoded: Sequence[Sequence[int]], length: int, end: int | None, folder: Path
) -> "tuple[dict[str, Tensor], str]":
    """Concatenate all texts, each with a token behind it, and cut them into samples of one length.

    Args:
        encoded: The tokens of each text.
        length: The number of tokens of a sample.
        end: The token behind each text that does not end in it.
        folder: The folder of the tokenizer, for messages.

    Returns:
        See `TextSettings.samples`. What is left at the end is no sample.

    Raises:
        BadInput: There is no such token, or the texts have fewer than two tokens.
    """
    import torch

    if end is None:
        raise BadInput(f"packed=True: the tokenizer in {folder} has no end-of-text token to put between texts")
    stream = [token for tokens in encoded for token in (*tokens, *([] if list(tokens[-1:]) == [end] else [end]))]
    length = min(length, len(stream))
    if length < 2:
        raise BadInput("the texts have fewer than two tokens, the second of which could be predicted")
    count = len(stream) // length
    ids = torch.tensor(stream[: count * length]).view(count, length)
    rest = len(stream) - ids.numel()
    parts = [
        sample_counts(count, ids.numel(), length),
        f"packed texts: {len(encoded):,}, with the token {end} behind each",
        f"left out at the end: {rest:,} tokens" if rest else "",
    ]
    return {"input_ids": ids}, "; ".join(filter(None, parts))


def sample_counts(samples: int, tokens: int, longest: int) -> str:
    """Describe samples in numbers."""
    return f"samples: {samples:,} of up to {longest:,} tokens, {tokens:,} tokens in all"
