"""The console script `faultkit`.

Each sub-command is a module of this package named in COMMANDS, with two functions:
`add_parser(subparsers)` adds its parser and returns it, `run(arguments)` does the work and
returns the exit status.  What goes wrong for the user's reasons is a FaultkitError.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

import faultkit
from faultkit.render.escape import clean
from faultkit.render.mistake import unforeseen
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

COMMANDS = ("deadlock", "dstate", "sigsrc", "kdecode", "path", "install", "doctor")


class _Parser(argparse.ArgumentParser):
    """What it does not understand is an error as any other: status 2 means "inconclusive"."""

    def error(self, message: str) -> NoReturn:
        raise FaultkitError(message, f"see `{self.prog} --help`")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:  # by the command's own parser: it knows the options that there are
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the whole command line, or of some sub-commands, each of which leaves its
    `run` in it."""
    parser = _Parser(
        prog="faultkit",
        description="Why a program or a kernel is stuck, what killed it, and where it is in the "
        "source. Inside gdb: source the file that `faultkit path` prints, or let "
        "`faultkit install` do it in every session; in crash: the same with --crash.",
    )
    parser.add_argument("--version", action="version", version=f"faultkit {faultkit.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in names:
        module = importlib.import_module(f"faultkit.cli.{name}")
        module.add_parser(subparsers).set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: sys.argv[1:]); returns the exit status.

    130 after Ctrl-C, as shells have it; a reader that left early (`| head`) is no error.
    """
    argv = sys.argv[1:] if argv is None else argv
    if sys.stdout is None:  # closed by who started us: what is for a file is written all the same
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        # To import them all would take longer than some of them do.
        parser = build_parser(argv[:1] if argv[:1] and argv[0] in COMMANDS else COMMANDS)
        arguments = parser.parse_args(argv)
        if not hasattr(arguments, "run"):
            parser.print_help()
            status = 0
        else:
            status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("faultkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _give_up_output()
        return 0
    except FaultkitError as error:
        said = str(error)
    except OSError as error:
        _give_up_output()
        full = "standard output" if error.errno == errno.ENOSPC else None
        name = error.filename or full
        said = f"{name}: {error.strerror}" if name else unforeseen(error)
    except Exception as error:
        said = unforeseen(error)
    with contextlib.suppress(OSError):  # what was said before comes before
        sys.stdout.flush()
    print(f"faultkit: {clean(said, 1000)}", file=sys.stderr)
    return 1


def _give_up_output() -> None:
    """Python flushes once more at exit; give it somewhere to write to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
