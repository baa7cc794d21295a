"""faultkit's gdb commands: from the words typed to the report shown."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import gdb

from faultkit import __version__
from faultkit.render.mistake import one_line, unforeseen
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


WIDEST = 100


def deadlock(argument: str) -> None:
    """Run `deadlock` with the words typed after it.  Raises gdb.GdbError for the user."""
    with _told("deadlock"):
        from faultkit.analyzers.deadlock import Options, analyze
        from faultkit.options.deadlock import parse_deadlock
        from faultkit.render import deliver
        from faultkit.world import named
        from gdb_ext.target import GdbProcess, selection_kept

        arguments = parse_deadlock(gdb.string_to_argv(argument or ""))
        with selection_kept():
            processes: list[Any] = named(arguments.pids) if arguments.pids else [GdbProcess()]
            options = Options(arguments.stacks, names=arguments.names_all)
            report = analyze(processes, host(), options)
            if not arguments.pids:
                report.paused_seconds = processes[0].paused_seconds()
                report.notes += processes[0].notes()
        deliver(report, arguments, gdb.write, width(), colored())


def dstate(argument: str) -> None:
    """Run `dstate` with the words typed after it.  Raises gdb.GdbError for the user."""
    with _told("dstate"):
        from faultkit.dstate import examine
        from faultkit.options.dstate import parse_dstate
        from faultkit.render import deliver

        arguments = parse_dstate(gdb.string_to_argv(argument or ""))
        if not (arguments.pids or arguments.all or arguments.file):
            from gdb_ext.target import live_inferior

            pid = live_inferior()
            arguments = arguments._replace(pids=(pid,) if pid else ())
        if arguments.watch:
            from faultkit.render.dstate_watch import show_changes

            gc.enable()  # it may run for days
            report = show_changes(arguments, host(), gdb.write, gdb.flush)
        else:
            report = examine(arguments, host())
        deliver(report, arguments, gdb.write, width(), colored())


def sigsrc(argument: str) -> None:
    """Run `sigsrc` with the words typed after it.  Raises gdb.GdbError for the user."""
    with _told("sigsrc"):
        from faultkit.options.sigsrc import parse_sigsrc
        from faultkit.render import deliver

        arguments = parse_sigsrc(gdb.string_to_argv(argument or ""))
        if arguments.arm is not None:
            from faultkit.sigsrc import printed_tracer

            gdb.write(printed_tracer(arguments))
            return
        if arguments.pids or arguments.of_files:
            from faultkit.sigsrc import examine

            report = examine(arguments, host())
        else:
            from faultkit.analyzers.sigsrc import Options, analyze
            from gdb_ext.signals import SignalledProcess
            from gdb_ext.target import selection_kept

            if arguments.watch:
                from gdb_ext.watch import watch

                gc.enable()  # it may run for days
                watch(arguments, gdb.write, gdb.flush)
                return
            with selection_kept():
                process = SignalledProcess()
                when = os.stat(process.core).st_mtime if process.core else None
                report = analyze(process, host(), Options(when))
                report.notes += process.notes()
        deliver(report, arguments, gdb.write, width(), colored())


def kdecode(argument: str) -> None:
    """Run `kdecode` with the words typed after it.  Raises gdb.GdbError for the user."""
    with _told("kdecode"):
        from faultkit.options.kdecode import parse_kdecode
        from faultkit.render import deliver

        arguments = parse_kdecode(gdb.string_to_argv(argument or ""))
        if arguments.file is not None:
            from faultkit.kdecode import examine

            report = examine(arguments._replace(words=(arguments.file,)), host())
        else:
            from gdb_ext.kdecode import report_on

            report = report_on(arguments, host())
        deliver(report, arguments, gdb.write, width(), colored())


@contextmanager
def _told(command: str) -> Iterator[None]:
    """Runs a command: what goes wrong is one line for the user."""
    collecting = gc.isenabled()
    gc.disable()  # while so much is made that lasts, it would look at all of gdb's again and again
    try:
        yield
    except FaultkitError as error:
        raise gdb.GdbError(f"{command}: {one_line(error)}") from None
    except KeyboardInterrupt:  # Ctrl-C, or "q" at the pager's prompt; gdb's own word for it
        raise gdb.GdbError("Quit") from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        said = FaultkitError(f"{named}{error.strerror or error}")
        raise gdb.GdbError(f"{command}: {one_line(said)}") from None
    except gdb.error as error:
        raise gdb.GdbError(f"{command}: gdb failed: {one_line(error)}") from None
    except Exception as error:
        raise gdb.GdbError(f"{command}: {unforeseen(error)}") from None
    finally:
        if collecting:
            gc.enable()


def complete(command: str, text: str, word: str | None) -> list[str]:
    """Completions: options, and what may follow those that take a word; pids."""
    from importlib import import_module

    from faultkit.options import Known

    module = import_module(f"faultkit.options.{command}")
    known = Known(module.add_session_arguments)
    words = text.split()
    last = words.pop() if words and not text[-1].isspace() else ""
    # gdb's own word starts after the last "-" or "/"; at first it only asks how words end (None)
    cut = len(last) - len(word or "")
    value = known.value(words[-1]) if words else None
    if value is not None and "choices" in value:
        choices = list(value["choices"])
    elif value is not None and value.get("metavar") in ("FILE", "DIR"):
        choices = _files_like(last)
    elif last.isdigit() or (value is not None and value.get("metavar") == "PID"):
        choices = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    else:
        choices = list(known.options) if value is None else []
    return [choice[cut:] for choice in choices if choice.startswith(last)]


def _files_like(start: str) -> list[str]:
    """The files whose paths begin so.  gdb's own COMPLETE_FILENAME would take all words typed
    for one path."""
    folder, slash, _ = start.rpartition("/")
    try:
        with os.scandir(os.path.expanduser(folder + slash) or ".") as entries:
            return [folder + slash + e.name + ("/" if e.is_dir() else "") for e in entries]
    except OSError:
        return []


def host() -> dict[str, str | None]:
    """What runs us, for the report."""
    return {"name": "gdb", "version": gdb.VERSION, "faultkit": __version__}


def width() -> int:
    """Columns for a report: gdb's width, at most 100."""
    columns = gdb.parameter("width")
    return min(int(columns), WIDEST) if columns else WIDEST


def colored() -> bool:
    """Whether to colour, by `set faultkit color`, gdb's styling, NO_COLOR and the terminal."""
    choice = gdb.parameter("faultkit color")
    if choice != "auto":
        return bool(choice == "on")
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        if not gdb.parameter("style enabled"):
            return False
    except RuntimeError:
        pass
    return os.isatty(1) and sys.stdout is not None
