"""The arguments of `deadlock`."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.options import add_pids, parse
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

STACKS = ("cycle", "all", "none")


class DeadlockArguments(NamedTuple):
    """What `deadlock` was asked: process ids, and where its answer goes."""

    pids: tuple[int, ...] = ()
    stacks: str = "cycle"
    json: str | None = None
    dot: str | None = None
    svg: str | None = None
    output: str | None = None

    @property
    def names_all(self) -> bool:
        """Whether the answer goes where every task is named: not so in the text."""
        return bool(self.json or self.dot or self.svg)


def add_deadlock_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `deadlock`, for a host's parser or for the console script's."""
    add_pids(parser)
    parser.add_argument(
        "--stacks",
        choices=STACKS,
        default="cycle",
        help="back traces: of the members of cycles (default), all, none",
    )
    parser.add_argument("--json", metavar="FILE", help="report for machines; - is the output")
    parser.add_argument("--dot", metavar="FILE", help="wait graph for graphviz")
    parser.add_argument("--svg", metavar="FILE", help="wait graph drawn by graphviz")
    parser.add_argument("--output", metavar="FILE", help="write the report to FILE")


def parse_deadlock(words: Sequence[str]) -> DeadlockArguments:
    """The arguments of `deadlock`.  Raises FaultkitError on words that it does not know."""
    if not words:
        return DeadlockArguments()
    given = parse("deadlock", add_deadlock_arguments, words)
    return DeadlockArguments(**{**given, "pids": tuple(dict.fromkeys(given["pids"]))})


add_session_arguments = add_deadlock_arguments  # in debuggers the same
