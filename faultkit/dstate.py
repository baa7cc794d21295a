"""What every host does for `dstate`: from the arguments to the view, and to the report."""

import sys
from typing import Optional

from faultkit.analyzers.dstate import MIN_AGE, Options, analyze
from faultkit.causes.view import View
from faultkit.model import Report
from faultkit.options import DstateArguments
from faultkit.target import FaultkitError

LARGEST = 1 << 28  # bytes of a log that are read


def options_of(arguments: DstateArguments) -> Options:
    """The analyzer's options."""
    age = arguments.min_age if arguments.min_age is not None else MIN_AGE
    return Options(arguments.stacks, age)


def open_view(arguments: DstateArguments) -> View:
    """The view that was asked for: a file, some processes, or this machine.

    Raises FaultkitError for files and processes that can't be read."""
    if arguments.file is not None:
        from faultkit.klog.view import TextView

        name = "standard input" if arguments.file == "-" else arguments.file
        return TextView(name, _read(arguments.file))
    from faultkit.procfs.live import LiveView

    return LiveView(arguments.pids)


def examine(arguments: DstateArguments, host: dict[str, Optional[str]]) -> Report:
    """The report.  Raises FaultkitError."""
    return analyze(open_view(arguments), host, options_of(arguments))


def _read(path: str) -> str:
    try:
        if path == "-":
            data = bytes(sys.__stdin__.buffer.read(LARGEST)) if sys.__stdin__ is not None else b""
        else:
            with open(path, "rb") as file:
                data = file.read(LARGEST)
    except OSError as error:
        raise FaultkitError(
            f"cannot read {path}: {error.strerror}", "name a file with a kernel log"
        ) from None
    if data[:2] == b"\x1f\x8b":
        import gzip

        try:
            data = bytes(gzip.decompress(data)[:LARGEST])
        except (OSError, EOFError) as error:
            raise FaultkitError(f"cannot unpack {path}: {error}", "zcat tells more") from None
    return data.decode("utf-8", "replace")
