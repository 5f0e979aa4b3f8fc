"""Every story of examples/ runs by its one command in its small form, and draws what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MPIRUN, ROOT

pytestmark = pytest.mark.commands

STORIES = {
    "effective_dimension": ("effective_dimension.png", "double_descent.png"),
    "homogeneity": ("homogeneity_spirals.png", "homogeneity_images.png"),
    "julia": ("julia_linear2x.h5_train_loss_3dsurface.png", "julia.html"),
    "language_model": (
        *(f"language_model_{name}.png" for name in ("basins", "directions", "plane")),
        "language_model.md",
    ),
    "original_readme": ("contour.h5_train_loss_2dcontour.png", "contour.h5_train_loss_zmax=10.0_log.vtp"),
    "posterior_contraction": ("posterior_contraction.png",),
    "pyhessian_tutorial": ("pyhessian_1.png", "pyhessian_4.png"),
    "scale_invariance": ("scale_unit_1d_compare.png", "scale_filter_1d_compare.png"),
    "sharpness_generalization": ("sharpness_generalization.png", "sharpness_generalization.md"),
    "todays_networks": ("todays_networks.png",),
    "two_models": ("two_models_train_loss_3dsurface.png", "two_models.html"),
}


def test_every_story_is_tested_and_told():
    assert set(STORIES) == {folder.parent.name for folder in ROOT.glob("examples/*/run.sh")}
    for name in STORIES:
        told = (ROOT / "docs" / "stories" / f"{name}.md").read_text()
        assert f"bash examples/{name}/run.sh" in told, name


def ran(name: str, out: Path) -> str:
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), *([str(Path(MPIRUN).parent)] if MPIRUN else []), os.environ["PATH"]]
    )
    given = {**os.environ, "PATH": path, "OUT": str(out), "SMALL": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = ["bash", str(ROOT / "examples" / name / "run.sh")]
    result = subprocess.run(command, cwd=out, env=given, capture_output=True, text=True, timeout=1700, check=False)
    assert result.returncode == 0, f"{result.stdout[-1500:]}\n{result.stderr[-1500:]}"
    return result.stdout


def files_of(name: str) -> set[Path]:
    """What lies beside a story's scripts, and beside the networks that it may use."""
    places = [*(ROOT / "examples" / name).rglob("*"), *(ROOT / "trained_nets").iterdir()]
    return {path for path in places if "__pycache__" not in path.parts}


@pytest.mark.full
@pytest.mark.parametrize("name", STORIES)
def test_a_story_runs_by_its_one_command(name, tmp_path):
    if name == "original_readme" and MPIRUN is None:
        pytest.skip("no mpirun: pip install mpich")
    before = files_of(name)
    ran(name, tmp_path)
    tmp_path = tmp_path if name == "pyhessian_tutorial" else tmp_path / "small"
    for file in STORIES[name]:
        assert (tmp_path / file).stat().st_size > (500 if file.endswith(".md") else 1000), file
    if name == "effective_dimension":
        with np.load(next((tmp_path / "effective_dimension").glob("*.npz"))) as values:
            assert (values["pos_evals"] > 0).all()
    if name == "scale_invariance":
        from lossatlas.io import read_surface

        plain, scaled = (
            read_surface(tmp_path / f"{net}_filter.h5").fields["train_loss"] for net in ("plain", "scaled")
        )
        np.testing.assert_allclose(plain, scaled, rtol=1e-4)
        plain, scaled = (read_surface(tmp_path / f"{net}_unit.h5").fields["train_loss"] for net in ("plain", "scaled"))
        assert np.abs(plain / scaled - 1).max() > 0.01
    assert files_of(name) == before  # nothing beside OUT


def test_files_that_examples_read_are_there():
    """Also where the stories themselves do not run."""
    for file in (ROOT / "examples").rglob("*.py"):
        for up, parts in re.findall(
            r"resolve\(\)\.(parents\[\d\]|parent(?:\.parent)*)((?: / \"[\w.]+\")+)", file.read_text()
        ):
            levels = int(up[8:-1]) if up.startswith("parents") else up.count("parent") - 1
            named = file.resolve().parents[levels].joinpath(*re.findall(r'"([\w.]+)"', parts))
            assert named.exists(), f"{file} reads {named}"
