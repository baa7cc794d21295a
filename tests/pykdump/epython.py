"""Runs a program as PyKdump's `epython` does: as __main__, whose globals stay from one program to
the next, in a Python that lacks parts of the standard library, and without the system's packages.

    faultkit python epython.py PROGRAM [ARGUMENT...]
"""

import importlib.abc
import os
import sys

LACKING = {
    *("json", "subprocess", "threading", "logging", "tempfile", "shlex", "ctypes", "html", "csv"),
    *("dataclasses", "multiprocessing", "sqlite3", "ssl", "unittest", "mmap"),
}
OURS = {"faultkit", "crash_ext", "crash", "pykdump"}
HERE = os.path.dirname(os.path.abspath(__file__))


class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def take(names):
    """Modules of these packages, out of sys.modules."""
    return {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] in names}


def main(arguments):
    kept = take(LACKING | OURS)
    path, argv, lacking = list(sys.path), sys.argv, Lacking()
    full = "FULL_LIBRARY" in os.environ
    sys.path[:] = [HERE] + [p for p in path if "site-packages" not in p and "python3" in p]
    if not full:
        sys.meta_path.insert(0, lacking)
    sys.argv = arguments
    scope = sys.modules.setdefault("__epython_main__", type(sys)("__main__")).__dict__
    scope.setdefault("__file__", "/nowhere/of/another/program.py")
    try:
        with open(arguments[0]) as file:
            exec(compile(file.read(), arguments[0], "exec"), scope)
    finally:
        sys.argv, sys.path[:] = argv, path
        if not full:
            sys.meta_path.remove(lacking)
        programs = sys.modules["crash"].programs if "crash" in sys.modules else {}
        take(LACKING | OURS)
        sys.modules.update(kept)
    if "SHOW_PROGRAMS" in os.environ:
        for name, (short, synopsis, text) in sorted(programs.items()):
            print(name, "-", short, "|", synopsis, "|", len(text.splitlines()))


main(sys.argv[1:])
