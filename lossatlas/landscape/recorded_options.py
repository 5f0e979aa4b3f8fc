"""Options of the command that computed a surface, as far as its file records them."""

import shlex
from collections.abc import Mapping
from typing import Any


def recorded_option(about: Mapping[str, Any], name: str) -> str:
    """Return an option of the command that computed a surface.

    Facts that a file records by themselves, such as `about["networks"]` and the metadata of the directions, come first:
    a command does not say which directions were in a file that it names.

    Args:
        about: Metadata of the surface: all options, also those with their defaults, under `config`; files of earlier
            versions have the command line alone.
        name: Name of the option, without dashes.

    Returns:
        Its values, separated by spaces; 'True' for a flag; '' where it is not given.

    Example:
        >>> about = {"command": "plot_surface.py --xnorm filter --x=-1:1:3 --only conv fc --mpi"}
        >>> [recorded_option(about, name) for name in ("xnorm", "x", "only", "mpi", "ynorm")]
        ['filter', '-1:1:3', 'conv fc', 'True', '']
        >>> recorded_option({"config": {"xnorm": "layer"}, **about}, "xnorm")
        'layer'
    """
    config = about.get("config")
    if isinstance(config, Mapping) and name in config:
        value = config[name]
        return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")
    found: list[str] | None = None
    is_named = False
    for word in _words(str(about.get("command", ""))):
        if word.startswith("--"):
            option, _, value = word[2:].partition("=")
            is_named = option == name
            if is_named:
                found = [value] if value else []
        elif is_named and found is not None:
            found.append(word)
    return "" if found is None else " ".join(found) or "True"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an apostrophe, in a command that another program wrote
        return command.split()
