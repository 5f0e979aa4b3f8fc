"""Decide whether a file may be continued: for surfaces, maps of eigenvalues and spectra alike.

A file records a request: the fields that identify the job. Commands and Python functions record the same fields for the
same job, so each continues the files of the other. Names are an exception: a command names a network by its entry in
the zoo or by a user's function, Python has an object. Two commands compare these names, and the code of user functions;
otherwise the SETTINGS decide: digests of the attributes and the source code of the network and of the loss.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.errors import BadInput, FrontEnd, named, note
from lossatlas.io.spectrum_files import FILE_OPTIONS, Findings, read_findings
from lossatlas.io.surface_files import added_by_others, read_surface
from lossatlas.landscape.plan import nearly_equal
from lossatlas.landscape.surface import Surface

DESCRIPTIONS = {
    *("model", "model_code", "model_class", "model_settings"),
    *("loss", "loss_code", "loss_function", "loss_settings"),
    *("dataset", "split", "loss_of_some_samples"),
}
SETTINGS = {"model_class", "model_settings", "loss_settings"}  # by which a command and a Python function compare both
# Fields that are digests, and what a difference of them means.
DIGESTS = {
    "checkpoint": "another checkpoint",
    "directions": "other directions (another network, seed, normalization or choice of parameters)",
    "data": "other data",
    "model_settings": "other settings or code of the network",
    "loss_settings": "another loss, or other settings or code of it",
}
# Names of options whose fields in files are called otherwise.
OPTIONS = {"most": "max_products", "z": "damping", "at": "activation_site", "without": "except"}
FIXED_IN_PLAN = ("device", "precision", "most", "seed")  # entries of a plan that have to be equal
# Settings of a spectrum's parts: a part is good enough with more of the first, or with less of the second.
AT_LEAST, AT_MOST = ("top", "bottom", "probes", "steps"), ("tolerance", "error")
LOSS_OF_SOME_SAMPLES = "loss_of_some_samples"  # compared last: a difference is reported by a field with a clearer name
NOT_COMPUTED = "not computed in a dry run"


def advice_for(field: str) -> str:
    """Return advice for a file that belongs to another job.

    Args:
        field: The option that names the file.
    """
    return f"give another {named(field)}, or {named('force') if FrontEnd.command else 'force=True'} to start over"


def resume(path: Path, fresh: Surface, dir_file: Path | None) -> Surface:
    """Return the surface to continue: the one in an existing file, or `fresh`.

    Args:
        path: The surface file, which need not exist.
        fresh: The surface without computed cells that this run would begin.
        dir_file: The direction file, by which a file of the original release is recognized.

    Returns:
        The surface in the file, with the plan that was chosen for it; differences from this run's plan are noted.

    Raises:
        BadInput: The file belongs to another job; the message names the field and both values.
    """
    if not path.exists():
        return fresh
    found, advice = read_surface(path), advice_for("surf_file")
    if not found.grid.matches(fresh.grid):
        raise BadInput(f"{path} has the grid {found.grid}, this run asks for {fresh.grid}: {advice}")
    if "slim" in found.about:
        raise BadInput(f"{path} is a slim file, which cannot be continued: {advice}")
    if not found.request:
        return adopt_original_file(path, found, fresh, dir_file)
    compare_requests(path, found, fresh, advice)
    if others := added_by_others(path):
        raise BadInput(f"{path} holds {', '.join(others)}, which this program did not write and would lose: {advice}")
    fixed = {name: value for name, value in fresh.plan.items() if name in FIXED_IN_PLAN}
    compare_request(path, {name: value for name, value in found.plan.items() if name in fixed}, fixed, advice)
    check_earlier_version(path, found, fresh, advice)
    if fresh.samples and not found.samples and not uses_all_samples(found):
        note(
            f"{path} was started without {named('tolerance')}, or by a version in which cells were no control variates "
            f"of each other: its missing cells use all samples; for fewer {advice}"
        )
    warn_of_overridden_options(path, found, fresh)
    return found


def check_earlier_version(path: Path, found: Surface, fresh: Surface, advice: str) -> None:
    """Refuse a file of an earlier version that lacks values which this version needs.

    Args:
        path: The file, for messages.
        found: The surface in it.
        fresh: The surface without computed cells that this run would begin.
        advice: Advice for the user, which ends a message.

    Raises:
        BadInput: A value is missing.
    """
    for split, arrays in found.statistics.items():
        if (found.done & (arrays["n"] < found.populations[split]) & np.isnan(arrays["weight4_loss4"])).any():
            raise BadInput(
                f"{path} was started with {named('tolerance')} by an earlier version, whose standard errors could be "
                f"far too small: {advice}"
            )
    for name in fresh.values:
        if name not in found.values:
            raise BadInput(
                f"{path} lacks {name}: an earlier version made it, which did not say whether an eigenvalue is the "
                f"extreme one: {advice}"
            )


def uses_all_samples(surface: Surface) -> bool:
    """Return whether every cell is computed from all samples, so that a tolerance changes nothing."""
    parts = [arrays["n"] >= surface.populations[split] for split, arrays in surface.statistics.items()]
    return bool(surface.known.all() and all(part[surface.done].all() for part in parts))


def warn_of_overridden_options(path: Path, found: Surface, fresh: Surface) -> None:
    """Warn about options of this run that the plan of a resumed file overrides."""
    if fresh.plan["batch_size"] not in (0, found.plan["batch_size"]):
        note(f"{path} was started with batch size {found.plan['batch_size']}, which stays")
    now = fresh.about.get("threads_per_rank")
    before = found.about.get("threads_per_rank", now)
    if now is not None and before != now:
        note(f"{path} was started with {before} threads per rank, now {now}: the last digits may differ")


def normalized_request(found: Surface | Findings, fresh: Surface | Findings) -> dict[str, Any]:
    """Return the request of this run, with the file's digest for data of equal sketches (digests of some samples).

    A run that streams its data records a sketch alone.
    """
    asked, sketches = dict(fresh.request), found.about.get("sketches", {})
    for name, sketch in fresh.about.get("sketches", {}).items():
        recorded = found.request.get(name)
        digests = recorded, asked.get(name)
        if sketches.get(name) == sketch and any(str(value).startswith("sketch") for value in digests):
            asked[name] = recorded
    return asked


def compare_request(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any], advice: str) -> None:
    """Compare the fields of a file with the fields of this run; DESCRIPTIONS only where both have them.

    Args:
        path: The file, for the message.
        found: The fields that the file records.
        asked: The fields of this run.
        advice: Advice for the user, which ends the message.

    Raises:
        BadInput: A field differs; the message names it and both values.
    """
    both = set(found) & set(asked)
    for name in sorted({**asked, **found}, key=lambda name: name == LOSS_OF_SOME_SAMPLES):
        if (name in DESCRIPTIONS or name.endswith("samples")) and name not in both:
            continue
        if name.endswith("data") and f"{name.removesuffix('data')}samples" in both:  # without declared classes
            continue
        if asked.get(name) != NOT_COMPUTED and not nearly_equal(found.get(name), asked.get(name)):
            raise BadInput(
                f"{path} was made with {describe_difference(name, found.get(name), asked.get(name))}: {advice}"
            )


def compare_requests(path: Path, found: Surface | Findings, fresh: Surface | Findings, advice: str) -> None:
    """Compare the requests of a file and of this run, see `compare_request`.

    Args:
        path: The file, for messages.
        found: The surface or spectrum in it.
        fresh: The surface or spectrum that this run would begin.
        advice: Advice for the user, which ends a message.

    Raises:
        BadInput: They differ, or the file records too little to tell.
    """
    recorded, asked = dict(found.request), normalized_request(found, fresh)
    both = set(recorded) & set(asked)
    if "model" in both:  # two commands, which compare names and code
        recorded, asked = ({n: v for n, v in request.items() if n not in SETTINGS} for request in (recorded, asked))
    compare_request(path, recorded, asked, advice)
    if "checkpoint" in both and "model" not in both and not both >= SETTINGS:
        raise BadInput(
            f"{path} does not record the settings of its network and its loss, as an earlier version did not, so it "
            f"cannot be told whether they are these: {advice}"
        )


def describe_difference(name: str, recorded: Any, asked: Any) -> str:
    """Return both values of a field; for code, whose digests say nothing to the user, that it has changed."""
    if name.endswith("_code") and recorded is not None and asked is not None:
        return f"other code of the {name.removesuffix('_code')}: its file has changed since"
    if name.endswith("samples") and name != LOSS_OF_SOME_SAMPLES:  # the digest of the data without a number of classes
        name = f"{name.removesuffix('samples')}data"
    kind = DIGESTS.get(name) or (f"other {name.removesuffix('_data')} data" if name.endswith("_data") else "")
    if kind and recorded and asked:
        return f"{kind}: {name} = {str(recorded)[:12]}, now it is {str(asked)[:12]}"
    if name == "matrix":  # which files of a Hessian do not record
        recorded, asked = recorded or "hessian", asked or "hessian"
    name = named(OPTIONS[name]) if name in OPTIONS else name
    return f"{name} = {recorded}, now it is {asked}"


def adopt_original_file(path: Path, found: Surface, fresh: Surface, dir_file: Path | None) -> Surface:
    """Return the surface of a file of the original release, to be continued.

    Args:
        path: The file, for messages.
        found: The surface in it.
        fresh: The surface without computed cells that this run would begin.
        dir_file: The direction file of this run, whose name the file must record; None if there is none.

    Returns:
        `fresh` with the values of the file; its cells are marked as of unknown provenance.

    Raises:
        BadInput: It holds eigenvalues, was computed along other directions, or has fields that would be lost.
    """
    advice = f"give another {named('surf_file')}"
    if not fresh.populations:
        raise BadInput(
            f"{path} was written by another program, and its eigenvalues may be of another Hessian (that release "
            f"sums over batches and leaves out parameters with one axis): {advice}"
        )
    if dir_file is None or Path(found.about.get("dir_file", "")).name != dir_file.name:
        raise BadInput(
            f"{path} was made with the directions {found.about.get('dir_file')}, now they are {dir_file}: {advice}"
        )
    wanted = sorted(set(fresh.fields) & {f"{split}_{name}" for split in fresh.populations for name in ("loss", "acc")})
    if missing := [name for name in wanted if name not in found.values]:
        raise BadInput(f"{path} was written by another program and lacks {missing[0]}: {advice}")
    if others := found.about.get("others"):
        raise BadInput(
            f"{path} was written by another program and holds {', '.join(others)}, which would be lost: {advice}"
        )
    done = np.logical_and.reduce([~np.isnan(found.values[name]) for name in wanted])
    note(
        f"{path} does not record checkpoint, data and loss; its {int(done.sum())} cells are kept as they are, marked "
        "as of unknown provenance"
    )
    # Fields that this run does not compute are carried along.
    return replace(fresh, done=done, values=found.values, foreign=done, about={**fresh.about, **found.about})


def resume_findings(path: Path, fresh: Findings, seed: int) -> Findings:
    """Return the spectrum to continue: the one in an existing file, with this run's plan, or `fresh`.

    Args:
        path: The file, which need not exist.
        fresh: The findings without parts that this run would begin.
        seed: The seed of this run.

    Returns:
        The findings with the parts computed so far.

    Raises:
        BadInput: Request or seed differ; the message names the field and both values.
    """
    if not path.exists():
        return fresh
    found, advice = read_findings(path, fresh.kind), advice_for(FILE_OPTIONS[fresh.kind])
    if "slim" in found.about:
        raise BadInput(f"{path} is a slim file, which cannot be continued: {advice}")
    compare_requests(path, found, fresh, advice)
    for settings in found.about.get("parts", {}).values():
        compare_request(path, {"seed": settings["seed"]}, {"seed": seed}, advice)
    return replace(found, plan=fresh.plan)


def satisfies(name: str, found: Mapping[str, Any], asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether a part is good enough for the settings of this run.

    Args:
        name: The name of the part.
        found: The settings with which it was computed; empty where it is not.
        asked: The settings of this run.
        arrays: The arrays of the spectrum by name.
    """
    if not found or (name == "eigenvalues" and "bounds" not in arrays):  # earlier versions computed no bounds
        return False
    if name == "layers" and "layers/max_eig_converged" not in arrays:
        return False
    for key, value in asked.items():
        if key in AT_LEAST:
            good = found[key] >= value
        elif key in AT_MOST:
            good = found[key] <= value
        elif key == "most":  # a higher limit only matters where the goal was not reached
            good = found[key] >= value or reached(name, asked, arrays)
        else:
            good = found[key] == value
        if not good:
            return False
    return True


def merged_settings(found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with which a part is computed again: of each the better of the recorded and the asked one."""
    if any(found.get(key) != asked[key] for key in ("patterns", "at") if key in asked):  # other activations
        return dict(asked)
    better = {**dict.fromkeys((*AT_LEAST, "most"), max), **dict.fromkeys(AT_MOST, min)}
    return {key: better[key](value, found.get(key, value)) if key in better else value for key, value in asked.items()}


def reached(name: str, asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether a part has reached the accuracy that the settings ask for."""
    if name == "eigenvalues":
        return bool(arrays["converged"].all() and arrays["smallest_converged"].all())
    if name == "trace":
        return bool(arrays["trace_se"] <= asked["error"] * abs(arrays["trace"]))
    return name == "layers" and bool(arrays["layers/max_eig_converged"].all())
