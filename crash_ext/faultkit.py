"""faultkit for PyKdump: `epython crash_ext/faultkit.py deadlock` in a session of crash.

It only finds the packages beside it; what they need is imported when a command runs.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _here() -> str:
    """This file's folder.  PyKdump leaves `__file__` of another program behind; and a registered
    program may have no more than its name, found in the current folder or in PYKDUMPPATH."""
    names = [_here.__code__.co_filename, sys.argv[0]]
    folders = ["", *os.environ.get("PYKDUMPPATH", "").split(os.pathsep)]
    for name in names:
        for folder in folders:
            for end in ("", ".py"):
                path = os.path.realpath(os.path.join(folder, os.path.expanduser(name + end)))
                beside = os.path.join(os.path.dirname(path), "loading.py")
                if os.path.isfile(path) and os.path.isfile(beside):
                    return os.path.dirname(path)
    raise ImportError("faultkit's other files are not beside this one; install it again")


def _main() -> None:
    path = os.path.join(_here(), "loading.py")
    names: dict[str, Any] = {"__name__": "faultkit_loading", "__file__": path}
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), names)
    names["prepare"](path)
    from crash_ext import pykdump

    pykdump.main(sys.argv)


if sys.version_info < (3, 9):  # noqa: UP036 - PyKdump may embed any Python
    print("faultkit: Python 3.9 or newer is needed, this PyKdump has " + sys.version.split()[0])
else:
    _main()
