"""Causal language models in local folders of Hugging Face: config.json, weights as safetensors, a tokenizer.

    --model hf:FOLDER                                       on the command line
    net, data = language_model("path/to/model", texts)      in Python

Nothing is fetched over a network, and no code in a folder is executed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossatlas.argument_checks import checked_word
from lossatlas.data import Dataset
from lossatlas.data.transformers_library import LOCAL, model_folder, transformers_library
from lossatlas.datasets.texts import Text, TextSettings, read_texts
from lossatlas.errors import BadInput, counted, first_line, note, say
from lossatlas.signatures import checking_keywords

DTYPES = ("float32", "float64", "bfloat16", "float16")
PROBED = 8  # tokens of the sequence on which causality is checked


@checking_keywords
def language_model(
    folder: str | Path,
    texts: str | Path | Sequence[Text],
    *,
    length: int = 0,
    packed: bool = False,
    chat: bool = False,
    dtype: str | None = None,
    progress: bool = True,
) -> tuple[nn.Module, Dataset]:
    """Read a causal language model of Hugging Face from a local folder, and tokenize texts for it.

    Args:
        folder: The folder, with config.json, weights (safetensors, also in shards) and tokenizer. Nothing is
            downloaded.
        texts: The texts; with `chat` conversations, each a list of {"role": ..., "content": ...}; or a .jsonl or .txt
            file, see `lossatlas.datasets.texts.read_texts`.
        length: Largest number of tokens of a sample; 0 for 2,048, or for the positions of the model where these are
            fewer.
        packed: Concatenate the texts, each with the end-of-text token behind it, and cut the whole into samples of
            `length` tokens. By default one text is one sample, cut at `length` and padded on the right.
        chat: Render conversations by the chat template of the tokenizer. By default no template is used.
        dtype: 'float32', 'float64', 'bfloat16' or 'float16'; by default the type of the weights in the folder.
        progress: Print a line that says how many samples were made, and how many texts were cut or padded.

    Returns:
        The network in evaluation mode, and the samples, for the loss 'next_token'.

    Raises:
        BadUsage: An argument is wrong.
        BadInput: transformers is missing, the folder holds no causal language model or no tokenizer, or there are no
            texts.

    Example:
        >>> import lossatlas
        >>> net, data = lossatlas.language_model("path/to/model", ["One text.", "Another text."])  # doctest: +SKIP
        >>> line = lossatlas.surface(net, data, loss="next_token", x="-1:1:21")  # doctest: +SKIP
        >>> lossatlas.language_model("no/folder", ["One text."])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lossatlas.errors.BadInput: there is no folder no/folder: name one with config.json, weights and tokenizer; ...
    """
    net = load_model(folder, dtype)
    return net, text_data(folder, texts, TextSettings(length, packed, chat), progress=progress)


def text_data(
    folder: str | Path,
    texts: str | Path | Sequence[Text],
    settings: TextSettings,
    *,
    split: str = "train",
    progress: bool,
) -> Dataset:
    """Return the samples of texts for the model in a folder.

    Args:
        folder: Local folder of the model, with its tokenizer.
        texts: The texts; with `settings.chat` conversations; or a .txt or .jsonl file of them.
        settings: How texts become samples.
        split: 'train' or 'test'.
        progress: Print a line that says how many samples were made, and how many texts were cut or padded.

    Raises:
        BadInput: The folder or the file cannot be read, or there are no texts.
    """
    name = "texts"
    if isinstance(texts, str | Path):
        name = Path(texts).name
        texts = read_texts(Path(texts), "messages" if settings.chat else "text", only_texts=not settings.chat)
    samples, line = settings.samples(texts, folder)
    if progress:
        say(f"{name}: {line}")
    return Dataset(name, split, samples)


def load_model(folder: str | Path, dtype: str | None = None) -> nn.Module:
    """Load a causal language model: the network `hf:FOLDER`.

    Args:
        folder: The folder.
        dtype: One of DTYPES; by default the type of the weights in the folder.

    Returns:
        The network in evaluation mode. It keeps no cache of keys and values.

    Raises:
        BadUsage: The dtype is unknown.
        BadInput: transformers is missing, or the folder holds no causal language model, or not all of its weights.
    """
    checked_word("dtype", dtype, list(DTYPES))
    path = model_folder(folder)
    with transformers_library() as library:
        key = "dtype" if int(library.__version__.split(".")[0]) >= 5 else "torch_dtype"
        wanted = {key: "auto" if dtype is None else getattr(torch, dtype)}
        try:
            net, found = library.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, **wanted, **LOCAL)
        except Exception as error:  # of the many kinds that damaged and foreign folders raise
            reason = first_line(error)
            if "Unrecognized configuration class" in reason:
                reason = "its architecture is not that of a causal language model"
            raise BadInput(f"{folder} cannot be read as a causal language model: {reason}") from error
        check_weights(folder, found)
        check_causal(net, folder)
    net.config.use_cache = False
    return net


def check_weights(folder: str | Path, found: dict[str, Any]) -> None:
    """Raise BadInput where weights are missing, which transformers draws at random; note those that are not used.

    Args:
        folder: The folder, for messages.
        found: What transformers reports about loading.
    """
    wrong = [
        *found.get("missing_keys", ()),
        *(each if isinstance(each, str) else each[0] for each in found.get("mismatched_keys", ())),
    ]
    if wrong:
        more = f" and {counted(len(wrong) - 1, 'other', 'others')}" if len(wrong) > 1 else ""
        raise BadInput(
            f"{folder} lacks weights of a causal language model, or has them in other shapes: '{min(wrong)}'{more}"
        )
    if unused := sorted(found.get("unexpected_keys", ())):
        note(f"{folder} holds weights that the causal language model does not use: '{unused[0]}', {len(unused)} in all")


@torch.no_grad()
def check_causal(net: Any, folder: str | Path) -> None:
    """Check on a sequence of PROBED tokens that outputs do not depend on later tokens.

    Raises:
        BadInput: The outputs depend on later tokens.
    """
    words = net.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(PROBED) % words).repeat(2, 1)
    half = PROBED // 2
    ids[1, half:] = (ids[1, half:] + words // 2) % words
    logits = net(input_ids=ids.to(net.device)).logits
    change = (logits[0, :half] - logits[1, :half]).abs().max()
    if change > 2 * torch.finfo(logits.dtype).eps * logits.abs().max():
        raise BadInput(
            f"{folder} holds no causal language model: the output of {type(net).__name__} at a token depends on later "
            "ones"
        )
