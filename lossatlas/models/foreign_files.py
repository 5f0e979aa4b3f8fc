"""Files that are taken for checkpoints and are none: each is named for what it is, with what to do."""

import zipfile
from pathlib import Path

from lossatlas.errors import BadInput

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
LFS = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head", b"<!--")
HEAD = 256  # bytes that are looked at
KERAS = "a network of Keras or TensorFlow"


def is_safetensors(head: bytes) -> bool:
    """Return whether a file begins as safetensors: the length of a header, and the header."""
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27


def check_kind(path: Path) -> bytes:
    """Raise BadInput for a file that another kind of program wrote.

    Args:
        path: The file.

    Returns:
        Its first bytes.

    Raises:
        BadInput: The file is empty, a web page, a Git LFS pointer, of Keras, a TorchScript archive or of NumPy.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if kind := _kind_of(head) or (_kind_of_archive(path) if head.startswith(ZIP) else ""):
        raise BadInput(f"{path} is {kind}")
    return head


def is_text_file(path: Path) -> bool:
    """Return whether the beginning of a file is text."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    try:
        words = head.decode()
    except UnicodeDecodeError as error:
        if error.end < len(head):  # otherwise a letter that the beginning cuts
            return False
        words = head[: error.start].decode()
    return bool(words) and all(letter.isprintable() or letter.isspace() for letter in words)


def _kind_of(head: bytes) -> str:
    """Name the kind of a file by its first bytes; '' for none of these."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "empty (0 bytes): the program that wrote it was interrupted, or the disk was full"
    if head.startswith(LFS):
        return "a Git LFS pointer, a text of three lines in place of the file: fetch it with git lfs pull"
    if text.startswith(PAGES):
        return "a web page, not a checkpoint: the download gave an HTML page; download the file itself again"
    if head.startswith(HDF5):
        return f"an HDF5 file, as of {KERAS}: checkpoints are PyTorch's (torch.save, safetensors)"
    if text.startswith(b"{") and not is_safetensors(head):
        return "a JSON file, not a checkpoint: name the file of the weights"
    return ""


def _kind_of_archive(path: Path) -> str:
    """Name the kind of a zip archive by the names in it; '' for a file of torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""  # its reader has a message of its own
    inner = {name.partition("/")[2] for name in names}
    if {"model.weights.h5", "metadata.json"} & set(names):
        return f"a .keras archive, {KERAS}: checkpoints are PyTorch's (torch.save, safetensors)"
    if "constants.pkl" in inner:
        return (
            "a TorchScript archive, which holds code: save its weights where you trust it, by "
            f"torch.save(torch.jit.load({str(path)!r}).state_dict(), 'weights.pt')"
        )
    if "data.pkl" not in inner and any(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays (.npz): save the tensors by torch.save or safetensors"
    if any(name.endswith("archive_format") for name in inner):
        return "a program of torch.export, not a state dict: save its state_dict by torch.save"
    return ""
