"""The page in a notebook: an object that shows it in a frame, and writes or opens it elsewhere."""

import html
import tempfile
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.figures.plotted_fields import field_title, loss_names
from lossatlas.io.atomic_write import write_file
from lossatlas.landscape.flatness_measures import flatness
from lossatlas.landscape.surface import Surface
from lossatlas.viewer.content import Shown
from lossatlas.viewer.document import page_of

HEIGHT = 700  # pixels of the frame
ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class Page:
    """An interactive page of surfaces. A notebook shows it; elsewhere `save` and `open` do.

    Attributes:
        text: The whole page, which fetches nothing.
        height: Height of its frame in a notebook, in pixels.
        labels: Names of the surfaces.

    Example:
        >>> import lossatlas, tempfile
        >>> page = lossatlas.read("docs/surfaces/resnet56_cifar10.h5").view()
        >>> file = page.save(f"{tempfile.mkdtemp()}/page.html")
    """

    text: str = field(repr=False)
    height: int = HEIGHT
    labels: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        shown: Sequence[Shown],
        *,
        title: str = "",
        height: int = HEIGHT,
        file: str | Path | None = None,
        story: str | Path | None = None,
        vmax: float | None = None,
    ) -> "Page":
        """Make the page of surfaces, and write it where a file is named.

        Args:
            shown: The surfaces.
            title: Title; by default their names.
            height: Height of the frame, in pixels.
            file: File to write as well, which ends in .html.
            story: Markdown file of steps that explain the page, see `lossatlas.viewer.story`.
            vmax: Top of the scale, see `page_of`.

        Raises:
            BadInput: The story cannot be read.
            BadUsage: A surface cannot be shown, or the height, the file or vmax cannot be used.
            CannotWrite: The file cannot be written.
        """
        if isinstance(height, bool) or not isinstance(height, int | np.integer) or not 100 <= height <= 10_000:
            raise BadUsage(f"{named('height', height)}: give the height of the frame in pixels, from 100 to 10000")
        for each in shown:
            check_showable(each.surface, each.label)
        page = cls(page_of(shown, title, story, vmax), int(height), tuple(each.label for each in shown))
        if file is not None:
            page.save(file)
        return page

    def _repr_html_(self) -> str:
        text = html.escape(self.text.encode(errors="replace").decode(), quote=True)
        return (
            f'<iframe srcdoc="{text}" width="100%" height="{self.height}" '
            'style="border:0;display:block;min-width:320px" title="loss landscape" allow="fullscreen"></iframe>'
        )

    def __repr__(self) -> str:
        return (
            f"<Page of {', '.join(self.labels)} ({len(self.text) / 1e6:.2f} MB): shown in a notebook; elsewhere "
            "call .open(), or .save('page.html')>"
        )

    def save(self, file: str | Path) -> Path:
        """Write the page as one file that any browser shows.

        Args:
            file: Name that ends in .html.

        Returns:
            The file.

        Raises:
            BadUsage: The name has another ending.
            CannotWrite: The file cannot be written.
        """
        path = Path(file)
        if path.suffix.lower() not in ENDINGS:
            raise BadUsage(f"{file}: the name of a page has to end in .html")
        write_file(path, self.text.encode(errors="replace"))
        return path

    def open(self) -> Path:
        """Open the page in a window of the usual browser.

        Returns:
            The temporary file that is shown.
        """
        path = self.save(Path(tempfile.mkdtemp(prefix="lossatlas_")) / "page.html")
        webbrowser.open(path.as_uri())
        return path


def check_showable(surface: Surface, label: str) -> None:
    """Check that a page can show a surface.

    Raises:
        BadUsage: It holds curves of repeats or layers, has fewer than 2 points on an axis, or no finite value.
    """
    if surface.rows_of:
        raise BadUsage(f"{label} holds curves of {surface.rows_of}, which a page does not show: use plot()")
    if min(surface.grid.shape) < 2:
        raise BadUsage(f"{label} has the grid {surface.grid}: a page needs at least 2 points on each axis")
    if not any(np.isfinite(values).any() for values in surface.fields.values()):
        raise BadUsage(f"{label} has no finite value")


def flatness_in_words(surface: Surface) -> dict[str, str]:
    """Measure the flatness of the loss, where there is one over a plane or a line, as a page shows it."""
    if surface.grid.z is not None:
        return {}
    name = next(iter(loss_names(surface)), "")
    if surface.is_chart or not name or not np.isfinite(surface.fields[name][surface.done]).any():
        return {}
    measures = flatness(surface, name)
    return {words.replace(f"{name} at ", f"{field_title(name)} at ", 1): str(measures[words]) for words in measures}
