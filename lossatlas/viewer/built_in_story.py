"""The story that every page has: what is shown, in words for someone who sees a loss surface for the first time.

Its numbers come from the surfaces on the page; what a file does not record is left out.
"""

import re
from collections.abc import Sequence

import numpy as np

from lossatlas.figures.colour_scale import format_value
from lossatlas.figures.plotted_fields import field_title
from lossatlas.landscape.recorded_options import recorded_option
from lossatlas.landscape.surface import Surface
from lossatlas.landscape.topology import minima
from lossatlas.viewer.content import Shown, is_path
from lossatlas.viewer.story import Step, Story, TextSpan, spans_of
from lossatlas.viewer.volumes import nearest_to_zero

DEPTH = 1.0  # losses: minima with this persistence are counted
WITHOUT_SHORTCUTS = "_noshort"  # the end of a model's name
NAME = re.compile(r"\{(\w+)\}")
RUNNERS = "sgd~momentum~adam"


def built_in_story(shown: Sequence[Shown], field: str, scale: str) -> Story:
    """Tell what a page shows.

    Args:
        shown: The surfaces.
        field: Name of the field that is the height at first.
        scale: "linear", "log" or "soft": its scale at first.

    Returns:
        The story, with the steps that suit the surfaces.

    Example:
        >>> import lossatlas
        >>> surface = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
        >>> [step.title for step in built_in_story([Shown(surface, "ResNet-56")], "train_loss", "soft").steps]
        ['What is this sheet?', 'Two numbers of 855,770', 'Roll a ball', 'What it does not show']
    """
    first = shown[0]
    paths = [is_path(each.surface) for each in shown]
    chart = first.surface.is_chart
    about_axes = checkpoints if paths[0] else along_training if chart else coordinates
    steps = [what_it_is(first, field, scale), about_axes(first, field)]
    if first.surface.grid.z is not None:
        steps.append(through_volume(first, field))
    if len(shown) > 1:
        steps.append(comparison(shown, field))
    if first.trajectory is not None and not chart:
        steps.append(training(first))
    if is_loss(field) and not any(paths) and not any(each.surface.is_chart for each in shown):
        steps.append(ball(first.surface))
    steps.append(limits(shown))
    return Story(tuple(steps))


def told(
    title: str, state: dict[str, str], *paragraphs: str, play: bool = False, surface: int = 0, **names: str
) -> Step:
    """Make a step.

    Args:
        title: Title of the step.
        state: State of the page by its keys, as in the address of the page.
        *paragraphs: Texts with the marks of bold and italic; empty ones are left out.
        play: Let the ball roll from the beginning.
        surface: Index of the surface on which the step happens, from 0.
        **names: Texts that replace their `{name}`, after the marks have been read.
    """

    def filled(span: TextSpan) -> TextSpan:
        return (span[0], NAME.sub(lambda found: names[found[1]], span[1]))

    texts = tuple(tuple(filled(span) for span in spans_of(text)) for text in paragraphs if text)
    return Step(title, texts, state, play, surface)


def is_loss(field: str) -> bool:
    return field.endswith("_loss")


def name_of(field: str) -> str:
    return "ratio of the extreme eigenvalues" if field == "eigen_ratio" else field_title(field)


def finite_values(surface: Surface, field: str) -> np.ndarray:
    """Return the finite values of the computed cells."""
    values = surface.fields[field][surface.known] if field in surface.fields else np.empty(0)
    return values[np.isfinite(values)]


def centre(surface: Surface, field: str) -> float | None:
    """Return the value at the origin; None if this is no computed cell or not the trained network."""
    if "scheme" in surface.request or surface.request.get("plane_of_volume") or field not in surface.fields:
        return None
    places = [np.isclose(axis, 0, atol=1e-9) for axis in surface.grid.axes]
    found = surface.fields[field][np.ix_(*places)]
    return float(found.ravel()[0]) if found.size and np.isfinite(found.ravel()[0]) else None


def many(surface: Surface) -> str:
    """Write the number of the network's parameters; '' where it is not recorded."""
    count = surface.about.get("parameters")
    return f"{count:,}" if isinstance(count, int) else ""


def what_it_is(shown: Shown, field: str, scale: str) -> Step:
    """Explain points, height and values of the first surface.

    Args:
        shown: The surface.
        field: The name of the field that is its height.
        scale: The name of the first scale of the field.
    """
    surface, sheet = shown.surface, form_of(shown.surface)
    values = finite_values(surface, field)
    height = {"linear": "", "log": " The scale is logarithmic."}.get(
        scale, " The scale is nearly logarithmic, so that deep basins and high walls both can be seen."
    )
    points = "Every point of this {sheet} is **a whole network**: the same layers, with other weights."
    computed = "It was computed at {cells} points; between them it is interpolated."
    if surface.grid.z is not None:
        computed = "It was computed at {cells} points; between those of one plane it is interpolated."
    if is_path(surface):
        points = (
            "Every computed point of this line is **a whole network**: a checkpoint, with the weights that it holds."
        )
        computed = (
            "It was computed at {cells} checkpoints; between them it is interpolated, and no network stands there."
        )
    height_is = (
        " Its height is the {field}: how badly that network does its task. **Low is good.**"
        if is_loss(field)
        else " Its height is the {field} of that network."
    )
    if surface.grid.z is not None:
        height_is = f" The sheet shows one of its {len(surface.grid.z)} planes, z = {{z}}.{height_is}"
    spread = " The values go from {low} to {high}." if values.size else ""
    return told(
        f"What is this {sheet}?",
        {},
        points + height_is,
        computed + spread + height,
        sheet=sheet,
        z="" if surface.grid.z is None else rounded(nearest_to_zero(surface.grid.z)),
        field=name_of(field),
        cells=f"{int(surface.done.sum()):,}",
        low=format_value(values.min()) if values.size else "",
        high=format_value(values.max()) if values.size else "",
    )


def coordinates(shown: Shown, field: str) -> Step:
    """Explain the coordinates, and the place of the trained network."""
    surface, sheet, dimensions = shown.surface, form_of(shown.surface), len(shown.surface.grid.axes)
    flat = dimensions == 1
    number = ("One number", "Two numbers", "Three numbers")[dimensions - 1]
    count = number.lower()
    middle = centre(surface, field)
    have = "The network has **{many}** weights." if many(surface) else "A network has very many weights."
    moved = (
        f" The {sheet} knows {count}: how far weights are moved together along "
        f"{('one direction', 'each of two directions', 'each of three directions')[dimensions - 1]}."
    )
    if "scheme" in surface.request:
        moved = f" The {sheet} knows {count}, from which all of them follow."
    start = {} if flat else {"azimuth": "-90", "elevation": "89", "x": "0", "y": "0"}
    return told(
        f"{number} of {many(surface)}" if many(surface) else f"{number} of very many",
        start if middle is not None else {key: value for key, value in start.items() if key not in "xy"},
        have + moved,
        standing(surface, middle),
        many=many(surface),
        field=name_of(field),
        middle="" if middle is None else format_value(middle),
    )


def form_of(surface: Surface) -> str:
    """Name what a surface is: a line, a sheet or a volume."""
    return ("line", "sheet", "volume")[len(surface.grid.axes) - 1]


def through_volume(shown: Shown, field: str) -> Step:
    """Explain the slider that moves the sheet through a volume, and compare its plane with one at an end.

    Args:
        shown: The volume.
        field: Name of the field that is the height.
    """
    surface, z = shown.surface, shown.surface.grid.z
    assert z is not None
    ends = [nearest_to_zero(z), float(z[-1])]
    lowest = [finite_values(surface.plane_at(each), field) for each in ends]
    values = ""
    if all(found.size for found in lowest):
        values = " The lowest {field} on the plane z = {middle} is **{first}**, on z = {end} it is **{last}**."
    return told(
        "A slider goes through it",
        {"z": f"{ends[1]:.7g}", "azimuth": "-60", "elevation": "34"},
        "The slider **z** moves the sheet through the volume, plane by plane, from z = {low} to {end}." + values,
        "Heights and colours keep one scale for the whole volume, so that its planes can be compared.",
        field=name_of(field),
        low=rounded(float(z[0])),
        middle=rounded(ends[0]),
        end=rounded(ends[1]),
        first=format_value(lowest[0].min()) if values else "",
        last=format_value(lowest[1].min()) if values else "",
    )


def checkpoints(shown: Shown, field: str) -> Step:
    """Explain x on a line of checkpoints."""
    surface = shown.surface
    values = surface.fields.get(field, np.empty(0))
    known = values.size > 1 and surface.known[[0, -1]].all() and np.isfinite(values[[0, -1]]).all()
    ends = " The first one has the {field} **{first}**, the last one **{last}**." if known else ""
    return told(
        "Checkpoints in their order",
        {},
        "x is the number of a checkpoint: 0 is the first one, {most} the last one." + ends,
        "No optimizers race here: x counts checkpoints, and no optimizer moves along their numbers.",
        most=f"{surface.grid.x[-1]:.0f}",
        field=name_of(field),
        first=format_value(values[0]) if known else "",
        last=format_value(values[-1]) if known else "",
    )


def along_training(shown: Shown, field: str) -> Step:
    """Explain the coordinates of a chart of local planes along a training."""
    path = shown.trajectory
    count = "The checkpoints" if path is None else f"The {len(path.x)} checkpoints"
    return told(
        "Along a training, and beside it",
        {"azimuth": "-90", "elevation": "89"},
        count + " of a training lie on the line y = 0, in their order: x is the way that the weights have gone since "
        "the first of them. There the {field} is that of the training itself.",
        "y leads away from the way: at each checkpoint in the plane of the training's velocity and acceleration, and "
        "in between from one of these planes to the next.",
        "No optimizers race here: the map bends with the training, so that a step on it is no step of an optimizer.",
        field=name_of(field),
    )


def rounded(value: float) -> str:
    """Write a coordinate in three digits; 0 for what rounding has left of it."""
    return f"{0.0 if abs(value) < 1e-9 else value:.3g}"


def standing(surface: Surface, middle: float | None) -> str:
    """Name the places of trained networks; '' where they are not known."""
    flat, about = surface.grid.y is None, surface.about
    networks = about.get("networks", ())
    if about.get("curve"):
        networks = networks[:2]  # the third one is the curve's control point
    places = [f"({', '.join(rounded(v) for v in ((x,) if flat else (x, y)))})" for _, x, y in networks]
    if len(places) > 1:
        listed = f"{', '.join(places[:-1])} and {places[-1]}"
        others = "All other points are made of them, and show what lies between and around them."
        return f"Networks stand at {listed}{' on the plane z = 0' if surface.grid.z is not None else ''}. {others}"
    if "scheme" in surface.request or recorded_option(about, "model_file2"):
        return ""
    value = "" if middle is None else " ({field} **{middle}**)"
    origin = "0" if flat else f"({', '.join('0' * len(surface.grid.axes))})"
    others = "All other points are changes of it: they show what is around it."
    if surface.request.get("plane_of_volume"):
        return ""  # the network is on another plane
    return f"At {origin} stands the network itself{value}. {others}"


def comparison(shown: Sequence[Shown], field: str) -> Step:
    """Compare the second surface with the first one."""
    first, second = (each.surface for each in shown[:2])
    models = [str(each.request.get("model", "")) for each in (first, second)]
    without = [model.endswith(WITHOUT_SHORTCUTS) for model in models]
    same = without[0] != without[1] and models[0].removesuffix(WITHOUT_SHORTCUTS) == models[1].removesuffix(
        WITHOUT_SHORTCUTS
    )
    plain = 0 if without[0] else 1
    titles = ("The same recipe with shortcuts", "The same recipe without shortcuts")
    recipe = (
        "**{other}** is the same kind of network {with_or_without} the shortcuts that lead around its layers."
        if same
        else "**{other}** is beside it, at the same coordinates."
    )
    if is_path(first) != is_path(second):
        recipe = "**{other}** is beside it; of the two lines one counts checkpoints, the other has a coordinate."
    return told(
        titles[plain] if same else "Beside another one",
        {"azimuth": "-60", "elevation": "24"},
        recipe + " A colour means the same value on both.",
        contrast(shown[:2], field),
        surface=1,
        other=shown[1].label,
        with_or_without="without" if plain == 1 else "with",
    )


def contrast(shown: Sequence[Shown], field: str) -> str:
    """Compare numbers of two surfaces; '' for a field that one of them lacks."""
    found = [finite_values(each.surface, field) for each in shown]
    if any(values.size == 0 for values in found):
        return ""
    low, high = ([format_value(end(values)) for values in found] for end in (np.min, np.max))
    words = f"Here the values go from {low[1]} to {high[1]}, there from {low[0]} to {high[0]}."
    if is_loss(field) and shown[0].surface.grid.y is not None:
        counts = [sum(each.depth > DEPTH for each in minima(shown_.surface, field)) for shown_ in shown]
        words += (
            f" Valleys with a wall of more than {format_value(DEPTH)} on every way to a deeper one, the deepest one "
            f"included: here **{counts[1]}**, there **{counts[0]}**."
        )
    return words


def training(shown: Shown) -> Step:
    """Explain the path of a training."""
    path = shown.trajectory
    assert path is not None
    epochs = (
        ""
        if path.epochs is None
        else f", from {path.counted} {format_value(path.epochs[0])} to {format_value(path.epochs[-1])}"
    )
    words = f"The dots are {len(path.x)} checkpoints of one training{epochs}, seen on the sheet."
    distance = (
        None if path.distance is None else float(np.nanmax(path.distance)) if np.isfinite(path.distance).any() else None
    )
    off = "The training did not run on this sheet: it moved through all weights, and only its shadow lies here." + (
        f" The checkpoint that is farthest from the sheet has a distance of {format_value(distance)}."
        if distance is not None
        else ""
    )
    own = "" if path.loss is None else " A stem leads from the shadow to the loss that the checkpoint itself has."
    return told("The path of a training", {"azimuth": "-60", "elevation": "55"}, words, off + own)


def ball(surface: Surface) -> Step:
    """Explain the optimizers that roll down the surface."""
    flat = surface.grid.y is None
    where = "line" if flat else "sheet"
    alone = " They move in this plane alone: z stays as it is." if surface.grid.z is not None else ""
    state = {"on": RUNNERS, "seconds": "6"} | ({} if flat else {"azimuth": "-40", "elevation": "48"})
    return told(
        "Roll a ball",
        state,
        f"Three optimizers start at the same point and follow the slope of the {where}: plain gradient descent, the "
        f"same with momentum, and Adam.{alone} The nearest valley is not always the deepest one.",
        f"**Click anywhere on the {where}** to drop the ball there.",
        play=True,
    )


def limits(shown: Sequence[Shown]) -> Step:
    """Explain what the surface leaves out."""
    if is_path(shown[0].surface):
        return limits_of_checkpoints()
    sheet = form_of(shown[0].surface)
    where = "in this volume" if sheet == "volume" else f"on this {sheet}"
    numbers = {"line": "one number changes", "sheet": "two numbers change", "volume": "three numbers change"}[sheet]
    moves = f"A training changes {many(shown[0].surface) or 'all'} weights; here {numbers}."
    return told(
        "What it does not show",
        {},
        f"{moves} A wall {where} may have a way around it that lies in none of the directions shown, and a "
        "ball that stops here may not stop a training.",
        f"Other directions give another {sheet}. What is low or wide here says nothing yet about data that were not "
        "used.",
        "Height, colours, optimizers, cuts: all of it can be changed.",
    )


def limits_of_checkpoints() -> Step:
    """Explain what a line of checkpoints leaves out."""
    return told(
        "What it does not show",
        {},
        "From one checkpoint to the next the weights may move far or hardly at all: x counts both as one.",
        "What lies around the checkpoints is not on this line. What is low here says nothing yet about data that were "
        "not used.",
        "Height, colours, scale: all of it can be changed.",
    )
