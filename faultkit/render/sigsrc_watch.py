"""`sigsrc --watch`: a line for each signal."""

from faultkit.render.escape import clean
from faultkit.signals.model import SignalFinding


def line_of(seconds: float, finding: SignalFinding) -> str:
    """One signal in a line: when, which, from where, for whom, what becomes of it."""
    code = f" {finding.code_name}" if finding.code_name else ""
    name = f' "{clean(finding.task.name, 40)}"' if finding.task.name else ""
    said = clean(finding.explanation.rstrip("."), 400)
    return (
        f"{seconds:9.3f} s  {finding.signal}{code} to {finding.task.tid}{name} "
        f"({finding.state}): {said}"
    )
