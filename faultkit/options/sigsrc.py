"""The arguments of `sigsrc`."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.options import add_destinations, add_pids, parse, process_id
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

TRACERS = ("tracefs", "bpftrace", "systemtap")


class SigsrcArguments(NamedTuple):
    """What `sigsrc` was asked: process ids, or to watch the inferior, or where a kernel (by its
    vmlinux) sends a signal from, or what a kernel's log or a tracer's output (`file`) says; or for
    a tracer of process `arm`; and where its answer goes."""

    pids: tuple[int, ...] = ()
    watch: bool = False
    kernel: str | None = None
    vmlinux: str | None = None
    modules: tuple[str, ...] = ()
    log: str | None = None
    arm: int | None = None
    tracer: str = "tracefs"
    start: bool = False
    file: str | None = None
    json: str | None = None
    output: str | None = None

    @property
    def of_files(self) -> bool:
        """Whether a file is asked, and no process: a kernel's code, a log, a trace."""
        return any(one is not None for one in (self.kernel, self.log, self.file))


def add_sigsrc_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sigsrc`, for a host's parser or for the console script's."""
    add_pids(parser)
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
        "--arm",
        metavar="PID",
        type=process_id,
        help="print a tracer for the next signal to the process",
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
    add_destinations(parser)


def parse_sigsrc(words: Sequence[str]) -> SigsrcArguments:
    """The arguments of `sigsrc`.  Raises FaultkitError on words that it does not know."""
    if not words:
        return SigsrcArguments()
    return sigsrc_arguments(parse("sigsrc", add_sigsrc_arguments, words))


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


add_session_arguments = add_sigsrc_arguments  # in debuggers the same
