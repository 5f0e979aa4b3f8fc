import shutil
import weakref

import h5py
import numpy as np
import pytest
import torch
from conftest import seeded

from lossatlas.commands import plot_2D, plot_surface, plot_trajectory
from lossatlas.io import read_directions, read_projection, read_surface
from lossatlas.models import build
from lossatlas.parameter_space import as_point, tensors


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
        (["--max_epoch", "9"], 3, "model_9.t7"),
        (["--start_epoch", "4"], 2, "--start_epoch"),
        (["--prefix", "net_"], 3, "net_<epoch>.t7"),
        (["--save_epoch", "4"], 3, "2 checkpoints, at least 3 are needed"),
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


@pytest.mark.full
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


def naive_loss(file, limit=20) -> float:
    """The mean loss of a checkpoint with its own statistics, in float64, by a plain loop."""
    from lossatlas.datasets.registry import load

    net = build("resnet20", (1, 28, 28)).double().eval()
    net.load_state_dict(torch.load(file)["state_dict"])
    data = load("fashion_mnist_mini", "train", limit=limit)
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(net(data.inputs.double()), data.targets))


def whole(folder, *more):
    return [
        *"--model resnet20 --dataset fashion_mnist_mini --limit 20 --threads 1 --batch_size 20 --model_folder".split(),
        str(folder),
        *"--surface 5x4".split(),
        *more,
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder after the one command: the statistics of BatchNorm differ from checkpoint to checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    assert plot_trajectory.main(whole(folder, "--surf_file", str(folder / "s.h5"))) == 0
    return folder


def write_run(folder, shift=0.0):
    net = seeded(lambda: build("resnet20", (1, 28, 28)))
    torch.manual_seed(1)
    u, v = ({name: torch.randn_like(p) for name, p in net.named_parameters()} for _ in range(2))
    start = {name: value.clone() for name, value in net.state_dict().items()}
    for k, (a, b) in enumerate([(1.0, 0.0), (0.7, 0.5), (0.3, 0.4), (0.1, -0.1), (0.0, 0.0)]):
        state = {n: w + 0.02 * ((a + shift) * u[n] + b * v[n]) if n in u else w.clone() for n, w in start.items()}
        state |= {n: w * (1 + 0.1 * (4 - k)) for n, w in state.items() if n.endswith("running_var")}
        torch.save({"state_dict": state}, folder / f"model_{10 * k}.t7")
        rate = {"optimizer": {"param_groups": [{"lr": 0.1 if k < 3 else 0.01}]}}
        torch.save(rate, folder / f"opt_state_{10 * k}.t7")


def test_the_losses_of_the_checkpoints_themselves_are_stored(finished):
    path = read_projection(finished / "s_path.h5")
    assert read_projection(finished / "PCA_weights_save_epoch=10" / "directions.h5_proj_cos.h5").loss is None
    np.testing.assert_array_equal(path.epochs, [0, 10, 20, 30, 40])
    expected = [naive_loss(finished / f"model_{epoch}.t7") for epoch in (0, 10, 20, 30, 40)]
    np.testing.assert_allclose(path.loss, expected, rtol=1e-5)
    assert path.run == finished.name
    assert path.drops == (30.0,)
    np.testing.assert_array_equal(path.dropped(), [3])


@pytest.mark.parametrize(
    ("rates", "schedule", "drops"),
    [
        ([0.1, 0.1, 0.01, 0.01, 0.001], "", (20, 40)),  # steps
        ([0.05, 0.05, 0.05, 0.005, 5e-5], "step", (30, 40)),
        ([0.05, 0.05, 0.05, 0.005, 5e-5], "", (30, 40)),
        ([0.1, 0.08, 0.05, 0.02, 0.002], "", ()),  # a cosine
        ([0.1, 0.08, 0.05, 0.02, 0.002], "cosine", ()),
        ([0.0005, 0.1, 0.1, 0.05, 0.05], "", (30,)),  # after a warm-up
        ([0.1, 0.01, 0.1, 0.01, 0.1], "", ()),  # restarts
        ([0.1, 0.1, None, 0.01, 0.01], "", ()),  # not known
    ],
)
def test_where_the_learning_rate_dropped(tmp_path, rates, schedule, drops):
    from lossatlas.jobs.trajectory.checkpoint_series import learning_rate_drops

    for k, rate in enumerate(rates):
        state = {} if rate is None else {"optimizer": {"param_groups": [{"lr": rate}]}}
        state |= {"recipe": {"schedule": schedule}} if schedule else {}
        torch.save(state, tmp_path / f"opt_state_{10 * k}.t7")
    assert learning_rate_drops(tmp_path, [0, 10, 20, 30, 40]) == drops


def test_what_tells_runs_apart_is_their_name():
    from lossatlas.jobs.trajectory.checkpoint_series import short_names

    names = ["net_sgd_lr=0.1_bs=128_noaug", "net_adam_lr=0.001_bs=128_noaug"]
    assert short_names(names) == ["sgd lr=0.1", "adam lr=0.001"]
    assert short_names(["a", "b"]) == ["a", "b"]
    assert short_names(["one_run"]) == ["one_run"]


def test_the_grid_holds_the_path_with_a_margin_and_the_surface_is_that_of_the_plane(finished):
    surface = read_surface(finished / "s.h5")
    assert surface.done.all()
    assert surface.grid.shape == (4, 5)
    path = read_projection(finished / "PCA_weights_save_epoch=10" / "directions.h5_proj_cos.h5")
    for axis, along in ((surface.grid.x, path.x), (surface.grid.y, path.y)):
        room = 0.15 * np.ptp(along)
        assert axis[0] <= along.min() - room
        assert axis[-1] >= along.max() + room
        assert np.ptp(axis) < 1.6 * np.ptp(along)
    for kind in ("2dcontour", "3dsurface", "along_path"):
        assert (finished / f"s.h5_train_loss_{kind}.png").exists()


def test_what_is_said_of_both_is_what_the_files_hold(finished, capsys):
    from lossatlas.figures import choose_colour_scale
    from lossatlas.figures.trajectory_plots import loss_ratio, surface_under_path

    assert plot_trajectory.main(whole(finished, "--surf_file", str(finished / "s.h5"))) == 0
    said = capsys.readouterr().out
    assert "20 of 20 cells done" in said, "nothing is computed again"
    path = read_projection(finished / "s_path.h5")
    surface = read_surface(finished / "s.h5")
    under = surface_under_path(surface, "train_loss", path, choose_colour_scale([surface.fields["train_loss"]]))
    factors = np.exp(np.abs(np.log(under / path.loss)))
    np.testing.assert_allclose(loss_ratio(path, under), under / path.loss)
    median, most = (
        f"a factor of {k:.3g}" if k >= 1.1 else f"{100 * (k - 1):.2g} %" for k in (np.median(factors), factors.max())
    )
    assert f"differ by {median} (median), {most} at most" in said
    assert "a page: lossatlas view " in said


@pytest.mark.full
def test_losses_of_other_data_are_not_drawn(finished, capsys):
    """Each surface has its own path; that of another one is refused."""
    more = ["--limit", "10", "--surf_file", str(finished / "other.h5")]
    assert plot_trajectory.main(whole(finished, *more)) == 0
    before, after = (read_projection(finished / f"{name}_path.h5").loss for name in ("s", "other"))
    assert not np.allclose(before, after)
    capsys.readouterr()
    drawn = ["-f", str(finished / "s.h5"), "--proj_file"]
    assert plot_2D.main([*drawn, str(finished / "s_path.h5")]) == 0
    assert plot_2D.main([*drawn, str(finished / "other_path.h5")]) == 3
    assert "of other data" in capsys.readouterr().err


@pytest.mark.full
def test_several_runs_on_one_plane(tmp_path, capsys):
    for name, shift in (("sgd", 0.0), ("adam", 0.2)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, shift)
    assert plot_trajectory.main(whole(tmp_path / "sgd", "--surf_file", str(tmp_path / "s.h5"))) == 0
    capsys.readouterr()
    both = whole(tmp_path / "sgd", "--surf_file", str(tmp_path / "both.h5"))
    both.insert(both.index(str(tmp_path / "sgd")) + 1, str(tmp_path / "adam"))
    assert plot_trajectory.main(both) == 0
    place = tmp_path / "sgd" / "PCA_weights_save_epoch=10_with_adam"
    paths = [read_projection(tmp_path / f"both_path{name}.h5") for name in ("", "_adam")]
    assert [path.run for path in paths] == ["sgd", "adam"]
    assert (paths[0].x[-1], paths[0].y[-1]) == (0, 0), "the end of the first run is the origin"
    for path, name in zip(paths, ("sgd", "adam"), strict=True):
        expected = [naive_loss(tmp_path / name / f"model_{epoch}.t7") for epoch in path.epochs.astype(int)]
        np.testing.assert_allclose(path.loss, expected, rtol=1e-5)
    assert (paths[0].distance.max(), paths[1].distance.max()) < (1e-2, 1e-2), "both runs lie in the plane of u and v"
    net = build("resnet20", (1, 28, 28))
    saved = read_directions(place / "directions.h5")
    axes = [as_point(d, net, "weights", "") for d in (saved.x, saved.y)]
    states = [
        torch.load(tmp_path / folder / f"model_{n}.t7")["state_dict"] for folder, n in (("adam", 10), ("sgd", 40))
    ]
    moved = paths[1].x[1] * axes[0]["conv1.weight"] + paths[1].y[1] * axes[1]["conv1.weight"]
    torch.testing.assert_close(moved, states[0]["conv1.weight"] - states[1]["conv1.weight"], atol=2e-5, rtol=1e-3)


@pytest.mark.full
def test_the_river_valley_plane(tmp_path):
    """From the first checkpoint to the last, and the top eigenvector of the Hessian there: the steepest way across."""
    from lossatlas.hessian import Hessian

    write_run(tmp_path)
    argv = [word for word in whole(tmp_path, "--plane", "river") if word not in ("--surface", "5x4")]
    assert plot_trajectory.main(argv) == 0
    saved = read_directions(tmp_path / "river_weights_save_epoch=10" / "directions.h5")
    flat = [np.concatenate([a.ravel() for a in axis]).astype(float) for axis in (saved.x, saved.y)]
    np.testing.assert_allclose([flat[0] @ flat[0], flat[1] @ flat[1]], 1, rtol=1e-5)
    assert abs(flat[0] @ flat[1]) < 1e-5
    states = [torch.load(tmp_path / f"model_{n}.t7")["state_dict"] for n in (0, 40)]
    net = build("resnet20", (1, 28, 28)).eval()
    net.load_state_dict(states[1])
    drift = np.concatenate([(states[1][n] - states[0][n]).flatten().numpy() for n, _ in net.named_parameters()])
    assert abs(drift @ flat[0]) / np.linalg.norm(drift) == pytest.approx(1, abs=1e-5)
    from lossatlas.data import as_loss
    from lossatlas.datasets.registry import load
    from lossatlas.hessian import lanczos

    hessian = Hessian(net, load("fashion_mnist_mini", "train", limit=20), as_loss("crossentropy"))
    top = lanczos(hessian, top=1, tolerance=1e-4, max_products=200)
    vector = top.vectors[0].double().numpy()
    across = vector - (vector @ flat[0]) * flat[0]
    assert abs(across @ flat[1]) / np.linalg.norm(across) == pytest.approx(1, abs=1e-3)
    before = saved.sha256
    assert plot_trajectory.main(argv) == 0  # the same plane, not a new one
    assert read_directions(tmp_path / "river_weights_save_epoch=10" / "directions.h5").sha256 == before


def test_checkpoints_by_name_in_their_order(finished, tmp_path):
    files = [str(finished / f"model_{n}.t7") for n in (0, 20, 30, 40)]
    argv = ["--model", "resnet20", "--dataset", "fashion_mnist_mini", "--checkpoints", *files]
    for file in files:
        shutil.copy(file, tmp_path)
    argv[-4:] = [str(tmp_path / f"model_{n}.t7") for n in (0, 20, 30, 40)]
    assert plot_trajectory.main([*argv, "--lr_drops", "20"]) == 0
    (place,) = tmp_path.glob("PCA_weights_of_4_*")
    path = read_projection(place / "directions.h5_proj_cos.h5")
    np.testing.assert_array_equal(path.epochs, [0, 20, 30, 40])
    assert path.drops == (20.0,)


def test_few_checkpoints_are_held_at_a_time():
    """However many there are: a row that was let go of is read again."""
    from lossatlas.parameter_space import principal_components, project
    from lossatlas.parameter_space.projection import ROWS_IN_MEMORY

    alive: list[weakref.ref] = []
    most = 0

    class Row(np.ndarray):
        pass

    class Rows:
        data = np.random.default_rng(0).normal(size=(30, 50))

        def __len__(self):
            return 30

        def __getitem__(self, k):
            nonlocal most
            row = self.data[k].copy().view(Row)
            alive.append(weakref.ref(row))
            most = max(most, sum(each() is not None for each in alive))
            return row

    found = principal_components(Rows())
    np.testing.assert_allclose(found.singular_values, principal_components(Rows.data).singular_values)
    where, distance = project(Rows(), found.vectors)
    np.testing.assert_allclose(where, Rows.data @ found.vectors.T, atol=1e-9)
    assert distance.shape == (30,)
    assert most <= ROWS_IN_MEMORY + 1


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--surface", "1"], 2, "--surface 1"),
        (["--surface", "5x"], 2, "--surface 5x"),
        (["--checkpoints", "a.t7"], 2, "--checkpoints"),
        (["--suffix", ".pt"], 3, "model_<epoch>.pt"),
        (["--plane", "river", "--dir_type", "states"], 2, "river"),
    ],
)
def test_what_cannot_be_is_said(finished, capsys, more, code, message):
    assert plot_trajectory.main(whole(finished, *more)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.full
def test_own_losses_are_drawn_where_they_belong_alone(tmp_path, monkeypatch):
    """With two splits the training loss is kept, and no figure of the test loss shows it."""
    write_run(tmp_path)
    assert plot_trajectory.main(whole(tmp_path, "--split", "both", "--surf_file", str(tmp_path / "s.h5"))) == 0
    path = read_projection(tmp_path / "s_path.h5")
    assert path.field == "train_loss"
    assert path.of("test_loss").loss is None
    assert path.of("train_loss").loss is not None
    drawn = ["-f", str(tmp_path / "s.h5"), "--proj_file", str(tmp_path / "s_path.h5"), "--surf_name", "test_loss"]
    seen = []
    flat_figure = plot_2D.flat_figure
    monkeypatch.setattr(
        plot_2D, "flat_figure", lambda *args, paths: seen.append(paths) or flat_figure(*args, paths=paths)
    )
    assert plot_2D.main(drawn) == 0
    assert plot_2D.main(drawn[:-2]) == 0
    assert [paths[0].loss is None for paths in seen] == [True] * 3 + [False] * 3


@pytest.mark.full
def test_a_river_of_another_start_or_of_other_data_is_another_plane(tmp_path, capsys):
    write_run(tmp_path)
    argv = [word for word in whole(tmp_path, "--plane", "river") if word not in ("--surface", "5x4")]
    assert plot_trajectory.main(argv) == 0
    shutil.copy(tmp_path / "model_10.t7", tmp_path / "model_0.t7")
    assert plot_trajectory.main(argv) == 3
    assert "other directions" in capsys.readouterr().err
    assert plot_trajectory.main([*argv, "--force"]) == 0
    assert plot_trajectory.main([*argv, "--loss_name", "mse"]) == 3


def test_what_is_wrong_is_said_before_anything_is_written(finished, tmp_path, capsys):
    for file in finished.glob("*.t7"):
        shutil.copy(file, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for more in (["--tolerance", "x"], ["--margin", "1e30"], ["--surface", "99999"], ["--surf_file", "no/s.h5"]):
        assert plot_trajectory.main(whole(tmp_path, *more)) in (2, 3)
        assert sorted(tmp_path.rglob("*")) == before
    capsys.readouterr()


def test_a_projection_of_another_run_is_left_alone(tmp_path):
    for name, shift in (("a", 0.0), ("b", 0.2)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, shift)
    common = "--model resnet20 --dataset fashion_mnist_mini --model_folder".split()
    assert plot_trajectory.main([*common, str(tmp_path / "a")]) == 0
    directions = tmp_path / "a" / "PCA_weights_save_epoch=10" / "directions.h5"
    before = read_projection(f"{directions}_proj_cos.h5")
    assert plot_trajectory.main([*common, str(tmp_path / "b"), "--dir_file", str(directions)]) == 0
    np.testing.assert_array_equal(read_projection(f"{directions}_proj_cos.h5").x, before.x)
    assert read_projection(f"{directions}_proj_cos.h5").run == "a"
    assert read_projection(f"{directions}_b_proj_cos.h5").run == "b"


def test_names_that_become_alike_and_padded_numbers(tmp_path, capsys):
    for name in ("a b", "a_b"):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name)
    for file in list((tmp_path / "a_b").glob("model_*.t7")):
        file.rename(file.with_name(f"model_{int(file.stem[6:]):03d}.t7"))
    common = "--model resnet20 --dataset fashion_mnist_mini --model_folder".split()
    folders = [str(tmp_path / name) for name in ("a b", "a_b")]
    assert plot_trajectory.main([*common, *folders]) == 0
    assert len(list((tmp_path / "a b").rglob("*_proj_cos.h5"))) == 2
    assert plot_trajectory.main([*common, folders[0], folders[0]]) == 2
    assert "twice" in capsys.readouterr().err
    shutil.copy(tmp_path / "a_b" / "model_010.t7", tmp_path / "a_b" / "model_10.t7")
    assert plot_trajectory.main([*common, folders[1]]) == 3
    assert "epoch 10 twice" in capsys.readouterr().err


def test_three_checkpoints_span_the_plane_that_all_of_them_lie_in(folder, capsys):
    """The last one, the origin of the coordinates, counts for the mean and for the variance."""
    assert plot_trajectory.main(command(folder, "--save_epoch", "2")) == 0
    place = folder / "PCA_weights_save_epoch=2"
    found = read_projection(place / "directions.h5_proj_cos.h5", place / "directions.h5")
    names = [name for name, _ in build("resnet20", (1, 28, 28)).named_parameters()]
    states = [torch.load(folder / f"model_{k}.t7")["state_dict"] for k in (0, 2, 4)]
    rows = np.stack([np.concatenate([state[name].double().numpy().ravel() for name in names]) for state in states])
    _, singular, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(found.explained, singular[:2] ** 2 / (singular**2).sum(), rtol=1e-5)
    expected = (rows - rows[-1]) @ vectors[:2].T
    np.testing.assert_allclose(np.abs([found.x, found.y]), np.abs(expected.T), atol=1e-4 * np.abs(expected).max())
    assert found.distance.max() < 1e-3 * singular[1]


def test_rounding_noise_is_no_second_component(tmp_path, capsys):
    """Checkpoints on a line: what is beside it are the last digits of float32."""
    net = seeded(lambda: build("resnet20", (1, 28, 28)))
    torch.manual_seed(1)
    u = {name: torch.randn_like(p).double() for name, p in net.named_parameters()}
    for scale in (1e-2, 0):
        for epoch in range(5):
            state = {
                name: (w.double() + scale * epoch**2 * u[name]).float() if name in u else w
                for name, w in net.state_dict().items()
            }
            torch.save({"state_dict": state}, tmp_path / f"model_{epoch}.t7")
        assert plot_trajectory.main(command(tmp_path)) == 3
        error = capsys.readouterr().err
        assert f"5 checkpoints span {'1 direction' if scale else '0 directions'} beyond rounding" in error
        assert not list(tmp_path.glob("PCA*"))
