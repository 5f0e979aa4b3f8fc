"""Every command of the README runs, on smaller grids and fewer images."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, write_checkpoint

README = (ROOT / "README.md").read_text()
BLOCKS = [block for block in re.findall(r"```bash\n(.*?)```", README, re.S) if "make demo" not in block]
SMALL = {
    "plot_surface.py": "--limit 10 --batch_size 10",
    "train.py": "--limit 100",
    "hessian_spectrum.py": "--limit 10 --top 3 --trace_most 5 --steps 5 --most 20 --probes 2",
    "plot_hessian_eigen.py": "--limit 10 --most 15",
    "plot_trajectory.py": "--limit 10 --batch_size 10 --surface 3",
    "animate_surface.py": "--frames 3",
    "sharpness.py": "--limit 10 --rho 0.1 --adaptive_rho 0.1 --steps 2 --directions 2",
    "train_curve.py": "--limit 60 --epochs 1",
}


def smaller(block: str) -> str:
    """The same commands; where an option is given twice the last one counts, so only costs change."""
    lines = block.replace("\\\n", " ").strip().splitlines()
    for command, options in SMALL.items():
        lines = [re.sub(rf"(python {re.escape(command)}[^;]*)", rf"\1 {options} ", line) for line in lines]
    return "\n".join(re.sub(r":\d+(?= |$)", ":3", line) for line in lines)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the project in which the bundled networks are small stand-ins of the same architecture."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    wanted = shutil.ignore_patterns(".git", ".venv", "demo", "*cache*", "__pycache__", "node_modules", "tests")
    shutil.copytree(ROOT, folder, ignore=wanted)
    for name in ("small", "large"):
        file = folder / "trained_nets" / f"resnet20_{name}_batch.safetensors"
        if not file.exists():
            write_checkpoint(file, "resnet20", seed=len(name))
    return folder


@pytest.mark.slow
def test_every_command_runs_in_order(clone):
    assert len(BLOCKS) >= 8
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(clone), "OMP_NUM_THREADS": "1"}
    for block in BLOCKS:
        script = "set -e\n" + smaller(block)
        result = subprocess.run(
            ["bash", "-c", script],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert result.returncode == 0, f"{block}\n{result.stdout[-500:]}\n{result.stderr[-1500:]}"
    drawn = {p.name for p in clone.glob("*.png")}
    assert {
        "surface.h5_train_loss_3dsurface.png",
        "curve.h5_1d_loss_acc.png",
        "repeat.h5_1d_loss_err_repeat.png",
        "between_1d_compare.png",
        "layers.h5_train_loss_layers.png",
        "sharpness_small.h5_rises.png",
        "path.h5_train_loss_2dcontour.png",
        "interpolation.h5_1d_loss_acc.png",
        "along_1d_compare.png",
        "spectrum.h5_density.png",
        "spectrum.h5_activations.png",
        "eigen.h5_1d_eig_ratio.png",
    } <= drawn
    assert (clone / "surface.npz").exists()


def test_every_picture_and_link_of_the_readme_is_there():
    for target in re.findall(r'(?:src="|\]\()([^)"#]+)', README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
