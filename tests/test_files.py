"""Files that earlier versions wrote stay readable: tests/files/<day of the version>/, made from tests/files/tiny.py.

surface, tolerance (a curve), embedded (with its directions), eigen, spectrum: as their commands of that day wrote them.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT

from lossatlas.commands import h5_util, plot_surface
from lossatlas.io import read_directions, read_findings, read_surface, write_surface

FILES = ROOT / "tests" / "files"
WHOLE = ["2026-11-25", "2026-11-26"]


@pytest.mark.parametrize("day", WHOLE)
def test_every_kind_is_read_and_is_right(tmp_path, capsys, day):
    folder = shutil.copytree(FILES / day, tmp_path / day)
    for name in ("surface", "tolerance", "embedded", "eigen", "spectrum", "directions"):
        assert h5_util.main([str(folder / f"{name}.h5"), "--check"]) == 0, capsys.readouterr().err
        assert h5_util.main([str(folder / f"{name}.h5")]) == 0
    assert "tiny.py:make" in capsys.readouterr().out


def test_what_they_hold_has_not_changed():
    """The same network and data on both days, so the same numbers."""
    for name in ("surface", "tolerance", "embedded", "eigen"):
        before, now = (read_surface(FILES / day / f"{name}.h5") for day in WHOLE)
        assert before.fields.keys() == now.fields.keys()
        for field, values in before.fields.items():
            np.testing.assert_allclose(values, now.fields[field], rtol=1e-4, atol=1e-7, err_msg=f"{name} {field}")
        assert before.request["directions"] == now.request["directions"]
    before, now = (read_findings(FILES / day / "spectrum.h5") for day in WHOLE)
    np.testing.assert_allclose(before.arrays["eigenvalues"], now.arrays["eigenvalues"], rtol=1e-3)
    assert before.arrays.keys() == now.arrays.keys()
    one, other = (read_directions(FILES / day / "directions.h5") for day in WHOLE)
    assert one.sha256 == other.sha256


def test_the_first_files_are_read():
    surface = read_surface(FILES / "2026-11-22" / "surface.h5")
    assert surface.done.all()
    assert np.isfinite(surface.fields["train_loss"]).all()


@pytest.mark.parametrize("day", WHOLE)
def test_a_file_of_an_earlier_version_is_continued(tmp_path, capsys, monkeypatch, day):
    """Complete, it stays as it is; with fewer cells done, the others are computed."""
    folder = Path(shutil.copytree(FILES / day, tmp_path / day))
    shutil.copy(FILES / "tiny.py", folder)
    monkeypatch.chdir(folder)
    command = [
        *"--model tiny.py:make --dataset tiny.py:data --threads 1 --batch_size 16 --x=-1:1:3 --y=-1:1:2".split(),
        *"--dir_file directions.h5 --surf_file surface.h5".split(),
    ]
    before = (folder / "surface.h5").read_bytes()
    assert plot_surface.main(command) == 0, capsys.readouterr().err
    assert (folder / "surface.h5").read_bytes() == before
    wanted = read_surface("surface.h5")
    assert plot_surface.main([*command, "--x=-1:1:5"]) == 3
    assert "has the grid" in capsys.readouterr().err
    assert plot_surface.main([*command, "--limit", "7"]) == 3
    assert wanted.done.all()


def test_texts_have_a_fixed_length_now():
    """Those of variable length lie in a heap of HDF5, and reading that, damaged, may have no end."""

    def texts(path):
        found = []

        def look(name, item):
            kinds = [(key, item.attrs.get_id(key).dtype) for key in item.attrs if key not in h5py_own]
            kinds += [("", item.dtype)] if isinstance(item, h5py.Dataset) else []
            found.extend(f"{name} {key}" for key, kind in kinds if h5py.check_string_dtype(kind) and kind.hasobject)

        h5py_own = {"DIMENSION_LIST", "REFERENCE_LIST"}
        with h5py.File(path) as f:
            look("/", f)
            f.visititems(look)
        return found

    assert texts(FILES / "2026-11-25" / "surface.h5") != []
    for path in (FILES / "2026-11-26").glob("*.h5"):
        assert texts(path) == [], path.name


@pytest.mark.parametrize(
    ("more", "again"), [([], True), (["--tolerance", "0.5"], False), (["--tolerance", "1e-4"], True)]
)
def test_a_tolerance_of_an_earlier_version_is_continued(tmp_path, capsys, monkeypatch, more, again):
    """Its plan has an entry that is no more, its cells no samples: what they lack takes all samples, which is said."""
    folder = Path(shutil.copytree(FILES / "2026-11-26", tmp_path / "old"))
    shutil.copy(FILES / "tiny.py", folder)
    monkeypatch.chdir(folder)
    wanted = read_surface("tolerance.h5")
    assert "order" in wanted.plan
    assert not wanted.samples
    half = {name: np.where([1, 1, 0], array, array / 2) for name, array in wanted.statistics["train"].items()}
    write_surface(
        "tolerance.h5", replace(wanted, done=np.array([True, False, True]), statistics={"train": half}), "directions.h5"
    )
    command = [
        *"--model tiny.py:make --dataset tiny.py:data --threads 1 --batch_size 16 --x=-1:1:3".split(),
        *"--dir_file directions.h5 --surf_file tolerance.h5".split(),
    ]
    assert plot_surface.main([*command, *more]) == 0, capsys.readouterr().err
    assert ("missing cells use all samples" in capsys.readouterr().out) == bool(more)
    found = read_surface("tolerance.h5")
    assert found.statistics["train"]["n"].tolist() == [64, 64, 64 if again else 32]
    np.testing.assert_allclose(found.fields["train_loss"], wanted.fields["train_loss"], rtol=1e-6)
