"""Rows as a text table, by tabulate where it is installed."""

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows below their headers, columns aligned; the same without tabulate, but for looks."""
    try:
        from tabulate import tabulate
    except ImportError:
        return plain_table(headers, rows)
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as it is without tabulate."""
    every = [headers, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(headers))]
    every = [headers, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in every
    )
