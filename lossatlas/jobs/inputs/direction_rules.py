"""Rules about options and arguments that contradict each other when they choose the points of a grid.

Both front ends state what the user asks for as `DirectionFacts`. The messages name every field by `errors.named`, in
the words of the front end that the user sees.
"""

from dataclasses import dataclass
from typing import Literal

from lossatlas.choices import DirectionKind, DirType
from lossatlas.errors import BadUsage, named

AskedKind = Literal[DirectionKind, "vector"]
AT_MODEL: tuple[AskedKind, ...] = ("gradient", "eigenvector", "file")  # belong to the parameters alone


@dataclass(frozen=True, kw_only=True)
class DirectionFacts:
    """The points that a user asks for. Each field has the name of the option that asks for it.

    Attributes:
        axes: The number of axes of the grid, 1 to 3.
        plane: The words that ask for a second axis; '' for the field `y`.
        xdirection, ydirection, zdirection: The kind of each direction: 'random' by default, 'gradient', 'eigenvector',
            'file', or 'vector' for tensors.
        model_file2, model_file3: A network lies at coordinate 1 of this axis.
        dir_type: 'weights', 'states', or None where that is not known yet.
        orthogonalize: Each direction is made orthogonal to those before it.
        curvature: The second derivatives along the axes are asked for.
        same_dir: The second axis takes the direction of the first.
        repeat: The number of lines along random directions; None for points along directions.
        per_layer: A line for each layer.
        scheme: The surface between the network and two random networks.
        curve: A curve between two networks.
        control_points: The control points of the curve are given.
        dir_file: A direction file is named.
        idx: The number of a repeat, which has other random directions.
        xnorm, ynorm, znorm, xignore, yignore, zignore: A normalization is chosen.
        ranks_per_model: Several ranks share one network.
    """

    axes: int
    plane: str = ""
    xdirection: AskedKind = "random"
    ydirection: AskedKind = "random"
    zdirection: AskedKind = "random"
    model_file2: bool = False
    model_file3: bool = False
    dir_type: DirType | None = None
    orthogonalize: bool = False
    curvature: bool = False
    same_dir: bool = False
    repeat: int | None = None
    per_layer: bool = False
    scheme: bool = False
    curve: bool = False
    control_points: bool = False
    dir_file: bool = False
    idx: int = 0
    xnorm: bool = False
    ynorm: bool = False
    xignore: bool = False
    yignore: bool = False
    znorm: bool = False
    zignore: bool = False
    ranks_per_model: bool = False

    @property
    def y(self) -> str:
        """The words that ask for a second axis."""
        return self.plane or named("y")

    @property
    def z(self) -> str:
        """The words that ask for a third axis."""
        return named("axes", 3) if self.plane else named("z")

    @property
    def form(self) -> str:
        """The field that asks for other points than those along directions; '' for none."""
        return next(iter(self.given("repeat", "per_layer", "scheme", "curve")), "")

    def given(self, *fields: str) -> list[str]:
        """Return the fields that the user has chosen, among these."""
        return [field for field in fields if getattr(self, field) not in (None, False, 0, "random")]


def check_direction_facts(facts: DirectionFacts) -> None:
    """Raise BadUsage where what the user asks for contradicts itself."""
    for rule in (
        check_forms,
        check_axes,
        check_volume,
        check_curve,
        check_repeat,
        check_scheme,
        check_second_direction,
        check_one_direction_each,
        check_parameters_alone,
        check_spread_network,
    ):
        rule(facts)


def named_list(fields: list[str]) -> str:
    """Name fields in the words of the front end, each once."""
    return ", ".join(dict.fromkeys(named(field) for field in fields))


def refuse(field: str, reason: str, others: list[str]) -> None:
    """Raise BadUsage where fields are given that do not fit another one, with the reason."""
    if others:
        raise BadUsage(f"{named(field)} {reason}: leave out {named_list(others)}")


def check_forms(facts: DirectionFacts) -> None:
    """Raise BadUsage for two kinds of points."""
    forms = facts.given("repeat", "per_layer", "scheme", "curve")
    if len(forms) > 1:
        raise BadUsage(f"{named(forms[0])} and {named(forms[1])} exclude each other")


def check_axes(facts: DirectionFacts) -> None:
    """Raise BadUsage where the number of axes does not fit the points."""
    form = facts.form
    if form == "scheme" and facts.axes == 1:
        raise BadUsage(f"{named(form)} computes a surface: give {facts.y} too")
    if form not in ("", "scheme") and facts.axes > 1:
        lines = "one line" if form == "curve" else "several lines"
        raise BadUsage(f"{named(form)} computes {lines}: leave out {facts.y}")
    if facts.model_file3 and facts.axes == 1:
        raise BadUsage(f"{named('model_file3')}: the network at y = 1 needs a second axis: give {facts.y} too")


def check_volume(facts: DirectionFacts) -> None:
    """Raise BadUsage where a third axis does not fit the points, or is described and there is none."""
    others = facts.given("zdirection", "znorm", "zignore")
    if others and facts.axes < 3:
        raise BadUsage(f"{named(others[0])}: a third direction needs a third axis: give {facts.z} too")
    if facts.axes == 3 and facts.form == "scheme":
        raise BadUsage(f"{named('scheme')} computes a surface: leave out {facts.z}")
    if facts.axes == 3 and facts.same_dir:
        raise BadUsage(f"{named('same_dir')} takes the x direction for y, and a volume has three: leave out {facts.z}")


def check_curve(facts: DirectionFacts) -> None:
    """Raise BadUsage where a curve lacks its parts, or directions are asked for beside it."""
    if facts.curve != facts.control_points:
        names = f"{named('curve')} and {named('control_points')}"
        raise BadUsage(f"{names} belong together: the kind of the curve, and its control points")
    if not facts.curve:
        return
    target = named("model_file2")
    if not facts.model_file2:
        raise BadUsage(f"{named('curve')} leads to another network: give {target} too")
    refuse("curve", f"leads to {target} without directions", facts.given("xdirection", "dir_file", "curvature"))


def check_repeat(facts: DirectionFacts) -> None:
    """Raise BadUsage where repeats are too few, or would not be random lines."""
    if facts.repeat is None:
        return
    if facts.repeat == 1:
        raise BadUsage(f"{named('repeat', 1)}: a spread needs at least 2 directions")
    others = facts.given("model_file2", "model_file3", "xdirection", "ydirection", "zdirection", "curvature")
    refuse("repeat", "draws random directions", others)
    refuse("repeat", f"draws its directions from {named('seed')} alone", facts.given("dir_file", "idx", "same_dir"))


def check_scheme(facts: DirectionFacts) -> None:
    """Raise BadUsage where something is asked for that a scheme decides itself."""
    if not facts.scheme:
        return
    others = facts.given("model_file2", "model_file3", "xdirection", "ydirection")
    refuse("scheme", "draws its other networks at random", others)
    others = facts.given("same_dir", "orthogonalize", "curvature") + ["dir_type"] * (facts.dir_type == "states")
    refuse("scheme", "moves the weights between three networks", others)
    refuse("scheme", "has its own normalization", facts.given("xnorm", "ynorm", "xignore", "yignore"))


def check_second_direction(facts: DirectionFacts) -> None:
    """Raise BadUsage where a second direction is described that there is not."""
    if facts.given("ydirection") and facts.axes == 1:
        raise BadUsage(f"{named('ydirection')}: a second direction needs a second axis: give {facts.y} too")
    if facts.orthogonalize and facts.axes == 1:
        raise BadUsage(f"{named('orthogonalize')} takes the x direction out of the y direction: give {facts.y} too")
    if facts.same_dir:
        refuse("same_dir", "takes the x direction for y", facts.given("ydirection", "orthogonalize"))


def check_one_direction_each(facts: DirectionFacts) -> None:
    """Raise BadUsage where an axis gets a network and a direction."""
    for axis, network, direction in (("x", "model_file2", "xdirection"), ("y", "model_file3", "ydirection")):
        if len(facts.given(network, direction)) > 1:
            names = f"{named(network)} and {named(direction)}"
            raise BadUsage(f"{names} both ask for the {axis} direction: leave one out")


def derivative_fields(facts: DirectionFacts) -> list[str]:
    """Return the fields that ask for derivatives; those of directions that belong to the parameters are computed."""
    fields = [field for field in ("xdirection", "ydirection", "zdirection") if getattr(facts, field) in AT_MODEL]
    return fields + facts.given("curvature")


def check_spread_network(facts: DirectionFacts) -> None:
    """Raise BadUsage for derivatives of a network that is spread over ranks."""
    if facts.ranks_per_model:
        derived = ("gradient", "eigenvector")
        made = [f for f in ("xdirection", "ydirection", "zdirection") if getattr(facts, f) in derived]
        refuse("ranks_per_model", "computes losses, and no gradients", made + facts.given("curvature"))


def check_parameters_alone(facts: DirectionFacts) -> None:
    """Raise BadUsage for derivatives with respect to what is no parameter."""
    fields = derivative_fields(facts)
    if facts.dir_type == "states" and fields:
        raise BadUsage(
            f"{named_list(fields)}: gradients, eigenvectors and second derivatives belong to the parameters alone: use "
            f"{named('dir_type', 'weights')}"
        )
