"""Every command of the README and of the pages runs, on smaller grids and fewer images; the pages are made without a warning."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, write_checkpoint

README = (ROOT / "README.md").read_text()
OTHERS = ("gallery", "recipes", "readme")  # run by test_gallery.py and test_stories.py; the README itself, for the site
PAGES = sorted(page for page in (ROOT / "docs").glob("*.md") if page.stem not in OTHERS)
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
    return "\n".join(re.sub(r":(?!1(?: |$))\d+(?= |$)", ":3", line) for line in lines)


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


def run(block: str, clone: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(clone), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        ["bash", "-c", "set -e\n" + smaller(block)],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert result.returncode == 0, f"{block}\n{result.stdout[-500:]}\n{result.stderr[-1500:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page, clone):
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
        if "my_net.py" not in block:  # of a reader's own file
            run(block, clone)


@pytest.mark.slow
def test_the_pages_are_made_without_a_warning_and_their_links_lead_somewhere(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    pages = {page.name: page.read_text() for page in tmp_path.glob("*.html")}
    assert {"index.html", "concepts.html", "recipes.html", "python.html"} <= set(pages)
    names = {name: set(re.findall(r'id="([^"]+)"', text)) for name, text in pages.items()}
    for name, text in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, place = target.split("?")[0].partition("#")
            assert not file or (tmp_path / file).exists(), (name, target)
            if place and (file or name) in names:
                assert place in names[file or name], (name, target)
    for function in ("surface", "eigenvalues", "spectrum", "trajectory", "align", "read"):
        assert f'id="lossatlas.{function}"' in pages["python.html"]


@pytest.mark.slow
def test_every_command_runs_in_order(clone):
    assert len(BLOCKS) >= 8
    for block in BLOCKS:
        run(block, clone)
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


SECTION = "### Data that are no samples along axis 0"


def test_the_examples_of_data_that_are_no_samples_give_the_mean_over_their_batches(monkeypatch):
    """Of graphs, collocation points, detection and contrastive losses, against the loss of one batch after the other."""
    import torch

    import lossatlas

    text = (ROOT / "docs" / "your-own.md").read_text().split(SECTION)[1].split("\n## ")[0]
    computed, found, names = lossatlas.surface, [], {}

    def surface(net, data, loss, **options):
        result = computed(net, data, loss=loss, precision="float64", progress=False, **options)
        total = weight = 0.0
        batches = data if isinstance(data, list) else [data]
        for batch in batches:
            losses = loss(net, batch)
            own = getattr(losses, "weights", torch.ones(len(getattr(losses, "per_sample", losses))))
            total += float((own * getattr(losses, "per_sample", losses)).sum().detach())
            weight += float(own.sum())
        assert result.done.all()
        assert len(set(result.loss.tolist())) == 5
        assert float(result.loss[2]) == pytest.approx(total / weight, rel=1e-5)  # at 0
        found.append(loss.__name__)
        return result

    monkeypatch.setattr(lossatlas, "surface", surface)
    torch.manual_seed(0)
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "your-own.md", "exec"), names)
    assert found == ["node_loss", "residual", "box_loss", "contrastive"]
