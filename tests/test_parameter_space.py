import pytest
import torch

from lossatlas.errors import BadInput
from lossatlas.parameter_space import AffinePlane, moved, normalize, random_direction, target_direction, tensors
from lossatlas.parameter_space.directions import seed_of
from lossatlas.parameter_space.points import named_tensors


def naive(d, w, norm, ignore):
    """One tensor, slice by slice, as the original release does it."""
    if d.dim() <= 1:
        return 0 * d if ignore == "biasbn" else w
    out = d.clone()
    for k in range(len(out)):
        if norm == "filter":
            out[k] = d[k] * w[k].norm() / (d[k].norm() + 1e-10)
        if norm == "dfilter":
            out[k] = d[k] / (d[k].norm() + 1e-10)
    if norm == "layer":
        out = d * w.norm() / d.norm()
    if norm == "weight":
        out = d * w
    if norm == "dlayer":
        out = d / d.norm()
    return out


@pytest.mark.parametrize("norm", ["", "filter", "layer", "weight", "dfilter", "dlayer"])
@pytest.mark.parametrize("ignore", ["", "biasbn"])
@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_normalizations_against_a_naive_twin(networks, norm, ignore, dir_type):
    at = tensors(networks["conv"], dir_type)
    drawn = {name: torch.randn_like(value) for name, value in at.items()}
    for name, found in normalize(drawn, at, norm, ignore).items():
        torch.testing.assert_close(found, naive(drawn[name], at[name], norm, ignore))


def test_filters_have_the_norm_of_the_weights(networks):
    at = tensors(networks["conv"])
    direction = random_direction(at, "filter", "biasbn", 1)
    torch.testing.assert_close(
        direction["conv.weight"].flatten(1).norm(dim=1), at["conv.weight"].flatten(1).norm(dim=1)
    )
    assert not direction["bn.weight"].any()


def test_a_filter_of_zeros_gets_a_direction_of_zeros():
    weights = {"w": torch.zeros(2, 3)}
    assert not random_direction(weights, "filter", "", 0)["w"].any()


def test_directions_depend_on_the_seed_alone(networks):
    at = tensors(networks["mlp"])
    first = random_direction(at, "layer", "", 7)
    torch.manual_seed(3)
    again, other = random_direction(at, "layer", "", 7), random_direction(at, "layer", "", 8)
    assert all(torch.equal(first[name], again[name]) for name in at)
    assert not torch.equal(first["1.weight"], other["1.weight"])


def test_states_hold_statistics_but_no_counters_and_ties_are_listed_once(networks):
    assert [name for name in tensors(networks["conv"], "states") if "running" in name] == [
        "bn.running_mean",
        "bn.running_var",
    ]
    assert "bn.num_batches_tracked" not in tensors(networks["conv"], "states")
    for dir_type in ("weights", "states"):
        assert "again.weight" not in tensors(networks["tied"], dir_type)


def test_every_name_of_a_tied_tensor_is_listed_on_request(networks):
    net = networks["tied"]
    first, every = (named_tensors(net, every_name=each) for each in (False, True))
    assert set(every) - set(first) == {"again.weight"}
    assert list(first) == [name for name in every if name != "again.weight"]
    assert every["again.weight"] is net.again.weight


def test_a_target_direction_reaches_the_target():
    start, end = {"w": torch.randn(3)}, {"w": torch.randn(3)}
    plane = AffinePlane(start, target_direction(start, end))
    torch.testing.assert_close(plane.point(1.0, 0.0)["w"], end["w"])


def test_a_direction_of_another_network_is_refused_with_the_tensor_named(networks):
    at = tensors(networks["mlp"])
    wrong = dict(at, **{"3.weight": torch.zeros(2, 2)})
    with pytest.raises(BadInput, match=r"3\.weight"):
        AffinePlane(at, wrong)
    with pytest.raises(BadInput, match="lacks"):
        AffinePlane(at, {})


def test_a_moved_network_comes_back_bit_for_bit_even_after_an_error(networks):
    net = networks["conv"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    far = {name: value * 1e9 - 3 for name, value in tensors(net, "states").items()}
    with pytest.raises(RuntimeError, match="halfway"), moved(net, far):
        assert net.state_dict()["bn.running_var"].min() >= 0
        assert torch.equal(net.conv.weight, far["conv.weight"])
        raise RuntimeError("halfway")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_seeds_repeats_and_axes_have_random_numbers_of_their_own():
    each = [(seed, idx, axis) for seed in range(5) for idx in range(5) for axis in range(2)]
    assert len({seed_of(*numbers) for numbers in each}) == len(each)
    assert seed_of(3, 2, 1) == seed_of(3, 2, 1)
