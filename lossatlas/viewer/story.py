"""A story of a page: steps with a title, a text, and the state that the page then has. It is written as Markdown.

    # What is this sheet?

    Every point is **a whole network**, and its height is the loss.

    ```state
    azimuth=-60&elevation=34
    ```

A heading begins a step. The text has paragraphs, **bold**, *italic*, `code` and [links](https://...). A block `state`
holds what the page's address has after its `#`, as its button "Copy link" gives it. `play=true` lets the optimizers
run, and `surface=2` scrolls the second surface into view. A step without a block leaves the page as it is.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lossatlas.errors import BadInput
from lossatlas.viewer.page_state import Limits, check_numbers, misfit, read_fragment

HEADING = re.compile(r"#{1,6}(?:\s+(.*?)\s*(?:(?<=\s)#+)?)?\s*$")  # with or without signs at its end
MARKED = r"([^\s*](?:.*?[^\s*])??)"  # words between asterisks, as few as there are
INLINE = re.compile(rf"`([^`]+)`|\*\*{MARKED}\*\*|\*{MARKED}\*|\[([^\]]+)\]\(([^)\s]*)\)")
OTHER = re.compile(
    r"(?:[-*+>|]|\d+[.)])\s|!\[|-{3,}\s*$|\t| {4}"
)  # lists, quotes, tables, pictures, rules, blocks of code
FENCE = "```"
LINKS = ("https://", "http://", "mailto:")
BESIDE = ("play", "surface")  # names in a block that are not of the page's state
LONGEST = 2_000  # letters of a step: more does not fit beside the surface
TextSpan = tuple[str, str] | tuple[str, str, str]  # kind ("", "b", "i", "code", "a"), text, and the address of a link


@dataclass(frozen=True)
class Step:
    """A step of a story.

    Attributes:
        title: Its title.
        text: Paragraphs, each as spans of one kind.
        state: What differs from the usual state of the page, by name; None to leave the page as it is.
        play: The optimizers run.
        surface: Number of the surface that is scrolled into view, from 0.
    """

    title: str
    text: tuple[tuple[TextSpan, ...], ...]
    state: Mapping[str, str] | None = None
    play: bool = False
    surface: int = 0


@dataclass(frozen=True)
class Story:
    """The steps of a story.

    Attributes:
        steps: The steps in their order.
        opens: It is open when the page opens.
    """

    steps: tuple[Step, ...]
    opens: bool = False

    def content(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        steps = [
            {
                "title": step.title,
                "text": step.text,
                "state": None if step.state is None else urlencode(step.state, safe="~"),
                "play": step.play,
                "surface": step.surface,
            }
            for step in self.steps
        ]
        return {"steps": steps, "opens": self.opens}


def read_story(path: str | Path, fields: Collection[str], surfaces: int = 1, limits: Limits | None = None) -> Story:
    """Read a story that somebody wrote.

    Args:
        path: A Markdown file.
        fields: Names of the page's fields.
        surfaces: Number of the surfaces on the page.
        limits: Ranges of the page's numbers; without them the limits that all pages share.

    Returns:
        The story, which is open when the page opens.

    Raises:
        BadInput: The file cannot be read, or a line of it is not of the form that the module describes.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: this is no text in UTF-8, at byte {error.start}") from error
    except OSError as error:
        raise BadInput(f"cannot read the story {path}: {error.strerror or error}") from error
    page = PageFacts(fields, surfaces, limits or Limits())
    steps = tuple(step_of(lines, path, page) for lines in steps_of(text.splitlines(), path))
    return Story(steps, opens=True)


@dataclass(frozen=True)
class PageFacts:
    """Facts of a page against which the states of a story are checked; see `read_story`."""

    fields: Collection[str]
    surfaces: int
    limits: Limits


NumberedLine = tuple[int, str]  # its number, from 1, and its text


def steps_of(lines: Sequence[str], path: str | Path) -> list[list[NumberedLine]]:
    """Split the lines of a file at its headings.

    Raises:
        BadInput: There is no heading, or a line stands before the first one.
    """
    steps: list[list[NumberedLine]] = []
    within = False  # a block
    for number, line in enumerate(lines, 1):
        if is_fence(line, within=within):
            within = not within
        if not within and HEADING.match(line):
            steps.append([])
        if steps:
            steps[-1].append((number, line))
        elif line.strip():
            raise BadInput(
                f"{path}:{number}: a step begins with a heading, '# Title', and this line stands before the first one"
            )
    if not steps:
        raise BadInput(f"{path}: there is no step: each begins with a heading, '# Title'")
    return steps


def is_fence(line: str, *, within: bool) -> bool:
    """Return whether a line, which may be indented, begins a block, or ends the one that it is within."""
    return line.strip() == FENCE if within else line.lstrip().startswith(FENCE)


def step_of(lines: Sequence[NumberedLine], path: str | Path, page: PageFacts) -> Step:
    """Read one step, which begins with its heading.

    Raises:
        BadInput: The title or the text is missing, the text is too long, or the text or the block is malformed.
    """
    (first, heading), *rest = lines
    title = HEADING.match(heading)[1]  # type: ignore[index]  # it begins with a heading
    if not title:
        raise BadInput(f"{path}:{first}: this heading has no words")
    texts, block = without_block(rest, path)
    state: dict[str, str] = {}
    places: dict[str, int] = {}  # the line that says each name
    for number, line in block or ():
        found = located(path, number, line, page)
        state |= found
        places |= dict.fromkeys(found, number)
    if (wrong := misfit(state, page.limits)) is not None:
        raise BadInput(f"{path}:{places[wrong[0]]}: {wrong[1]}")
    paragraphs = paragraphs_of(texts, path)
    if not paragraphs:
        raise BadInput(f"{path}:{first}: the step '{title}' has no text")
    if sum(len(span[1]) for spans in paragraphs for span in spans) > LONGEST:
        raise BadInput(f"{path}:{first}: the step '{title}' has more than {LONGEST} letters: make two of it")
    if block is None:
        return Step(title, paragraphs)
    own = {name: value for name, value in state.items() if name not in (*BESIDE, "story")}
    return Step(title, paragraphs, own, state.get("play") == "true", int(state.get("surface", "1")) - 1)


def without_block(
    lines: Sequence[NumberedLine], path: str | Path
) -> tuple[list[NumberedLine], list[NumberedLine] | None]:
    """Split the lines below a heading into text and block.

    Returns:
        The lines of the text, and those of the block; None without a block.

    Raises:
        BadInput: A block is of another kind, has no end, or is the second one.
    """
    texts: list[NumberedLine] = []
    block: list[NumberedLine] | None = None
    begun = 0  # the number of the line at which an open block begins
    for number, line in lines:
        fence = is_fence(line, within=begun > 0)
        if begun and fence:
            begun = 0
        elif begun and block is not None:
            block.append((number, line))
        elif fence:
            if line.strip() != f"{FENCE}state":
                raise BadInput(f"{path}:{number}: the only block of a story is {FENCE}state")
            if block is not None:
                raise BadInput(f"{path}:{number}: this step has a state already")
            begun, block = number, []
        else:
            texts.append((number, line))
    if begun:
        raise BadInput(f"{path}:{begun}: this block has no end: write {FENCE} on a line below it")
    return texts, block


def located(path: str | Path, number: int, line: str, page: PageFacts) -> dict[str, str]:
    """Read a line of a state.

    Args:
        path: File of the story, for messages.
        number: Number of the line, from 1, for messages.
        line: The line without its mark: keys and values as in the address of the page.
        page: Fields, surfaces and limits that a state may name.

    Returns:
        The values by key.

    Raises:
        BadInput: The line is no state of this page; the message begins with file and line.
    """
    try:
        found = read_fragment(line, page.fields, BESIDE)
        check_numbers(found, page.limits)
    except BadInput as error:
        raise BadInput(f"{path}:{number}: {error}") from error
    play, which = found.get("play", "true"), found.get("surface", "1")
    if play not in ("true", "false"):
        raise BadInput(f"{path}:{number}: play={play}: this is not true or false")
    if not (which.isascii() and which.isdecimal() and 1 <= int(which) <= page.surfaces):
        most = page.surfaces
        raise BadInput(f"{path}:{number}: surface={which}: the surfaces of the page are counted from 1 to {most}")
    return found


def paragraphs_of(lines: Sequence[NumberedLine], path: str | Path) -> tuple[tuple[TextSpan, ...], ...]:
    """Join lines to paragraphs, which empty lines separate.

    Raises:
        BadInput: A line is of no paragraph, such as an item of a list, or an address does not begin as one of LINKS.
    """
    found: list[tuple[int, list[str]]] = []
    empty = True
    for number, line in lines:
        if OTHER.match(line):
            raise BadInput(f"{path}:{number}: a story has paragraphs alone, no lists, quotes, tables, pictures or code")
        if empty and line.strip():
            found.append((number, []))
        empty = not line.strip()
        if not empty:
            found[-1][1].append(line.strip())
    paragraphs = tuple(spans_of(" ".join(parts)) for _, parts in found)
    for (number, _), spans in zip(found, paragraphs, strict=True):
        for address in (span[2] for span in spans if len(span) == 3):
            if not address.startswith(LINKS):
                raise BadInput(f"{path}:{number}: the address '{address}' does not begin with {', '.join(LINKS)}")
    return paragraphs


def spans_of(text: str) -> tuple[TextSpan, ...]:
    """Split a paragraph into spans of one kind.

    Args:
        text: With **bold**, *italic*, `code` and [links](https://example.org).

    Returns:
        The spans. Anything else is text, also what looks like HTML.

    Example:
        >>> spans_of("a **bold** `x`")
        (('', 'a '), ('b', 'bold'), ('', ' '), ('code', 'x'))
    """
    spans: list[TextSpan] = []
    at = 0
    for found in INLINE.finditer(text):
        code, bold, italic, words, address = found.groups()
        if found.start() > at:
            spans.append(("", text[at : found.start()]))
        if words:
            spans.append(("a", words, address))
        else:
            spans.append(("code", code) if code else ("b", bold) if bold else ("i", italic))
        at = found.end()
    if at < len(text):
        spans.append(("", text[at:]))
    return tuple(spans)
