"""Rules about contradicting directions: each through both front ends, in the words of each."""

import re

import pytest
import torch

import lossatlas
from lossatlas.commands import net_plotter, plot_surface
from lossatlas.commands.job_choices import direction_choice, grid_task
from lossatlas.errors import BadUsage, option_names
from lossatlas.jobs.inputs import direction_rules
from lossatlas.jobs.inputs.api_inputs import DirectionArguments
from lossatlas.jobs.inputs.direction_rules import DirectionFacts, check_direction_facts

Y = ("--y=-1:1:3",)
NET, GRADIENT = torch.nn.Linear(2, 2), "gradient"
BOTH = [  # a rule, options of a command, what it prints, arguments of a Python function and its axes, its message
    (
        "check_forms",
        ("--repeat", "2", "--per_layer"),
        "--repeat and --per_layer exclude each other",
        ({"repeat": 2, "per_layer": True}, 1),
        "repeat and per_layer exclude each other",
    ),
    (
        "check_axes",
        ("--repeat", "2", *Y),
        "--repeat computes several lines: leave out --y",
        ({"repeat": 2}, 2),
        "repeat computes several lines: leave out y",
    ),
    (
        "check_axes",
        ("--model_file2", "b.pt", "--model_file3", "c.pt"),
        "--model_file3: the network at y = 1 needs a second axis: give --y too",
        ({"towards": [NET, NET]}, 1),
        "towards: the network at y = 1 needs a second axis: give y too",
    ),
    (
        "check_repeat",
        ("--repeat", "1"),
        "--repeat 1: a spread needs at least 2 directions",
        ({"repeat": 1}, 1),
        "repeat=1: a spread needs at least 2 directions",
    ),
    (
        "check_repeat",
        ("--repeat", "2", "--xdirection", GRADIENT, "--curvature", "--model_file2", "b.pt"),
        "--repeat draws random directions: leave out --model_file2, --xdirection, --curvature",
        ({"repeat": 2, "directions": GRADIENT, "curvature": True, "towards": NET}, 1),
        "repeat draws random directions: leave out towards, directions, curvature",
    ),
    (
        "check_second_direction",
        ("--orthogonalize",),
        "--orthogonalize takes the x direction out of the y direction: give --y too",
        ({"orthogonalize": True}, 1),
        "orthogonalize takes the x direction out of the y direction: give y too",
    ),
    (
        "check_one_direction_each",
        ("--xdirection", GRADIENT, "--model_file2", "b.pt"),
        "--model_file2 and --xdirection both ask for the x direction: leave one out",
        ({"directions": [GRADIENT, "random"], "towards": NET}, 2),
        "towards and directions both ask for the x direction: leave one out",
    ),
    (
        "check_parameters_alone",
        ("--dir_type", "states", "--xdirection", GRADIENT, "--ydirection", "s.h5:2", "--curvature", *Y),
        "--xdirection, --ydirection, --curvature: gradients, eigenvectors and second derivatives belong to the "
        "parameters alone: use --dir_type weights",
        ({"directions": [GRADIENT, "s.h5:2"], "curvature": True}, 2),
        "directions, curvature: gradients, eigenvectors and second derivatives belong to the parameters alone: use "
        "dir_type='weights'",
    ),
]
COMMANDS = [  # a rule about what Python functions do not offer, options, and what the command prints
    (
        "check_spread_network",
        ("--ranks_per_model", "2", "--xdirection", GRADIENT, "--curvature"),
        "--ranks_per_model computes losses, and no gradients: leave out --xdirection, --curvature",
    ),
    ("check_axes", ("--scheme", "linear2x"), "--scheme computes a surface: give --y too"),
    ("check_curve", ("--curve", "bezier"), "--curve and --control_points belong together"),
    (
        "check_curve",
        ("--curve", "bezier", "--control_points", "b.pt"),
        "--curve leads to another network: give --model_file2 too",
    ),
    (
        "check_curve",
        ("--curve", "bezier", "--control_points", "b.pt", "--model_file2", "c.pt", "--dir_file", "d.h5"),
        "--curve leads to --model_file2 without directions: leave out --dir_file",
    ),
    (
        "check_repeat",
        ("--repeat", "2", "--dir_file", "d.h5", "--idx", "3"),
        "--repeat draws its directions from --seed alone: leave out --dir_file, --idx",
    ),
    (
        "check_scheme",
        ("--scheme", "linear2x", "--xdirection", GRADIENT, *Y),
        "--scheme draws its other networks at random: leave out --xdirection",
    ),
    (
        "check_scheme",
        ("--scheme", "linear2x", "--same_dir", "--dir_type", "states", *Y),
        "--scheme moves the weights between three networks: leave out --same_dir, --dir_type",
    ),
    (
        "check_scheme",
        ("--scheme", "linear2x", "--xnorm", "filter", *Y),
        "--scheme has its own normalization: leave out --xnorm",
    ),
    (
        "check_volume",
        ("--znorm", "filter", *Y),
        "--znorm: a third direction needs a third axis: give --z too",
    ),
    (
        "check_volume",
        ("--scheme", "linear2x", *Y, "--z=-1:1:3"),
        "--scheme computes a surface: leave out --z",
    ),
    (
        "check_volume",
        ("--same_dir", *Y, "--z=-1:1:3"),
        "--same_dir takes the x direction for y, and a volume has three: leave out --z",
    ),
    (
        "check_second_direction",
        ("--ydirection", GRADIENT),
        "--ydirection: a second direction needs a second axis: give --y too",
    ),
    (
        "check_second_direction",
        ("--same_dir", "--orthogonalize", *Y),
        "--same_dir takes the x direction for y: leave out --orthogonalize",
    ),
]


def of_command(options, command=plot_surface):
    """Return the message with which a command refuses these options."""
    args = command.parser().parse_args(["--model", "mlp", "--model_file", "a.pt", *options])
    with option_names(), pytest.raises(BadUsage) as refused:
        direction_choice(args, 1 + bool(getattr(args, "y", None)) + bool(getattr(args, "z", None)))
    return str(refused.value)


@pytest.mark.parametrize(("rule", "options", "printed", "python", "message"), BOTH, ids=lambda value: str(value)[:40])
def test_each_rule_holds_in_both_front_ends(rule, options, printed, python, message):
    arguments, axes = python
    dir_type = "states" if "states" in options else None
    assert of_command(options) == printed
    with pytest.raises(BadUsage, match=f"^{re.escape(message)}$"):
        DirectionArguments(**arguments).check(axes, dir_type)


@pytest.mark.parametrize(("rule", "options", "printed"), COMMANDS, ids=lambda value: str(value)[:40])
def test_each_rule_about_options_of_commands_alone(rule, options, printed):
    assert of_command(options).startswith(printed)


def test_every_rule_is_in_these_tables():
    rules = {name for name in vars(direction_rules) if name.startswith("check_")} - {"check_direction_facts"}
    assert rules == {rule for rule, *_ in [*BOTH, *COMMANDS]}


def test_a_command_without_a_grid_names_its_own_option_of_an_axis():
    assert of_command(["--orthogonalize"], net_plotter).endswith("give --axes 2 too")
    assert of_command(["--zdirection", "gradient"], net_plotter).endswith("give --axes 3 too")


def test_low_memory_is_for_lines_and_planes_in_both_front_ends():
    reason = "is for lines, planes and volumes along directions: leave out"
    words = ["--model", "mlp", "--model_file", "a.pt", "--memory", "low", "--repeat", "2"]
    task = grid_task(plot_surface.parser().parse_args(words), ["plot_surface"])
    with option_names(), pytest.raises(BadUsage, match=f"^--memory low {reason} --repeat$"):
        task.memory  # noqa: B018  raises
    data = torch.randn(8, 2), torch.randint(0, 2, (8,))
    with pytest.raises(BadUsage, match=f"^memory='low' {reason} repeat$"):
        lossatlas.surface(NET, data, x="-1:1:3", memory="low", repeat=2, progress=False)


def test_what_fits_together_is_accepted():
    check_direction_facts(DirectionFacts(axes=1))
    check_direction_facts(
        DirectionFacts(axes=2, model_file2=True, ydirection=GRADIENT, orthogonalize=True, curvature=True)
    )
    check_direction_facts(DirectionFacts(axes=2, xdirection="vector", ydirection="vector", dir_type="states"))
    check_direction_facts(DirectionFacts(axes=2, scheme=True, idx=1, dir_file=True))
    check_direction_facts(DirectionFacts(axes=1, repeat=2, xnorm=True))
