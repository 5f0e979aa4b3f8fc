import h5py
import numpy as np
import pytest
import torch
from conftest import seeded

import plot_2D
import plot_surface
import plot_trajectory
from lossatlas.record import read_directions, read_projection, read_surface
from lossatlas.space import as_point, tensors
from models import build


@pytest.fixture
def folder(tmp_path):
    """Checkpoints on a plane: origin + a u + b v, with known coordinates."""
    net = seeded(lambda: build("resnet20", (1, 28, 28)))
    origin = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    u, v = ({name: torch.randn_like(p) for name, p in net.named_parameters()} for _ in range(2))
    for epoch, (a, b) in enumerate([(1.0, 0.0), (0.7, 0.5), (0.3, 0.4), (0.1, -0.1), (0.0, 0.0)]):
        state = {name: w + 0.02 * (a * u[name] + b * v[name]) if name in u else w for name, w in origin.items()}
        torch.save({"state_dict": state}, tmp_path / f"model_{epoch}.t7")
    return tmp_path


def command(folder, *more):
    return [
        *"--model resnet20 --dataset fashion_mnist --model_folder".split(),
        str(folder),
        *"--max_epoch 4".split(),
        *more,
    ]


@pytest.mark.parametrize(
    ("ignore", "name"), [([], "PCA_weights"), (["--ignore", "biasbn"], "PCA_weights_ignore=biasbn")]
)
def test_the_plane_goes_through_the_checkpoints(folder, capsys, ignore, name):
    assert plot_trajectory.main(command(folder, *ignore)) == 0
    place = folder / f"{name}_save_epoch=1"
    directions = read_directions(place / "directions.h5")
    found = read_projection(place / "directions.h5_proj_cos.h5", place / "directions.h5")
    x, y = found.x, found.y
    assert sum(found.explained) == pytest.approx(1, abs=1e-5)
    assert (x[-1], y[-1]) == (0, 0)
    net = build("resnet20", (1, 28, 28))
    axes = [as_point(d, net, "weights", "") for d in (directions.x, directions.y)]
    first, last = (torch.load(folder / f"model_{k}.t7")["state_dict"] for k in (0, 4))
    for tensor in ("conv1.weight", "layer2.1.conv2.weight", "linear.bias"):
        expected = first[tensor] - last[tensor]
        if ignore and expected.dim() <= 1:
            expected = torch.zeros_like(expected)
        found = x[0] * axes[0][tensor] + y[0] * axes[1][tensor]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-3)
    assert (place / "directions.h5_proj_cos.h5.png").exists()
    assert "explains" in capsys.readouterr().out


def test_the_surface_under_a_trajectory(folder):
    assert plot_trajectory.main(command(folder)) == 0
    place = folder / "PCA_weights_save_epoch=1"
    path = read_projection(place / "directions.h5_proj_cos.h5")
    x, y = path.x, path.y
    args = [
        *"--model resnet20 --dataset fashion_mnist_mini --limit 20 --dir_file".split(),
        str(place / "directions.h5"),
        "--surf_file",
        str(folder / "s.h5"),
    ]
    where = [f"--x={x[1]}:{x[1]}:1", f"--y={y[1]}:{y[1]}:1"]
    assert plot_surface.main([*args, "--model_file", str(folder / "model_4.t7"), *where]) == 0
    on_plane = read_surface(folder / "s.h5").fields["train_loss"].item()
    assert plot_surface.main([*args, "--model_file", str(folder / "model_1.t7"), "--x=0:0:1", "--force"]) == 0
    assert on_plane == pytest.approx(read_surface(folder / "s.h5").fields["train_loss"].item(), rel=1e-3)
    assert (
        plot_surface.main(
            [
                *args,
                "--model_file",
                str(folder / "model_4.t7"),
                *"--x=-1:2:3 --y=-1:1:3 --force --plot --proj_file".split(),
                str(place / "directions.h5_proj_cos.h5"),
            ]
        )
        == 0
    )
    assert (folder / "s.h5_train_loss_2dcontour.png").exists()
    assert (
        plot_2D.main(
            [
                "-f",
                str(folder / "s.h5"),
                "--proj_file",
                str(place / "directions.h5_proj_cos.h5"),
                "--dir_file",
                str(place / "directions.h5"),
            ]
        )
        == 0
    )


def test_projection_onto_a_given_plane(folder):
    assert plot_trajectory.main(command(folder)) == 0
    directions = folder / "PCA_weights_save_epoch=1" / "directions.h5"
    before = read_projection(f"{directions}_proj_cos.h5")
    assert plot_trajectory.main(command(folder, "--dir_file", str(directions))) == 0
    np.testing.assert_allclose(read_projection(f"{directions}_proj_cos.h5").x, before.x)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--max_epoch", "9"], 3, "model_5.t7"),
        (["--start_epoch", "4"], 2, "--start_epoch"),
        (["--prefix", "net_"], 3, "net_0.t7"),
        (["--save_epoch", "4"], 3, "span"),
        (["--dataset", "nothing"], 2, "nothing"),
        (["--model", "resnet56"], 3, "layer1.3"),
        (["--dir_file", "absent.h5"], 3, "absent.h5"),
    ],
)
def test_bad_requests_are_one_line(folder, capsys, more, code, message):
    assert plot_trajectory.main(command(folder, *more)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_states_move_too(folder):
    assert plot_trajectory.main(command(folder, "--dir_type", "states")) == 0
    directions = read_directions(folder / "PCA_states_save_epoch=1" / "directions.h5")
    assert len(directions.x) == len(build("resnet20", (1, 28, 28)).state_dict())
    assert len(tensors(build("resnet20"), "states")) < len(directions.x)


def test_directions_under_surfaces_are_not_replaced_and_paths_not_mixed(folder, capsys):
    assert plot_trajectory.main(command(folder)) == 0
    place = folder / "PCA_weights_save_epoch=1"
    args = [
        *"--model resnet20 --dataset fashion_mnist_mini --limit 10 --dir_file".split(),
        str(place / "directions.h5"),
        "--surf_file",
        str(folder / "s.h5"),
        *"--x=-1:1:2 --y=-1:1:2".split(),
    ]
    assert plot_surface.main([*args, "--model_file", str(folder / "model_4.t7")]) == 0
    assert plot_trajectory.main(command(folder, "--start_epoch", "1")) == 3
    assert "--force" in capsys.readouterr().err
    assert plot_trajectory.main(command(folder, "--start_epoch", "1", "--force")) == 0
    assert plot_2D.main(["-f", str(folder / "s.h5"), "--proj_file", str(place / "directions.h5_proj_cos.h5")]) == 3
    assert "other directions" in capsys.readouterr().err
    assert plot_2D.main(["--proj_file", str(place / "directions.h5_proj_cos.h5")]) == 0  # the path alone


def test_a_path_of_another_origin_is_not_drawn(folder, capsys):
    """The same directions through another checkpoint: the path would be misplaced."""
    assert plot_trajectory.main(command(folder)) == 0
    place = folder / "PCA_weights_save_epoch=1"
    proj = str(place / "directions.h5_proj_cos.h5")
    args = [
        *"--model resnet20 --dataset fashion_mnist_mini --limit 10 --dir_file".split(),
        str(place / "directions.h5"),
        *"--x=-1:1:2 --y=-1:1:2 --model_file".split(),
    ]
    capsys.readouterr()
    assert plot_surface.main([*args, str(folder / "model_4.t7"), "--surf_file", str(folder / "s.h5")]) == 0
    out = capsys.readouterr().out
    assert "note:" not in out
    assert "the x direction is the 1st principal component" in out
    assert plot_surface.main([*args, str(folder / "model_2.t7"), "--surf_file", str(folder / "t.h5")]) == 0
    assert "was made with checkpoint = " in capsys.readouterr().out
    assert plot_2D.main(["-f", str(folder / "s.h5"), "--proj_file", proj]) == 0
    assert plot_2D.main(["-f", str(folder / "t.h5"), "--proj_file", proj]) == 3
    assert "another checkpoint at the origin" in capsys.readouterr().err
    with h5py.File(proj, "r+") as f:  # as earlier versions wrote it
        del f.attrs["checkpoint"], f.attrs["seal"]
    assert plot_2D.main(["-f", str(folder / "t.h5"), "--proj_file", proj]) == 0
    assert "does not say which checkpoint at the origin" in capsys.readouterr().out
