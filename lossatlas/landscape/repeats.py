"""Lines along several random directions: means over them, and their confidence."""

from dataclasses import replace

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.landscape.flatness_measures import InterpolatedField, Measure, flatness
from lossatlas.landscape.surface import Surface

CONFIDENCE = 0.95  # of the interval of a mean over directions


def mean_and_confidence(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of repeats and the half-width of its confidence interval by Student's t.

    Args:
        values: (repeats, ...) values of at least two repeats.

    Returns:
        The mean (...) and half of the width (...) of the interval of probability `CONFIDENCE`.
    """
    from scipy.special import stdtrit

    n = len(values)
    return values.mean(0), stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(0, ddof=1) / np.sqrt(n)


def flatness_of_repeats(surface: Surface, name: str = "train_loss", within: float | None = None) -> dict[str, Measure]:
    """Measure how flat a field is around its centre along random directions: means over them, with their confidence.

    Args:
        surface: Lines along several directions, of `repeat`.
        name: The name of the field.
        within: See `flatness`.

    Returns:
        The measures of `flatness`. Each is the mean over the directions with `confidence`, half of its 95 % confidence
        interval (Student's t); a 'smallest' radius is that of all directions, and the centre is the same for all.
        Where the radius of one direction is a lower bound, the mean is one too, without a confidence.

    Raises:
        BadUsage: As `flatness`, or fewer than two directions have a finite value.
    """
    if name not in surface.fields:
        raise BadUsage(f"there is no field '{name}': choose from {', '.join(surface.fields)}")
    curves = [surface.curve(k) for k in range(len(surface.done))]
    usable = [each for each in curves if np.isfinite(each.fields[name][each.done]).any()]
    at_origin = [each for each in usable if InterpolatedField.of_surface(each, name).centre()[1] == ""]
    usable = at_origin or usable  # a direction whose value at the origin is not known has another centre
    if len(usable) < 2:
        raise BadUsage(f"'{name}' has finite values along {len(usable)} of {len(curves)} directions: two are needed")
    tables = [flatness(each, name, within) for each in usable]
    shared = [label for label in tables[0] if all(label in table for table in tables)]
    return {label: _over_directions(label, [table[label] for table in tables]) for label in shared}


def _over_directions(label: str, measures: list[Measure]) -> Measure:
    """Combine the measures of the directions, see `flatness_of_repeats`."""
    if all(each == measures[0] for each in measures):  # the origin is a point of every line
        return measures[0]
    if label == "lowest cell" or label.endswith("smallest"):
        return min(measures, key=lambda each: (each.value, each.bound))
    mean, half = mean_and_confidence(np.array([each.value for each in measures]))
    bound = any(each.bound for each in measures)
    return replace(
        measures[0],
        value=float(mean),
        confidence=0.0 if bound else float(half),
        bound=bound,
        error=float(np.mean([each.error for each in measures])),
        method=f"{len(measures)} directions",
    )
