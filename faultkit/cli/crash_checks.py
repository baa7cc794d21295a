"""What `faultkit doctor` looks at for kernel dumps: crash, faultkit.so, and a libpython for it.

None of it is needed in gdb, so what is missing is a warning at most.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

from faultkit.cli import startup
from faultkit.cli.path import crash_extension_path, how_to_build
from faultkit.cli.remedies import apt_install, own_command
from faultkit.cli.rows import OK, WARNING, Row
from faultkit.target import FaultkitError

SECONDS = 60
OLDEST, NEWEST = 9, 40  # minor versions of Python 3, as in crash_ext/src/shim.c


def crash_checks() -> list[Row]:
    """crash itself, and, where it is, what faultkit needs in it."""
    path = shutil.which("crash")
    if path is None:
        return [Row("crash", WARNING, "no crash on PATH", apt_install("crash"))]
    return [_crash(path), _extension(), _libpython(), _crashrc()]


def _crash(path: str) -> Row:
    """crash's version, of the first line of `crash --version`."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Row("crash", WARNING, f"cannot run {path}: {error}", None)
    found = re.search(r"^crash (\d+)\.\S+", done.stdout, re.MULTILINE)
    if found is None:
        return Row("crash", WARNING, f"{path} is not the crash utility", None)
    if int(found[1]) < 8:
        return Row("crash", WARNING, f"{path}: {found[0]}", "crash 8.0.0 or newer is needed")
    return Row("crash", OK, f"{path}: {found[0]}")


def _extension() -> Row:
    try:
        return Row("faultkit in crash", OK, str(crash_extension_path()))
    except FaultkitError as error:
        return Row("faultkit in crash", WARNING, error.message, error.remedy)


def _libpython() -> Row:
    """The library that faultkit.so would take, found as it does."""
    wanted = os.environ.get("FAULTKIT_LIBPYTHON")
    if wanted:
        if _loads(wanted):
            return Row("libpython", OK, f"{wanted}, by FAULTKIT_LIBPYTHON")
        remedy = "unset it, or name a libpython3.X.so.1.0"
        return Row("libpython", WARNING, f"FAULTKIT_LIBPYTHON: {wanted} does not load", remedy)
    names = (f"libpython3.{minor}.so.1.0" for minor in range(NEWEST, OLDEST - 1, -1))
    found = next((name for name in names if _loads(name)), None)
    if found is None:
        return Row("libpython", WARNING, "none of 3.9 or newer", how_to_build())
    return Row("libpython", OK, found)


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _crashrc() -> Row:
    """Whether crash loads a faultkit that is there in every session."""
    file = startup.crashrc()
    try:
        found = startup.loaded(startup.read(file, startup.CRASH), startup.CRASH)
    except FaultkitError as error:
        return Row("crashrc", WARNING, str(error), None)
    remedy = own_command("install --crash")
    refusal = _refusal(file)
    if refusal is not None:
        return Row("crashrc", WARNING, refusal.message, refusal.remedy)
    if not found:
        return Row("crashrc", WARNING, f"{file} does not load faultkit", remedy)
    if not found[-1].is_file():
        return Row("crashrc", WARNING, f"{file} loads {found[-1]}, gone", remedy)
    return Row("crashrc", OK, f"{file} loads {found[-1]}")


def _refusal(file: Path) -> FaultkitError | None:
    """Why `faultkit install --crash` would not work, once faultkit.so is built."""
    try:
        extension = crash_extension_path()
    except FaultkitError:
        return None
    try:
        startup.plan_install(file, extension, startup.CRASH)
    except FaultkitError as error:
        return error
    return None
