"""Every command of the README and of the pages is understood, and runs on smaller grids and fewer images; the pages are made
without a warning."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    "-m lossatlas train-curve": "--limit 60 --epochs 1",
}
OTHERS = ("gallery", "recipes", "readme")  # run by test_gallery.py and test_stories.py; the README itself, for the site
SOURCES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.stem not in OTHERS)]


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
        Block(page.stem, k, text) for k, text in enumerate(re.findall(r"```bash\n(.*?)```", page.read_text(), re.S))
    ]


SHOWN = [block for page in SOURCES for block in blocks_of(page)]
RUN = [block for block in SHOWN if not re.search(r"make demo|my_net\.py", block.text)]  # my_net.py: of a reader's own
SHARED = ("surface.h5", "noshort.h5", "middle.h5")  # made by one block of a page, and read by others
DRAWN = {  # a picture or file: words of the command that writes it
    "surface.h5_train_loss_3dsurface.png": "--surf_file surface.h5 --plot",
    "curve.h5_1d_loss_acc.png": "--surf_file curve.h5 --plot",
    "repeat.h5_1d_loss_err_repeat.png": "--surf_file repeat.h5 --plot",
    "between_1d_compare.png": "--out between",
    "layers.h5_train_loss_layers.png": "plot-layers --surf_file layers.h5",
    "sharpness_small.h5_rises.png": "plot-sharpness --sharpness_file sharpness_small.h5",
    "path.h5_train_loss_2dcontour.png": "--surf_file path.h5\n",
    "interpolation.h5_1d_loss_acc.png": "--surf_file interpolation.h5 --plot",
    "along_1d_compare.png": "--out along",
    "spectrum.h5_density.png": "--spectrum_file spectrum.h5 --plot",
    "spectrum.h5_activations.png": "--spectrum_file spectrum.h5 --plot",
    "eigen.h5_1d_eig_ratio.png": "--surf_file eigen.h5 --plot",
    "surface.npz": "--export surface.npz",
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
            command = programs.COMMANDS[programs.find(word)]
            return command.module, [*words[k + 1 :], *command.options]
    return None


def module_of(program: tuple[str, list[str]]) -> Any:
    return importlib.import_module(f"lossatlas.commands.{program[0]}")


def test_blocks_are_taken_apart_as_a_shell_does():
    text = (
        'A="--x 1 --y b"\nfor k in p q; do python train.py $A \\\n  --z ${k}_$k; done\nmpirun -n 2 python plot_1D.py  # no\n'
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
        for page in [*SOURCES, ROOT / "docs" / "gallery.md"]
        for block in blocks_of(page)
        for words in commands(block.text)
        if (program := program_of(words))
    }
    own = {command.module for command in programs.COMMANDS.values()}
    assert own - shown <= {"ranks", "plot", "completion"}


def test_make_has_every_target_that_is_shown():
    (block,) = (block for block in SHOWN if "make demo" in block.text)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    told = {words[1] for words in commands(block.text)}
    assert {"demo", "test", "test-all"} <= told <= targets


# Running them -----------------------------------------------------------------------------------------------------


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
        if words in block.text:
            assert (clone / name).stat().st_size > 1000, name


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder in which the paths of the README lead to the project's files, and what is written stays."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "docs" / "surfaces", folder / "docs" / "surfaces")  # figures are written beside them
    for name in ("examples", "datasets"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "trained_nets").mkdir()
    for file in (ROOT / "trained_nets").iterdir():
        (folder / "trained_nets" / file.name).symlink_to(file)
    for name in ("small", "large"):
        file = folder / "trained_nets" / f"resnet20_{name}_batch.safetensors"
        if not file.exists():
            write_checkpoint(file, "resnet20", seed=len(name))
    return folder


def call(block: Block) -> None:
    """The commands of a block in this process, alone where the block starts ranks; networks are trained for few epochs."""
    for words in commands(smaller(block.text)):
        program = program_of(words)
        if program is None:
            assert words[0] == "cp", words
            shutil.copy(*words[1:])
            continue
        argv = [word for word in program[1] if word != "--mpi"]
        argv += ["--epochs", "3"] if program[0] == "train" else []
        module = module_of(program)
        if "--threads" in module.parser()._option_string_actions:
            argv += [
                "--threads",
                "1",
            ]  # as other processes of the suite: two teams of threads on a busy machine wait for each other
        assert module.main(argv) == 0, shlex.join(words)


def part(words: str, *programs: str) -> Block:
    """The first block with these words; programs: of its commands only those of these programs."""
    block = next(each for each in [*RUN, *blocks_of(ROOT / "docs" / "gallery.md")] if words in each.text)
    lines = block.text.replace("\\\n", " ").splitlines()
    kept = [line for line in lines if not programs or re.match(rf"[A-Z]+=|python ({'|'.join(programs)})\.py", line)]
    return block._replace(text="\n".join(kept) + "\n")


QUICK = [  # each command, where it is cheap; all blocks are run only by `make test-all`
    part("view_surface.py docs/surfaces"),
    part("lossatlas train-curve"),
    part("--spectrum_file layers_spectrum.h5", "hessian_spectrum"),
    part("lossatlas flatness"),
    part("lossatlas sharpness"),
    part("plot_trajectory.py"),
    part("net_plotter.py layer3.h5"),
    part("plot_hessian_eigen.py"),
    part("dataloader.py", "dataloader"),
    part("numbers.npz"),
    part("--out by_layer"),
    part("--out spectrum"),
]


def test_the_quick_blocks_hold_every_command():
    quick = {program[0] for block in QUICK for words in commands(block.text) if (program := program_of(words))}
    every = {program[0] for block in RUN for words in commands(block.text) if (program := program_of(words))}
    assert every | {"plot_spectrum"} == quick


@pytest.mark.parametrize("block", QUICK, ids=lambda block: block.name)
def test_a_block_with_each_command_runs_in_this_process(block, desk, done, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for each in [*needed(block), block]:
        if (desk, each) not in done:
            call(each)
            done.add((desk, each))
    for name, words in DRAWN.items():
        if words in block.text:
            assert (desk / name).stat().st_size > 1000, name


def test_what_is_drawn_is_drawn_by_a_block():
    for name, words in DRAWN.items():
        assert any(words in block.text for block in RUN), name


# Pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.stem
)
def test_every_picture_and_link_is_there(page):
    for target in re.findall(
        r'(?:src="|\]\()([^)"#\s]+)', re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    ):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.full
def test_the_pages_are_made_without_a_warning_and_their_links_lead_somewhere(tmp_path):
    command = [sys.executable, *"-m sphinx -W --keep-going -q -b html".split(), str(ROOT / "docs"), str(tmp_path)]
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
