"""What every host does for `dstate`: from the arguments to the view, and to the report."""

from __future__ import annotations

from faultkit.analyzers.dstate import Options, analyze
from faultkit.causes.view import View
from faultkit.model import Report
from faultkit.options.dstate import DstateArguments
from faultkit.textfile import read_text


def options_of(arguments: DstateArguments) -> Options:
    """The analyzer's options."""
    return Options(arguments.stacks, arguments.min_age)


def open_view(arguments: DstateArguments) -> View:
    """The view that was asked for: a file, some processes, or this machine.

    Raises FaultkitError for files and processes that can't be read."""
    if arguments.file is not None:
        from faultkit.klog.view import TextView

        name = "standard input" if arguments.file == "-" else arguments.file
        return TextView(name, read_text(arguments.file, "name a file with a kernel log"))
    from faultkit.procfs.live import LiveView

    return LiveView(arguments.pids)


def examine(arguments: DstateArguments, host: dict[str, str | None]) -> Report:
    """The report.  Raises FaultkitError."""
    return analyze(open_view(arguments), host, options_of(arguments))
