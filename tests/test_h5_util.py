import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from binomial import counts
from conftest import ROOT, statistics_row, surface_command

from lossatlas.commands.h5_util import main
from lossatlas.errors import BadInput, CannotWrite
from lossatlas.io import (
    Directions,
    read_directions,
    read_findings,
    read_projection,
    read_surface,
    write_directions,
    write_surface,
)
from lossatlas.io.direction_files import direction_link
from lossatlas.io.hdf5 import get_text, set_text, write
from lossatlas.io.lock import Lock
from lossatlas.io.surface_files import added_by_others
from lossatlas.io.trajectory_files import Projection, write_projection
from lossatlas.landscape import Grid, Surface


def make_surface(y="-1:1:3") -> Surface:
    grid = Grid.parse("0:1:4", y)
    surface = Surface.empty(
        grid,
        {"train": 10, "test": 4},
        ("accuracy",),
        plan={"batch_size": 3, "device": "cpu"},
        request={"loss": "mse"},
        about={"command": "x 'y z'"},
    )
    values = [1.0, -2.0, np.nan, np.inf, 0.0]
    rows = np.array(
        [[statistics_row([v] * 10, metrics=[5]), statistics_row([v] * 4, clamped=1, metrics=[2])] for v in values]
    )
    cells = [0, 3, 1, 2] if y is None else [0, 3, 5, 7, 9]
    return surface.with_cells(cells, rows[: len(cells)])


def make_directions(seed=0) -> Directions:
    generator = np.random.default_rng(seed)
    arrays = [generator.normal(size=s).astype(np.float32) for s in ((4, 3, 3, 3), (4,), ())]
    return Directions(arrays, [2 * a for a in arrays], {"x": "random"})


@pytest.mark.parametrize("y", [None, "-1:1:3"])
def test_a_surface_comes_back_as_it_was(tmp_path, y):
    surface = make_surface(y)
    write_surface(tmp_path / "s.h5", surface)
    again = read_surface(tmp_path / "s.h5")
    np.testing.assert_array_equal(again.done, surface.done)
    assert list(again.statistics) == ["train", "test"]  # the order of the workers' rows
    assert list(again.statistics["train"]) == list(surface.statistics["train"])
    for name, array in surface.fields.items():
        np.testing.assert_array_equal(again.fields[name], array)
    for name in ("plan", "request", "about", "populations"):
        assert getattr(again, name) == getattr(surface, name)


def test_users_of_the_original_find_their_fields(tmp_path):
    write_directions(tmp_path / "d.h5", make_directions())
    write_surface(tmp_path / "s.h5", make_surface(), tmp_path / "d.h5")
    with h5py.File(tmp_path / "s.h5") as f:
        assert f["train_loss"].shape == (3, 4)
        assert f["train_loss"].dims[1][0].name == "/xcoordinates"
        assert f["train_acc"][0, 0] == 50
        assert f["dir_file"][()].decode().endswith("d.h5")
        assert f["directions/xdirection/0"].shape == (4, 3, 3, 3)
    with h5py.File(tmp_path / "d.h5") as f:
        assert list(f["ydirection"]) == ["0", "1", "2"]


def test_links_move_with_the_folder_and_copies_stand_alone(tmp_path):
    (tmp_path / "a").mkdir()
    write_directions(tmp_path / "a" / "d.h5", make_directions())
    request = {"loss": "mse", "directions": make_directions().sha256}
    write_surface(tmp_path / "a" / "s.h5", replace(make_surface(), request=request), tmp_path / "a" / "d.h5")
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_directions(tmp_path / "b" / "s.h5").sha256 == make_directions().sha256
    assert main([str(tmp_path / "b" / "s.h5"), "--embed"]) == 0
    (tmp_path / "b" / "d.h5").unlink()
    assert read_directions(tmp_path / "b" / "s.h5").sha256 == make_directions().sha256
    assert read_surface(tmp_path / "b" / "s.h5").request == request
    assert direction_link(tmp_path / "b" / "s.h5") == str(tmp_path / "a" / "d.h5")


def test_other_directions_are_not_embedded(tmp_path, capsys):
    request = {"directions": make_directions().sha256}
    write_surface(tmp_path / "s.h5", replace(make_surface(), request=request), tmp_path / "d.h5")
    write_directions(tmp_path / "d.h5", make_directions(1))
    before = (tmp_path / "s.h5").read_bytes()
    assert main([str(tmp_path / "s.h5"), "--embed"]) == 3
    err = capsys.readouterr().err
    assert make_directions().sha256 in err
    assert make_directions(1).sha256 in err
    assert (tmp_path / "s.h5").read_bytes() == before


@pytest.mark.parametrize("name", ["train_loss", "done", "statistics/test/weight"])
def test_a_changed_number_is_noticed(tmp_path, name):
    write_surface(tmp_path / "s.h5", make_surface())
    with h5py.File(tmp_path / "s.h5", "r+") as f:
        f[name][0] = 1 - f[name][0] if name != "done" else ~f[name][0]
    with pytest.raises(BadInput, match="damaged"):
        read_surface(tmp_path / "s.h5")


def test_a_changed_direction_is_noticed(tmp_path):
    write_directions(tmp_path / "d.h5", make_directions())
    with h5py.File(tmp_path / "d.h5", "r+") as f:
        f["ydirection/1"][0] += 1
    with pytest.raises(BadInput, match="damaged"):
        read_directions(tmp_path / "d.h5")


def write_original(path, grid, loss, **more):
    with h5py.File(path, "w") as f:
        f["dir_file"] = "net.t7_weights.h5"
        f["xcoordinates"] = grid.x
        if grid.y is not None:
            f["ycoordinates"] = grid.y
        f["train_loss"] = loss
        f["train_acc"] = np.where(loss == -1, -1, 50.0)
        for name, value in more.items():
            f[name] = value


def test_a_scrambled_file_of_the_original_is_put_right(tmp_path, capsys):
    grid = Grid.parse("0:1:5", "0:1:3")
    loss = np.arange(15.0).reshape(3, 5)
    write_original(tmp_path / "s.h5", grid, loss.reshape(5, 3))
    surface = read_surface(tmp_path / "s.h5")
    np.testing.assert_array_equal(surface.fields["train_loss"], loss)
    assert surface.done.all()
    assert main([str(tmp_path / "s.h5"), "--export", str(tmp_path / "s.npz")]) == 0
    with np.load(tmp_path / "s.npz") as arrays:
        np.testing.assert_array_equal(arrays["train_loss"], loss)
    assert main([str(tmp_path / "s.h5")]) == 0
    assert "provenance unknown" in capsys.readouterr().out


def test_missing_cells_of_the_original_are_not_done(tmp_path):
    grid = Grid.parse("0:1:3")
    write_original(tmp_path / "s.h5", grid, np.array([0.5, -1.0, 0.0]))
    surface = read_surface(tmp_path / "s.h5")
    assert surface.done.tolist() == [True, False, True]
    write_original(tmp_path / "e.h5", grid, np.array([0.5, 2.0, 1.0]), min_eig=np.array([-1.0, 1.0, -3.0]))
    eigen = read_surface(tmp_path / "e.h5")
    assert eigen.done.all()  # a cell is done when any field is; what is missing is no number
    assert np.isnan(eigen.fields["min_eig"]).tolist() == [False, True, False]
    write_original(tmp_path / "own.h5", grid, np.array([0.5, -1.0, 0.0]), my_loss=np.array([-1.0, 1.0, -1.0]))
    own = read_surface(tmp_path / "own.h5")  # a user's own field has no such marks, and says nothing about the others
    assert own.values["my_loss"].tolist() == [-1.0, 1.0, -1.0]
    assert own.done.tolist() == [True, False, True]


@pytest.mark.few(1)
@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 40])
def test_files_that_are_none_of_ours_are_refused(tmp_path, content):
    (tmp_path / "s.h5").write_bytes(content)
    for read in (read_surface, read_directions, read_projection):
        with pytest.raises(BadInput, match=r"s\.h5"):
            read(tmp_path / "s.h5")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = 1
    for read in (read_surface, read_directions, read_projection):
        with pytest.raises(BadInput, match="other"):
            read(tmp_path / "other.h5")
    assert main([str(tmp_path / "absent.h5")]) == 3


@pytest.mark.commands
def test_an_unfinished_write_leaves_the_previous_file(tmp_path):
    """The file system refuses to let the file grow (as a full disk would): one line, exit 5, nothing lost."""
    write_surface(tmp_path / "s.h5", make_surface())
    before = (tmp_path / "s.h5").read_bytes()
    code = f"""
import resource, signal, sys
sys.dont_write_bytecode = True  # Python would leave truncated files of bytecode, which every later process reads
sys.path.insert(0, {str(ROOT)!r}); sys.path.insert(0, {str(ROOT / "tests")!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from lossatlas.errors import exit_code
from lossatlas.io import write_surface
from test_h5_util import make_surface
sys.exit(exit_code(lambda: write_surface({str(tmp_path / "s.h5")!r}, make_surface())))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 5, result.stderr
    assert result.stderr.startswith("error: cannot write")
    assert (tmp_path / "s.h5").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]


def test_a_missing_folder_cannot_be_written_to(tmp_path):
    with pytest.raises(CannotWrite, match=r"no folder .*no: make it first"):
        write_surface(tmp_path / "no" / "s.h5", make_surface())


def test_export_needs_a_name_that_says_what_it_is(tmp_path):
    write_surface(tmp_path / "s.h5", make_surface())
    assert main([str(tmp_path / "s.h5"), "--export", str(tmp_path / "s.csv")]) == 2


def test_describe_counts_what_is_done(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", make_surface())
    write_directions(tmp_path / "d.h5", make_directions())
    assert main([str(tmp_path / "s.h5")]) == 0
    assert "done: 5 of 12 cells" in capsys.readouterr().out
    assert main([str(tmp_path / "d.h5")]) == 0
    assert "two, 3 tensors each, 113 numbers" in capsys.readouterr().out


def test_eigenvalue_fields_are_stored_as_they_are(tmp_path):
    surface = make_surface()
    values = {"min_eig": np.arange(12.0).reshape(3, 4)}
    write_surface(tmp_path / "s.h5", replace(surface, values=values))
    found = read_surface(tmp_path / "s.h5").fields["min_eig"]
    np.testing.assert_array_equal(found, np.where(surface.done, values["min_eig"], np.nan))


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["surface", "directions", "original"])
@pytest.mark.parametrize("bits", counts(24, 40))
def test_flipped_bits_never_end_in_a_traceback(tmp_path, kind, bits):
    """Either the file is refused, or what was hit does not matter; benchmarks/torture.py does it 750 times."""
    path = tmp_path / "f.h5"
    if kind == "surface":
        write_surface(path, make_surface())
    elif kind == "directions":
        write_directions(path, make_directions())
    else:
        write_original(path, Grid.parse("0:1:4", "0:1:4"), np.arange(16.0).reshape(4, 4))
    content, generator = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(bits):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        code = main([str(path)])
        assert code in (0, 3)
        refused += code == 3
    assert refused > 1


def test_a_link_to_directions_that_are_gone_says_so(tmp_path, capsys):
    write_directions(tmp_path / "d.h5", make_directions())
    write_surface(tmp_path / "s.h5", make_surface(), tmp_path / "d.h5")
    (tmp_path / "d.h5").unlink()
    assert main([str(tmp_path / "s.h5"), "--embed"]) == 3
    assert "leads to the directions in d.h5, which are not there" in capsys.readouterr().err


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "s.h5").symlink_to(tmp_path / "real" / "s.h5")
    write_surface(tmp_path / "s.h5", make_surface())
    assert (tmp_path / "s.h5").is_symlink()
    assert read_surface(tmp_path / "real" / "s.h5").request == {"loss": "mse"}


def done_surface(directions: Directions) -> Surface:
    grid = Grid.parse("0:1:4")
    request = {"loss": "mse", "directions": Directions(directions.x).sha256}
    surface = Surface.empty(grid, {"train": 10}, ("accuracy",), plan={"batch_size": 3}, request=request)
    return surface.with_cells(
        range(4), np.array([[statistics_row([v] * 10, metrics=[5])] for v in (1.0, 2.0, np.nan, 0.0)])
    )


def test_check_says_what_is_right_and_what_is_not(tmp_path, capsys):
    directions, file = make_directions(), tmp_path / "s.h5"
    write_directions(tmp_path / "d.h5", directions)
    write_surface(file, done_surface(directions), tmp_path / "d.h5")
    assert main([str(file), "--check"]) == 0
    said = capsys.readouterr().out
    assert "the directions are those it was computed along" in said
    assert "all 4 cells are done" in said
    assert main([str(tmp_path / "d.h5"), "--check"]) == 0
    write_surface(tmp_path / "part.h5", make_surface())
    assert main([str(tmp_path / "part.h5"), "--check"]) == 4
    assert "5 of 12 cells are done" in capsys.readouterr().err
    write_directions(tmp_path / "d.h5", make_directions(1))
    assert main([str(file), "--check"]) == 3
    assert "was computed along directions with the sha256" in capsys.readouterr().err
    (tmp_path / "d.h5").unlink()
    assert main([str(file), "--check"]) == 3
    assert "its directions cannot be read" in capsys.readouterr().err
    surface = done_surface(directions)
    surface.statistics["train"]["n"][2] = 11
    write_surface(tmp_path / "odd.h5", surface, embed=directions)
    assert main([str(tmp_path / "odd.h5"), "--check"]) == 3
    assert "used 11 of 10 train samples" in capsys.readouterr().err


def test_convert_makes_a_file_of_the_release_of_2018_one_of_this_version(tmp_path, capsys):
    old, new = tmp_path / "old.h5", tmp_path / "new.h5"
    with h5py.File(old, "w") as f:
        f["xcoordinates"], f["ycoordinates"] = np.linspace(0, 1, 4), np.linspace(-1, 1, 3)
        f["train_loss"] = np.arange(12.0).reshape(4, 3)  # stored as (nx, ny), filled as (ny, nx)
        f["train_acc"] = np.full((4, 3), -1.0)
    assert main([str(old), "--convert", str(new)]) == 0
    with h5py.File(new) as f:
        np.testing.assert_array_equal(f["train_loss"], np.arange(12.0).reshape(3, 4))
        assert f["done"][()].all()
        assert "sha256" in f.attrs
    assert main([str(new), "--check"]) == 0
    for file in (old, new):
        assert main([str(file), "--convert", str(new)]) == 2
    assert main([str(new), "--convert", str(tmp_path / "third.h5")]) == 2
    assert "file of this program already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["request", "plan", "about", "populations"])
def test_a_changed_attribute_is_damage(tmp_path, name):
    directions, file = make_directions(), tmp_path / "s.h5"
    write_surface(file, done_surface(directions), embed=directions)
    with h5py.File(file, "r+") as f:
        f.attrs["of somebody else"] = 1  # what others add is theirs
    assert main([str(file), "--check"]) == 0
    with h5py.File(file, "r+") as f:
        before = get_text(f, name)
        set_text(f, name, before.replace("}", ', "more": 1}') if len(before) > 2 else '{"more": 1}')
    with pytest.raises(BadInput, match="is damaged: its attributes"):
        read_surface(file)


@pytest.mark.parametrize("change", ["about", "lengths"])
def test_what_a_direction_file_says_of_its_tensors_is_checked(tmp_path, change):
    file = tmp_path / "d.h5"
    extra = {"tensors": np.array([b"a", b"b", b"c"]), "lengths": np.arange(6.0).reshape(3, 2)}
    write_directions(file, replace(make_directions(), extra=extra))
    assert read_directions(file).extra["lengths"][2, 1] == 5
    with h5py.File(file, "r+") as f:
        if change == "about":
            f.attrs["about"] = "{}"
        else:
            f["lengths"][...] = f["lengths"][()][::-1]
    with pytest.raises(BadInput, match="is damaged"):
        read_directions(file)


def test_convert_refuses_what_would_be_lost(tmp_path, capsys):
    with h5py.File(tmp_path / "old.h5", "w") as f:
        f["xcoordinates"], f["train_loss"], f["comment"] = np.linspace(0, 1, 4), np.ones(4), "mine"
    assert main([str(tmp_path / "old.h5"), "--convert", str(tmp_path / "new.h5")]) == 3
    assert "holds 'comment', which would be lost" in capsys.readouterr().err
    assert not (tmp_path / "new.h5").exists()


def test_damage_that_leads_hdf5_in_circles_ends(tmp_path):
    """A file of an earlier version, whose texts lie in a heap; with its bytes zeroed, reading them has no end."""
    file = tmp_path / "s.h5"
    content = bytearray((ROOT / "tests" / "files" / "2026-11-25" / "surface.h5").read_bytes())
    at = content.index(b"GCOL")
    content[at + 16 : at + 80] = bytes(64)
    file.write_bytes(content)
    with pytest.raises(BadInput, match="damaged: reading it has no end"):
        read_surface(file)


def test_a_file_without_its_attributes_is_not_one_of_the_original(tmp_path):
    """It would be 'written by another program', and its cells those that are no NaN."""
    write_surface(tmp_path / "s.h5", done_surface(make_directions()), embed=make_directions())
    with h5py.File(tmp_path / "s.h5", "r+") as f:
        for name in list(f.attrs):
            del f.attrs[name]
        del f["directions"].attrs["sha256"]
    with pytest.raises(BadInput, match="its attribute 'format' is gone"):
        read_surface(tmp_path / "s.h5")
    with pytest.raises(BadInput, match="its attribute 'sha256' is gone"):
        read_directions(tmp_path / "s.h5")


def test_long_texts_and_texts_in_every_language(tmp_path):
    surface = done_surface(make_directions())
    about = {"notes": ["漢字" * 40_000, "\udcff", ""], "command": "x" * 100_000}
    write_surface(tmp_path / "s.h5", replace(surface, about=about))
    assert read_surface(tmp_path / "s.h5").about == about
    assert added_by_others(tmp_path / "s.h5") == []


def test_who_computed_what_is_printed_and_checked(tmp_path, capsys):
    directions = make_directions()
    surface = done_surface(directions).computed([([0, 1], "node1, a card", 3.0), ([2, 3], "node2, a card", 1.0)])
    write_surface(tmp_path / "s.h5", surface, embed=directions)
    assert main([str(tmp_path / "s.h5")]) == 0
    out = capsys.readouterr().out
    assert "computed by node1, a card: 2 cells, 3 s, 1.5 s each" in out
    assert main([str(tmp_path / "s.h5"), "--check"]) == 0
    with h5py.File(tmp_path / "s.h5", "r+") as f:
        f["provenance/seconds"][0] = 7
    assert main([str(tmp_path / "s.h5"), "--check"]) == 3


def test_an_array_that_says_it_is_far_larger_than_its_file(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as f:
        f["xcoordinates"] = [0.0, 1.0]
        f.create_dataset("train_loss", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(BadInput, match="more than four times those of the file"):
        read_surface(tmp_path / "s.h5")


def test_what_a_terminal_would_obey_is_not_printed(tmp_path, capsys):
    surface = replace(done_surface(make_directions()), about={"command": "python \x1b[31mred \x07"})
    write_surface(tmp_path / "s.h5", surface)
    assert main([str(tmp_path / "s.h5")]) == 0
    assert main([str(tmp_path / "\x1b[31mno.h5")]) == 3
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "\\x1b[31mred" in captured.out


def test_a_changed_trajectory_is_noticed(tmp_path):
    path = Projection(np.array([1.0, 3.0, 5.0]), np.array([2.0, 4.0, 6.0]), np.arange(3.0), run="one")
    write_projection(tmp_path / "p.h5", path, "plane", "origin")
    assert read_projection(tmp_path / "p.h5").run == "one"
    assert main([str(tmp_path / "p.h5"), "--check"]) == 0
    with h5py.File(tmp_path / "p.h5", "r+") as f:
        f["proj_xcoord"][1] = 48
    assert main([str(tmp_path / "p.h5"), "--check"]) == 3


def test_nothing_is_embedded_while_somebody_writes(tmp_path, capsys):
    directions = make_directions()
    write_directions(tmp_path / "d.h5", directions)
    write_surface(tmp_path / "s.h5", done_surface(directions), dir_file=tmp_path / "d.h5")
    before = (tmp_path / "s.h5").read_bytes()
    with Lock(tmp_path / "s.h5"):
        assert main([str(tmp_path / "s.h5"), "--embed"]) == 5
    assert "is being written by process" in capsys.readouterr().err
    assert (tmp_path / "s.h5").read_bytes() == before
    assert main([str(tmp_path / "s.h5"), "--embed"]) == 0


def test_damage_of_linked_directions_is_said_of_their_file(tmp_path, capsys):
    directions = make_directions()
    write_directions(tmp_path / "d.h5", directions)
    write_surface(tmp_path / "s.h5", done_surface(directions), dir_file=tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "r+") as f:
        f["xdirection/0"][0] = 9
    assert main([str(tmp_path / "s.h5"), "--check"]) == 3
    assert f"{tmp_path / 'd.h5'} is damaged" in capsys.readouterr().err


def test_a_file_with_a_checksum_of_its_own_that_would_fill_the_memory(tmp_path):
    write(
        tmp_path / "s.h5",
        lambda f: f.create_dataset("xcoordinates", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip"),
    )
    for read in (read_surface, read_directions, read_projection):
        with pytest.raises(BadInput, match="far larger than its file"):
            read(tmp_path / "s.h5")


def test_a_slim_spectrum_is_drawn_and_not_continued(tmp_path, checkpoint, capsys):
    from lossatlas.commands import hessian_spectrum, plot_spectrum

    whole, small = tmp_path / "s.h5", tmp_path / "slim.h5"
    model = f"--model mlp --model_file {checkpoint} --dataset fashion_mnist_mini --limit 20 --threads 1"
    argv = [*model.split(), *"--top 2 --trace_most 5 --spectrum_file".split(), str(whole)]
    assert hessian_spectrum.main([*argv, "--probes", "1", "--steps", "5"]) == 0
    assert main([str(whole), "--slim", str(small)]) == 0
    assert small.stat().st_size < 0.5 * whole.stat().st_size
    found, wanted = read_findings(small), read_findings(whole)
    assert set(wanted.arrays) - set(found.arrays) == {"eigenvectors"}
    np.testing.assert_array_equal(found.arrays["eigenvalues"], wanted.arrays["eigenvalues"])
    assert main([str(small), "--check"]) == 0
    assert plot_spectrum.main(["-f", str(small)]) == 0
    capsys.readouterr()
    assert hessian_spectrum.main([*argv[:-1], str(small), "--top", "3"]) == 3
    assert "slim file, which cannot be continued" in capsys.readouterr().err


def test_a_slim_file_holds_the_fields_and_cannot_be_taken_for_a_whole_one(tmp_path, checkpoint, capsys):
    from lossatlas.commands import plot_surface

    whole, small = tmp_path / "s.h5", tmp_path / "slim.h5"
    argv = [*surface_command(checkpoint, whole, "--x=-1:1:5", "--y=-1:1:5"), "--dir_file", str(tmp_path / "d.h5")]
    assert plot_surface.main(argv) == 0
    assert main([str(whole), "--slim", str(small)]) == 0
    assert small.stat().st_size < 0.5 * whole.stat().st_size
    found, wanted = read_surface(small), read_surface(whole)
    for name in ("train_loss", "train_acc"):
        np.testing.assert_array_equal(found.fields[name], wanted.fields[name])
    assert found.about["zero"] == ["train_loss_se"]
    assert main([str(small), "--check"]) == 0
    assert "a slim file has none" in capsys.readouterr().out
    assert plot_surface.main([word if word != str(whole) else str(small) for word in argv]) == 3
    assert "slim file, which cannot be continued" in capsys.readouterr().err
    assert main([str(whole), "--slim", str(small)]) == 2
    with h5py.File(whole, "r+") as f:
        f["mine"] = [1, 2]
    assert main([str(whole), "--slim", str(tmp_path / "t.h5")]) == 3
    assert "'mine', which would be lost" in capsys.readouterr().err
    unfinished = make_surface()
    write_surface(tmp_path / "u.h5", replace(unfinished, done=np.zeros_like(unfinished.done)))
    assert main([str(tmp_path / "u.h5"), "--slim", str(tmp_path / "v.h5")]) == 3
