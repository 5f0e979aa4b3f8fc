"""Files that run something, crash, or fill the memory where they are read with trust."""

import itertools
import os
import pickle
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from torture.place import ROOT, Outcome, Place


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def payloads(canary: Path) -> dict[str, bytes]:
    """Contents of files that run something, crash or fill the memory where they are read with trust."""
    import builtins
    import gzip

    touch = f"open({str(canary)!r}, 'w')"
    traps = {
        "system": Trap(os.system, f"touch {canary}"),
        "popen": Trap(subprocess.Popen, ["touch", str(canary)]),
        "eval": Trap(eval, touch),
        "exec": Trap(exec, touch),
        "open": Trap(open, str(canary), "w"),
        "getattr": Trap(getattr, "text", "format"),
        "import": Trap(__import__, "os"),
        "h5py": Trap(h5py.File, str(canary), "w"),
        "load": Trap(np.load, str(canary)),
        "compile": Trap(compile, touch, "x", "exec"),
        "exit": Trap(sys.exit, 0),
        "os exit": Trap(os._exit, 0),
        "abort": Trap(os.abort),
        "bytearray": Trap(bytearray, 1 << 40),
        "memoryview": Trap(memoryview, b"x"),
        "type": Trap(builtins.type, "x", (), {}),
    }
    found = {f"{name} {protocol}": pickle.dumps(trap, protocol) for name, trap in traps.items() for protocol in (2,)}
    found["nested trap"] = pickle.dumps({b"data": Trap(os.system, f"touch {canary}"), b"labels": [1]}, 4)
    array = b"\x80\x02}q\x00(C\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    end = b"C\x06labels]K\x01au."
    for name, kind in (
        ("O8", b"X\x02\x00\x00\x00O8"),
        ("flags", b"X\x02\x00\x00\x00u1"),
        ("void", b"X\x03\x00\x00\x00V64"),
    ):
        state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
        found[f"dtype {name}"] = (
            array
            + b"(K\x01K\x01K\x08\x86cnumpy\ndtype\n"
            + kind
            + b"\x89\x88\x87R"
            + state
            + b"\x89C\x08AAAAAAAAtb"
            + end
        )
    found["endless codec"] = pickle.dumps(Trap(__import__("_codecs").encode, "x" * 100, "unicode_escape"), 2)
    found["deep"] = b"\x80\x02" + b"(" * 100_000 + b"."
    found["huge long"] = b"\x80\x02\x8b\xff\xff\xff\x7f."
    found["huge bytes"] = b"\x80\x05\x8e" + struct.pack("<Q", 1 << 50) + b"."
    found["gzip bomb"] = gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">III", 60000, 2000, 2000) + bytes(1 << 24))
    found["idx overflow"] = bytes([0, 0, 8, 3]) + struct.pack(">III", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    found["random"] = random.Random(1).randbytes(5000)
    found["hdf5 head"] = b"\x89HDF\r\n\x1a\n" + bytes(500)
    found["zip head"] = b"PK\x03\x04" + bytes(200)
    return found


READ = """
import os, resource, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from lossatlas.errors import exit_code
what, file = sys.argv[1:]
def read():
    if what == "cifar10":
        from lossatlas.datasets.file_formats import read_cifar10
        read_cifar10(Path(file).parent, "test")
    elif what == "cifar100":
        from lossatlas.datasets.file_formats import read_cifar100
        read_cifar100(Path(file).parent, "train")
    elif what == "idx":
        from lossatlas.datasets.file_formats import read_idx
        read_idx(Path(file).parent, "train")
    elif what == "npz":
        from lossatlas.datasets.file_formats import read_npz
        read_npz(Path(file), "train")
    elif what in ("tensors.npz", "tensors.pt"):
        from lossatlas.datasets.registry import load_file
        load_file(file, "train")
    elif what in ("checkpoint.pt", "checkpoint.t7", "checkpoint.safetensors"):
        from lossatlas.models import read_state
        read_state(file)
    else:
        from lossatlas import io
        getattr(io, what)(file)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = exit_code(read)
print("MEMORY", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
sys.exit(code)
"""
INPUTS = {
    "cifar10": "test_batch",
    "cifar100": "train",
    "idx": "train-images-idx3-ubyte",
    "npz": "data.npz",
    "tensors.npz": "tensors.npz",
    "tensors.pt": "tensors.pt",
    "checkpoint.pt": "net.pt",
    "checkpoint.t7": "net.t7",
    "checkpoint.safetensors": "net.safetensors",
    "read_surface": "s.h5",
    "read_directions": "d.h5",
    "read_findings": "f.h5",
    "read_projection": "p.h5",
}


def hostile(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Hostile files in every input: nothing is executed, nothing crashes, and memory stays where it was."""
    canary = place.folder / "canary"
    contents = payloads(canary)
    folder = place.folder / "hostile"
    cases = list(itertools.product(contents, INPUTS))
    random.Random(seed).shuffle(cases)
    for payload, what in cases[:count]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        file = folder / (INPUTS[what] + (".gz" if payload == "gzip bomb" and what == "idx" else ""))
        file.write_bytes(contents[payload])
        result = place.run([place.python, "-c", READ.format(root=str(ROOT)), what, str(file)], timeout=300)
        memory = int(next(iter(re.findall(r"MEMORY (\d+)", result.out)), "0")) / 1024
        good = result.code == 3 and len(result.lines) == 1 and "Traceback" not in result.errors and not canary.exists()
        canary.unlink(missing_ok=True)
        yield good and memory < 700, f"{payload} as {what}: code {result.code}, {memory:.0f} MB more {result.lines}"
