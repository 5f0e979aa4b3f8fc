"""Imports point downwards only, and each edge (HDF5, MPI, matplotlib, torch) has its owners."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = [
    {"errors"},
    {"surface", "projection", "dataset_files"},
    {"net_plotter"},
    {"h5_util", "scheduler", "dataloader", "losses", "folding", "models"},
    {"evaluation", "training", "recorder"},
    {"options", "tuning", "hessian"},
    {"figures", "directions"},
    {"preparation"},
    {"plot_1D", "plot_2D", "plot_spectrum", "h52vtp"},
    {"plot_surface", "plot_hessian_eigen", "hessian_spectrum", "plot_trajectory", "train"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
OWNERS = {
    "h5py": {"h5_util"},
    "mpi4py": {"scheduler"},
    "matplotlib": {"figures", "plot_1D", "plot_2D"},
    "seaborn": {"figures", "plot_1D", "plot_2D", "plot_spectrum"},
}
WITHOUT_TORCH = {
    "errors",
    "surface",
    "dataset_files",
    "h5_util",
    "scheduler",
    "recorder",
    "options",
    "figures",
    "plot_1D",
    "plot_2D",
    "plot_spectrum",
}
PACKAGES = ("models", "hessian")
FILES = [*ROOT.glob("*.py"), *(file for name in PACKAGES for file in (ROOT / name).glob("*.py"))]


def room(file: Path) -> str:
    return file.parent.name if file.parent.name in PACKAGES else file.stem


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: a relative import; modules import each other in one way only"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_downwards(file):
    here = room(file)
    assert here in LEVEL, f"give {here} a layer"
    for name in imports(file) & set(LEVEL) - {here}:
        assert LEVEL[name] < LEVEL[here], f"{here} imports {name} from its own layer or above"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_edge_has_its_owners(file):
    for name, owners in OWNERS.items():
        assert name not in imports(file) or room(file) in owners, f"{room(file)} imports {name}"
    assert not (room(file) in WITHOUT_TORCH and "torch" in imports(file))
