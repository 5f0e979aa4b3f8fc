"""Fields that are computed from the fields of a surface: by an expression such as `exp(train_loss)`, or by a function.

An expression consists of names of fields, numbers, + - * / **, parentheses, exp, log, log10, sqrt, abs, minimum and
maximum. It is parsed as a syntax tree, of which nothing else is accepted.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from lossatlas.errors import BadUsage, counted, did_you_mean, named
from lossatlas.landscape.surface import Surface

FieldFunction = Callable[[Surface], np.ndarray]
Field = str | FieldFunction  # as a user names it

OPERATORS: dict[type[ast.operator], np.ufunc] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
SIGNS: dict[type[ast.unaryop], np.ufunc] = {ast.USub: np.negative, ast.UAdd: np.positive}
FUNCTIONS: dict[str, tuple[np.ufunc, int]] = {
    "exp": (np.exp, 1),
    "log": (np.log, 1),
    "log10": (np.log10, 1),
    "sqrt": (np.sqrt, 1),
    "abs": (np.abs, 1),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
}
LONGEST = 300  # characters of an expression
ALLOWED = f"names of fields, numbers, + - * / **, parentheses, {', '.join(FUNCTIONS)}"


def is_expression(name: str) -> bool:
    """Tell whether the name of a field is an expression of others, as `resolved_field` writes it."""
    return any(sign in name for sign in ("(", "*", "/", " + ", " - ")) or name.startswith(("-", "+"))


def resolved_field(surface: Surface, field: Field) -> tuple[Surface, str]:
    """Find or compute a field.

    Args:
        surface: The surface.
        field: The name of a field, an expression of fields, or a function of the surface that returns an array of the
            grid's shape.

    Returns:
        A surface that holds the field, and its name: the field's, the expression, or the function's.

    Raises:
        BadUsage: There is no such field, the expression is not allowed, or the function returns something else.

    Example:
        >>> from lossatlas.landscape import Grid
        >>> line = Surface.of_values(Grid(np.array([0.0, 1.0])), ["max_eig"])
        >>> line = line.with_cells([0, 1], np.array([[4.0], [9.0]]))
        >>> found, name = resolved_field(line, "sqrt(max_eig)+1")
        >>> name, found.fields[name]
        ('sqrt(max_eig) + 1', array([3., 4.]))
    """
    if callable(field):
        return _with_field(surface, _name_of(field, surface), _called(field, surface))
    if not isinstance(field, str):
        raise BadUsage(f"{named('surf_name', field)}: give the name of a field, an expression of fields, or a function")
    fields = surface.fields
    if field in fields:
        return surface, field
    tree = _parsed(field, fields)
    with np.errstate(all="ignore"):  # what is not finite is drawn as such
        values = np.broadcast_to(_evaluated(tree, fields, field), surface.grid.shape)
    return _with_field(surface, ast.unparse(tree), np.array(values, float))


def _with_field(surface: Surface, name: str, values: np.ndarray) -> tuple[Surface, str]:
    """Return the surface with a further field, which has values where the others have."""
    predicted = dict(surface.predicted)
    if predicted:
        predicted[name] = np.where(surface.interpolated, values, np.nan)
    return replace(surface, values={**surface.values, name: values}, predicted=predicted), name


def _name_of(function: FieldFunction, surface: Surface) -> str:
    """Return a name for a function that no field of the surface has; a lambda has no name of its own."""
    name = str(getattr(function, "__name__", type(function).__name__)).strip("<>")
    name = "custom field" if name == "lambda" else name
    return f"{name}()" if name in surface.fields else name


def _called(function: FieldFunction, surface: Surface) -> np.ndarray:
    found, name = function(surface), named("surf_name", _name_of(function, surface))
    try:
        values = np.asarray(found, float)
    except (TypeError, ValueError) as error:
        raise BadUsage(f"{name}: the function returns {type(found).__name__}, not an array of real numbers") from error
    if values.shape != surface.grid.shape:
        raise BadUsage(f"{name}: the function returns the shape {values.shape}, the grid has {surface.grid.shape}")
    return values


def _parsed(text: str, fields: Mapping[str, np.ndarray]) -> ast.expr:
    if text.isidentifier():
        raise no_field(text, fields)
    if len(text) > LONGEST:
        raise BadUsage(f"{named('surf_name')}: an expression of {len(text)} characters is longer than {LONGEST}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadUsage(f"{named('surf_name', text)} is no field and no expression: use {ALLOWED}") from None


def no_field(name: str, fields: Mapping[str, np.ndarray], source: object = "the surface") -> BadUsage:
    """Return the error that a surface has no field of a name, which lists the fields."""
    return BadUsage(f"{source} has no field '{name}'{did_you_mean(name, fields)}: choose from {', '.join(fields)}")


def _evaluated(node: ast.expr, fields: Mapping[str, np.ndarray], text: str) -> np.ndarray:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return np.array(min(max(number, -1.7e308), 1.7e308), float)  # an integer may be too large for float64
        case ast.Name(id=name):
            if name in fields:
                return fields[name]
            if name in FUNCTIONS:
                raise BadUsage(f"{named('surf_name', text)}: {name} is a function: write {name}(...)")
            raise BadUsage(f"{named('surf_name', text)}: {no_field(name, fields)}")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluated(left, fields, text), _evaluated(right, fields, text))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in SIGNS:
            return SIGNS[type(sign)](_evaluated(operand, fields, text))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            function, count = FUNCTIONS[name]
            if len(arguments) == count:
                return function(*(_evaluated(each, fields, text) for each in arguments))
            raise BadUsage(
                f"{named('surf_name', text)}: {name} takes {counted(count, 'argument', 'arguments')}, "
                f"not {len(arguments)}"
            )
    raise BadUsage(f"{named('surf_name', text)}: '{ast.unparse(node)}' is not allowed: use {ALLOWED}")
