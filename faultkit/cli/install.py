"""`faultkit install`."""

import argparse
from typing import Any

from faultkit.target import FaultkitError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit install`."""
    parser: argparse.ArgumentParser = subparsers.add_parser("install")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Not there yet."""
    raise FaultkitError("not there yet")
