"""The record of a trained curve beside its control points: which networks it connects, and of which kind it is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lossatlas import config
from lossatlas.choices import CURVES, CurveKind, CurveOrNone, is_word
from lossatlas.errors import BadInput, named, say
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs


class CurveRecord(NamedTuple):
    """A record of `train_curve.py` beside the control points of a curve.

    Attributes:
        kind: 'bezier' or 'polygonal'.
        control_points: The names of their files in order.
        ends: The digests of the networks at both ends.
    """

    kind: CurveKind
    control_points: list[str]
    ends: list[str]


def read_curve_record(control_points: Sequence[str]) -> tuple[Path, CurveRecord | None]:
    """Return the file of a curve's record and its contents, None where it is missing or unreadable.

    Args:
        control_points: The checkpoints of the curve's control points, one of which the record lies beside.

    Raises:
        BadInput: It names no kind of curve.
    """
    candidates = [Path(file).with_suffix(".json") for file in control_points]
    path = next((file for file in candidates if file.exists()), candidates[0])
    try:
        found = json.loads(path.read_text())
        kind, bends, ends = found["kind"], found["bends"], found["ends"]
    except (OSError, ValueError, KeyError, TypeError):
        return path, None
    if not is_word(kind, CURVES):
        raise BadInput(f"{path} is damaged: '{kind}' is no kind of curve, which is {' or '.join(CURVES)}")
    return path, CurveRecord(kind, bends, ends)


def curve_kind_of(nets: config.NetworkConfig, loaded: LoadedInputs) -> CurveOrNone:
    """Return the kind of the curve between the first two networks whose one control point is the third; '' for none."""
    _, record = read_curve_record([nets.file3]) if nets.file3 else (None, None)
    ends = [loaded.record["checkpoint"], loaded.towards.get(nets.file2 or "", "")]
    return record.kind if record is not None and len(record.control_points) == 1 and record.ends == ends else ""


def check_control_points(choice: config.DirectionConfig, ends: Sequence[str]) -> None:
    """Check that the control points are those of a curve.

    Args:
        choice: The curve and its control points.
        ends: The digests of the networks at its ends.

    Raises:
        BadInput: The record beside the control points is another curve's.
    """
    path, record = read_curve_record(choice.control_points)
    if record is None:
        say(f"note: there is no {path} that says between which networks these control points were trained")
        return
    if [Path(file).name for file in choice.control_points] != record.control_points:
        names = ", ".join(record.control_points)
        raise BadInput(
            f"{path} names the control points {names}, in this order: give them with {named('control_points')}"
        )
    if record.kind != choice.curve:
        raise BadInput(
            f"{choice.control_points[0]} is a control point of a {record.kind} curve, and {named('curve')} asks for a "
            f"{choice.curve} one"
        )
    for end, recorded, option in zip(ends, record.ends, ("model_file", "model_file2"), strict=True):
        if end == recorded:
            continue
        if end.removesuffix(", aligned") == recorded.removesuffix(", aligned"):
            advice = f"{'leave out' if end.endswith('aligned') else 'add'} {named('align')}"
        else:
            advice = f"give another {named(option)}"
        raise BadInput(
            f"{choice.control_points[0]} was trained between other networks, or the same ones not in this order: "
            f"{advice}"
        )
