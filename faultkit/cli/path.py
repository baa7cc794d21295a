"""`faultkit path`: the file that gdb has to source."""

import argparse
from pathlib import Path
from typing import Any

import faultkit
from faultkit.target import FaultkitError


def extension_path() -> Path:
    """The absolute path of gdb_ext/faultkit.py of this installation.

    It lies beside the package in a checkout, in site-packages and in pipx's venvs alike.
    Raises FaultkitError where it is missing.
    """
    path = Path(faultkit.__file__).resolve().parent.parent / "gdb_ext" / "faultkit.py"
    if not path.is_file():
        raise FaultkitError(
            f"{path} is missing: the installation is incomplete",
            "install again, e.g. python3 -m pip install --force-reinstall faultkit",
        )
    return path


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit path`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "path", help="print the file that gdb has to source"
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the path."""
    print(extension_path())
    return 0
