"""The rules by which a file is continued, as tables: requests that match, parts that are good enough, settings."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lossatlas.errors import BadInput, Note, option_names
from lossatlas.io.resume import (
    compare_request,
    compare_requests,
    merged_settings,
    reached,
    resume,
    resume_findings,
    satisfies,
    uses_all_samples,
)
from lossatlas.io.spectrum_files import Findings, write_findings
from lossatlas.io.surface_files import write_surface
from lossatlas.landscape import Grid, Surface

FILE, ADVICE = Path("a.h5"), "choose another"
LINE = Grid(np.linspace(-1, 1, 3))
PYTHON = {"model_class": "MLP", "model_settings": "s" * 16, "loss_settings": "l" * 16, "checkpoint": "c" * 16}
COMMAND = {**PYTHON, "model": "mlp"}


def difference(found: dict, asked: dict) -> str | None:
    """The difference that refuses a file, without its name and the advice; None where nothing does."""
    try:
        compare_request(FILE, found, asked, ADVICE)
    except BadInput as error:
        text = str(error)
        assert text.startswith("a.h5 was made with ")
        assert text.endswith(": choose another")
        return text.removeprefix("a.h5 was made with ").removesuffix(": choose another")
    return None


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        ({}, {}),
        ({"norm": "filter", "seed": 1}, {"seed": 1, "norm": "filter"}),
        ({"x": 1.0}, {"x": 1.000009}),  # floats of another machine
        ({"x": math.nan}, {"x": math.nan}),
        ({"norm": None}, {}),
        ({"loss_function": "mine.f"}, {}),  # a description that one of them lacks
        ({}, {"dataset": "cifar10"}),
        ({"train_samples": "a"}, {}),
        ({"train_data": "a", "train_samples": "s"}, {"train_data": "b", "train_samples": "s"}),  # other classes
        ({"train_data": "a"}, {"train_data": "a", "train_samples": "s"}),
        ({"loss_of_some_samples": 2.5}, {"loss_of_some_samples": "not computed in a dry run"}),
    ],
)
def test_requests_that_are_the_same(found, asked):
    assert difference(found, asked) is None


@pytest.mark.parametrize(
    ("found", "asked", "message"),
    [
        ({"norm": "filter"}, {"norm": "layer"}, "norm = filter, now it is layer"),
        ({"norm": "filter"}, {}, "norm = filter, now it is None"),
        ({}, {"norm": "filter"}, "norm = None, now it is filter"),
        ({"x": 1.0}, {"x": 1.0002}, "x = 1.0, now it is 1.0002"),
        ({"seed": 1}, {"seed": 2}, "seed = 1, now it is 2"),
        ({"x": math.nan}, {"x": 1.0}, "x = nan, now it is 1.0"),
        ({"model": "mlp"}, {"model": "vgg"}, "model = mlp, now it is vgg"),
        (
            {"checkpoint": "0123456789abcdef"},
            {"checkpoint": "fedcba9876543210"},
            "another checkpoint: checkpoint = 0123456789ab, now it is fedcba987654",
        ),
        ({"checkpoint": "0123456789abcdef"}, {}, "checkpoint = 0123456789abcdef, now it is None"),
        ({"data": "a"}, {"data": "b"}, "other data: data = a, now it is b"),
        ({"test_data": "a"}, {"test_data": "b"}, "other test data: test_data = a, now it is b"),
        (
            {"train_data": "a", "train_samples": "s"},
            {"train_data": "b", "train_samples": "t"},
            "other train data: train_data = s, now it is t",
        ),
        (
            {"train_data": "a", "train_samples": "s"},
            {"train_data": "b"},
            "other train data: train_data = a, now it is b",
        ),
        ({"model_code": "1"}, {"model_code": "2"}, "other code of the model: its file has changed since"),
        ({"most": 30}, {"most": 10}, "max_products = 30, now it is 10"),
        (  # reported by a field with a clearer name
            {"loss_of_some_samples": 1.0, "zoom": 1},
            {"loss_of_some_samples": 2.0, "zoom": 2},
            "zoom = 1, now it is 2",
        ),
        ({"loss_of_some_samples": 1.0}, {"loss_of_some_samples": 2.0}, "loss_of_some_samples = 1.0, now it is 2.0"),
    ],
)
def test_requests_that_differ(found, asked, message):
    assert difference(found, asked) == message


def test_a_command_names_the_option():
    with option_names():
        assert difference({"z": 1.0}, {"z": 2.0}) == "--damping = 1.0, now it is 2.0"


def refused(found: Findings, fresh: Findings) -> str:
    with pytest.raises(BadInput) as error:
        compare_requests(FILE, found, fresh, ADVICE)
    return str(error.value)


def test_two_commands_compare_names_and_code_and_others_the_settings():
    other = "o" * 16
    asked = Findings({}, COMMAND)
    compare_requests(FILE, Findings({}, {**COMMAND, "model_settings": other, "loss_settings": other}), asked, ADVICE)
    assert "model = vgg" in refused(Findings({}, {**COMMAND, "model": "vgg"}), asked)
    compare_requests(FILE, Findings({}, PYTHON), asked, ADVICE)
    compare_requests(FILE, asked, Findings({}, PYTHON), ADVICE)
    assert "other settings or code of the network" in refused(Findings({}, {**PYTHON, "model_settings": other}), asked)
    assert "another loss, or other settings" in refused(Findings({}, {**PYTHON, "loss_settings": other}), asked)


def test_a_file_without_settings_is_continued_by_the_same_front_end_alone():
    old = Findings({}, {"checkpoint": "c" * 16, "model": "mlp"})
    compare_requests(FILE, old, Findings({}, COMMAND), ADVICE)
    assert "does not record the settings" in refused(old, Findings({}, PYTHON))


@pytest.mark.parametrize(
    ("recorded", "asked", "sketches", "same"),
    [
        ("full", "sketch s", ("s", "s"), True),  # a run that streams records a sketch alone
        ("sketch s", "full", ("s", "s"), True),
        ("full", "sketch t", ("s", "t"), False),
        ("full", "other", ("s", "s"), False),  # both know all samples
    ],
)
def test_streamed_data_are_compared_by_their_sketch(recorded, asked, sketches, same):
    found = Findings({}, {"train_data": recorded}, about={"sketches": {"train_data": sketches[0]}})
    fresh = Findings({}, {"train_data": asked}, about={"sketches": {"train_data": sketches[1]}})
    if same:
        compare_requests(FILE, found, fresh, ADVICE)
    else:
        assert "other train data" in refused(found, fresh)


EIGENVALUES = {"top": 3, "bottom": 1, "tolerance": 1e-3, "most": 100, "seed": 0}
CONVERGED = {"bounds": np.zeros(2), "converged": np.array([True, True]), "smallest_converged": np.array([True])}
UNRESOLVED = {**CONVERGED, "converged": np.array([True, False])}


@pytest.mark.parametrize(
    ("name", "found", "changes", "arrays", "good"),
    [
        ("eigenvalues", EIGENVALUES, {}, UNRESOLVED, True),
        ("eigenvalues", {}, {}, CONVERGED, False),
        ("eigenvalues", EIGENVALUES, {}, {}, False),  # an earlier version computed no bounds
        ("eigenvalues", EIGENVALUES, {"top": 2, "bottom": 0}, CONVERGED, True),
        ("eigenvalues", EIGENVALUES, {"top": 4}, CONVERGED, False),
        ("eigenvalues", EIGENVALUES, {"bottom": 2}, CONVERGED, False),
        ("eigenvalues", EIGENVALUES, {"tolerance": 1e-2}, CONVERGED, True),
        ("eigenvalues", EIGENVALUES, {"tolerance": 1e-4}, CONVERGED, False),
        ("eigenvalues", EIGENVALUES, {"most": 50}, UNRESOLVED, True),
        ("eigenvalues", EIGENVALUES, {"most": 200}, CONVERGED, True),  # the goal was reached
        ("eigenvalues", EIGENVALUES, {"most": 200}, UNRESOLVED, False),
        ("eigenvalues", EIGENVALUES, {"seed": 1}, CONVERGED, False),
        ("layers", {"tolerance": 1e-3}, {}, {}, False),  # an earlier version did not say whether they are resolved
        ("layers", {"tolerance": 1e-3}, {}, {"layers/max_eig_converged": np.array([False])}, True),
        ("density", {"probes": 2, "steps": 80}, {"probes": 1}, {}, True),
        ("density", {"probes": 2, "steps": 80}, {"steps": 81}, {}, False),
        ("trace", {"error": 0.02, "most": 9}, {"error": 0.1}, {"trace": 10.0, "trace_se": 0.1}, True),
        ("trace", {"error": 0.02, "most": 9}, {"error": 0.01}, {"trace": 10.0, "trace_se": 0.1}, False),
        ("trace", {"error": 0.02, "most": 9}, {"most": 10}, {"trace": -10.0, "trace_se": 0.2}, True),
        ("trace", {"error": 0.02, "most": 9}, {"most": 10}, {"trace": -10.0, "trace_se": 0.21}, False),
    ],
)
def test_a_part_is_good_enough(name, found, changes, arrays, good):
    asked = {**(found or EIGENVALUES), **changes}
    assert satisfies(name, found, asked, arrays) is good


@pytest.mark.parametrize(
    ("name", "arrays", "there"),
    [
        ("eigenvalues", CONVERGED, True),
        ("eigenvalues", UNRESOLVED, False),
        ("eigenvalues", {**CONVERGED, "smallest_converged": np.array([False])}, False),
        ("layers", {"layers/max_eig_converged": np.array([True, True])}, True),
        ("layers", {"layers/max_eig_converged": np.array([True, False])}, False),
        ("density", {}, False),  # it has no goal
    ],
)
def test_the_accuracy_of_a_part_is_reached(name, arrays, there):
    assert reached(name, {}, arrays) is there


@pytest.mark.parametrize(
    ("found", "asked", "merged"),
    [
        ({}, {"top": 3, "seed": 1}, {"top": 3, "seed": 1}),
        ({"top": 5, "bottom": 1}, {"top": 3, "bottom": 2}, {"top": 5, "bottom": 2}),
        ({"tolerance": 1e-3, "error": 0.1}, {"tolerance": 1e-2, "error": 0.01}, {"tolerance": 1e-3, "error": 0.01}),
        (
            {"most": 50, "probes": 4, "steps": 9},
            {"most": 9, "probes": 5, "steps": 8},
            {"most": 50, "probes": 5, "steps": 9},
        ),
        ({"seed": 1, "damping": 2.0}, {"seed": 2}, {"seed": 2}),
        ({"top": 5, "patterns": ["a"]}, {"top": 3, "patterns": ["a"]}, {"top": 5, "patterns": ["a"]}),
        ({"error": 0.01, "patterns": ["a"]}, {"error": 0.1, "patterns": ["b"]}, {"error": 0.1, "patterns": ["b"]}),
        ({"error": 0.01, "at": "input"}, {"error": 0.1, "at": "output"}, {"error": 0.1, "at": "output"}),
    ],
)
def test_a_part_is_computed_again_with_the_better_settings(found, asked, merged):
    before = dict(found), dict(asked)
    result = merged_settings(found, asked)
    assert result == merged
    assert (found, asked) == before
    assert all(result[key] == asked[key] or key in found for key in asked)


def spectrum(**about: object) -> Findings:
    return Findings({"bounds": np.arange(2.0)}, {"data": "d"}, {"ranks": 1}, about)


def test_a_spectrum_goes_on_with_the_plan_of_this_run(tmp_path):
    path, fresh = tmp_path / "s.h5", replace(spectrum(), arrays={}, plan={"ranks": 3})
    assert resume_findings(path, fresh, 0) is fresh
    write_findings(path, spectrum(parts={"eigenvalues": {"seed": 4, "top": 1}}))
    found = resume_findings(path, fresh, 4)
    assert found.plan == {"ranks": 3}
    np.testing.assert_array_equal(found.arrays["bounds"], [0, 1])
    with pytest.raises(BadInput, match="seed = 4, now it is 5: give another file, or force=True"):
        resume_findings(path, fresh, 5)
    with pytest.raises(BadInput, match="other data"):
        resume_findings(path, replace(fresh, request={"data": "e"}), 4)
    write_findings(path, spectrum(slim=True))
    with pytest.raises(BadInput, match="slim file"):
        resume_findings(path, fresh, 4)


def surface(**changes: object) -> Surface:
    plan = {"device": "cpu", "precision": "float32", "batch_size": 8}
    fresh = Surface.of_values(LINE, ["max_eig"], plan=plan, request={"norm": "filter"}, about={"threads_per_rank": 2})
    return replace(fresh, **changes)  # type: ignore[arg-type]


def test_a_surface_goes_on_where_everything_is_the_same(tmp_path, recwarn):
    path, fresh = tmp_path / "s.h5", surface(plan={"device": "cpu", "precision": "float32", "batch_size": 0})
    assert resume(path, fresh, None) is fresh
    write_surface(path, surface().with_cells([1], np.array([[4.0]])))
    found = resume(path, fresh, None)
    np.testing.assert_array_equal(found.values["max_eig"], [np.nan, 4, np.nan])
    assert found.plan["batch_size"] == 8  # the file's, where this run leaves the choice
    assert not recwarn.list


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": Grid(np.linspace(-1, 1, 5))}, r"has the grid \[-1, 1\] in 3, this run asks for \[-1, 1\] in 5"),
        ({"request": {"norm": "layer"}}, "norm = filter, now it is layer"),
        ({"plan": {"device": "cuda", "batch_size": 0}}, "device = cpu, now it is cuda"),
        ({"values": {"max_eig": np.zeros(3), "max_eig_bound": np.zeros(3)}}, "lacks max_eig_bound: an earlier version"),
    ],
)
def test_a_surface_of_another_job_is_refused(tmp_path, changes, message):
    write_surface(tmp_path / "s.h5", surface())
    with pytest.raises(BadInput, match=message):
        resume(tmp_path / "s.h5", surface(**changes), None)


def test_a_slim_surface_is_refused(tmp_path):
    write_surface(tmp_path / "s.h5", surface(about={"slim": "1"}))
    with pytest.raises(BadInput, match="slim file, which cannot be continued"):
        resume(tmp_path / "s.h5", surface(), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": {"device": "cpu", "batch_size": 9}}, "batch size 8, which stays"),
        ({"about": {"threads_per_rank": 4}}, "2 threads per rank, now 4"),
    ],
)
def test_what_a_file_overrides_is_said(tmp_path, changes, message):
    write_surface(tmp_path / "s.h5", surface())
    with pytest.warns(Note, match=message):
        assert resume(tmp_path / "s.h5", surface(**changes), None).plan["batch_size"] == 8


def test_a_tolerance_changes_nothing_where_all_samples_are_used():
    empty = Surface.empty(LINE, {"train": 10}, ["acc"])
    counts = np.array([10.0, 10.0, 10.0])

    def of(done: list[bool], n: np.ndarray) -> Surface:
        return replace(empty, done=np.array(done), statistics={"train": {**empty.statistics["train"], "n": n}})

    assert uses_all_samples(of([True] * 3, counts))
    assert not uses_all_samples(of([True] * 3, counts - [0, 1, 0]))
    assert not uses_all_samples(of([True, True, False], counts))
