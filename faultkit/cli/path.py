"""`faultkit path`: the file that gdb has to source, or crash to load."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote

import faultkit
from faultkit.cli.remedies import apt_install
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def extension_path() -> Path:
    """The absolute path of gdb_ext/faultkit.py of this installation.

    It lies beside the package in a checkout, in site-packages and in pipx's venvs alike.
    Raises FaultkitError where it is missing.
    """
    path = _beside("gdb_ext", "faultkit.py")
    if not path.is_file():
        raise FaultkitError(
            f"{path} is missing: the installation is incomplete",
            "install again, e.g. python3 -m pip install --force-reinstall faultkit",
        )
    return path


def crash_extension_path() -> Path:
    """The absolute path of crash_ext/faultkit.so of this installation.

    Raises FaultkitError where it has not been built.
    """
    path = _beside("crash_ext", "faultkit.so")
    if not path.is_file() or not path.with_name("_faultkit.so").is_file():
        raise FaultkitError(f"{path} has not been built", how_to_build())
    return path


def how_to_build() -> str:
    """The command that builds faultkit.so, in a checkout or in an installation."""
    packages = apt_install("make", "gcc", "g++", "crash", "libpython3-dev")
    source = _beside("crash_ext", "src")
    aside = "" if _beside("Makefile").is_file() else " BUILD=$(mktemp -d)"  # no litter beside it
    return f"{packages} && make -C {quote(str(source))}{aside}"


def _beside(*names: str) -> Path:
    return Path(faultkit.__file__).resolve().parent.parent.joinpath(*names)


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit path`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "path", help="print the file that gdb has to source, or crash to load"
    )
    parser.add_argument("--crash", action="store_true", help="the one for crash's extend")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the path."""
    print(crash_extension_path() if arguments.crash else extension_path())
    return 0
