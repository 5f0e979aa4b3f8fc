"""The library in a script under mpirun, ranks=MPI.COMM_WORLD: every rank gets what one process computes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from oracles import explicit_hessian, mean_cross_entropy
from torch import nn

import lossatlas
from lossatlas.errors import BadInput, BadUsage, CannotWrite
from lossatlas.io import read_surface
from lossatlas.mpi.agreement import FailedRank

X = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
Y = (X.prod(1) > 0).long()
QUIET = {"progress": False}
LINE = {"batch_size": 30, **QUIET}
PLANE = {"x": "-1:1:7", "y": "-1:1:3", **LINE}


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)))


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    """What is computed with ranks=None is meant so: every rank computes everything."""
    from lossatlas import launchers

    for name in launchers.SIZES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("more", [{}, {"tolerance": (0.05, 0.05)}], ids=["all samples", "a tolerance"])
def test_a_surface_has_the_same_bits_on_every_rank(world, folder, more):
    expected = lossatlas.surface(network(), (X, Y), **PLANE, **more)
    found = lossatlas.surface(network(), (X, Y), ranks=world.comm, file=folder / "s.h5", **PLANE, **more)
    assert found.loss.tobytes() == expected.loss.tobytes()
    assert lossatlas.read(folder / "s.h5").loss.tobytes() == expected.loss.tobytes()


@pytest.mark.parametrize("more", [{}, {"tolerance": (0.05, 0.05)}], ids=["all samples", "a tolerance"])
def test_a_volume_has_the_same_bits_on_every_rank(world, more):
    volume = {"x": "-1:1:5", "y": "-1:1:3", "z": "-1:1:4", **LINE, **more}
    expected = lossatlas.surface(network(), (X, Y), **volume)
    found = lossatlas.surface(network(), (X, Y), ranks=world.comm, **volume)
    assert found.loss.tobytes() == expected.loss.tobytes()


def test_a_map_of_eigenvalues_has_the_same_bits_on_every_rank(world):
    expected = lossatlas.eigenvalues(network(), (X, Y), x="-1:1:4", **LINE)
    found = lossatlas.eigenvalues(network(), (X, Y), x="-1:1:4", ranks=world.comm, **LINE)
    for name in ("max_eig", "min_eig"):
        assert found.fields[name].tobytes() == expected.fields[name].tobytes()


def test_a_spectrum_of_samples_that_are_spread_is_that_of_the_dense_hessian(world, folder):
    exact = torch.linalg.eigvalsh(explicit_hessian(network(), mean_cross_entropy(X, Y))).numpy()
    found = lossatlas.spectrum(
        network(), (X, Y), top=3, bottom=1, tolerance=1e-6, ranks=world.comm, file=folder / "h.h5", **LINE
    )
    np.testing.assert_allclose(found.eigenvalues, [*exact[:-4:-1], exact[0]], rtol=1e-4)
    assert abs(found.trace.value - exact.sum()) <= 4 * found.trace.error + 1e-9


@pytest.mark.parametrize("matrix", ["ggn", "mc_fisher"])
def test_a_matrix_of_samples_that_are_spread_is_that_of_one_rank(world, matrix):
    settings = {"matrix": matrix, "top": 3, "bottom": 0, "tolerance": 1e-6, **LINE}
    alone = lossatlas.spectrum(network(), (X, Y), **settings)
    found = lossatlas.spectrum(network(), (X, Y), ranks=world.comm, **settings)
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues, rtol=1e-5)
    assert found.trace.value == pytest.approx(alone.trace.value, abs=4 * (found.trace.error + alone.trace.error) + 1e-9)


@pytest.mark.parametrize("more", [{}, {"minibatch": 15, "minibatches": 4}], ids=["all samples", "mini-batches"])
def test_sharpness_of_samples_that_are_spread_is_that_of_one_rank(world, folder, more):
    settings = {"rho": [0.05, 0.2], "adaptive_rho": [0.1], "steps": 5, "directions": 3, **LINE, **more}
    alone = lossatlas.sharpness(network(), (X, Y), **settings)
    found = lossatlas.sharpness(network(), (X, Y), ranks=world.comm, file=folder / "m.h5", **settings)
    for name in ("plain/rises", "adaptive/rises"):
        rises = found.findings.arrays[name]
        assert np.isfinite(rises[:, 1]).all()
        np.testing.assert_allclose(rises, alone.findings.arrays[name], rtol=1e-4, atol=1e-6)


def test_learning_coefficients_do_not_depend_on_ranks(world):
    settings = {"chains": 3, "draws": 30, "burn_in": 10, "minibatch": 10, "learning_rate": 1e-3, **QUIET}
    alone = lossatlas.learning_coefficient(network(), (X, Y), **settings)
    found = lossatlas.learning_coefficient(network(), (X, Y), ranks=world.comm, **settings)
    assert found.value == pytest.approx(alone.value, rel=1e-4)
    for name in ("differences", "slopes", "first_order"):
        expected = alone.findings.arrays[name]
        np.testing.assert_allclose(found.findings.arrays[name], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_loss_that_fails_on_one_rank_fails_on_all(world):
    def loss(output, target):
        if world.rank == world.size - 1:
            raise ValueError("this rank is tired")
        return F.cross_entropy(output, target, reduction="none")

    with pytest.raises((BadInput, ValueError, FailedRank), match="this rank is tired"):
        lossatlas.surface(network(), (X, Y), loss=loss, ranks=world.comm, **PLANE)


def test_ranks_with_different_data_are_told(world):
    if world.size > 1:
        with pytest.raises(BadInput, match="give every rank the same network, data"):
            lossatlas.surface(network(), (X + world.rank, Y), ranks=world.comm, **PLANE)


def test_more_ranks_than_samples_are_refused(world):
    if world.size > 1:
        with pytest.raises(BadUsage, match="1 samples cannot be spread over"):
            lossatlas.spectrum(network(), (X[:1], Y[:1]), top=1, ranks=world.comm, **LINE)


def test_a_file_that_cannot_be_written_is_an_error_on_every_rank(world):
    """Before the first cell, while the other ranks wait for blocks; the next call works."""
    if world.size > 1:
        with pytest.raises((CannotWrite, FailedRank)):
            lossatlas.surface(network(), (X, Y), ranks=world.comm, file="/proc/q.h5", **PLANE)
        assert lossatlas.surface(network(), (X, Y), ranks=world.comm, **PLANE).done.all()


def test_a_file_named_on_rank_0_alone_is_written(world, folder):
    file = folder / "z.h5" if world.root else None
    found = lossatlas.surface(network(), (X, Y), ranks=world.comm, file=file, **PLANE)
    again = lossatlas.surface(network(), (X, Y), ranks=world.comm, file=file, **PLANE)
    assert found.loss.tobytes() == again.loss.tobytes()


@pytest.mark.parametrize(
    "wrong", [{"file": "/nowhere/q.h5"}, {"norm": "x"}, {"tolerance": "much"}, {"nrm": "filter"}], ids=str
)
def test_wrong_usage_on_one_rank_is_an_error_on_every_rank(world, wrong):
    own = wrong if world.rank == world.size - 1 or "file" in wrong else {}
    with pytest.raises((BadInput, BadUsage, FailedRank)):
        lossatlas.surface(network(), (X, Y), ranks=world.comm, **PLANE, **own)


def test_ranks_with_different_arguments_are_told(world, folder):
    if world.size == 1:
        return
    last = world.rank == world.size - 1
    line = {"x": "-1:1:7", **LINE}
    for different in ({"per_layer": last}, {"x": "-1:1:5" if last else "-1:1:7"}, {"test": (X, Y) if last else None}):
        with pytest.raises(BadInput, match=f"rank {world.size - 1} has .*give every rank the same"):
            lossatlas.surface(network(), (X, Y), ranks=world.comm, **{**line, **different})
    with pytest.raises(BadUsage, match="names a file and rank 0, which writes, does not"):
        lossatlas.surface(network(), (X, Y), ranks=world.comm, file=folder / "n.h5" if last else None, **line)


def states(count=5):
    generator = torch.Generator().manual_seed(5)
    net, found = network(), []
    for _ in range(count):
        net.load_state_dict(
            {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in net.state_dict().items()}
        )
        found.append({name: value.clone() for name, value in net.state_dict().items()})
    return found


def test_a_trajectory_has_the_same_bits_on_every_rank(world, folder):
    expected = lossatlas.trajectory(network(), states(), (X, Y), points=4, **LINE)
    found = lossatlas.trajectory(network(), states(), (X, Y), points=4, ranks=world.comm, file=folder / "t.h5", **LINE)
    assert found.surface.loss.tobytes() == expected.surface.loss.tobytes()
    assert found.losses.tobytes() == expected.losses.tobytes()
    if world.size > 1:
        data = (X, Y) if world.root else None
        with pytest.raises(BadInput, match="has data = False, rank 0 True"):
            lossatlas.trajectory(network(), states(), data, points=4, ranks=world.comm, **LINE)


def test_a_chart_along_a_run_has_the_same_bits_on_every_rank(world, folder):
    options = {"plane": "local", "points": (6, 4), **LINE}
    expected = lossatlas.trajectory(network(), states(), (X, Y), **options)
    found = lossatlas.trajectory(network(), states(), (X, Y), ranks=world.comm, file=folder / "c.h5", **options)
    assert found.surface.loss.tobytes() == expected.surface.loss.tobytes()
    assert found.own_planes.loss.tobytes() == expected.own_planes.loss.tobytes()
    assert found.coordinates.tobytes() == expected.coordinates.tobytes()
    world.comm.barrier()
    np.testing.assert_array_equal(read_surface(folder / "c.h5").fields["train_loss"], expected.surface.loss)


def test_the_river_plane_of_several_runs_is_found_by_rank_0_and_shared(world, folder):
    options = {"plane": "river", "points": 3, "dir_file": folder / "d.h5", **LINE}
    runs = [states(), states()[1:]]
    found = lossatlas.trajectory(network(), runs, (X, Y), ranks=world.comm, file=folder / "t.h5", **options)
    planes = world.comm.allgather([float(value.double().sum()) for axis in found.plane for value in axis.values()])
    assert all(plane == planes[0] for plane in planes)
    before = (folder / "t.h5").stat().st_mtime_ns
    world.comm.barrier()
    again = lossatlas.trajectory(network(), runs, (X, Y), ranks=world.comm, file=folder / "t.h5", **options)
    assert (folder / "t.h5").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.others[0].losses, found.losses[1:])


@pytest.mark.parametrize("more", [{"repeat": 3}, {"per_layer": True}, {"curvature": True}], ids=str)
def test_several_lines_have_the_same_bits_on_every_rank(world, more):
    expected = lossatlas.surface(network(), (X, Y), x="-1:1:7", **more, **LINE)
    found = lossatlas.surface(network(), (X, Y), x="-1:1:7", ranks=world.comm, **more, **LINE)
    assert found.loss.tobytes() == expected.loss.tobytes()
    assert found.about.get("second_derivatives") == expected.about.get("second_derivatives")
