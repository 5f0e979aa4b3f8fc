"""Checkpoints of every wrong kind."""

import io
import shutil
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torture.place import LINE, ROOT, Outcome, Place


def checkpoints(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Checkpoints of every wrong kind: one line that names what is wrong, code 3, nothing written."""
    import torch
    from safetensors.torch import save_file

    from lossatlas.models import build

    del seed
    good = build("mlp", (1, 28, 28)).state_dict()
    name = next(iter(good))
    whole = io.BytesIO()
    torch.save(good, whole)
    folder = place.folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def instead(value: Any) -> dict[str, Any]:
        return {**good, name: value}

    weight = good[name]
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")  # about kinds that go out of use
    warnings.filterwarnings("ignore", message=".*(CSR|quantize).*")
    cases: dict[str, Any] = {
        "missing": {key: value for key, value in good.items() if key != name},
        "further": {**good, "more": torch.zeros(2)},
        "shape": instead(weight.T.contiguous()),
        "scalar": instead(torch.tensor(1.0)),
        "empty": instead(torch.zeros(0)),
        "nan": instead(torch.full_like(weight, torch.nan)),
        "inf": instead(torch.full_like(weight, torch.inf)),
        "complex": instead(weight.to(torch.complex64)),
        "sparse": instead(weight.to_sparse()),
        "csr": instead(weight.to_sparse_csr()),
        "quantized": instead(torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)),
        "nested": instead(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
        "float8": instead(weight.to(torch.float8_e4m3fn)),
        "float8 e5m2": instead(weight.to(torch.float8_e5m2)),
        "meta": instead(weight.to("meta")),
        "expanded": instead(torch.zeros(1).expand(1 << 20, 1 << 14)),
        "text": instead("a text"),
        "none": instead(None),
        "number": instead(1.0),
        "list": [1, 2],
        "nothing": {},
        "another architecture": build("resnet20", (1, 28, 28)).state_dict(),
        "numbers as names": dict(enumerate(good.values())),
        "whole network": build("mlp", (1, 28, 28)),
        "a tensor": weight,
    }
    files: list[Path] = []
    for case, content in cases.items():
        files.append(folder / f"{case}.pt")
        torch.save(content, files[-1])
    raw = whole.getvalue()
    for k, end in enumerate([0, 1, 10, len(raw) // 2, len(raw) - 100]):
        files.append(folder / f"cut {k}.pt")
        files[-1].write_bytes(raw[:end])
    save_file(good, folder / "whole.safetensors")
    raw = (folder / "whole.safetensors").read_bytes()
    (folder / "whole.safetensors").unlink()
    for k, content in enumerate(
        [raw[:100], raw[: len(raw) // 2], b"\xff" * 100, struct.pack("<Q", 1 << 60) + b"{}", b""]
    ):
        files.append(folder / f"cut {k}.safetensors")
        files[-1].write_bytes(content)
    save_file(instead(torch.full_like(weight, torch.nan)), folder / "nan.safetensors")
    save_file(instead(weight.to(torch.float8_e4m3fn)), folder / "float8.safetensors")
    (folder / "folder.pt").mkdir()
    names = ["nan.safetensors", "float8.safetensors", "folder.pt", "bomb.pt", "absent.pt"]
    files += [folder / name for name in names]
    if count >= files.index(folder / "bomb.pt"):  # it takes seconds to make
        bomb(folder / "bomb.pt", "archive/data/0")
    out = place.folder / "out"
    for file in files[:count]:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        argv = [
            "--model",
            "mlp",
            *LINE,
            "--x=-1:1:3",
            "--surf_file",
            str(out / "s.h5"),
            "--dir_file",
            str(out / "d.h5"),
        ]
        result = place.run([place.python, str(ROOT / "plot_surface.py"), *argv, "--model_file", str(file)])
        left = [path.name for path in out.iterdir() if path.suffix != ".log"]
        held = result.code == 3 and len(result.lines) == 1 and not left and "Traceback" not in result.errors
        yield held, f"{file.name}: code {result.code} {result.lines} {left}"


def bomb(path: Path, name: str, size: int = 1 << 31) -> None:
    """A zip archive of 2 MB that unpacks to 2 GB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as f,
    ):
        for _ in range(size >> 20):
            f.write(bytes(1 << 20))
