"""Minima and their depths, against gudhi and against counting pools level by level."""

import numpy as np
import pytest
from scipy import ndimage
from test_flatness import checkerboard, left_out, made

from lossatlas.commands import plot_minima
from lossatlas.figures.matplotlib_style import style
from lossatlas.figures.merge_tree_plots import draw_merge_tree, leaf_order
from lossatlas.io import write_surface
from lossatlas.landscape.topology import array_minima, minima


def rough(seed, shape=(17, 23), whole=False):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return np.round(values * 20) if whole else values


@pytest.mark.parametrize("whole", [False, True], ids=["distinct", "plateaus"])
@pytest.mark.parametrize("seed", range(6))
def test_the_pairs_are_those_of_gudhi(seed, whole):
    gudhi = pytest.importorskip("gudhi", reason="gudhi is not installed")
    values = rough(seed, whole=whole)
    complex_ = gudhi.CubicalComplex(vertices=values)
    complex_.compute_persistence()
    expected = complex_.persistence_intervals_in_dimension(0)
    found = np.array([[each.value, each.end] for each in array_minima(values)])
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))


@pytest.mark.parametrize("seed", range(4))
def test_at_every_level_there_are_as_many_pools_as_bars(seed):
    """With holes too: a plain count of connected parts."""
    values = rough(seed)
    values[3:14, 11] = np.nan
    found = array_minima(values)
    for level in np.quantile(values[np.isfinite(values)], np.linspace(0.01, 1, 25)):
        _, count = ndimage.label(np.nan_to_num(values, nan=np.inf) <= level)
        assert sum(each.value <= level < each.end for each in found) == count


def test_a_pool_ends_in_a_deeper_one_at_the_pass_between_them():
    found = minima(made(lambda a, b: (a * a - 0.25) ** 2 + 0.1 * a + b * b, "-1:1:81", "-1:1:21"))
    assert len(found) == 2
    deep, shallow = found
    assert deep.parent is None
    assert np.isinf(deep.end)
    assert shallow.parent == 0
    assert shallow.end == pytest.approx(((0.2063**2) - 0.25) ** 2 + 0.1 * 0.2063, abs=0.02)  # the pass, near the middle
    assert 0 < shallow.depth < deep.depth


def test_a_constant_surface_has_one():
    assert len(array_minima(np.ones((4, 5)))) == 1
    assert array_minima(np.full((3, 3), np.nan)) == []


def test_the_command_draws_and_counts(tmp_path, capsys):
    write_surface(
        tmp_path / "s.h5", made(lambda a, b: (a * a - 0.25) ** 2 + 0.1 * a + b * b + 0.1, "-1:1:41", "-1:1:21")
    )
    assert plot_minima.main(["-f", str(tmp_path / "s.h5"), "--depth", "0.001"]) == 0
    assert "2 minima, 2 deeper than 0.001" in capsys.readouterr().out
    assert (tmp_path / "s.h5_train_loss_minima.png").stat().st_size > 2000
    assert plot_minima.main(["-f", str(tmp_path / "s.h5"), "--surf_name", "no"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("seed", range(4))
def test_pools_without_a_computed_cell_are_none(seed):
    """At every level there are as many bars as parts that hold a computed cell: a plain count."""
    values, computed = rough(seed), np.random.default_rng(seed).random((17, 23)) < 0.3
    found = array_minima(values, computed)
    assert all(computed.flat[each.cell] for each in found)
    assert len(found) < len(array_minima(values))
    for level in np.quantile(values, np.linspace(0.01, 1, 25)):
        parts, _ = ndimage.label(values <= level)
        assert sum(each.value <= level < each.end for each in found) == len(set(parts[computed & (values <= level)]))


def test_an_interpolated_cell_is_no_minimum_and_a_pass_through_one_has_an_error_that_holds():
    """Of predictions 0.005 below a surface with 2 minima, 16 were counted, the lowest at -0.0068 instead of -0.0022."""
    whole = made(lambda a, b: (a * a - 0.25) ** 2 + 0.1 * a + b * b + 0.05, "-1:1:81", "-1:1:21")
    exact = minima(whole)
    for off in (-0.005, 0.005):
        surface = left_out(whole, checkerboard(whole), whole.fields["train_loss"] + off, (0.0, 0.005))
        found = minima(surface)
        deep = [each for each in found if each.depth > each.error]
        assert [each.value for each in deep] == pytest.approx([each.value for each in exact], abs=1e-3)
        assert all(surface.done.flat[each.cell] for each in found)
        assert deep[1].error == 0.005
        assert abs(deep[1].end - exact[1].end) <= 0.005
        assert all(each.error == 0 for each in exact)


def test_the_command_says_what_interpolated_cells_leave_open(tmp_path, capsys):
    whole = made(lambda a, b: (a * a - 0.25) ** 2 + 0.1 * a + b * b + 0.1, "-1:1:41", "-1:1:21")
    write_surface(tmp_path / "s.h5", left_out(whole, checkerboard(whole), whole.fields["train_loss"], (0.0, 0.02)))
    assert plot_minima.main(["-f", str(tmp_path / "s.h5"), "--depth", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "2 minima, 2 deeper than 0.01; of 1 the interpolated cells leave open whether they are" in printed
    assert "+- 0.02" in printed


def test_the_command_says_which_cells_are_not_finite(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", made(lambda a, b: np.where(a > 0.9, np.inf, a * a + b * b), "-1:1:21", "-1:1:21"))
    assert plot_minima.main(["-f", str(tmp_path / "s.h5")]) == 0
    assert "42 of 441 cells" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(6))
def test_no_two_lines_of_a_merge_tree_cross(seed):
    """Each basin is a line up, and a line across at its end; a line across touches none between its ends."""
    found = array_minima(rough(seed))
    place = {k: x for x, k in enumerate(leaf_order(found))}
    assert sorted(place) == list(range(len(found)))
    for k, each in enumerate(found):
        if each.parent is None:
            continue
        left, right = place[each.parent], place[k]
        assert left < right
        for other, x in place.items():
            if left < x < right:  # it lies wholly below, or wholly above
                assert found[other].end <= each.end or found[other].value >= each.end


def test_a_merge_tree_says_where_each_basin_ends():
    found = array_minima(rough(1) + 5)
    with style() as plt:
        _, axis = plt.subplots()
        draw_merge_tree(axis, found, 0.1, "training loss", log=False)
    rises = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    ends = sorted((float(low), float(high)) for low, high in rises)
    top = axis.get_ylim()[1]
    assert ends == sorted((each.value, min(each.end, top)) for each in found[:60])
    assert {note.get_text() for note in axis.texts} == {str(k + 1) for k, each in enumerate(found) if each.depth > 0.1}


def test_the_command_draws_the_tree(tmp_path):
    write_surface(
        tmp_path / "s.h5", made(lambda a, b: (a * a - 0.25) ** 2 + 0.1 * a + b * b + 0.1, "-1:1:41", "-1:1:21")
    )
    assert plot_minima.main(["-f", str(tmp_path / "s.h5"), "--tree", "--depth", "0.01", "--format", "png"]) == 0
    assert (tmp_path / "s.h5_train_loss_merge_tree.png").stat().st_size > 3000
