"""The program `lossatlas`: its names, also in messages in the user's words, drawing by kind, completion in a shell."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, python, surface_command

from lossatlas import __version__, programs
from lossatlas.cli import wrong
from lossatlas.commands import (
    completion,
    plot,
    plot_1D,
    plot_2D,
    plot_layers,
    plot_sharpness,
    plot_spectrum,
    plot_surface,
)
from lossatlas.io import read_surface

STARTS = {
    "lossatlas": ["-c", "from lossatlas.cli import main; main()"],
    "python -m lossatlas": ["-m", "lossatlas"],
}


def test_every_command_has_a_module_and_every_script_a_command():
    for name, command in programs.COMMANDS.items():
        assert (ROOT / "lossatlas" / "commands" / f"{command.module}.py").is_file()
        for word in (name, command.module, f"{command.module}.py", command.script or name):
            assert programs.COMMANDS[programs.find_command(word)].module == command.module, word
    scripts = {command.script for command in programs.COMMANDS.values()} - {""}
    assert scripts == {file.name for file in ROOT.glob("*.py")}
    assert all(len((ROOT / script).read_text().splitlines()) <= 15 for script in scripts)
    assert [programs.find_command(word) for word in ("", ".py", "nothing", "options", "scheduler")] == [
        *[""] * 4,
        "ranks",
    ]


@pytest.mark.commands
def test_help_is_a_table_with_one_line_for_each_command_and_imports_nothing_heavy():
    code = (
        "import os, sys\n"
        "sys.argv = ['lossatlas', '--help']\n"
        "from lossatlas import cli, process\n"
        "process.leave = lambda code: print(sorted({'torch', 'numpy', 'h5py', 'argparse'} & set(sys.modules)), code)\n"
        "cli.start = lambda *_: None\n"
        "try: cli.main()\n"
        "except KeyError: pass\n"
    )
    result = python("-c", code)
    lines = result.stdout.splitlines()
    assert lines[0] == "usage: lossatlas NAME ..."
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(programs.COMMANDS)
    assert lines[-1] == "[] 0", result.stderr


@pytest.mark.commands
@pytest.mark.parametrize("start", STARTS)
def test_names_that_are_none_are_one_line_with_the_nearest_and_code_2(start):
    def run(*words: str) -> tuple[int, str, str]:
        result = python(*STARTS[start], *words)
        return result.returncode, result.stdout, result.stderr

    assert run("--version") == (0, f"lossatlas {__version__}\n", "")
    assert run("surfce") == (
        2,
        "",
        f"error: 'surfce' is no command (did you mean surface?); {start} --help lists the commands\n",
    )
    assert run() == (2, "", f"error: name a command; {start} --help lists the commands\n")


def test_the_nearest_names_are_those_of_commands_whichever_name_was_meant():
    assert wrong(["plot_surfac.py"]).endswith(" (did you mean surface?)")
    assert wrong(["Spectrm"]).endswith(" (did you mean spectrum or plot-spectrum?)")
    assert wrong(["zzz"]) == "'zzz' is no command"


@pytest.mark.commands
@pytest.mark.parametrize(
    ("words", "typed", "curve"),
    [
        (["plot_surface.py"], "python plot_surface.py", "plot_1D.py"),
        (["-m", "lossatlas", "surface"], "python -m lossatlas surface", "python -m lossatlas plot-1d"),
        (["-m", "lossatlas", "plot_surface.py"], "python -m lossatlas surface", "python -m lossatlas plot-1d"),
        ([*STARTS["lossatlas"], "surface"], "lossatlas surface", "lossatlas plot-1d"),
    ],
    ids=["script", "module", "alias", "program"],
)
def test_usage_and_errors_name_what_the_user_typed(words, typed, curve):
    usage = python(*words, "--help").stdout
    assert usage.startswith(f"usage: {typed.removeprefix('python ') if typed.endswith('.py') else typed} ")
    assert f"    {typed} --model" in usage
    assert f"which {curve} draws" in " ".join(usage.split())
    assert f"; {typed} --help lists the options" in python(*words, "--nonsense").stderr


@pytest.mark.parametrize(
    ("by", "typed", "curve"),
    [
        (programs.SCRIPT, "python plot_surface.py", "plot_1D.py"),
        (programs.MODULE, "python -m lossatlas surface", "python -m lossatlas plot-1d"),
        (programs.PROGRAM, "lossatlas surface", "lossatlas plot-1d"),
    ],
)
def test_files_and_advice_name_what_the_user_typed(perceptron, tmp_path, monkeypatch, capsys, by, typed, curve):
    monkeypatch.setattr(programs.Started, "by", by)
    more = surface_command(perceptron, tmp_path / "s.h5", "--x=-1:1:3", "--dir_file", str(tmp_path / "d 1.h5"))
    assert plot_surface.main(more) == 0
    recorded = str(read_surface(tmp_path / "s.h5").about["command"])
    assert recorded.startswith(f"{typed} --model mlp --dataset ")
    assert recorded.endswith(f"--dir_file '{tmp_path}/d 1.h5'")
    assert plot_2D.main(["--surf_file", str(tmp_path / "s.h5")]) == 3
    assert capsys.readouterr().err.endswith(f"holds a curve, not a surface: draw it with {curve}\n")


def test_what_a_script_has_not_beside_it_is_named_by_the_module(monkeypatch):
    monkeypatch.setattr(programs.Started, "by", programs.SCRIPT)
    assert programs.program("flatness") == "python -m lossatlas flatness"
    assert programs.shell("plot_1D") == "python plot_1D.py"
    assert programs.shell("ranks") == "python scheduler.py"
    text = "python flatness.py FILE; lossatlas surface; train.py:make, retrain.py, lossatlas surfaces, scheduler.py"
    assert programs.in_own_words(text) == (
        "python -m lossatlas flatness FILE; python plot_surface.py; "
        "train.py:make, retrain.py, lossatlas surfaces, scheduler.py"
    )
    monkeypatch.setattr(programs.Started, "by", programs.PROGRAM)
    assert programs.in_own_words("python plot_1D.py, python -m lossatlas view.") == "lossatlas plot-1d, lossatlas view."


@pytest.mark.parametrize("command", sorted({command.module for command in programs.COMMANDS.values()}))
def test_help_and_wrong_options_have_their_exit_codes(command, capsys):
    main = importlib.import_module(f"lossatlas.commands.{command}").main
    for option, code in (("--help", 0), ("--nonsense", 2)):
        with pytest.raises(SystemExit) as end:
            main([option])
        assert end.value.code == code
    printed = capsys.readouterr()
    assert "usage" in printed.out
    assert "error: " in printed.err
    assert "Traceback" not in printed.err


# plot -------------------------------------------------------------------------------------------------------------

FILES = ROOT / "docs" / "surfaces"


@pytest.mark.few(1)
@pytest.mark.pictures
@pytest.mark.parametrize(
    ("files", "command", "drawn"),
    [
        (["resnet56_cifar10.h5"], plot_2D, "_train_loss_2dcontour.png"),
        (["layers.h5"], plot_layers, "_train_loss_layers.png"),
        (["spectrum.h5"], plot_spectrum, "_density.png"),
        (["sharpness_small.h5", "sharpness_large.h5"], plot_sharpness, "_rises.png"),
        (["path_projection.h5"], plot_2D, ".png"),
        (["repeats.h5"], plot_1D, "_1d_loss_err_repeat.png"),
        (["curve.h5"], plot_1D, "_1d_loss_acc.png"),
    ],
)
def test_plot_draws_whatever_a_file_holds(files, command, drawn, tmp_path, capsys):
    out = tmp_path / "figure"
    assert plot.main([*(str(FILES / file) for file in files), "--out", str(out), "--format", "png"]) == 0
    assert Path(f"{out}{drawn}").stat().st_size > 1000
    assert plot.command_for([str(FILES / file) for file in files]).module == command.__name__.rpartition(".")[2]


def test_plot_refuses_what_it_cannot_draw_in_one_line(perceptron, tmp_path, capsys):
    surface, spectrum = str(FILES / "resnet56_cifar10.h5"), str(FILES / "spectrum.h5")
    assert plot.main([surface, spectrum]) == 2
    assert capsys.readouterr().err == (
        f"error: {surface} holds a surface, {spectrum} a spectrum: draw them one by one\n"
    )
    layers = str(FILES / "layers.h5")
    assert plot.main([layers, layers]) == 2
    assert "draws one file: draw the 2 files one by one" in capsys.readouterr().err
    line = surface_command(perceptron, tmp_path / "s.h5", "--x=-1:1:2", "--dir_file", str(tmp_path / "d.h5"))
    assert plot_surface.main(line) == 0
    assert plot.main([str(tmp_path / "d.h5")]) == 2
    assert capsys.readouterr().err.endswith(
        "holds directions, of which there is no figure: lossatlas info describes it\n"
    )
    np.save(tmp_path / "other.npy", np.zeros(3))
    assert plot.main([str(tmp_path / "other.npy")]) == 3
    with pytest.raises(SystemExit) as end:
        plot.main(["--log"])
    assert end.value.code == 2


@pytest.mark.commands
def test_check_is_info_with_check():
    for words in (["check", FILES / "resnet56_cifar10.h5"], ["info", FILES / "resnet56_cifar10.h5", "--check"]):
        result = python("-m", "lossatlas", *words)
        assert (result.returncode, result.stdout.splitlines()[-1].split(":")[0]) == (0, "right"), result.stderr


# Completion ---------------------------------------------------------------------------------------------------------

ASK = """
for program in python python3 lossatlas; do eval "$program() { echo $program was started >&2; }"; done
source "$1"
while read -r -a COMP_WORDS; do
  [[ ${#COMP_WORDS[@]} = 0 ]] && break
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMP_LINE="${COMP_WORDS[*]}"
  COMPREPLY=()
  _shtab_lossatlas lossatlas "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  echo ${COMPREPLY[@]}
done
"""
COMPLETED = {
    "sur": "surface",
    "plot-s": "plot-sharpness plot-spectrum",
    "surface --model_file": "--model_file --model_file2 --model_file3",
    "surface --xnorm fil": "filter",
    "view --proj_file CITA": "CITATION.cff",
    "completion z": "zsh",
    "nothing --x": "",
}


@pytest.mark.commands
def test_bash_completes_names_options_choices_and_files_and_starts_no_python(tmp_path, capsys):
    pytest.importorskip("shtab")
    assert completion.main(["bash"]) == 0
    file = tmp_path / "lossatlas.bash"
    file.write_text(capsys.readouterr().out)
    asked = "".join(f"lossatlas {words}\n" for words in COMPLETED)
    command = ["bash", "--norc", "-c", ASK, "bash", str(file)]
    result = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, check=False)
    answers = [" ".join(sorted(line.split())) for line in result.stdout.splitlines()]
    assert dict(zip(COMPLETED, answers, strict=True)) == COMPLETED
    assert result.stderr == ""


@pytest.mark.commands
def test_without_its_library_completion_is_one_line(tmp_path):
    code = "import sys; sys.modules['shtab'] = None; from lossatlas.commands.completion import main; main(['bash'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == (
        "error: shtab writes these scripts, and is not installed: pip install lossatlas[completion]\n"
    )


@pytest.mark.commands
def test_help_of_no_command_and_no_script_imports_anything_heavy():
    code = """
import contextlib, io, runpy, sys
from lossatlas import cli, process, programs
leave, process.leave = process.leave, sys.exit

def told(name, start):
    sys.argv = [name, "--help"] if name.endswith(".py") else ["lossatlas", name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        start()
    assert out.getvalue().startswith("usage: "), name

heavy = {"torch", "scipy", "mpi4py", "yaml", "seaborn", "pandas", "matplotlib.pyplot"}
for name in ("surface", "spectrum", "train"):
    told(name, cli.main)
assert not (heavy | {"matplotlib"}) & set(sys.modules), sys.modules
for name in programs.COMMANDS:
    told(name, cli.main)
for name in {command.script for command in programs.COMMANDS.values()} - {""}:
    told(name, lambda: runpy.run_path(name, run_name="__main__"))
assert not heavy & set(sys.modules), heavy & set(sys.modules)
leave(0)
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
