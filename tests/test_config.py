"""Options are defined once: command lines, configuration files, the reference page and Python keywords agree."""

import inspect
import json
import runpy
import shlex
from importlib import import_module
from typing import Literal, get_args

import numpy as np
import pytest
from conftest import ROOT, write_checkpoint

import lossatlas
from lossatlas import config
from lossatlas.argument_checks import checked_word
from lossatlas.choices import (
    MEMORIES,
    ActivationSite,
    BatchNormMode,
    DirType,
    FilmKind,
    Ignore,
    LookName,
    LossName,
    Memory,
    Norm,
    NormOrNone,
    PlaneKind,
    PlotKind,
    Precision,
    ProductPrecision,
    SpectrumPart,
)
from lossatlas.commands import animate_surface, hessian_spectrum, plot_hessian_eigen, plot_surface, plot_trajectory
from lossatlas.config import option_fields
from lossatlas.config.option_fields import definitions, resolved_options, values_of
from lossatlas.data import LOSSES
from lossatlas.errors import BadUsage
from lossatlas.io import read_directions, read_findings, read_surface
from lossatlas.jobs.trajectory.api_trajectory_job import FEWEST_CHECKPOINTS
from lossatlas.programs import COMMANDS

EVERY = sorted({command.module for command in COMMANDS.values()})
HARD = ["a: b # 'c'", "true", "null", "-1:1:51", "1e3", "~", "", "2026-01-01", "é [x]", "x,y", "0x10"]  # for YAML
TEXTS = {
    option_fields.positive: "3",
    option_fields.natural: "2",
    option_fields.whole: "-4",
    option_fields.threads: "5",
    option_fields.finite: "-1.5",
    option_fields.not_negative: "1e-9",
    option_fields.above_zero: "0.25",
    option_fields.share: "0.125",
    option_fields.pattern: r"^layer\d",
    option_fields.loss_name: "mse",
    option_fields.number_of_ranks: "2",
    animate_surface.rate_of_frames: "5",
}
OWN_TEXTS = {"cmap": "magma", "vmax": "2.5", "vlevel": "0.5"}  # of options whose values are checked together
ONE_OF = {"plot_1D": {"prefix"}}  # options that exclude others


def parser_of(module):
    return import_module(f"lossatlas.commands.{module}").parser()


def minimal(module):
    """A line with the required options alone."""
    line = []
    for each in definitions(parser_of(module).options):
        if each.required:
            text = each.choices[0] if each.choices else "a.h5"
            line += [text] if each.positional else [f"--{each.name}", text]
    return line or (["--surf_file", "a.h5"] if module == "plot_1D" else [])


def complete(module):
    """A line in which every option has a value that is not its default."""
    line, last = [], []
    for number, each in enumerate(definitions(parser_of(module).options)):
        if each.name in ONE_OF.get(module, ()):
            continue
        text = TEXTS.get(each.kind, HARD[number % len(HARD)] or "text")
        text = "70" if each.name.startswith("max_") else OWN_TEXTS.get(each.name, text)
        text = str(each.choices[0 if each.default != each.choices[0] else -1]) if each.choices else text
        if each.positional:
            last.append(text)
        elif each.flag:
            line.append(f"--{each.name}")
        else:
            line += [f"--{each.name}", text, "0.75"] if each.many and text == "0.25" else [f"--{each.name}={text}"]
    return [*last, *line]


def printed(capsys, module, line):
    with pytest.raises(SystemExit) as end:
        parser_of(module).parse_args([*line, "--print_config"])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("line_of", [minimal, complete])
@pytest.mark.parametrize("module", EVERY)
def test_what_print_config_prints_gives_the_same_run(tmp_path, capsys, module, line_of):
    line, file = line_of(module), tmp_path / "c.yaml"
    expected = parser_of(module).parse_args(line)
    if line_of is complete:
        left = [each.name for each in definitions(type(expected)) if getattr(expected, each.field) == each.default]
        assert set(left) == ONE_OF.get(module, set())
    file.write_text(printed(capsys, module, line))
    assert parser_of(module).parse_args(["--config", str(file)]) == expected
    file.write_text(json.dumps(resolved_options(expected)))  # as files keep it
    assert parser_of(module).parse_args(["--config", str(file)]) == expected


def test_files_and_the_command_line_override_each_other_in_order(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text("limit: 5\nx: -1:1:21\nfigures: {plot: true, log: true}\nbend: [c.t7]\nonly: lora_\n")
    second.write_text('{"limit": 6, "network": {"model": "vgg9"}, "vmax": 1.5, "y": null}')
    line = f"--config {first} --no_log --config {second} --vmax 2 --xnorm filter"
    args = plot_surface.parser().parse_args(shlex.split(line))
    assert (args.limit, args.x, args.y, args.plot, args.log) == (6, "-1:1:21", None, True, False)
    assert (args.model, args.vmax, args.xnorm, args.control_points) == ("vgg9", 2.0, "filter", ("c.t7",))
    assert args.only == ("lora_",)
    assert plot_surface.parser().parse_args(["--limit", "3", "--config", str(first)]).limit == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limit: x", "limit: x: 'x' is no positive whole number"),
        ("limit: 1.5", "limit: 1.5: '1.5' is no positive whole number"),
        ("limit: [3]", "limit: ['3']: give one number or text"),
        ("limit: true", "limit: true: give one number or text"),
        ("x: null", "x: null: give one number or text"),
        ("plot: 3", "plot: 3: give true or false"),
        ("plot: 'true'", "plot: true: give true or false"),
        ("only: [[a]]", "only: [['a']]: give a list of values"),
        ("only: ['fc(']", "is no regular expression"),
        ("split: some", "split: some: choose from 'train', 'test', 'both'"),
        ("limits: 3", "limits: 3: no option of this command has this name (did you mean limit?)"),
        ("top: 3", "top: 3: no option of this command has this name"),
        ("figures: {limit: 3}", "limit: 3: this option stands below 'data'"),
        ("data: 3", "data: 3: no option of this command has this name"),
        ("limit: 3\nlimit: 4", "limit: the option is given twice"),
        ("limit: 3\ndata: {limit: 4}", "limit: 4: the option is given twice"),
        ("bend: [a]\ncontrol_points: [b]", "control_points: ['b']: the option is given twice"),
        ("- limit", "give options as 'name: value'"),
        ("limit", "give options as 'name: value'"),
        ("{", "no YAML: "),
        ("a: &a [*a]", "a: [[...]]: no option"),
        ("limit: !!python/object/apply:os.getcwd []", "no YAML: could not determine a constructor"),
        ("\0", "no YAML: "),
        ("[" * 5000, "no YAML: "),
        ("config: b.yaml", "config: b.yaml: no option of this command has this name"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, capsys, text, expected):
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as end:
        plot_surface.parser().parse_args(["--config", str(file)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(file) in line
    assert expected in line


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"limit: \xe4"])
def test_a_file_that_is_no_text_is_one_line(tmp_path, capsys, content):
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(SystemExit) as end:
        plot_surface.parser().parse_args(["--config", str(file)])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_options_that_do_not_fit_together_are_one_line(tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text("top: 5\nbottom: 5\nmax_products: 8\n")
    with pytest.raises(SystemExit) as end:
        hessian_spectrum.parser().parse_args(["--config", str(file)])
    assert end.value.code == 2
    assert "more than 8 products can give: raise --max_products" in capsys.readouterr().err


OLD = {
    "--most": "max_products",
    "--trace_most": "max_trace_products",
    "--activation_most": "max_activation_probes",
    "--z": "damping",
    "--at": "activation_site",
}


def test_earlier_names_are_valid_and_listed_only_beside_the_new_ones(capsys):
    line = "--most 40 --trace_most 6 --activation_most 7 --z 0.5 --at input"
    args = hessian_spectrum.parser().parse_args(line.split())
    assert [getattr(args, name) for name in OLD.values()] == [40, 6, 7, 0.5, "input"]
    assert plot_surface.parser().parse_args(["--bend", "a", "b"]).control_points == ("a", "b")
    text = " ".join(hessian_spectrum.parser().format_help().split())
    for name in OLD:
        assert text.count(f"{name} ") == 0
        assert text.count(f"[also {name}]") == 1
    assert "--no_" not in text.replace("--no_NAME", "")


def test_an_option_without_a_text_or_twice_in_a_command_is_a_mistake():
    for module in EVERY:
        known = definitions(parser_of(module).options)
        names = [name for each in known for name in (each.name, *each.old)]
        assert len(set(names)) == len(names), module
        assert all(each.help and each.heading for each in known), module


def test_the_reference_page_is_made_from_the_definitions():
    made = runpy.run_path(str(ROOT / "docs" / "options_page.py"))["page"]()
    assert (ROOT / "docs" / "options.md").read_text() == made, "run: python docs/options_page.py"


# Keywords of Python ---------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "surface": plot_surface.SurfaceOptions,
    "eigenvalues": plot_hessian_eigen.EigenvalueOptions,
    "spectrum": hessian_spectrum.SpectrumOptions,
    "trajectory": plot_trajectory.TrajectoryOptions,
}
KEYWORDS = {"compiled": "compile", "loss": "loss_name"}  # named otherwise than the options
DIFFERENT = {
    "surface": {"directions"},
    "eigenvalues": {"x", "directions"},  # the map of a Python call is coarser by default
    "spectrum": set(),
    "trajectory": set(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keywords_have_the_defaults_of_the_options(name):
    options = {each.field: each for each in definitions(FUNCTIONS[name])}
    parameters = inspect.signature(getattr(lossatlas, name)).parameters
    keywords = {key: each for key, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    same = {key: KEYWORDS.get(key, key) for key in keywords if KEYWORDS.get(key, key) in options}
    assert len(same) >= {"surface": 10, "eigenvalues": 10, "spectrum": 18, "trajectory": 4}[name]
    for key, option in same.items():
        if key not in DIFFERENT[name]:
            default = options[option].default
            default = config.BN_SAMPLES if option == "bn_samples" else default
            assert keywords[key].default == default, key


LITERALS = {  # each list of words, and an option that takes them
    "precision": (Precision, plot_surface, "precision"),
    "product_precision": (ProductPrecision, plot_hessian_eigen, "precision"),
    "memory": (Memory, plot_surface, "memory"),
    "norm": (NormOrNone, plot_surface, "xnorm"),
    "ignore": (Ignore, plot_surface, "xignore"),
    "dir_type": (DirType, plot_surface, "dir_type"),
    "bn": (BatchNormMode, plot_surface, "bn"),
    "activation_site": (ActivationSite, hessian_spectrum, "activation_site"),
    "plane": (PlaneKind, plot_trajectory, "plane"),
    "look": (LookName, animate_surface, "look"),
    "film": (FilmKind, animate_surface, "kind"),
}


@pytest.mark.parametrize("name", LITERALS)
def test_words_that_editors_offer_are_the_choices_of_the_options(name):
    literal, command, option = LITERALS[name]
    (choices,) = [each.choices for each in definitions(command.parser().options) if each.name == option]
    assert choices == get_args(literal)


def test_an_option_has_the_choices_that_its_type_lists():
    assert values_of(Memory) == values_of(Memory | None) == ("fast", "low")
    assert values_of(NormOrNone) == ("", *get_args(Norm))
    assert values_of(Literal[1, 2] | None) == (1, 2)
    for other in (str, str | None, int | str | None, tuple[str, ...], tuple[str, ...] | None, Memory | str):
        assert values_of(other) == ()


def test_an_argument_is_one_of_the_words_of_its_type():
    for word in (None, "fast", "low"):
        assert checked_word("memory", word, MEMORIES) == word
    for word in ("fst", "", 1, ["fast"], np.array(["fast", "low"])):
        with pytest.raises(BadUsage, match=r"choose from 'fast', 'low'$"):
            checked_word("memory", word, MEMORIES)


def test_words_that_editors_offer_for_figures_and_losses_are_those_that_exist():
    surface = lossatlas.read(ROOT / "docs/surfaces/curve.h5")
    with pytest.raises(BadUsage, match=f"choose from {', '.join(get_args(PlotKind))}$"):
        surface.plot(kind="nonsense")
    spectrum = lossatlas.Curvature(read_findings(ROOT / "docs/surfaces/spectrum.h5"))
    with pytest.raises(BadUsage, match=f"there are {', '.join(get_args(SpectrumPart))}$"):
        spectrum.plot("nonsense")
    assert tuple(LOSSES) == get_args(LossName)
    assert tuple(FEWEST_CHECKPOINTS) == get_args(PlaneKind)


# In files -------------------------------------------------------------------------------------------------------------


def test_files_keep_the_options_and_are_continued_with_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "a.safetensors", "mlp")
    line = "--model mlp --dataset fashion_mnist_mini --limit 20 --threads 1 --model_file a.safetensors"
    first = f"{line} --x=-1:1:3 --xnorm filter --surf_file s.h5 --dir_file d.h5 --batch_size 10"
    assert plot_surface.main(first.split()) == 0
    there = read_surface("s.h5")
    kept = there.about["config"]
    assert kept == resolved_options(plot_surface.parser().parse_args(first.split()))
    assert read_directions("d.h5").about["config"] == kept
    (tmp_path / "c.json").write_text(json.dumps(kept))
    assert plot_surface.main(["--config", "c.json"]) == 0
    assert read_surface("s.h5").about["config"] == kept
    capsys.readouterr()
    assert plot_surface.main(["--config", "c.json", "--self_contained"]) == 0  # other options do not matter to it
    assert "error" not in capsys.readouterr().err
    second = f"{line} --top 2 --max_trace_products 5 --spectrum_file h.h5"
    assert hessian_spectrum.main(second.split()) == 0
    assert read_findings("h.h5").about["config"] == resolved_options(
        hessian_spectrum.parser().parse_args(second.split())
    )
    assert str(tmp_path) not in json.dumps(kept)
