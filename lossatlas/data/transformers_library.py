"""The library `transformers`, imported when it is needed; it reads folders of Hugging Face, local files alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossatlas.errors import BadInput, first_line, named

LOCAL = {
    "local_files_only": True,
    "trust_remote_code": False,
}  # nothing is fetched, and no code in a folder is executed
INSTALL = "install it with pip install 'lossatlas[language]'"


@contextmanager
def transformers_library() -> Iterator[Any]:
    """Import `transformers`, and keep it from printing within the block.

    Yields:
        The module.

    Raises:
        BadInput: It is missing, or cannot be imported.
    """
    try:
        import transformers

        transformers.AutoModelForCausalLM  # noqa: B018  the module imports its parts late
    except ModuleNotFoundError as error:
        if error.name == "transformers":
            raise BadInput(f"folders of Hugging Face are read by transformers, which is missing: {INSTALL}") from error
        raise BadInput(f"transformers cannot be imported ({first_line(error)}): {INSTALL}") from error
    except (ImportError, RuntimeError) as error:
        raise BadInput(f"transformers cannot be imported ({first_line(error)}): {INSTALL}") from error
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def model_folder(folder: str | Path) -> Path:
    """Return the path of a folder in the layout of Hugging Face.

    Raises:
        BadInput: There is no such folder, or it has no config.json.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadInput(
            f"there is no folder {folder}: name one with config.json, weights and tokenizer; nothing is downloaded"
        )
    if not (path / "config.json").is_file() and (path / "adapter_config.json").is_file():
        raise BadInput(
            f"{folder} holds an adapter, and no model: name the model that it changes, and give the adapter as "
            f"{named('model_file2', str(folder))}"
        )
    if not (path / "config.json").is_file():
        raise BadInput(f"{folder} has no config.json, so it is no model folder of Hugging Face")
    return path


def text_config(transformers: Any, folder: Path) -> Any:
    """Return the configuration of the part of a model that reads text.

    Raises:
        BadInput: The file config.json cannot be read.
    """
    try:
        return transformers.AutoConfig.from_pretrained(folder, **LOCAL).get_text_config()
    except Exception as error:  # damaged files raise nearly anything
        raise BadInput(f"{folder / 'config.json'} cannot be read: {first_line(error)}") from error
