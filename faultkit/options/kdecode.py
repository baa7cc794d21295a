"""The arguments of `kdecode`."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.options import add_destinations, parse
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


class KdecodeArguments(NamedTuple):
    """What `kdecode` was asked: a file, tasks or places in code, where debug information is, how
    many frames of each trace, and what of them is shown; and where its answer goes.  `kaslr` is
    what was added to the kernel's addresses.  `all` and `file` are for debuggers' sessions: every
    CPU or thread, and a text instead of the target."""

    words: tuple[str, ...] = ()
    exact: bool = False
    vmlinux: str | None = None
    modules: tuple[str, ...] = ()
    debug_dirs: tuple[str, ...] = ()
    kaslr: int | None = None
    frames: int | None = None
    brief: bool = False
    json: str | None = None
    output: str | None = None
    sources: tuple[str, ...] = ()
    no_source: bool = False
    no_dis: bool = False
    context: int = 4
    html: str | None = None
    all: bool = False
    file: str | None = None

    @property
    def full(self) -> bool:
        """Whether source, code and values go anywhere: the page has them in any case."""
        return not self.brief or self.html is not None


def add_debug_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Where debug information is, and what of it is shown: the same in every host."""
    parser.add_argument("--vmlinux", metavar="FILE", help="the kernel, with debug information")
    parser.add_argument(
        "--module",
        dest="modules",
        metavar="FILE",
        action="append",
        default=[],
        help="a module (.ko) with debug information; may be given again",
    )
    parser.add_argument(
        "--debug-dir",
        dest="debug_dirs",
        metavar="DIR",
        action="append",
        default=[],
        help="where to look for vmlinux and modules; may be given again",
    )
    parser.add_argument(
        "-n", dest="frames", metavar="FRAMES", type=_count, help="so many of each back trace"
    )
    parser.add_argument(
        "--source",
        dest="sources",
        metavar="DIR",
        action="append",
        default=[],
        help="a tree of the sources; may be given again",
    )
    parser.add_argument("--no-source", action="store_true", help="show no source")
    parser.add_argument("--no-dis", action="store_true", help="show no disassembly")
    parser.add_argument(
        "--context",
        metavar="N",
        type=_context,
        default=4,
        help="lines of source before and behind, and twice as many instructions (default: 4)",
    )
    parser.add_argument(
        "--brief", action="store_true", help="one line a frame: to paste in a ticket"
    )
    parser.add_argument("--html", metavar="FILE", help="a page with frames that fold")
    add_destinations(parser)


def add_kdecode_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `faultkit kdecode`."""
    parser.add_argument(
        "words",
        metavar="FILE|ADDRESS",
        nargs="+",
        help="a text with back traces (- is the input); or addresses, or SYMBOL+OFFSET",
    )
    parser.add_argument(
        "--exact", action="store_true", help="addresses are instructions, not return addresses"
    )
    parser.add_argument(
        "--kaslr",
        metavar="OFFSET",
        type=_hexadecimal,
        help="what KASLR added to the kernel's addresses, where the text does not tell",
    )
    add_debug_file_arguments(parser)


def kdecode_arguments(given: dict[str, Any]) -> KdecodeArguments:
    """The arguments as parsed."""
    fields = {name: given[name] for name in KdecodeArguments._fields if name in given}
    lists = {name: tuple(given[name]) for name in ("words", "modules", "debug_dirs", "sources")}
    return KdecodeArguments(**{**fields, **lists})


def parse_kdecode(words: Sequence[str]) -> KdecodeArguments:
    """The arguments of `kdecode` in a debugger.  Raises FaultkitError on words that it does not
    know, or that contradict each other."""
    wanted = kdecode_arguments(parse("kdecode", add_session_arguments, words))
    if wanted.file is not None and (wanted.words or wanted.all):
        raise FaultkitError("--from reads a file, and nothing of the target", "leave the rest out")
    if wanted.words and wanted.all:
        raise FaultkitError("a place and all of them contradict each other", "leave one out")
    return wanted


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `kdecode` in a debugger."""
    parser.add_argument("words", nargs="*")
    parser.add_argument("-a", "--all", action="store_true")
    parser.add_argument("--from", dest="file", metavar="FILE")
    parser.add_argument("--exact", action="store_true")
    add_debug_file_arguments(parser)


def _context(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdigit() and int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"`{text}` is no number of lines")
    return int(text)


def _count(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text)):
        raise argparse.ArgumentTypeError(f"`{text}` is no number of frames")
    return int(text)


def _hexadecimal(text: str) -> int:
    import argparse

    try:
        return int(text, 16) & (1 << 64) - 1
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is no hexadecimal number") from None
