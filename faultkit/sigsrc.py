"""What every host does for `sigsrc`: from the arguments to the report."""

from __future__ import annotations

import os

from faultkit.analyzers.sigsrc import analyze
from faultkit.model import FOUND, Report
from faultkit.options.sigsrc import SigsrcArguments
from faultkit.procfs.process import ProcProcess
from faultkit.procfs.signals import where_cores_go
from faultkit.signals.ended import report_of_zombie
from faultkit.target import FaultkitError


def examine(arguments: SigsrcArguments, host: dict[str, str | None]) -> Report:
    """The report of what was asked for, where that is not a debugger's inferior.

    Raises FaultkitError for processes and files that can't be read."""
    if arguments.kernel is not None:
        from faultkit.analyzers.senders import analyze_senders, parse_signal

        signal = parse_signal(arguments.kernel)
        vmlinux = arguments.vmlinux or running_vmlinux()
        return analyze_senders(vmlinux, signal, host, arguments.modules)
    if arguments.log is not None:
        from faultkit.analyzers.siglog import analyze_log
        from faultkit.klog.files import read_log

        if len(arguments.pids) > 1:
            raise FaultkitError("name one process, or none", "sigsrc --log FILE [PID]")
        name = "standard input" if arguments.log == "-" else arguments.log
        pid = arguments.pids[0] if arguments.pids else None
        return analyze_log(read_log(arguments.log), name, host, pid)
    if arguments.watch:
        raise FaultkitError("--watch follows gdb's inferior", "gdb -p PID -ex 'sigsrc --watch'")
    if arguments.file is not None:
        from faultkit.analyzers.sigtrace import analyze_trace
        from faultkit.textfile import read_text

        text = read_text(arguments.file, "name a file that a tracer of sigsrc --arm has written")
        name = "standard input" if arguments.file == "-" else arguments.file
        pid = arguments.pids[0] if arguments.pids else None
        return analyze_trace(text.split("\n"), name, host, pid)
    if len(arguments.pids) != 1:
        raise FaultkitError("sigsrc: name one process", "sigsrc PID")
    pid = arguments.pids[0]
    zombie = report_of_zombie(pid, host)
    if zombie is not None:
        return _with_log(zombie, pid)
    try:
        return analyze(ProcProcess(pid), host)
    except FaultkitError as error:
        if os.path.exists(f"/proc/{pid}"):
            raise
        return _gone(pid, error, host)


def _gone(pid: int, error: FaultkitError, host: dict[str, str | None]) -> Report:
    """What the kernel's log says of a process that is no more.  Raises the error where the log
    can't be read."""
    from faultkit.analyzers.siglog import analyze_log
    from faultkit.klog.lines import kernel_messages

    lines = kernel_messages()
    if not lines:
        raise error
    report = analyze_log(lines, f"{pid}, by the kernel's log", host, pid, "process")
    report.notes.insert(0, f"there is no process {pid}: what the kernel's log has of it")
    report.notes.append(where_cores_go(pid))
    return report


def _with_log(zombie: Report, pid: int) -> Report:
    """A zombie's report, or what the kernel's log says of its death where it says something."""
    from faultkit.analyzers.siglog import analyze_log
    from faultkit.klog.lines import kernel_messages

    lines = kernel_messages()
    if not lines:
        return zombie
    logged = analyze_log(lines, f"{pid}, by the kernel's log", zombie.host, pid, "process")
    if logged.verdict != FOUND:
        return zombie
    logged.notes.insert(0, f"process {pid} is a zombie, ended by {zombie.signals[0].signal}")
    return logged


def tracer(arguments: SigsrcArguments) -> str:
    """The tracer that --arm asks for.  Raises FaultkitError for a process that is gone, and in a
    container, whose process ids are not those that the kernel traces by."""
    from faultkit.procfs.status import sees_all_processes
    from faultkit.signals.tracers import script, target_of

    target = target_of(arguments.arm or 0)
    if target is None:
        raise FaultkitError(f"no process {arguments.arm}", "it has ended: name one that lives")
    if not sees_all_processes():
        raise FaultkitError(
            "process ids in here are a container's, and tracers know the machine's",
            "run it outside of the container, with the process's id there",
        )
    return script(target, arguments.tracer)


def printed_tracer(arguments: SigsrcArguments) -> str:
    """The tracer, or where it was saved.  Raises FaultkitError where it is to be run, too: a
    debugger has its process stopped meanwhile."""
    if arguments.start:
        raise FaultkitError("a tracer can't be run in here", "faultkit sigsrc --arm PID --run")
    text = tracer(arguments)
    if arguments.output in (None, "-"):
        return text
    from faultkit.render import save

    save(arguments.output, text)
    return f"The tracer is in {arguments.output}.\n"


def run_tracer(arguments: SigsrcArguments) -> int:
    """Run the tracer, its output going to ours, or to the file that --output names; its exit
    status.  Raises FaultkitError where it can't be run."""
    import shutil
    import subprocess
    import tempfile
    from contextlib import ExitStack

    text = tracer(arguments)
    command = {"tracefs": "sh", "bpftrace": "bpftrace", "systemtap": "stap"}[arguments.tracer]
    if os.geteuid() != 0:
        raise FaultkitError("tracing takes root", "sudo faultkit sigsrc --arm PID --run")
    if shutil.which(command) is None:
        raise FaultkitError(f"{command} is not installed", "--tracer tracefs needs nothing")
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".faultkit"))
        file.write(text)
        file.flush()
        output = None
        if arguments.output not in (None, "-"):
            output = stack.enter_context(open(arguments.output, "w", encoding="utf-8"))
        process = subprocess.Popen([command, file.name], stdout=output)
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C goes to the tracer, too, which tidies up
            process.wait(10)
            raise


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
