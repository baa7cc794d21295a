"""The arguments of the commands, the same in every host: one module for each command, imported
when it is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


if TYPE_CHECKING:  # imported where it is used: most commands are typed without arguments
    import argparse


def parse(
    command: str, add_arguments: Callable[[argparse.ArgumentParser], None], words: Sequence[str]
) -> dict[str, Any]:
    """The arguments of a debugger's command by name; "~" is a home, as a shell would have it.
    Raises FaultkitError on words it does not know."""
    import argparse
    import os

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise FaultkitError(message, f"see `help {self.prog}`")

    parser = Parser(prog=command, add_help=False)
    add_arguments(parser)
    expanded = [os.path.expanduser(word) if word.startswith("~") else word for word in words]
    return vars(parser.parse_args(expanded))


class Known:
    """What a command's options are, taken as a parser takes them: facts by an option's name."""

    def __init__(self, add_arguments: Callable[[Any], None]) -> None:
        self.options: dict[str, dict[str, Any]] = {}
        add_arguments(self)

    def add_argument(self, *names: str, **facts: Any) -> None:
        """As argparse's."""
        self.options.update({name: facts for name in names if name.startswith("-")})

    def value(self, option: str) -> dict[str, Any] | None:
        """The facts of a known option whose value is the next word, else None."""
        facts = self.options.get(option)
        return facts if facts and facts.get("action", "append") == "append" else None


def add_pids(parser: argparse.ArgumentParser) -> None:
    """Processes to examine, for the commands that take some."""
    parser.add_argument(
        "pids", metavar="PID", nargs="*", type=process_id, help="process to examine"
    )


def add_destinations(parser: argparse.ArgumentParser) -> None:
    """Where the report goes."""
    parser.add_argument("--json", metavar="FILE", help="report for machines; - is the output")
    parser.add_argument("--output", metavar="FILE", help="write the report to FILE")


def process_id(text: str) -> int:
    """A process id.  Raises argparse.ArgumentTypeError."""
    import argparse

    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text)):
        raise argparse.ArgumentTypeError(f"`{text}` is no process id")
    return int(text)
