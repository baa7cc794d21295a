"""`faultkit doctor`: is all here that faultkit needs, and what mends what is not."""

from __future__ import annotations

import argparse
import sys

from faultkit.cli import checks
from faultkit.cli.rows import MISSING, OK, Row
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit doctor`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "doctor",
        help="check gdb, its Python, its packages and your rights; say what mends them",
        description="Check gdb, its Python and packages, and your right to trace processes. "
        "Exits with 0 when everything that faultkit needs is there, with 1 otherwise.",
    )
    parser.add_argument("--gdb", metavar="GDB", default="gdb", help="this gdb (default: gdb)")
    parser.add_argument("--json", metavar="FILE", help="the answer as JSON; - for standard output")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the table and what to do; returns 1 when something needed is missing."""
    rows = checks.all_checks(arguments.gdb)
    good = all(row.status != MISSING for row in rows)
    if arguments.json:
        _write_json(arguments.json, rows, good)
    if arguments.json != "-":
        print(text(rows, good))
    return 0 if good else 1


def text(rows: list[Row], good: bool) -> str:
    """The rows as a table, what mends them below it, and the verdict."""
    from faultkit.render.table import table

    lines = [table(("check", "status", "found"), [(r.name, r.status, r.detail) for r in rows])]
    mends = [row for row in rows if row.status != OK and row.remedy]
    if mends:
        width = max(len(row.name) for row in mends)
        lines += ["", "To mend:"]
        lines += [f"  {row.name:{width}}  {row.remedy}" for row in mends]
    lines += ["", "All that faultkit needs is here." if good else "faultkit needs what is missing."]
    return "\n".join(lines)


def _write_json(file: str, rows: list[Row], good: bool) -> None:
    import json

    answer = {
        "schema": "faultkit/1",
        "command": "doctor",
        "ok": good,
        "checks": [row._asdict() for row in rows],
    }
    content = json.dumps(answer, indent=2) + "\n"
    if file == "-":
        sys.stdout.write(content)
        return
    try:
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(content)
    except OSError as error:
        raise FaultkitError(
            f"cannot write {file}: {error.strerror}", "name another file, or - for standard output"
        ) from error
