"""Options of the files that commands write."""

from dataclasses import dataclass
from typing import ClassVar

from lossatlas.config.option_fields import option


@dataclass(frozen=True)
class ResultOptions:
    """A file of results that is written part by part."""

    HEADING: ClassVar[str] = "output"

    force: bool = option(False, "start over even if the file exists; the old file is kept under another name")
    dry_run: bool = option(False, "print what would be computed and stop")


@dataclass(frozen=True)
class OutputConfig:
    """The surface file, and the treatment of an existing one."""

    HEADING: ClassVar[str] = "output"

    surf_file: str | None = option(None, "surface file to write, or to continue", metavar="FILE.h5")
    self_contained: bool = option(False, "copy the directions into the finished surface file")
    force: bool = option(False, "start over even if the surface file exists; the old file is kept under another name")
    verbose: bool = option(False, "print the resolved configuration")
    dry_run: bool = option(False, "print the resolved configuration and stop")
