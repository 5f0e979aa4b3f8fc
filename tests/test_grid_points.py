"""The points of a grid, as commands and Python functions make them: maps, records, and networks on a plane."""

import copy

import numpy as np
import pytest
import torch
from conftest import surface_command
from torch import nn

import lossatlas
from lossatlas.commands import plot_surface
from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import Directions
from lossatlas.jobs.inputs.make_directions import AxisRequest, DirectionRequest, Origin
from lossatlas.jobs.sweep.grid_points import checkpoint_path, networks_on, points_along, random_lines
from lossatlas.landscape import Grid
from lossatlas.models import save_state
from lossatlas.parameter_space import Selection, position, random_direction, tensors
from lossatlas.parameter_space.directions import seed_of

LINE, PLANE = Grid.parse("-1:1:3"), Grid.parse("-1:1:3", "0:1:2")
RANDOM = AxisRequest("random", "filter", "biasbn")
OWN_CODE = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()

def data(split):
    points = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return points, torch.arange(40) % 3
"""


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).eval()


def request(net: nn.Module, *axes: AxisRequest, selection: Selection | None = None, **more) -> DirectionRequest:
    origin = Origin.checked(net, "weights", position(net), selection or Selection())
    return DirectionRequest(origin=origin, axes=axes, seed=123, **more)


@pytest.mark.parametrize("second_axis", [False, True])
def test_points_along_directions_are_the_network_plus_its_directions(second_axis):
    net = network()
    wanted = request(net, *[RANDOM] * (1 + second_axis))
    vectors = wanted.make()
    points = points_along(wanted.origin, wanted.stored(vectors, {}), PLANE if second_axis else LINE)
    found = points.parametrization.plane(net).point(0.5, 2.0)
    for name, value in tensors(net).items():
        expected = value + 0.5 * vectors[0][name] + (2.0 * vectors[1][name] if second_axis else 0)
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)
    assert points.record == {"dir_type": "weights", "directions": points.directions.sha256}


def test_descriptions_tell_selection_repeat_and_orthogonality():
    wanted = request(network(), RANDOM, RANDOM, selection=Selection("2"), idx=4, orthogonalize=True)
    x, y = wanted.describe().values()
    assert x == "random, norm=filter, ignore=biasbn, seed=123, idx=4, only 2"
    assert y == x + ", orthogonal to x"
    same = request(network(), RANDOM, RANDOM, same=True)
    assert same.describe()["y"] == "the x direction"
    first, second = same.make()
    assert first is second


def test_stored_directions_know_how_far_they_move_each_tensor():
    wanted = request(network(), RANDOM)
    vectors = wanted.make()
    stored = wanted.stored(vectors, {"checkpoint": "abc"})
    assert dict(stored.about) == {"checkpoint": "abc", **wanted.describe()}
    for (name, value), own, (length, move) in zip(
        wanted.origin.point.items(), stored.extra["tensors"], stored.extra["lengths"], strict=True
    ):
        assert own.decode() == name
        assert (length, move) == pytest.approx((float(value.norm()), float(vectors[0][name].norm())), rel=1e-6)


def test_a_line_for_each_layer_moves_that_layer_alone():
    net = network()
    wanted = request(net, RANDOM)
    vectors = wanted.make()
    points = points_along(wanted.origin, wanted.stored(vectors, {}), LINE, per_layer=True)
    assert points.record["rows"] == ["0", "2"]
    assert points.grid.shape == (2, 3)
    plane = points.parametrization.plane(net)
    for row, layer in enumerate(points.record["rows"]):
        for name, value in plane.point(2.0, float(row)).items():
            step = 2.0 * vectors[0][name] if name.startswith(layer) else 0.0
            torch.testing.assert_close(value, tensors(net)[name] + step, rtol=0, atol=0)


def test_a_direction_within_one_layer_has_no_lines_of_layers():
    wanted = request(network(), RANDOM, selection=Selection(r"^0\."))
    with pytest.raises(BadUsage, match="moves 1 layer of this network, and it needs two"):
        points_along(wanted.origin, wanted.stored(wanted.make(), {}), LINE, per_layer=True)


def test_repeats_are_the_directions_of_their_numbers():
    net = network()
    wanted = request(net, RANDOM, selection=Selection("weight"))
    points = random_lines(wanted, LINE, 3)
    assert points.record["rows"] == [
        f"random, norm=filter, ignore=biasbn, seed=123, idx={k}, only weight" for k in range(3)
    ]
    plane, origin = points.parametrization.plane(net), wanted.origin
    for k in range(3):
        seed = seed_of(123, k, 0)
        direction = random_direction(origin.point, "filter", "biasbn", seed, origin.layout, selection=origin.selection)
        for name, value in plane.point(-1.0, float(k)).items():
            torch.testing.assert_close(value, origin.point[name] - direction[name], rtol=0, atol=0)


def test_no_repeats_without_a_parameter_that_moves():
    with pytest.raises(BadUsage, match="no tensor is left by 'only nothing'"):
        request(network(), RANDOM, selection=Selection("nothing"))


@pytest.mark.parametrize("make", [points_along, random_lines, "layers"])
def test_a_plane_through_a_copy_stays_where_the_network_is_moved(make):
    net = network()
    wanted = request(net, RANDOM)
    if make is random_lines:
        points = random_lines(wanted, LINE, 2)
    else:
        points = points_along(wanted.origin, wanted.stored(wanted.make(), {}), LINE, per_layer=make == "layers")
    plane = points.parametrization.plane(net, wanted.origin.point)
    before = {name: value.clone() for name, value in plane.point(1.0, 0.0).items()}
    with torch.no_grad():
        for value in net.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in plane.point(1.0, 0.0).items())


def test_a_path_is_the_same_by_files_and_by_networks(tmp_path):
    nets = [network(seed) for seed in range(3)]
    files = []
    for k, net in enumerate(nets):
        files.append(str(tmp_path / f"{k}.safetensors"))
        save_state(files[-1], net)
    grid = Grid.parse("0:2:3")
    named, objects = (checkpoint_path(each, grid, "states") for each in (files, nets))
    assert named.record == objects.record
    for k, net in enumerate(nets):
        for points in (named, objects):
            found = points.parametrization.plane(network(9)).point(float(k), 0.0)
            assert all(torch.equal(value, found[name]) for name, value in tensors(net, "states").items())
    save_state(files[1], nets[0])
    plane = named.parametrization.plane(network(9))
    with pytest.raises(BadInput, match=r"1\.safetensors is another one on .* than rank 0 has read"):
        plane.point(1.0, 0.0)


def test_networks_on_a_plane_have_exact_coordinates_and_others_are_left_out():
    first, second, third, elsewhere = (network(seed) for seed in range(4))
    axes = [AxisRequest("network", vector=position(net), digest=str(k)) for k, net in enumerate((second, third))]
    for orthogonalize in (False, True):
        wanted = request(first, *axes, orthogonalize=orthogonalize)
        vectors = wanted.make()
        others = [(name, position(net)) for name, net in (("b", second), ("c", third), ("d", elsewhere))]
        found = networks_on(wanted.origin, vectors, "a", others)
        assert found[:2] == [("a", 0.0, 0.0), ("b", 1.0, 0.0)]
        assert [name for name, _, _ in found] == ["a", "b", "c"]
        _, x, y = found[2]
        assert ((x, y) == (0.0, 1.0)) is not orthogonalize
        for name, value in position(third).items():
            at = wanted.origin.point[name] + x * vectors[0][name] + y * vectors[1][name]
            torch.testing.assert_close(at, value, rtol=1e-4, atol=1e-5)


def test_python_functions_record_the_networks_of_their_axes():
    first, second, third = (network(seed) for seed in range(3))
    data = torch.randn(20, 6), torch.arange(20) % 3
    found = lossatlas.surface(first, data, x="0:1:2", y="0:1:2", towards=[second, third], progress=False)
    assert found.about["networks"] == [("network", 0.0, 0.0), ("second network", 1.0, 0.0), ("third network", 0.0, 1.0)]
    part = lossatlas.surface(first, data, x="0:1:2", towards=second, only="^0", progress=False)
    assert part.about["networks"] == [("network", 0.0, 0.0)]
    assert "networks" not in lossatlas.surface(first, data, x="0:1:2", progress=False).about


def test_directions_of_a_dry_run_are_not_computed():
    origin = request(network(), RANDOM).origin
    points = points_along(origin, Directions([]), LINE, per_layer=True)
    assert points.record["directions"] == "not computed in a dry run"
    assert "rows" not in points.record


def test_directions_of_a_network_in_float64_keep_their_digits():
    net = network().double()
    wanted = request(net, RANDOM)
    vectors = wanted.make()
    points = points_along(wanted.origin, wanted.stored(vectors, {}), LINE)
    dx = points.parametrization.plane(net).dx
    assert points.parametrization.x.dtype == np.float64
    assert all(torch.equal(dx[name], value) for name, value in vectors[0].items())
    mixed = copy.deepcopy(net)
    mixed[0].float()
    assert {value.dtype for value in points_along_random(mixed).dx.values()} == {torch.float32, torch.float64}


def points_along_random(net: nn.Module):
    wanted = request(net, RANDOM)
    return points_along(wanted.origin, wanted.stored(wanted.make(), {}), LINE).parametrization.plane(net)


@pytest.mark.parametrize("arguments", [{}, {"per_layer": True}, {"repeat": 2}], ids=str)
def test_command_and_function_compute_the_same_bits_of_a_network_in_float64(tmp_path, arguments):
    (tmp_path / "own.py").write_text(OWN_CODE)
    space: dict = {}
    exec(OWN_CODE, space)
    net = space["network"]()
    save_state(tmp_path / "net.safetensors", net)
    options = [f"--{name}" + (f"={value}" if value is not True else "") for name, value in arguments.items()]
    own = ["--dataset", f"{tmp_path}/own.py:data", "--x=-1:1:3", "--batch_size", "40", *options]
    model = f"{tmp_path}/own.py:network"
    line = surface_command(tmp_path / "net.safetensors", tmp_path / "s.h5", *own, model=model)
    assert plot_surface.main(line) == 0
    by_command = lossatlas.read(tmp_path / "s.h5")
    found = lossatlas.surface(net, space["data"]("train"), x="-1:1:3", batch_size=40, progress=False, **arguments)
    assert found.loss.tobytes() == by_command.loss.tobytes()
