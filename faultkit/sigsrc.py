"""What every host does for `sigsrc`: from the arguments to the report."""

import os
from typing import Optional

from faultkit.analyzers.sigsrc import analyze
from faultkit.model import Report
from faultkit.options import SigsrcArguments
from faultkit.procfs.process import ProcProcess
from faultkit.target import FaultkitError


def examine(arguments: SigsrcArguments, host: dict[str, Optional[str]]) -> Report:
    """The report of what was asked for, where that is not a debugger's inferior.

    Raises FaultkitError for processes and files that can't be read."""
    if arguments.kernel is not None:
        from faultkit.analyzers.senders import analyze_senders, parse_signal

        return analyze_senders(
            arguments.vmlinux or running_vmlinux(), parse_signal(arguments.kernel), host
        )
    if len(arguments.pids) != 1:
        raise FaultkitError("sigsrc: name one process", "sigsrc PID")
    return analyze(ProcProcess(arguments.pids[0]), host)


def running_vmlinux() -> str:
    """The vmlinux of the kernel that runs here.  Raises FaultkitError where it is not found."""
    from faultkit.debuginfo.find import Places, find_vmlinux

    release = os.uname().release
    path = find_vmlinux(Places(), release)
    if path is None:
        raise FaultkitError(
            f"no vmlinux of this kernel ({release}) was found",
            "install its debug package, or name one with --vmlinux FILE",
        )
    return path
