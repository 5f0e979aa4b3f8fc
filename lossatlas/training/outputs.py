"""Outputs of the commands that train."""

import json
from pathlib import Path
from typing import Any

from lossatlas.errors import BadInput, named
from lossatlas.io.atomic_write import write_file


def check_output_folder(out: str) -> None:
    """Check that the folder of an output exists.

    Raises:
        BadInput: It does not.
    """
    if not Path(out).resolve().parent.is_dir():
        raise BadInput(f"no folder {Path(out).parent} for {named('out')}: make it first")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary as a JSON file.

    Raises:
        CannotWrite: The file cannot be written.
    """
    write_file(path, (json.dumps(content, indent=1) + "\n").encode())
