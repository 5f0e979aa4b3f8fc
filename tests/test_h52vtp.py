import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_plots import bowl, diverging, surface_of

from lossatlas.commands import h52vtp
from lossatlas.io import read_surface, write_surface

vtk = pytest.importorskip("vtkmodules.vtkIOXML", reason="vtk is not installed")
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

vtkXMLPolyDataReader = vtk.vtkXMLPolyDataReader


def arrays(path) -> dict[str, np.ndarray]:
    """Every array of a VTP file by name, as VTK's reader finds them; cell arrays are prefixed by their kind."""
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    data = reader.GetOutput()
    found = {"Points": vtk_to_numpy(data.GetPoints().GetData())}
    for kind, cells in (("Polys", data.GetPolys()), ("Verts", data.GetVerts())):
        found[f"{kind}.connectivity"] = vtk_to_numpy(cells.GetConnectivityArray())
        found[f"{kind}.offsets"] = vtk_to_numpy(cells.GetOffsetsArray())
    values = data.GetPointData()
    found |= {values.GetArrayName(k): vtk_to_numpy(values.GetArray(k)) for k in range(values.GetNumberOfArrays())}
    found["active"] = values.GetScalars().GetName()
    return found


def convert(tmp_path, function, *args, **kwargs):
    write_surface(tmp_path / "s.h5", surface_of(function, **kwargs))
    assert h52vtp.main(["--surf_file", str(tmp_path / "s.h5"), *args]) == 0
    (path,) = tmp_path.glob("*.vtp")
    return path, arrays(path)


def test_points_and_polygons_of_a_grid_that_is_not_square(tmp_path):
    path, found = convert(tmp_path, bowl, x="-1:1:4", y="0:1:3")
    assert path.name == "s.h5_train_loss.vtp"
    points = found["Points"].reshape(-1, 3)
    np.testing.assert_allclose(points[:, 2], bowl(points[:, 0], points[:, 1]), rtol=1e-6)
    corners = found["Polys.connectivity"].reshape(-1, 4)
    assert len(corners) == 6
    for quad in points[corners]:  # each one a cell of the grid, counter-clockwise
        np.testing.assert_allclose(np.ptp(quad[:, :2], 0), [2 / 3, 1 / 2], rtol=1e-6)
        assert np.linalg.det(np.stack([quad[1, :2] - quad[0, :2], quad[2, :2] - quad[1, :2]])) > 0
    np.testing.assert_array_equal(found["Polys.offsets"], np.arange(7) * 4)


def test_cut_logarithm_and_points(tmp_path):
    path, found = convert(tmp_path, bowl, "--zmax", "2", "--log", "--show_points")
    assert path.name == "s.h5_train_loss_zmax=2.0_log.vtp"
    assert found["Points"].reshape(-1, 3)[:, 2].max() == pytest.approx(np.log(2))
    assert len(found["Verts.connectivity"]) == 72
    assert len(found["Polys.connectivity"]) == 0


def test_interpolation_keeps_a_smooth_surface(tmp_path):
    _, found = convert(tmp_path, bowl, "--interp", "31")
    points = found["Points"].reshape(-1, 3)
    assert len(points) == 31 * 31
    np.testing.assert_allclose(points[:, 2], bowl(points[:, 0], points[:, 1]), rtol=1e-5)


def test_cells_without_a_height_are_in_no_polygon(tmp_path):
    _, found = convert(tmp_path, diverging, "--show_points", "--show_polys")
    points = found["Points"].reshape(-1, 3)
    used = np.unique(found["Polys.connectivity"])
    assert (np.abs(points[used, 0]) < 0.9).all()
    assert len(used) == len(found["Verts.connectivity"]) == 7 * 8
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--surf_name", "x"], 2),
        (["--interp", "1"], 2),
        (["--out", "no/f.vtp"], 5),
        (["--interp", "9"], 2),
        (["--zmax", "-5", "--log", "--interp", "9"], 2),
    ],
)
def test_bad_requests_are_one_line(tmp_path, capsys, args, code):
    write_surface(tmp_path / "s.h5", surface_of(diverging))
    assert h52vtp.main(["-f", str(tmp_path / "s.h5"), *args]) == code
    assert capsys.readouterr().err.count("\n") == 1
    write_surface(tmp_path / "line.h5", surface_of(bowl, y=None))
    assert h52vtp.main(["-f", str(tmp_path / "line.h5")]) == 3


def test_every_field_is_there_to_colour_by(tmp_path):
    _, found = convert(tmp_path, diverging)
    assert found["active"] == "train_loss"
    fields = read_surface(tmp_path / "s.h5").fields
    assert len(fields) > 2
    for name in set(fields) - {"train_loss"}:
        np.testing.assert_array_equal(found[name], fields[name].ravel().astype(np.float32))


@pytest.mark.commands
def test_without_vtk_a_line_says_what_to_do(tmp_path):
    write_surface(tmp_path / "s.h5", surface_of(bowl))
    code = (
        "import sys; sys.modules['vtkmodules'] = None; sys.argv[1:] = ['-f', 's.h5']\n"
        "from lossatlas.commands import h52vtp; sys.exit(h52vtp.main())"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 2
    assert "pip install vtk" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.vtp"))


def test_the_surface_is_not_written_over(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", surface_of(bowl))
    before = (tmp_path / "s.h5").read_bytes()
    assert h52vtp.main(["-f", str(tmp_path / "s.h5"), "--out", str(tmp_path / "s.h5")]) == 2
    assert (tmp_path / "s.h5").read_bytes() == before
    assert h52vtp.main(["-f", str(tmp_path / "s.h5"), "--log"]) == 0
    capsys.readouterr()
