"""Decide whether a file may be continued: the one place for surfaces, maps of eigenvalues and spectra.

A file records a request: the fields that tell its numbers from others. Commands and Python functions record the same fields
for the same job, so each continues the files of the other. Names are an exception: a command knows a network by the name
in the zoo or by a user's function, Python by its class. These DESCRIPTIONS are compared where both sides have them;
otherwise the digests of the parameters and of the data, and the loss of some samples, decide.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.errors import BadInput, FrontEnd, named, note
from lossatlas.io.spectrum_files import Findings, read_findings
from lossatlas.io.surface_files import added_by_others, read_surface
from lossatlas.landscape.surface import Surface

DESCRIPTIONS = {
    *("model", "model_code", "model_class", "model_settings"),
    *("loss", "loss_code", "loss_function", "loss_settings"),
    *("dataset", "split", "loss_of_some_samples"),
}
FIXED_IN_PLAN = ("device", "precision", "most", "seed")  # of a plan: what has to be the same
AT_LEAST, AT_MOST = (
    ("top", "bottom", "probes", "steps"),
    ("tolerance", "error"),
)  # of a spectrum's parts: what is better
LOSS_OF_SOME_SAMPLES = "loss_of_some_samples"  # what is different is said by its name, where it has one
NOT_COMPUTED = "not computed in a dry run"


def cure_of(field: str) -> str:
    """Tell the user what to do about a file that does not fit, in the words of the front end."""
    return f"give another {named(field)}" + f", or {named('force')} to start over" * FrontEnd.command


def resume(path: Path, fresh: Surface, dir_file: Path | None) -> Surface:
    """Return the surface to go on with: `fresh`, or the one that an earlier run left under this name.

    Args:
        path: The surface file.
        fresh: The surface without computed cells that this run would begin.
        dir_file: The direction file, by which a file of the original release is recognized.

    Returns:
        The surface in the file, with the plan that was chosen for it; differences from this run's plan are noted.

    Raises:
        BadInput: The file belongs to another job; the message names the field and both values.
    """
    if not path.exists():
        return fresh
    found, cure = read_surface(path), cure_of("surf_file")
    if not found.grid.matches(fresh.grid):
        raise BadInput(f"{path} has the grid {found.grid}, this run asks for {fresh.grid}: {cure}")
    if "slim" in found.about:
        raise BadInput(f"{path} is a slim file, which holds nothing to go on from: {cure}")
    if not found.request:
        return adopt_original_file(path, found, fresh, dir_file)
    compare_requests(path, found, fresh, cure)
    if others := added_by_others(path):
        raise BadInput(f"{path} holds {', '.join(others)}, which this program did not write and would lose: {cure}")
    fixed = [name for name in FIXED_IN_PLAN if name in fresh.plan]
    compare(path, {name: found.plan.get(name) for name in fixed}, {name: fresh.plan[name] for name in fixed}, cure)
    check_version(path, found, fresh, cure)
    if fresh.samples and not found.samples and not uses_all_samples(found):
        note(
            f"{path} was begun without {named('tolerance')}, or by a version before cells shared samples: the cells that it "
            f"lacks take all samples; for fewer {cure}"
        )
    warn_of_overridden_options(path, found, fresh)
    return found


def check_version(path: Path, found: Surface, fresh: Surface, cure: str) -> None:
    """Raise BadInput for a file of an earlier version that lacks what this one relies on."""
    for split, arrays in found.statistics.items():
        if (found.done & (arrays["n"] < found.populations[split]) & np.isnan(arrays["weight4_loss4"])).any():
            raise BadInput(
                f"{path} was begun with {named('tolerance')} by an earlier version, whose standard errors could be far too "
                f"small: {cure}"
            )
    for name in fresh.values:
        if name not in found.values:
            raise BadInput(
                f"{path} lacks {name}: an earlier version made it, which did not say whether an eigenvalue is the "
                f"extreme one: {cure}"
            )


def uses_all_samples(surface: Surface) -> bool:
    """Whether every cell is computed from all samples, so that a tolerance has nothing to add."""
    parts = [arrays["n"] >= surface.populations[split] for split, arrays in surface.statistics.items()]
    return bool(surface.known.all() and all(part[surface.done].all() for part in parts))


def warn_of_overridden_options(path: Path, found: Surface, fresh: Surface) -> None:
    """What of this run's wishes a continued file does not follow."""
    if fresh.plan["batch_size"] not in (0, found.plan["batch_size"]):
        note(f"{path} was started with batch size {found.plan['batch_size']}, which stays")
    now = fresh.about.get("threads_per_rank")
    before = found.about.get("threads_per_rank", now)
    if before != now:
        note(f"{path} was started with {before} threads per rank, now {now}: the last digits may differ")


def normalized_request(found: Surface | Findings, fresh: Surface | Findings) -> dict[str, Any]:
    """What is asked for; data of which one run knows a sketch alone count as the same where the sketches are."""
    asked, before = dict(fresh.request), found.about.get("sketches", {})
    for name, sketch in fresh.about.get("sketches", {}).items():
        there = found.request.get(name)
        if before.get(name) == sketch and any(str(value).startswith("sketch") for value in (there, asked.get(name))):
            asked[name] = there
    return asked


def compare(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any], cure: str) -> None:
    """Raise BadInput at the first field in which a file differs from what is asked for; DESCRIPTIONS where both have them."""
    both = set(found) & set(asked)
    for name in sorted({**asked, **found}, key=lambda name: name == LOSS_OF_SOME_SAMPLES):
        if (name in DESCRIPTIONS or name.endswith("_samples")) and name not in both:
            continue
        if name.endswith("_data") and f"{name.removesuffix('_data')}_samples" in both:  # without declared classes
            continue
        if asked.get(name) != NOT_COMPUTED and not equal(found.get(name), asked.get(name)):
            raise BadInput(
                f"{path} was made with {describe_difference(name, found.get(name), asked.get(name))}: {cure}"
            )


def compare_requests(path: Path, found: Surface | Findings, fresh: Surface | Findings, cure: str) -> None:
    """Raise BadInput where the request of a file is not that of this run, or where that cannot be told."""
    compare(path, found.request, normalized_request(found, fresh), cure)
    both = set(found.request) & set(fresh.request)
    if "checkpoint" in both and LOSS_OF_SOME_SAMPLES not in both and not {"model", "loss"} <= both:
        raise BadInput(
            f"{path} records no loss of some samples, so it cannot be told whether it belongs to this network and this "
            f"loss: {cure}"
        )


def describe_difference(name: str, there: Any, asked: Any) -> str:
    """What a file was made with, and what is asked for; of code, whose hashes tell nobody anything, that it has changed."""
    if name.endswith("_code") and there is not None and asked is not None:
        return f"other code of the {name.removesuffix('_code')}: its file has changed since"
    return f"{name} = {there}, now it is {asked}"


def equal(a: Any, b: Any) -> bool:
    """Equal, numbers that are computed up to what another machine may compute."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def adopt_original_file(path: Path, found: Surface, fresh: Surface, dir_file: Path | None) -> Surface:
    """Go on with a file of the original release: its cells are kept, marked as of unknown provenance."""
    cure = f"give another {named('surf_file')}"
    if not fresh.populations:
        raise BadInput(
            f"{path} was written by another program, and its eigenvalues may be of another Hessian (that release "
            f"sums over batches and leaves out parameters with one axis): {cure}"
        )
    if dir_file is None or Path(found.about.get("dir_file", "")).name != dir_file.name:
        raise BadInput(
            f"{path} was made with the directions {found.about.get('dir_file')}, now they are {dir_file}: {cure}"
        )
    wanted = sorted(set(fresh.fields) & {f"{split}_{name}" for split in fresh.populations for name in ("loss", "acc")})
    if missing := [name for name in wanted if name not in found.values]:
        raise BadInput(f"{path} was written by another program and lacks {missing[0]}: {cure}")
    if others := found.about.get("others"):
        raise BadInput(
            f"{path} was written by another program and holds {', '.join(others)}, which would be lost: {cure}"
        )
    done = np.logical_and.reduce([~np.isnan(found.values[name]) for name in wanted])
    note(
        f"{path} does not record checkpoint, data and loss; its {int(done.sum())} cells are kept as they are, marked as "
        "of unknown provenance"
    )
    # Fields that this run does not compute are carried along.
    return replace(fresh, done=done, values=found.values, foreign=done, about={**fresh.about, **found.about})


def resume_findings(path: Path, fresh: Findings, seed: int) -> Findings:
    """The spectrum to go on with: `fresh`, or what an earlier run left under this name, with this run's plan.

    The request and the seed have to be the same. Raises BadInput, naming the field and both values.
    """
    if not path.exists():
        return fresh
    found, cure = read_findings(path, fresh.kind), cure_of(f"{fresh.kind}_file")
    if "slim" in found.about:
        raise BadInput(f"{path} is a slim file, which holds nothing to go on from: {cure}")
    compare_requests(path, found, fresh, cure)
    for settings in found.about.get("parts", {}).values():
        compare(path, {"seed": settings["seed"]}, {"seed": seed}, cure)
    return replace(found, plan=fresh.plan)


def satisfies(name: str, found: Mapping[str, Any], asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a part that was computed with the settings `found` is as good as what is asked for now."""
    if not found or (name == "eigenvalues" and "bounds" not in arrays):  # of a version that stated none
        return False
    if name == "layers" and "layers/max_eig_converged" not in arrays:
        return False
    for key, value in asked.items():
        if key in AT_LEAST:
            good = found[key] >= value
        elif key in AT_MOST:
            good = found[key] <= value
        elif key == "most":  # a limit matters to what fell short of its goal
            good = found[key] >= value or reached(name, asked, arrays)
        else:
            good = found[key] == value
        if not good:
            return False
    return True


def merged_settings(found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with which a part is computed again, so that nothing of what is there gets lost."""
    if any(found.get(key) != asked[key] for key in ("patterns", "at") if key in asked):  # other activations
        return dict(asked)
    better = {**dict.fromkeys((*AT_LEAST, "most"), max), **dict.fromkeys(AT_MOST, min)}
    return {key: better[key](value, found.get(key, value)) if key in better else value for key, value in asked.items()}


def reached(name: str, asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a part is as exact as it should be."""
    if name == "eigenvalues":
        return bool(arrays["converged"].all() and arrays["smallest_converged"].all())
    if name == "trace":
        return bool(arrays["trace_se"] <= asked["error"] * abs(arrays["trace"]))
    return name == "layers" and bool(arrays["layers/max_eig_converged"].all())
