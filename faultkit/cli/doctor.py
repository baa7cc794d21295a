"""`faultkit doctor`."""

import argparse
from typing import Any

from faultkit.target import FaultkitError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit doctor`."""
    parser: argparse.ArgumentParser = subparsers.add_parser("doctor")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Not there yet."""
    raise FaultkitError("not there yet")
