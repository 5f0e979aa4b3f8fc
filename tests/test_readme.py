"""Every command and every piece of Python of the README and of the pages runs, on smaller grids and fewer images."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from conftest import ROOT, write_checkpoint

from lossatlas import programs

SMALL = {
    "plot_surface.py": "--limit 10 --batch_size 10",
    "train.py": "--limit 100",
    "hessian_spectrum.py": "--limit 10 --top 3 --trace_most 5 --steps 5 --most 20 --probes 2",
    "plot_hessian_eigen.py": "--limit 10 --most 15",
    "plot_trajectory.py": "--limit 10 --batch_size 10 --surface 3",
    "-m lossatlas animate": "--frames 3",
    "-m lossatlas sharpness": "--limit 10 --rho 0.1 --adaptive_rho 0.1 --steps 2 --directions 2",
    "-m lossatlas learning-coefficient": "--limit 10 --chains 2 --draws 4 --burn_in 2",
    "-m lossatlas train-curve": "--limit 60 --epochs 1",
}
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "lossatlas" / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]
SOURCES = [page for page in PAGES if page.stem != "gallery" and page.parent.name != "stories"]  # those have own tests


def joined(text: str) -> str:
    """The commands of a block, each on one line."""
    return re.sub(r'(="[^"]*)\n\s+', r"\1 ", re.sub(r"\s*\\\n\s*", " ", text))


class Block(NamedTuple):
    """Commands of a page that are shown together; number: counted from 0 in their page."""

    page: str
    number: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}-{self.number}"


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(page.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/"), k, text)
        for k, text in enumerate(re.findall(r"```bash\n(.*?)```", page.read_text(), re.S))
    ]


SHOWN = [block for page in SOURCES for block in blocks_of(page)]
RUN = [
    block for block in SHOWN if not re.search(r"make demo|my_(net\.py|story\.md|model)", block.text)
]  # of a reader's own
SHARED = ("middle.h5",)  # made by one block of a page, and read by others
DRAWN = {  # a picture or file: words of the command that writes it
    "surface.h5_train_loss_3dsurface.png": "--surf_file surface.h5 --plot",
    "landscapes_train_loss_2dcontour.png": "--out landscapes",
    "curve.h5_1d_loss_acc.png": "--surf_file curve.h5 --plot",
    "repeat.h5_1d_loss_err_repeat.png": "--surf_file repeat.h5 --plot",
    "between_1d_compare.png": "--out between",
    "layers.h5_train_loss_layers.png": "plot-layers --surf_file layers.h5",
    "sharpness_small.h5_rises.png": "--sharpness_file sharpness_small.h5 sharpness_large.h5",
    "coefficient.h5_chains.png": "--plot --coefficient_file coefficient.h5",
    "run.h5_coefficients.png": "--plot --coefficient_file run.h5",
    "both_spectra.png": "--out both",
    "path.h5_train_loss_2dcontour.png": "--surface 25x17 --surf_file path.h5",
    "interpolation.h5_1d_loss_acc.png": "--surf_file interpolation.h5 --plot",
    "along_1d_compare.png": "--out along",
    "spectrum.h5_density.png": "--spectrum_file spectrum.h5 --plot",
    "spectrum.h5_activations.png": "--spectrum_file spectrum.h5 --plot",
    "eigen.h5_1d_eig_ratio.png": "--surf_file eigen.h5 --plot",
    "numbers.npz": "--export numbers.npz",
    "resnet56.h5": "--surf_file resnet56.h5",
    "spirals.h5_train_loss_2dcontour.png": "--surf_file spirals.h5",
}


# Command lines ----------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block, with loops unrolled and variables put in."""
    text = re.sub(
        r"for (\w+) in ([^;]+); do\s(.*?); done",
        lambda m: "\n".join(m[3].replace(f"${{{m[1]}}}", v).replace(f"${m[1]}", v) for v in m[2].split()),
        text.replace("\\\n", " "),
        flags=re.S,
    )
    values: dict[str, str] = {}
    text = re.sub(r'(="[^"]*)\n\s+', r"\1 ", text)  # a value on two lines
    for line in text.strip().splitlines():
        line = re.sub(r"\$\{?([A-Z]+)\}?", lambda m: values[m[1]], line)
        words = shlex.split(line, comments=True)
        if len(words) == 1 and (given := re.fullmatch(r"([A-Z]+)=(.*)", words[0])):
            values[given[1]] = given[2]
        elif words:
            yield words


def program_of(words: list[str]) -> tuple[str, list[str]] | None:
    """Module and options of the project's own command; None where it is something else, such as cp."""
    for k, word in enumerate(words):
        script = re.fullmatch(r"\w+\.py", word) and words[k - 1] in ("python", "examples/mpirun.sh")
        if script or words[:k][-1:] == ["lossatlas"]:
            command = programs.COMMANDS[programs.find_command(word)]
            return command.module, [*words[k + 1 :], *command.options]
    return None


def module_of(program: tuple[str, list[str]]) -> Any:
    return importlib.import_module(f"lossatlas.commands.{program[0]}")


@pytest.mark.commands
def test_blocks_are_taken_apart_as_a_shell_does():
    text = (
        'A="--x 1 --y b"\nfor k in p q; do python train.py $A \\\n  --z ${k}_$k; done\nmpirun -n 2 python plot_1D.py  '
        "# no\n"
        "python -m lossatlas check a\ncp a b\n"
    )
    found = list(commands(text))
    echoed = subprocess.run(
        ["bash", "-c", re.sub(r"(^|do )(python|mpirun|cp) ", r"\1printf '%s|' \2 ", text, flags=re.M)],
        capture_output=True,
        check=True,
    )
    shell = echoed.stdout.decode().split("|")[:-1]
    assert [word for words in found for word in words] == shell
    assert [program_of(words) for words in found] == [
        ("train", ["--x", "1", "--y", "b", "--z", "p_p"]),
        ("train", ["--x", "1", "--y", "b", "--z", "q_q"]),
        ("plot_1D", []),
        ("h5_util", ["a", "--check"]),
        None,
    ]


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.name)
def test_every_command_line_is_understood(block, capsys):
    """By its own parser; what is no command of the project is one of a few known programs, or a file that is here."""
    for words in commands(block.text):
        program = program_of(words)
        if program is None:
            plain = words[0] in ("make", "cp") or (words[0] == "python" and (ROOT / words[1]).exists())
            assert plain, words
            continue
        try:
            module_of(program).parser().parse_args(program[1])
        except SystemExit:
            pytest.fail(f"{shlex.join(words)}\n{capsys.readouterr().err}")


def test_every_command_is_shown():
    shown = {
        program[0]
        for page in [*SOURCES, DOCS / "gallery.md"]
        for block in blocks_of(page)
        for words in commands(block.text)
        if (program := program_of(words))
    }
    own = {command.module for command in programs.COMMANDS.values()}
    assert own - shown <= {"ranks", "plot", "completion"}


def test_make_has_every_target_that_is_shown():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    blocks = [block for block in SHOWN if "make demo" in block.text]
    assert {block.page for block in blocks} == {"README", "install"}
    for block in blocks:
        assert {"demo", "test", "test-all"} <= {words[1] for words in commands(block.text)} <= targets


# Running them -----------------------------------------------------------------------------------------------------


def short_name(command: str) -> str:
    """The name of a command after `lossatlas`."""
    return programs.find_command(command.removeprefix("-m lossatlas "))


def smaller(block: str) -> str:
    """The same commands; where an option is given twice the last one counts, so only costs change."""
    lines = joined(block).strip().splitlines()
    for command, options in SMALL.items():
        name = rf"(?:python {re.escape(command)}|lossatlas {short_name(command)} )"
        lines = [re.sub(rf"({name}[^;]*)", rf"\1 {options} ", line) for line in lines]
    return "\n".join(re.sub(r":(?!1(?: |$))\d+(?= |$)", ":3", line) for line in lines)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the project in which the bundled networks are small stand-ins of the same architecture."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    wanted = shutil.ignore_patterns(".git", ".venv", "demo", "*cache*", "__pycache__", "tests")
    shutil.copytree(ROOT, folder, ignore=wanted)
    for name in ("small", "large"):
        file = folder / "trained_nets" / f"resnet20_{name}_batch.safetensors"
        if not file.exists():
            write_checkpoint(file, "resnet20", seed=len(name))
    program = folder / "bin" / "lossatlas"  # as pip install brings it
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lossatlas "$@"\n')
    program.chmod(0o755)
    return folder


def run(block: str, clone: Path) -> None:
    path = f"{clone / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(clone), "OMP_NUM_THREADS": "1"}
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


def needed(block: Block) -> list[Block]:
    """Earlier blocks of the same page that make the files which this one reads, in their order."""
    makers = []
    for name in SHARED:
        if re.search(rf"\b{name}\b", block.text):
            maker = next(each for each in RUN if each.page == block.page and f"--surf_file {name}" in each.text)
            makers += [] if maker is block else [each for each in [*needed(maker), maker] if each not in makers]
    return makers


@pytest.fixture(scope="module")
def done() -> set[Block]:
    """Blocks that this process has run in the clone."""
    return set()


@pytest.mark.full
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_the_commands_of_a_block_run(block, clone, done):
    """After the blocks whose files it reads, where this process did not run them already."""
    for each in [*needed(block), block]:
        if each not in done:
            run(each.text, clone)
            done.add(each)
    for name, words in DRAWN.items():
        if words in joined(block.text):
            assert (clone / name).stat().st_size > 1000, name


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder in which the paths of the README lead to the project's files, and what is written stays."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "docs" / "surfaces", folder / "docs" / "surfaces")  # figures are written beside them
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.h5*"))
    (folder / "trained_nets").mkdir()
    for file in (ROOT / "trained_nets").iterdir():
        (folder / "trained_nets" / file.name).symlink_to(file)
    for name in ("small", "large"):
        file = folder / "trained_nets" / f"resnet20_{name}_batch.safetensors"
        if not file.exists():
            write_checkpoint(file, "resnet20", seed=len(name))
    return folder


CHEAP = {"--threads": "1", "--format": "png", "--dpi": "50"}  # two teams of threads would wait for each other


def call(block: Block) -> None:
    """The commands of a block in this process, alone if the block starts ranks; networks are trained for few epochs."""
    for words in commands(smaller(block.text)):
        program = program_of(words)
        if program is None:
            assert words[0] == "cp", words
            shutil.copy(*words[1:])
            continue
        argv = [word for word in program[1] if word != "--mpi"]
        argv += ["--epochs", "3"] if program[0] == "train" else []
        module = module_of(program)
        known = module.parser()._option_string_actions
        argv += [word for name, value in CHEAP.items() if name in known for word in (name, value)]
        assert module.main(argv) == 0, shlex.join(words)


def part(words: str, *programs: str) -> Block:
    """The first block with these words; programs: of its commands only those of these programs."""
    block = next(each for each in [*RUN, *blocks_of(DOCS / "gallery.md")] if words in each.text)
    lines = joined(block.text).splitlines()
    kept = [line for line in lines if not programs or re.match(rf"[A-Z]+=|python ({'|'.join(programs)})\.py", line)]
    return block._replace(text="\n".join(kept) + "\n")


QUICK = [  # each command, where it is cheap; all blocks are run only by `make test-all`
    part("view_surface.py docs/surfaces"),
    part("lossatlas surface --model examples"),
    part("--out again", "plot_2D"),
    part("lossatlas train-curve"),
    part("--spectrum_file layers_spectrum.h5", "hessian_spectrum"),
    part("lossatlas flatness"),
    part("lossatlas gallery"),
    part("lossatlas sharpness"),
    part("lossatlas learning-coefficient"),
    part("lossatlas plot-volume"),
    part("volume.h5:z=0"),
    part("plot_trajectory.py"),
    part("net_plotter.py layer3.h5"),
    part("plot_hessian_eigen.py"),
    part("dataloader.py", "dataloader"),  # and not the training before it
    part("numbers.npz"),
    part("--out by_layer"),
    part("--out spectrum"),
]


def test_the_quick_blocks_hold_every_command():
    quick = {program[0] for block in QUICK for words in commands(block.text) if (program := program_of(words))}
    every = {program[0] for block in RUN for words in commands(block.text) if (program := program_of(words))}
    assert every | {"plot_spectrum"} == quick


@pytest.mark.commands
@pytest.mark.parametrize("block", QUICK, ids=lambda block: block.name)
def test_a_block_with_each_command_runs_in_this_process(block, desk, done, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for each in [*needed(block), block]:
        if (desk, each) not in done:
            call(each)
            done.add((desk, each))
    for name, words in DRAWN.items():
        if words in joined(block.text):
            assert (desk / name).stat().st_size > 1000, name


def test_what_is_drawn_is_drawn_by_a_block():
    for name, words in DRAWN.items():
        assert any(words in joined(block.text) for block in RUN), name


# Python of the pages ----------------------------------------------------------------------------------------------


PYTHON = [  # architecture and options show no program
    pytest.param(page, id=page.relative_to(ROOT).as_posix())
    for page in PAGES
    if re.search(r"```python\n", page.read_text()) and page.name != "index.md"
]
WITH_OTHERS = (
    "docs/language-models.md",
    "docs/howto/large-networks.md",
)  # tests/test_hugging_face.py, test_offloaded.py
ALONE = [each for each in PYTHON if each.id not in WITH_OTHERS]
WORK = """
import matplotlib
matplotlib.use("agg")
import torch
from torch import nn
import torch.nn.functional as F
import lossatlas

torch.set_num_threads(1)
torch.manual_seed(0)
def make():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh())
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = make(), nn.Linear(8, 2)
    def forward(self, x):
        return self.head(self.body(x))
net, other_net = Net(), Net()
inputs = torch.randn(40, 3)
data = test_data = inputs, (inputs[:, 0] > 0).long()
loader = test_loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=20)
checkpoints = [{k: v + 0.1 * n * torch.randn_like(v) for k, v in net.state_dict().items()} for n in range(6)]
other = surface = lossatlas.surface(net, data, x="-1:1:3", y="-1:1:3", progress=False)
loss = 0.5
batch = {"x": torch.randn(4, 3)}
model = net
"""


def script_of(page: Path) -> str:
    """The Python of a page on the networks and data that it speaks of, on grids of few points."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    text = re.sub(r'"(-?[\d.]+:[\d.]+):\d+"', r'"\1:3"', "\n".join(blocks))
    text = text.replace("=MPI.COMM_WORLD", "=None")  # a script alone
    return WORK + text


@pytest.mark.full
@pytest.mark.parametrize("page", ALONE)
def test_the_python_of_a_page_runs(page, tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copytree(DOCS / "surfaces", tmp_path / "docs" / "surfaces")
    script = tmp_path / "page.py"
    script.write_text(script_of(page))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_is_python(page):
    compile(script_of(page), page.name, "exec")


def tutorial_code() -> str:
    return "\n".join(re.findall(r"```\{code-cell\} python\n(.*?)```", (DOCS / "tutorial.md").read_text(), re.S))


@pytest.mark.full
def test_what_the_tutorial_says_holds(tmp_path, monkeypatch):
    """Its cells run, and its sentences about their outputs are true."""
    import matplotlib.pyplot as plt
    import torch

    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    threads = torch.get_num_threads()
    try:
        exec(compile(tutorial_code(), "tutorial.md", "exec"), names)
    finally:
        torch.set_num_threads(threads)
        plt.close("all")
    surface, other, line = names["surface"], names["other"], names["line"]
    assert surface.done.all()
    assert other.loss[10, 10] < surface.loss[10, 10]  # the lower training loss ...
    narrower, wider = (each.flatness()["radius below +0.5, mean"].value for each in (other, surface))
    assert narrower < wider
    lowest = line.x[line.fields["train_loss"].argmin()]
    assert abs(lowest) <= 0.2
    assert line.fields["test_loss"][20] > line.fields["train_loss"][20]
    assert names["steep"].loss.max() > 10 * names["random"].loss.max()
    assert names["found"].eigenvalues[-1] < 0
    assert names["found"].resolved.all()
    assert names["path"].explained[:2].sum() > 0.75
    assert names["path"].losses[-1] == pytest.approx(names["loss"], rel=1e-4)
    assert sum(p.numel() for p in names["net"].parameters()) == 9098


@pytest.mark.full
def test_the_tutorial_satisfies_a_strict_type_checker(tmp_path):
    """mypy --strict, of its own lines; `backward` has no types. `make lint` reads such calls in tests/typed."""
    pytest.importorskip("mypy")
    script = tmp_path / "tutorial.py"
    script.write_text(tutorial_code())
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--allow-untyped-calls",
        str(script),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


# Pages ------------------------------------------------------------------------------------------------------------


def test_the_readme_is_one_screen():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if re.search(r"align=|<br", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_code_is_cut_off(page):
    """Lines of at most 80 characters fit on a repository page."""
    blocks = re.findall(r"^```\{?(?:bash|python|code-cell\} python)\n(.*?)^```", page.read_text(), re.S | re.M)
    for line in "".join(blocks).splitlines():
        assert len(line) <= 80, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_picture_and_link_is_there(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    for target in re.findall(r'(?:src="|\]\()([^)"#\s]+)', text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_page_is_reached_from_the_landing_page():
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for entries in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.S):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            waiting += {(page.parent / f"{name}.md").resolve() for name in names} - reached
    assert reached == {page for page in PAGES if page.name != "README.md"}


def test_the_table_of_speed_in_the_readme_is_of_the_results():
    """Each number of the table against other tools stands in a row of benchmarks/RESULTS.md."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    for row, numbers in {
        "the original's way, float32": [1.96],
        "the same, bfloat16": [2.94],
        "against loss-landscapes 3.0.6": [5.14],
        "PyHessian's algorithm, all included": [70.7],
        "against two eigsh solves (median of 3 points), time": [1.9],
        "a vision transformer, 512 images": [1.05],
    }.items():
        (line,) = (line for line in results.splitlines() if row in line)
        for number in numbers:
            assert f"{number:g}×" in line, row
            assert re.search(
                rf"\b({number:.1f}|{number:.0f}|{number:g}) times",
                (ROOT / "README.md").read_text().replace("; ", " times; "),
            )


def ids_of(text: str) -> set[str]:
    return set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.full
def test_the_pages_are_made_without_a_warning_and_their_links_lead_somewhere(tmp_path):
    for package in ("sphinx", "myst_nb", "furo", "sphinx_design", "sphinx_copybutton"):
        pytest.importorskip(package, reason="pip install --group docs")
    command = [sys.executable, *"-m sphinx -W --keep-going -q -b html".split(), str(DOCS), str(tmp_path / "html")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert result.returncode == 0, result.stderr
    check_links(tmp_path / "html")
    check_offline(tmp_path / "html")
    text = (tmp_path / "html" / "python.html").read_text()
    for function in ("surface", "eigenvalues", "spectrum", "trajectory", "align", "read"):
        assert f'id="lossatlas.{function}"' in text
    tutorial = (tmp_path / "html" / "tutorial.html").read_text()
    assert tutorial.count("cell_output") >= 10
    assert tutorial.count("data:image/png") + tutorial.count("_images/") >= 6
    assert "<math" in (tmp_path / "html" / "concepts.html").read_text()
    assert 'class="live"' in (tmp_path / "html" / "index.html").read_text()


def check_links(folder: Path) -> None:
    """Every link inside the pages leads to a file, and to a place in it."""
    pages = {page: page.read_text() for page in folder.rglob("*.html") if "live" not in page.parts}
    assert {"index.html", "concepts.html", "python.html"} <= {page.name for page in pages}
    places = {page: ids_of(text) for page, text in pages.items()}
    for page, text in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, place = target.split("?")[0].partition("#")
            file = (page.parent / unquote(name)).resolve() if name else page
            assert file.exists(), (page.name, target)
            if place and file in places:
                assert unquote(place) in places[file], (page.name, target)


def check_offline(folder: Path) -> None:
    """No page loads a script, a style, a font or a picture from elsewhere."""
    for page in folder.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="(https?:[^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preload|icon)"[^>]*href="(https?:[^"]+)"', page.read_text())
        assert not loaded, (page.name, loaded)
