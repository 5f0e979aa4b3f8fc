"""The state of a page, as its address holds it: names, kinds of values, and how a fragment is read."""

from collections.abc import Collection
from difflib import get_close_matches
from math import isfinite
from urllib.parse import parse_qsl

from lossatlas.errors import BadInput

TEXT, NUMBER, FLAG, TEXTS, NUMBERS = "a text", "a number", "true or false", "names joined by ~", "numbers joined by ~"
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "nadam", "sam")
STATE = {  # as `usualState` in static/model.js
    **dict.fromkeys(("height", "scale", "colour", "map", "objective", "theme"), TEXT),
    **dict.fromkeys(("azimuth", "elevation", "distance", "panx", "pany", "vmax", "x", "y"), NUMBER),
    **dict.fromkeys(("noise", "seed", "steps", "seconds", "at", "angle", "epoch", "story"), NUMBER),
    **dict.fromkeys(("lines", "wire", "overlay", "cut", "enlarged", "gl"), FLAG),
    "on": TEXTS,
    "rates": NUMBERS,
    "coefficients": NUMBERS,
}


def read_fragment(text: str, fields: Collection[str], more: Collection[str] = ()) -> dict[str, str]:
    """Read a fragment, or the address of a page with its fragment.

    Args:
        text: As "azimuth=-60&scale=log"; what stands before a `#` is left out.
        fields: Names of the page's fields, of which one is the height.
        more: Further names that may have a value.

    Returns:
        Values by name, as texts.

    Raises:
        BadInput: A name or a value is unknown.

    Example:
        >>> read_fragment("file:///page.html#azimuth=-60&on=sgd~adam", ["train_loss"])
        {'azimuth': '-60', 'on': 'sgd~adam'}
    """
    found = {}
    for part in filter(None, text.rpartition("#")[2].strip().split("&")):
        pairs = parse_qsl(part, keep_blank_values=True)
        if len(pairs) != 1 or "=" not in part:
            raise BadInput(f"'{part}' is no state: write NAME=VALUE, or what the page's address holds after its #")
        name, value = pairs[0]
        if name not in STATE and name not in more:
            near = get_close_matches(name, [*STATE, *more], n=1)
            hint = f": did you mean {near[0]}?" if near else f"; there are {', '.join([*STATE, *more])}"
            raise BadInput(f"a page has no state '{name}'{hint}")
        if name in STATE:
            check_value(name, value, fields)
        found[name] = value
    return found


def check_value(name: str, value: str, fields: Collection[str]) -> None:
    """Check the value of one name. Raises BadInput."""
    kind = STATE[name]
    parts = value.split("~") if kind in (TEXTS, NUMBERS) and value else [value] if kind == NUMBER else []
    if kind in (NUMBER, NUMBERS) and not all(is_number(part) for part in parts):
        raise BadInput(f"{name}={value}: this is not {kind}")
    if kind == FLAG and value not in ("true", "false"):
        raise BadInput(f"{name}={value}: this is not {kind}")
    if name in ("height", "colour") and value and value not in fields:
        raise BadInput(f"{name}={value}: the fields of the page are {', '.join(fields)}")
    if name == "on" and (wrong := [part for part in parts if part not in OPTIMIZERS]):
        raise BadInput(f"on={value}: there is no optimizer '{wrong[0]}', but {', '.join(OPTIMIZERS)}")


def is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return isfinite(float(text))
    except ValueError:
        return False
