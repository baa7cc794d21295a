"""The arguments that every host's commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, NoReturn, Optional

if TYPE_CHECKING:  # imported where it is used: most commands are typed without arguments
    import argparse

from faultkit.target import FaultkitError

STACKS = ("cycle", "all", "none")
DEADLOCK_OPTIONS = ("--stacks", "--json", "--dot", "--svg", "--output")


class DeadlockArguments(NamedTuple):
    """What `deadlock` was asked: process ids, and where its answer goes."""

    pids: tuple[int, ...] = ()
    stacks: str = "cycle"
    json: Optional[str] = None
    dot: Optional[str] = None
    svg: Optional[str] = None
    output: Optional[str] = None

    @property
    def names_all(self) -> bool:
        """Whether the answer goes where every task is named: not so in the text."""
        return bool(self.json or self.dot or self.svg)


def add_deadlock_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `deadlock`, for a host's parser or for the console script's."""
    parser.add_argument("pids", metavar="PID", nargs="*", type=_pid, help="process to examine")
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
    given = _parse("deadlock", add_deadlock_arguments, words)
    return DeadlockArguments(**{**given, "pids": tuple(dict.fromkeys(given["pids"]))})


def _parse(
    command: str, add_arguments: Callable[[argparse.ArgumentParser], None], words: Sequence[str]
) -> dict[str, Any]:
    """The arguments of a command by name.  Raises FaultkitError on words it does not know."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise FaultkitError(message, f"see `help {self.prog}`")

    parser = Parser(prog=command, add_help=False)
    add_arguments(parser)
    return vars(parser.parse_args(list(words)))


DSTATE_OPTIONS = (
    "--all", "--from", "--min-age", "--stacks", "--watch", "--json", "--output",
)  # fmt: skip


class DstateArguments(NamedTuple):
    """What `dstate` was asked: process ids, or the whole machine, or a file; and where its answer
    goes.  `min_age` is in seconds, None for the command's own default."""

    pids: tuple[int, ...] = ()
    all: bool = False
    file: Optional[str] = None
    min_age: Optional[float] = None
    stacks: bool = False
    watch: bool = False
    json: Optional[str] = None
    output: Optional[str] = None

    @property
    def dot(self) -> Optional[str]:
        """No graph is drawn of blocked tasks."""
        return None

    @property
    def svg(self) -> Optional[str]:
        """No graph is drawn of blocked tasks."""
        return None


def add_dstate_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `dstate`, for a host's parser or for the console script's."""
    parser.add_argument("pids", metavar="PID", nargs="*", type=_pid, help="process to examine")
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
    parser.add_argument(
        "--stacks", action="store_true", help="show a kernel stack of every group"
    )
    parser.add_argument(
        "--watch", action="store_true", help="look every second until interrupted; show what moves"
    )
    parser.add_argument("--json", metavar="FILE", help="report for machines; - is the output")
    parser.add_argument("--output", metavar="FILE", help="write the report to FILE")


def parse_dstate(words: Sequence[str]) -> DstateArguments:
    """The arguments of `dstate`.  Raises FaultkitError on words that it does not know."""
    if not words:
        return DstateArguments()
    return dstate_arguments(_parse("dstate", add_dstate_arguments, words))


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


SIGSRC_OPTIONS = (
    "--watch", "--log", "--arm", "--tracer", "--run", "--from", "--kernel", "--vmlinux", "--module",
    "--json",
    "--output",
)  # fmt: skip
TRACERS = ("tracefs", "bpftrace", "systemtap")


class SigsrcArguments(NamedTuple):
    """What `sigsrc` was asked: process ids, or to watch the inferior, or where a kernel (by its
    vmlinux) sends a signal from, or what a kernel's log or a tracer's output (`file`) says; or for
    a tracer of process `arm`; and where its answer goes."""

    pids: tuple[int, ...] = ()
    watch: bool = False
    kernel: Optional[str] = None
    vmlinux: Optional[str] = None
    modules: tuple[str, ...] = ()
    log: Optional[str] = None
    arm: Optional[int] = None
    tracer: str = "tracefs"
    start: bool = False
    file: Optional[str] = None
    json: Optional[str] = None
    output: Optional[str] = None

    @property
    def of_files(self) -> bool:
        """Whether a file is asked, and no process: a kernel's code, a log, a trace."""
        return any(one is not None for one in (self.kernel, self.log, self.file))

    @property
    def dot(self) -> Optional[str]:
        """No graph is drawn of signals."""
        return None

    @property
    def svg(self) -> Optional[str]:
        """No graph is drawn of signals."""
        return None


def add_sigsrc_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sigsrc`, for a host's parser or for the console script's."""
    parser.add_argument("pids", metavar="PID", nargs="*", type=_pid, help="process to examine")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="in gdb: let the inferior run, and tell of each signal until interrupted",
    )
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="what a kernel log says (of PID, or all): dmesg, journalctl -k or -o export, "
        "/dev/kmsg; - is the input",
    )
    parser.add_argument(
        "--arm", metavar="PID", type=_pid, help="print a tracer for the next signal to the process"
    )
    parser.add_argument(
        "--tracer", choices=TRACERS, default="tracefs", help="which one (default: tracefs)"
    )
    parser.add_argument(
        "--run", dest="start", action="store_true", help="run the tracer, as root, here and now"
    )
    parser.add_argument(
        "--from", dest="file", metavar="FILE", help="explain what a tracer wrote; - is the input"
    )
    parser.add_argument(
        "--kernel",
        metavar="SIGNAL",
        help="every place in a kernel that can send the signal (SIGBUS, bus, 7; all)",
    )
    parser.add_argument("--vmlinux", metavar="FILE", help="the kernel for --kernel")
    parser.add_argument(
        "--module",
        dest="modules",
        action="append",
        default=[],
        metavar="FILE",
        help="a module of that kernel (NAME.ko), too; may be repeated",
    )
    parser.add_argument("--json", metavar="FILE", help="report for machines; - is the output")
    parser.add_argument("--output", metavar="FILE", help="write the report to FILE")


def parse_sigsrc(words: Sequence[str]) -> SigsrcArguments:
    """The arguments of `sigsrc`.  Raises FaultkitError on words that it does not know."""
    if not words:
        return SigsrcArguments()
    return sigsrc_arguments(_parse("sigsrc", add_sigsrc_arguments, words))


def sigsrc_arguments(given: dict[str, Any]) -> SigsrcArguments:
    """The arguments as parsed.  Raises FaultkitError where they contradict each other."""
    fields = {name: given[name] for name in SigsrcArguments._fields}
    fields["modules"] = tuple(fields["modules"])
    wanted = SigsrcArguments(**{**fields, "pids": tuple(dict.fromkeys(fields["pids"]))})
    if wanted.pids and wanted.watch:
        raise FaultkitError(
            "--watch follows the inferior, and a PID names another process", "leave one out"
        )
    if wanted.watch and wanted.json:
        raise FaultkitError("--watch writes lines, and --json a report", "leave one out")
    if wanted.kernel is not None and (wanted.pids or wanted.watch or wanted.log is not None):
        raise FaultkitError(
            "--kernel looks at a kernel's code, in which no PID, --watch or --log has a meaning",
            "leave them out",
        )
    if wanted.start and wanted.arm is None:
        raise FaultkitError("--run runs a tracer", "add --arm PID")
    if wanted.arm is not None and (wanted.pids or wanted.log or wanted.file or wanted.kernel):
        raise FaultkitError("--arm prints a tracer, and does nothing else", "leave the others out")
    if wanted.file is not None and (wanted.watch or wanted.log is not None):
        raise FaultkitError("--from reads a tracer's output", "leave --watch and --log out")
    if wanted.log is not None and wanted.watch:
        raise FaultkitError("--log reads a file, and --watch follows the inferior", "leave one out")
    if wanted.modules and wanted.kernel is None:
        raise FaultkitError("--module names a module for --kernel SIGNAL", "add --kernel")
    if wanted.vmlinux is not None and wanted.kernel is None:
        raise FaultkitError("--vmlinux names the kernel for --kernel SIGNAL", "add --kernel")
    return wanted


KDECODE_OPTIONS = (
    "-a", "--all", "--from", "--exact", "--vmlinux", "--module", "--debug-dir", "-n", "--source",
    "--no-source", "--no-dis", "--context", "--brief", "--json", "--html", "--output",
)  # fmt: skip


class KdecodeArguments(NamedTuple):
    """What `kdecode` was asked: a file, tasks or places in code, where debug information is, how
    many frames of each trace, and what of them is shown; and where its answer goes.  `kaslr` is
    what was added to the kernel's addresses.  `all` and `file` are for debuggers' sessions: every
    CPU or thread, and a text instead of the target."""

    words: tuple[str, ...] = ()
    exact: bool = False
    vmlinux: Optional[str] = None
    modules: tuple[str, ...] = ()
    debug_dirs: tuple[str, ...] = ()
    kaslr: Optional[int] = None
    frames: Optional[int] = None
    brief: bool = False
    json: Optional[str] = None
    output: Optional[str] = None
    sources: tuple[str, ...] = ()
    no_source: bool = False
    no_dis: bool = False
    context: int = 4
    html: Optional[str] = None
    all: bool = False
    file: Optional[str] = None

    @property
    def full(self) -> bool:
        """Whether source, code and values go anywhere: the page has them in any case."""
        return not self.brief or self.html is not None

    @property
    def dot(self) -> Optional[str]:
        """No graph is drawn of back traces."""
        return None

    @property
    def svg(self) -> Optional[str]:
        """No graph is drawn of back traces."""
        return None


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
    parser.add_argument("--json", metavar="FILE", help="report for machines; - is the output")
    parser.add_argument("--output", metavar="FILE", help="write the report to FILE")


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
    wanted = kdecode_arguments(_parse("kdecode", _add_session_arguments, words))
    if wanted.file is not None and (wanted.words or wanted.all):
        raise FaultkitError("--from reads a file, and nothing of the target", "leave the rest out")
    if wanted.words and wanted.all:
        raise FaultkitError("a place and all of them contradict each other", "leave one out")
    return wanted


def _add_session_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*")
    parser.add_argument("-a", "--all", action="store_true")
    parser.add_argument("--from", dest="file")
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


def _seconds(text: str) -> float:
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"`{text}` is no number of seconds")
    return value


def _pid(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text)):
        raise argparse.ArgumentTypeError(f"`{text}` is no process id")
    return int(text)
