"""What is left of a process that has ended: a zombie keeps the signal's number, nothing else."""

from __future__ import annotations

from faultkit.model import FOUND, Report, Task
from faultkit.procfs.signals import died_of, parent_of, where_cores_go
from faultkit.procfs.status import status
from faultkit.signals.model import FATAL, UNKNOWN, SignalFinding
from faultkit.signals.names import SIGKILL, signal_name


def report_of_zombie(pid: int, host: dict[str, str | None]) -> Report | None:
    """The report of a zombie that a signal has killed; None for whatever else the pid is."""
    died = died_of(pid)
    if died is None:
        return None
    number, dumped = died
    name = signal_name(number)
    parent = parent_of(pid)
    core = f" A core was dumped: {where_cores_go(pid)}." if dumped else " No core was dumped."
    if number == SIGKILL:
        next_ = (
            "SIGKILL leaves no siginfo: the kernel's log tells of the OOM killer (`dmesg`, "
            "`journalctl -k`), the sender's own log of a kill; `sigsrc --arm` records the next one"
        )
    elif dumped:
        next_ = "open the core in gdb and run sigsrc: it names the sender or the fault"
    else:
        next_ = where_cores_go(pid)
    report = Report(
        "sigsrc",
        host,
        {"kind": "process", "name": str(pid), "release": None},
        FOUND,
        f"{name} has ended process {pid}; who sent it is not kept",
        counts={"tasks": 1, "pending": 0},
    )
    report.signals = [
        SignalFinding(
            Task(pid, pid, status(pid).get("Name")),
            number,
            UNKNOWN,
            f"The process has ended by {name}, and its parent, process {parent}, has yet to "
            f"collect it. A zombie keeps no sender and no code.{core}",
            state=FATAL,
            next=next_,
        )
    ]
    return report
