"""Whatever a user or a file says, it is understood or refused in one line: every parser of input, with random input.

python -m pytest tests/test_fuzz.py --hypothesis-show-statistics        how many inputs were tried
FUZZ=20000 python -m pytest tests/test_fuzz.py                          as many as this for each parser
"""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossatlas import config
from lossatlas.config import option_fields
from lossatlas.datasets.file_formats import read_cifar10, read_cifar100, read_idx, read_npz
from lossatlas.errors import BadInput, BadUsage, Incomplete, Stop, error_line
from lossatlas.io import read_directions, read_findings, read_projection, read_surface
from lossatlas.io.contents import check, describe
from lossatlas.io.hdf5 import set_text
from lossatlas.landscape import Grid, Tolerance
from lossatlas.models.checkpoint import read_state
from lossatlas.user_code import UserFunction, parse_argument

COUNT = int(os.environ.get("FUZZ", "40"))
few = settings(
    max_examples=COUNT,
    deadline=None,
    derandomize="FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
number = st.one_of(
    st.floats(), st.integers(), st.sampled_from(["", "1e999", "-0", "0x10", "²", "1_0", " 1", "nan", "9" * 5000, "½"])
)
part = st.one_of(st.text(max_size=8), number.map(str))


def one_line(error: Stop) -> None:
    """What a user reads of it."""
    line = error_line(error)
    assert line.isprintable()
    assert 0 < len(line) < 1100


@pytest.mark.slow
@few
@given(st.one_of(st.lists(part, max_size=5).map(":".join), st.text(max_size=30)), st.none() | part)
def test_grids(x, y):
    try:
        grid = Grid.parse(x, y)
    except BadUsage as error:
        one_line(error)
        return
    assert np.isfinite(grid.x).all()
    assert (np.diff(grid.x) > 0).all()
    assert grid.size <= 10_000_000
    assert grid.matches(grid)
    assert len(grid.coarse_first()) == grid.size


@few
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.integers(2, 200))
def test_grids_that_make_sense_are_taken_and_stored(tmp_path, low, high, points):
    text = f"{low!r}:{high!r}:{points}"
    try:
        x = Grid.parse(text).x
    except BadUsage as error:
        one_line(error)
        assert low >= high or (high - low) / (points - 1) <= max(1e-12 * max(-low, high), 1e-30) * (1 + 1e-9)
        return
    assert (x[0], x[-1], len(x)) == (low, high, points)


@few
@given(st.one_of(part, st.lists(part, max_size=3).map(":".join), st.text().map(lambda t: t + ".h5:1")))
def test_directions(text):
    try:
        axis = config.AxisConfig.parse("--xdirection", text, "", "")
    except BadUsage as error:
        one_line(error)
        return
    assert axis.number >= 1
    assert axis.kind in ("random", "gradient", "eigenvector", "file")


@few
@given(part)
def test_numbers_of_options(text):
    for kind in (
        option_fields.positive,
        option_fields.natural,
        option_fields.threads,
        option_fields.finite,
        option_fields.not_negative,
        option_fields.above_zero,
        option_fields.share,
        option_fields.pattern,
    ):
        try:
            value = kind(text)
        except ValueError:
            continue
        assert kind is option_fields.pattern or np.isfinite(value)


@few
@given(part)
def test_tolerances_and_factories(text):
    for parse in (
        Tolerance.parse,
        lambda t: UserFunction.parse("model", t),
        lambda t: parse_argument("model", t),
    ):
        try:
            parse(text)
        except BadUsage as error:
            one_line(error)


def read_or_refuse(read, *arguments):
    try:
        return read(*arguments)
    except (BadInput, BadUsage, Incomplete) as error:
        one_line(error)
        return None


header = st.tuples(st.sampled_from([0, 1, 255]), st.sampled_from([0, 8, 13]), st.integers(0, 4)).map(
    lambda t: bytes([0, *t])
)
sizes = st.lists(st.one_of(st.integers(0, 5), st.sampled_from([2**31, 2**32 - 1])), max_size=4).map(
    lambda n: struct.pack(f">{len(n)}I", *n)
)
idx = st.tuples(st.sampled_from([bytes([0, 0, 8, 3]), bytes([0, 0, 8, 1])]) | header, sizes, st.binary(max_size=130))


@few
@given(idx, idx, st.booleans())
def test_idx_files(tmp_path, images, labels, zipped):
    for path in tmp_path.iterdir():
        path.unlink()
    for name, parts in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        content = b"".join(parts)
        (tmp_path / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    found = read_or_refuse(read_idx, tmp_path, "train")
    assert found is None or (found[0].ndim == 4 and found[1].ndim == 1)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), inner),
    max_leaves=8,
)
kinds = st.sampled_from(["u1", "<i8", ">i4", "f8", "O", "S5", "M8[s]", "?", "c16"])


@st.composite
def batches(draw):
    """A CIFAR batch with something odd in it, pickled, and bytes of it changed."""
    rows = draw(st.integers(0, 3))
    data = np.zeros((rows, draw(st.sampled_from([3072, 3, 0]))), draw(kinds))
    labels = draw(st.one_of(st.lists(st.integers(0, 9), max_size=3), plain, kinds.map(lambda k: np.zeros(rows, k))))
    batch = {b"data": data, b"labels": labels, b"fine_labels": labels}
    content = bytearray(pickle.dumps(draw(st.one_of(st.just(batch), plain)), draw(st.integers(0, 5))))
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content))) or None])


@few
@given(st.one_of(batches(), st.binary(max_size=3100)))
def test_cifar_files(tmp_path, content):
    for path in tmp_path.iterdir():
        path.unlink()
    for name in ("test_batch", "train", "test_batch.bin", "train.bin"):
        (tmp_path / name).write_bytes(content)
    for read, split in ((read_cifar10, "test"), (read_cifar100, "train")):
        found = read_or_refuse(read, tmp_path, split)
        assert found is None or found[0].shape[1:] == (3, 32, 32)
    for name in ("test_batch", "train"):
        (tmp_path / name).unlink()
    read_or_refuse(read_cifar10, tmp_path, "test")
    read_or_refuse(read_cifar100, tmp_path, "train")


@few
@given(st.dictionaries(st.sampled_from(["train_images", "train_labels", "x_train", "y_train"]), kinds), st.data())
def test_npz_files(tmp_path, names, data):
    shapes = st.lists(st.integers(0, 4), max_size=4)
    content = io.BytesIO()
    np.savez(content, **{name: np.zeros(data.draw(shapes), kind) for name, kind in names.items()})
    raw = bytearray(content.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "d.npz").write_bytes(raw)
    found = read_or_refuse(read_npz, tmp_path / "d.npz", "train")
    assert found is None or found[0].ndim == 4
    (tmp_path / "net.pt").write_bytes(raw)
    read_or_refuse(read_state, tmp_path / "net.pt")


names = st.sampled_from(
    [
        *"xcoordinates ycoordinates train_loss done dir_file xdirection xdirection/0 ydirection/0 ydirection".split(),
        *"statistics/train/n values/max_eig proj_xcoord proj_ycoord eigenvalues provenance/seconds directions".split(),
    ]
)
values = st.one_of(
    st.lists(st.floats(), max_size=4).map(np.array),
    st.tuples(st.integers(0, 3), st.integers(0, 3)).map(np.zeros),
    kinds.filter(lambda k: k not in ("O", "M8[s]")).map(lambda k: np.zeros(3, k)),
    st.text(max_size=5).filter(lambda t: "\0" not in t),
)
texts = st.sampled_from(
    ["loss surface 1", "hessian spectrum 1", "loss surface 2", "{}", "[1]", "nonsense", '{"train": 5}']
)
attributes = st.dictionaries(
    st.sampled_from(["format", "sha256", "plan", "request", "about", "populations", "seal", "sealed"]),
    texts,
    max_size=5,
)


@pytest.mark.slow
@settings(few, max_examples=max(20, COUNT // 4))
@given(st.dictionaries(names, values, max_size=5), attributes)
def test_hdf5_files(tmp_path, arrays, given_attributes):
    path = Path(tmp_path / "f.h5")
    path.unlink(missing_ok=True)
    with h5py.File(path, "w", track_order=True) as f:
        for name, value in arrays.items():
            if name not in f and not any(name.startswith(f"{other}/") for other in f):
                f[name] = value
        for name, value in given_attributes.items():
            set_text(f, name, value)
    for read in (read_surface, read_directions, read_findings, read_projection, describe, check):
        read_or_refuse(read, path)


@pytest.mark.commands
@pytest.mark.full
def test_many_more_inputs():
    """New ones each time."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not full", __file__]
    done = subprocess.run(
        command, env={**os.environ, "FUZZ": "150"}, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout
