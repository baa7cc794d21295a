"""Makes faultkit's packages importable.  Run by its path, in whatever Python crash has: by
faultkit.so, which calls `start`, and by faultkit.py inside PyKdump, which calls `prepare`.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def prepare(path: str) -> None:
    """Import faultkit and crash_ext from above `path`, this file's; they win over other copies.

    Only appends to sys.path: the virtual environment of this checkout, this installation,
    FAULTKIT_SITE.
    """
    import importlib.util

    root = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    venv = os.path.join(root, ".venv", "lib")
    pythons = sorted(os.listdir(venv)) if os.path.isdir(venv) else []
    places = [os.path.join(venv, python, "site-packages") for python in pythons]
    places.append(root)
    places += [place for place in os.environ.get("FAULTKIT_SITE", "").split(os.pathsep) if place]
    sys.path.extend(place for place in places if place not in sys.path)
    stale = [name for name in sys.modules if name.split(".")[0] in ("faultkit", "crash_ext")]
    for name in stale:
        del sys.modules[name]  # loaded again: take the files as they are now
    if stale:
        gc.collect()  # modules hold each other
    for package in ("faultkit", "crash_ext"):
        folder = os.path.join(root, package)
        spec = importlib.util.spec_from_file_location(
            package, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        if spec is None or spec.loader is None:
            raise ImportError(folder + " is missing; install faultkit again")
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)


def start() -> Any:
    """What faultkit.so registers: a function for all commands, and [(name, lines of help)...]."""
    prepare(__file__)
    from crash_ext import embedded

    return embedded.start()
