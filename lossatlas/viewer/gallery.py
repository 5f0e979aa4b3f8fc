"""A folder of interactive pages with an index, ready for any static host: nothing in it is fetched from elsewhere.

pair = GalleryPage("pair", "With and without shortcuts", [Shown(first, "with"), Shown(second, "without")])
write_gallery("gallery", [pair])
"""

import html
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossatlas.errors import BadUsage, CannotWrite
from lossatlas.figures.thumbnails import card_picture
from lossatlas.io.atomic_write import write_file
from lossatlas.viewer.content import Shown
from lossatlas.viewer.document import filled_template, page_of, static
from lossatlas.viewer.volumes import first_plane

NAME = re.compile(r"[\w][\w.+-]*")
INDEX = "index"
TEXT = (
    "Loss surfaces of neural networks. Each picture opens a page on which they can be turned, read off and descended."
)


@dataclass(frozen=True)
class GalleryPage:
    """A page of a gallery.

    Attributes:
        name: Of its file, without an ending.
        title: Its title.
        shown: Its surfaces.
        text: A sentence or two about it, for the index.
        story: Markdown file of steps that explain it, see `lossatlas.viewer.story`; by default it tells what it shows.
        vmax: Top of the scale of the field that is shown first, see `page_of`; also of its picture in the index.

    Example:
        >>> import lossatlas
        >>> surface = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
        >>> GalleryPage("resnet", "ResNet-56", [Shown(surface, "ResNet-56")]).name
        'resnet'
    """

    name: str
    title: str
    shown: Sequence[Shown]
    text: str = ""
    story: str | Path | None = None
    vmax: float | None = None


def write_gallery(
    folder: str | Path, pages: Sequence[GalleryPage], title: str = "Loss landscapes", text: str = TEXT
) -> list[Path]:
    """Write pages, a picture of each, and an index that links them.

    Args:
        folder: The folder, which is made if it is not there. Files of the same names are replaced.
        pages: The pages.
        title: Title of the index.
        text: Text below it.

    Returns:
        The files that were written; the index is the first one.

    Raises:
        BadUsage: There is no page, two have one name, a name is none of a file, a page cannot be drawn, or its vmax
            does not lie above its lowest value.
        BadInput: A story cannot be read.
        CannotWrite: A file cannot be written.

    Example:
        >>> import lossatlas, tempfile
        >>> surface = lossatlas.read("docs/surfaces/resnet56_fashion.h5")
        >>> page = GalleryPage("resnet", "ResNet-56", [Shown(surface, "ResNet-56")])
        >>> [file.name for file in write_gallery(tempfile.mkdtemp(), [page])]
        ['index.html', 'resnet.html', 'resnet.png']
    """
    check_gallery_names([page.name for page in pages])
    made = {}  # all of it is made before anything is written
    cards = []
    for page in pages:
        made[f"{page.name}.html"], picture = parts_of(page)
        made[f"{page.name}.png"] = picture
        cards.append(card_of(page, picture))
    parts = {"TITLE": html.escape(title), "TEXT": f"<p>{html.escape(text)}</p>", "CARDS": "\n".join(cards)}
    index = filled_template(static("gallery.html"), {**parts, "STYLE": static("gallery.css")})
    made = {f"{INDEX}.html": index.encode(errors="replace"), **made}
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror or error}") from error
    for name, content in made.items():
        write_file(target / name, content)
    return [target / name for name in made]


def parts_of(page: GalleryPage) -> tuple[bytes, bytes]:
    """Make a page and its picture.

    Raises:
        BadUsage: As `page_of` or `card_picture`; the message names the page.
        BadInput: As `page_of`.
    """
    try:
        text = page_of(page.shown, page.title, page.story, page.vmax).encode(errors="replace")
        surfaces = [first_plane(each.surface) for each in page.shown]
        return text, card_picture(surfaces, page.shown[0].trajectory, page.vmax)
    except BadUsage as error:
        raise BadUsage(f"page '{page.name}': {error}") from error


def check_gallery_names(names: Sequence[str]) -> None:
    """Check the names of a gallery's files.

    Raises:
        BadUsage: There is no name, a name is not allowed, or two are equal.
    """
    if not names:
        raise BadUsage("a gallery needs at least one page")
    for name in names:
        if not NAME.fullmatch(name) or name.lower() == INDEX:
            raise BadUsage(
                f"'{name}' cannot be the name of a page: letters, digits, '.', '-', '+' and '_', and not '{INDEX}'"
            )
    lowered = [name.lower() for name in names]
    if twice := next((name for name in names if lowered.count(name.lower()) > 1), ""):
        raise BadUsage(f"two pages have the name '{twice}'")


def card_of(page: GalleryPage, picture: bytes) -> str:
    """Return the card of a page: its picture, title and text, as a link."""
    width, height = struct.unpack(">II", picture[16:24])  # of a PNG
    words = f"<h2>{html.escape(page.title)}</h2>" + (f"<p>{html.escape(page.text)}</p>" if page.text else "")
    return (
        f'<a class="card" href="{page.name}.html"><img src="{page.name}.png" width="{width}" height="{height}" alt="">'
        f"<div>{words}</div></a>"
    )
