"""The arguments of `dstate`."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.options import add_destinations, add_pids, parse
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


class DstateArguments(NamedTuple):
    """What `dstate` was asked: process ids, or the whole machine, or a file; and where its answer
    goes.  `min_age` is in seconds, None for the command's own default."""

    pids: tuple[int, ...] = ()
    all: bool = False
    file: str | None = None
    min_age: float | None = None
    stacks: bool = False
    watch: bool = False
    json: str | None = None
    output: str | None = None


def add_dstate_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `dstate`, for a host's parser or for the console script's."""
    add_pids(parser)
    parser.add_argument("--all", action="store_true", help="every process of this machine")
    parser.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        help="a kernel log with sysrq-w or sysrq-t output, or hung-task reports; - is the input",
    )
    parser.add_argument(
        "--min-age",
        metavar="SECONDS",
        type=_seconds,
        help="report what has been blocked for so long (default: 1)",
    )
    parser.add_argument("--stacks", action="store_true", help="show a kernel stack of every group")
    parser.add_argument(
        "--watch", action="store_true", help="look every second until interrupted; show what moves"
    )
    add_destinations(parser)


def parse_dstate(words: Sequence[str]) -> DstateArguments:
    """The arguments of `dstate`.  Raises FaultkitError on words that it does not know."""
    if not words:
        return DstateArguments()
    return dstate_arguments(parse("dstate", add_dstate_arguments, words))


def dstate_arguments(given: dict[str, Any]) -> DstateArguments:
    """The arguments as parsed.  Raises FaultkitError where they contradict each other."""
    fields = {name: given[name] for name in DstateArguments._fields}
    wanted = DstateArguments(**{**fields, "pids": tuple(dict.fromkeys(fields["pids"]))})
    if wanted.pids and wanted.all:
        raise FaultkitError("process ids and --all contradict each other", "leave one out")
    if wanted.file is not None and (wanted.pids or wanted.all or wanted.watch):
        raise FaultkitError(
            "--from reads a file, in which no process, --all or --watch has a meaning",
            "leave them out",
        )
    return wanted


def _seconds(text: str) -> float:
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"`{text}` is no number of seconds")
    return value


add_session_arguments = add_dstate_arguments  # in debuggers the same
