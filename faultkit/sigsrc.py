"""What every host does for `sigsrc`: from the arguments to the report."""

from typing import Optional

from faultkit.analyzers.sigsrc import analyze
from faultkit.model import Report
from faultkit.options import SigsrcArguments
from faultkit.procfs.process import ProcProcess
from faultkit.target import FaultkitError


def examine(arguments: SigsrcArguments, host: dict[str, Optional[str]]) -> Report:
    """The report of what was asked for, where that is not a debugger's inferior.

    Raises FaultkitError for processes that can't be read."""
    if len(arguments.pids) != 1:
        raise FaultkitError("sigsrc: name one process", "sigsrc PID")
    return analyze(ProcProcess(arguments.pids[0]), host)
