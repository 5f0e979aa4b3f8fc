"""Tables as lines of text."""

from collections.abc import Sequence


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows as lines with columns of one width.

    Args:
        rows: Rows of cells, all of one length.

    Returns:
        A line for each row.

    Example:
        >>> align_columns([["a", "1"], ["long", "2"]])
        ['a     1', 'long  2']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
