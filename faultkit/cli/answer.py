"""How the console script's commands give their answers."""

from __future__ import annotations

import os
import shutil
import sys

import faultkit
from faultkit.model import FOUND, NOT_FOUND, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


WIDEST = 100  # columns
STATUS = {FOUND: 0, NOT_FOUND: 0}


def host() -> dict[str, str | None]:
    """What runs us, for the report: no debugger."""
    return {"name": None, "version": None, "faultkit": faultkit.__version__}


def give(report: Report, wanted: Any) -> int:
    """Show the report as the command's arguments want it; the exit status: 0 if there is an
    answer, 2 if it is inconclusive.  Raises FaultkitError."""
    from faultkit.render import deliver

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    color = color and os.environ.get("TERM", "dumb") != "dumb"
    width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    deliver(report, wanted, sys.stdout.write, width, color)
    return STATUS.get(report.verdict, 2)
