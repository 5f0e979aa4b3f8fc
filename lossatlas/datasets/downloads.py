"""Downloads of data sets, with checksums; archives are unpacked."""

import hashlib
import http.client
import os
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from lossatlas.errors import BadInput, CannotWrite

REPORT_EVERY = 3  # seconds between lines


def fetch(url: str, md5: str, folder: Path, say: Callable[[str], None] = print) -> None:
    """Download a file, check it, and unpack it if it is an archive.

    Args:
        url: Address of the file.
        md5: Its checksum.
        folder: Folder that gets the file, or the content of the archive.
        say: Called with lines of progress.

    Raises:
        BadInput: The file cannot be fetched, differs from the checksum, or is a damaged archive.
        CannotWrite: The folder cannot be written.
    """
    target = folder / url.rpartition("/")[2]
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _download(url, part, say)
        if found != md5:
            part.unlink()
            raise BadInput(f"{url} has the MD5 checksum {found}, expected {md5}: nothing was kept")
        os.replace(part, target)
        if target.name.endswith(".tar.gz"):
            _unpack(target, folder)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise BadInput(f"cannot fetch {url}: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot unpack {target}: {error}") from error
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror or error}") from error


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack into another folder, then move, so that half an archive is never taken for a data set."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with tarfile.open(archive) as content:
            content.extractall(scratch, filter="data")
        for item in Path(scratch).iterdir():
            os.replace(item, folder / item.name)
    archive.unlink()


def _download(url: str, part: Path, say: Callable[[str], None]) -> str:
    """Fetch a URL into a file, with a line every few seconds; returns the MD5 checksum."""
    digest, done, last = hashlib.md5(), 0, time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as response, open(part, "wb") as out:
        total = int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(1 << 18):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if time.monotonic() - last > REPORT_EVERY:
                last = time.monotonic()
                say(f"{url}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")
    say(f"{url}: {done / 1e6:.2f} MB")
    return digest.hexdigest()
