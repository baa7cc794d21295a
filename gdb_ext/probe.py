"""What `faultkit doctor` runs inside gdb: prints one line of JSON about this gdb.

It sources the faultkit.py beside this file as a user would, then looks at what Python finds.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys

import gdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


PACKAGES = {"pyelftools": "elftools", "tabulate": "tabulate", "pygments": "pygments"}


def package(module: str) -> dict[str, Any] | None:
    """{"version", "path"} of an importable module, or None."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    path = os.path.dirname(found.__file__ or "")
    return {"version": getattr(found, "__version__", None), "path": path}


def load(path: str) -> str | None:
    """Why sourcing `path` gave no faultkit command; None if it did."""
    try:
        gdb.execute("source " + path, to_string=True)
        gdb.execute("help faultkit", to_string=True)
    except gdb.error as error:
        return str(error).strip().splitlines()[-1]
    return None


def main() -> None:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faultkit.py")
    failure = load(path)
    answer = {
        "version": gdb.VERSION,
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "failure": failure,
        "packages": {name: package(module) for name, module in PACKAGES.items()},
    }
    print("faultkit-probe " + json.dumps(answer))


main()
