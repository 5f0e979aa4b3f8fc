"""Every flag and combination of the original release is understood (its README, its scripts, its parsers)."""

import shlex

import h5py
import numpy as np
import pytest

from lossatlas.commands import h52vtp, plot_1D, plot_2D, plot_hessian_eigen, plot_surface, plot_trajectory
from lossatlas.commands.job_choices import grid_task
from lossatlas.jobs.inputs.file_names import direction_name, surface_name

MODEL = "--model resnet56 --dataset cifar10 --model_file cifar10/trained_nets/resnet56_sgd/model_300.t7"
SURFACE = [
    f"{MODEL} --mpi --cuda --x=-1:1:51 --dir_type weights --xnorm filter --xignore biasbn --plot",
    f"{MODEL} --x=-0.5:1.5:401 --dir_type states --model_file2 cifar10/trained_nets/vgg9_sgd/model_300.t7 --cuda --mpi "
    "--plot",
    f"{MODEL} --mpi --cuda --x=-1:1:51 --y=-1:1:51 --dir_type weights --xnorm filter --xignore biasbn "
    "--ynorm filter --yignore biasbn --plot",
    f"{MODEL} -m -c --x=-1:1:51 --dir_type weights --xnorm filter --xignore biasbn --idx 7 --threads 4 --ngpu 2",
    f"{MODEL} --raw_data --data_split 5 --split_idx 2 --trainloader train.pt --testloader test.pt --batch_size 256",
    f"{MODEL} --model_folder cifar10/trained_nets --model_file3 c.t7 --model_file2 b.t7 --y=0:1:51 -l mse --same_dir",
    f"{MODEL} --dir_file d.h5 --surf_file s.h5 --proj_file p.h5 --loss_max 5 --vmax 10 --vmin 0.1 --vlevel 0.5 --show "
    "--log",
    f"{MODEL} --loss_name crossentropy --datapath cifar10/data --xnorm layer --ynorm weight --y=-1:1:3",
    f"{MODEL} --xnorm dfilter --ynorm dlayer --y=-1:1:3",
]
OTHERS = [
    (plot_1D, "--surf_file s.h5 --log --xmin -1 --xmax 1 --loss_max 5 --show"),
    (plot_1D, "--prefix run --idx_min 1 --idx_max 10 --xmin -1.0 --xmax 1.0"),
    (plot_1D, "-f s.h5"),
    (
        plot_2D,
        "--surf_file s.h5 --dir_file d.h5 --proj_file p.h5 --surf_name train_acc --vmax 10 --vmin 0.1 --vlevel 0.5 "
        "--zlim 10 --show",
    ),
    (plot_2D, "-f s.h5"),
    (
        plot_trajectory,
        "--dataset cifar10 --model resnet56 --model_folder f --dir_type weights --ignore biasbn --prefix model_ "
        "--suffix .t7 --start_epoch 0 --max_epoch 300 --save_epoch 1 --dir_file d.h5",
    ),
    (h52vtp, "--surf_file s.h5 --surf_name train_loss --zmax 10 --interp 1000 --show_points --show_polys --log"),
]


def given(parser, line):
    """(name, value) of each option in a line, as the option's own type makes it; True for flags."""
    tokens = [
        part for token in shlex.split(line) for part in (token.split("=", 1) if token.startswith("--") else [token])
    ]
    actions = {flag: action for action in parser._actions for flag in action.option_strings}
    while tokens:
        action = actions[tokens.pop(0)]
        if action.nargs == 0:
            yield action.dest, True
        else:
            value = (action.type or str)(tokens.pop(0))
            yield action.dest, (value,) if action.nargs == "+" else value


@pytest.mark.parametrize("command", [plot_surface, plot_hessian_eigen])
@pytest.mark.parametrize("line", SURFACE)
def test_command_lines_of_the_original(line, command):
    """Every option arrives with its value, and the configurations are made of them."""
    parser = command.parser()
    args = parser.parse_args(shlex.split(line))
    for name, value in given(parser, line):
        assert getattr(args, name) == value
    task = grid_task(args, ["plot_surface"])
    nets, data, choice = task.networks, task.data, task.directions
    assert (nets.model, nets.file, nets.file2) == (args.model, args.model_file, args.model_file2)
    assert nets.file3 == (None if args.same_dir else args.model_file3)
    assert (data.raw, data.data_split, data.split_idx) == (args.raw_data, args.data_split, args.split_idx)
    assert data.files == (args.trainloader, args.testloader)
    assert (choice.x.norm, choice.x.ignore, choice.idx, choice.dir_file) == (
        args.xnorm,
        args.xignore,
        args.idx,
        args.dir_file,
    )
    assert (choice.y is None) == (args.y is None)
    if choice.y is not None:
        assert (choice.y.norm, choice.y.ignore) == (args.ynorm, args.yignore)


@pytest.mark.parametrize(("command", "line"), OTHERS)
def test_command_lines_of_the_other_commands(command, line):
    parser = command.parser()
    args = parser.parse_args(shlex.split(line))
    for name, value in given(parser, line):
        assert getattr(args, name) == value


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("command", "line", "drawn"),
    [
        (plot_1D, OTHERS[0][1].replace("s.h5", "curve.h5").replace(" --show", ""), "curve.h5_1d_loss_acc_log.pdf"),
        (plot_1D, "--prefix run --idx_min 1 --idx_max 2 --xmin -1.0 --xmax 1.0", "run_1d_loss_err_repeat.pdf"),
        (
            plot_2D,
            "--surf_file s.h5 --surf_name train_acc --vmax 10 --vmin 0.1 --vlevel 0.5 --zlim 10",
            "s.h5_train_acc_3dsurface.pdf",
        ),
        (plot_2D, "-f s.h5", "s.h5_train_loss_2dcontour.pdf"),
        (
            h52vtp,
            "--surf_file s.h5 --surf_name train_loss --zmax 10 --interp 20 --show_points --show_polys --log",
            "s.h5",
        ),
    ],
)
def test_command_lines_of_the_original_draw_its_files(tmp_path, monkeypatch, command, line, drawn):
    """On files as the original writes them."""
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 7)
    for name, shape in (("s.h5", (7, 7)), ("curve.h5", (7,)), ("run_1.h5", (7,)), ("run_2.h5", (7,))):
        with h5py.File(name, "w") as f:
            f["dir_file"], f["xcoordinates"] = "d.h5", x
            if len(shape) == 2:
                f["ycoordinates"] = x
            f["train_loss"], f["train_acc"] = 0.1 + np.resize(x**2, shape), 100 - 50 * np.resize(x**2, shape)
    before = {path.name for path in tmp_path.iterdir()}
    assert command.main(shlex.split(line)) == 0
    made = {path.name for path in tmp_path.iterdir()} - before
    assert drawn in made or any(name.startswith(drawn) and name.endswith(".vtp") for name in made), made


@pytest.mark.parametrize("text", ["fc(", "[", "*"])
def test_a_pattern_that_is_no_regular_expression_is_a_wrong_usage(capsys, text):
    with pytest.raises(SystemExit) as error:
        plot_hessian_eigen.parser().parse_args(["--model_file", "x", "--parameters", text])
    assert error.value.code == 2
    assert "is no regular expression" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (SURFACE[0], "model_300.t7_weights_xignore=biasbn_xnorm=filter.h5_[-1.0,1.0,51].h5"),
        (
            SURFACE[2],
            "model_300.t7_weights_xignore=biasbn_xnorm=filter_yignore=biasbn_ynorm=filter.h5"
            "_[-1.0,1.0,51]x[-1.0,1.0,51].h5",
        ),
        (SURFACE[3], "model_300.t7_weights_xignore=biasbn_xnorm=filter_idx=7.h5_[-1.0,1.0,51].h5"),
        (
            f"{MODEL} --model_file2 cifar10/trained_nets/resnet56_sgd/model_200.t7 --dir_type states --x=-0.5:1.5:5",
            "model_300.t7_model_200.t7_states.h5_[-0.5,1.5,5].h5",
        ),
        (
            f"{MODEL} --same_dir --y=0:1:3 --raw_data --data_split 5 --xnorm layer --x=0:1:2",
            "model_300.t7_weights_xnorm=layer_same_dir.h5_[0.0,1.0,2]x[0.0,1.0,3]_rawdata_datasplit=5_splitidx=0.h5",
        ),
    ],
)
def test_file_names_of_the_original(line, expected):
    args = plot_surface.parser().parse_args(shlex.split(line))
    task = grid_task(args, ["plot_surface"])
    found = surface_name(direction_name(task.networks, task.directions), task)
    assert str(found) == "cifar10/trained_nets/resnet56_sgd/" + expected


@pytest.mark.parametrize("text", ["²", "9" * 5000, "0", "-1", "1.5", "\uff11\uff12", ""])
def test_what_is_no_whole_number_is_one_short_line(capsys, text):
    with pytest.raises(SystemExit):
        plot_surface.parser().parse_args(["--limit", text])
    errors = capsys.readouterr().err
    assert errors.startswith("error: argument --limit: ")
    assert len(errors) < 250


def test_more_threads_than_a_machine_survives(capsys):
    with pytest.raises(SystemExit):
        plot_surface.parser().parse_args(["--threads", "1000000"])
    assert "1000000 threads are more than 1024" in capsys.readouterr().err


def test_a_value_that_begins_with_a_minus_is_told_how_it_is_written(capsys):
    with pytest.raises(SystemExit):
        plot_surface.parser().parse_args(["--x", "-1:1:51"])
    assert "as in --x=-1:1:51" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_a_precision_in_which_no_hessian_is_computed_is_refused(capsys, precision):
    with pytest.raises(SystemExit) as end:
        plot_hessian_eigen.main(["--model", "mlp", "--precision", precision])
    assert end.value.code == 2
    assert "choose from" in capsys.readouterr().err


FIGURES = [
    (["--cmap", "magm"], "--cmap magm is no colour map of matplotlib (did you mean magma"),
    (["--look", "drk"], "(did you mean dark?)"),
    (["--vmin", "3", "--vmax", "1"], "--vmin 3 is not below --vmax 1: the range is empty"),
    (["--vlevel=-1"], "--vlevel -1: give a distance above 0"),
]


@pytest.mark.parametrize(("words", "message"), FIGURES, ids=[each[0][0] for each in FIGURES])
def test_options_of_figures_are_checked_before_anything_is_computed(capsys, words, message):
    """The network is not there, and would be missed next."""
    line = ["--model", "none.py:make", "--x=-1:1:3", "--y=-1:1:3", *words]
    with pytest.raises(SystemExit) as ended:
        plot_surface.main(line)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_trajectory_to_draw_is_read_before_anything_is_computed(capsys):
    line = ["--model", "none.py:make", "--x=-1:1:3", "--y=-1:1:3", "--plot", "--proj_file", "none.h5"]
    assert plot_surface.main(line) == 3
    assert "no file none.h5" in capsys.readouterr().err
