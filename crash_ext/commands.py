"""faultkit's commands in crash: from the words typed to the report shown."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

from crash_ext.bridge import Bridge, BridgeError
from faultkit import __version__
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

WIDEST = 100


class Session(ABC):
    """What runs the commands: crash with Python embedded, or PyKdump."""

    name: str
    bridge: Bridge

    @abstractmethod
    def is_terminal(self) -> bool:
        """Whether what is printed goes to a terminal, without a pager between."""

    def without(self, module: str) -> str:
        """What to do about a module that this Python lacks."""
        return f"install the package of python3 that has {module}"


class Command(NamedTuple):
    """A command: what it does, and what `help` says of it.

    No "%" may stand in `short` and `synopsis`: crash takes them for a format.
    """

    run: Callable[[list[str], Session], None]
    short: str
    synopsis: str
    description: str
    bare: bool = True  # known by its own name, too, where that is free


def _deadlock(words: list[str], session: Session) -> None:
    from crash_ext.kernel import CrashKernel
    from faultkit.analyzers.deadlock import Options, analyze_kernel
    from faultkit.options.deadlock import parse_deadlock
    from faultkit.render import deliver

    arguments = parse_deadlock(words)
    if arguments.pids:
        raise FaultkitError("all tasks of the kernel are examined", "leave the PID out")
    options = Options(arguments.stacks, names=arguments.names_all)
    report = analyze_kernel(CrashKernel(session.bridge), host(session), options)
    deliver(report, arguments, sys.stdout.write, width(session), colored(session))


def _sigsrc(words: list[str], session: Session) -> None:
    from faultkit.options.sigsrc import parse_sigsrc
    from faultkit.render import deliver
    from faultkit.sigsrc import examine

    arguments = parse_sigsrc(words)
    if arguments.watch:
        raise FaultkitError("--watch follows a process in gdb", "leave it out")
    if arguments.arm is not None:
        raise FaultkitError("--arm traces a process of a running system", "use it in the shell")
    if arguments.kernel is not None and arguments.vmlinux is None:
        files = session.bridge.debug_files()
        if files:
            modules = (*arguments.modules, *files[1:])
            arguments = arguments._replace(vmlinux=files[0], modules=modules)
    if arguments.of_files:
        report = examine(arguments, host(session))
    else:
        from crash_ext.kernel import CrashKernel
        from faultkit.analyzers.sigdump import analyze_signals

        if len(arguments.pids) > 1:
            raise FaultkitError("name one process or thread, or none", "sigsrc [PID]")
        pid = arguments.pids[0] if arguments.pids else None
        report = analyze_signals(CrashKernel(session.bridge), host(session), pid)
    deliver(report, arguments, sys.stdout.write, width(session), colored(session))


def _kdecode(words: list[str], session: Session) -> None:
    from crash_ext.kernel import CrashKernel
    from faultkit.analyzers.kdecode_kernel import Options, analyze_kernel
    from faultkit.decode.view import wanted_by
    from faultkit.kdecode import examine, places_of
    from faultkit.options.kdecode import parse_kdecode
    from faultkit.render import deliver

    arguments = parse_kdecode(words)
    files = session.bridge.debug_files()
    if arguments.vmlinux is None and files:
        arguments = arguments._replace(vmlinux=files[0])
    modules = (*arguments.modules, *(path for path in files[1:] if os.path.isfile(path)))
    arguments = arguments._replace(modules=modules)
    if arguments.file is not None:
        report = examine(arguments._replace(words=(arguments.file,)), host(session))
    else:
        kernel = CrashKernel(session.bridge)
        options = Options(
            arguments.words,
            arguments.all,
            arguments.exact,
            arguments.frames,
            kernel.current(),
            wanted_by(arguments),
            arguments.sources,
        )
        report = analyze_kernel(kernel, places_of(arguments), host(session), options)
    deliver(report, arguments, sys.stdout.write, width(session), colored(session))


def _dstate(words: list[str], session: Session) -> None:
    from crash_ext.kernel import CrashKernel
    from faultkit.analyzers.dstate import analyze
    from faultkit.causes.view import View
    from faultkit.dstate import open_view, options_of
    from faultkit.options.dstate import parse_dstate
    from faultkit.render import deliver

    arguments = parse_dstate(words)
    view: View
    if arguments.file is not None:
        view = open_view(arguments)
    else:
        if arguments.watch:
            raise FaultkitError(
                "--watch is for a machine that runs", "use `faultkit dstate --watch` there"
            )
        from faultkit.kernel.blocked.view import DumpView

        view = DumpView(CrashKernel(session.bridge), arguments.pids)
    report = analyze(view, host(session), options_of(arguments))
    deliver(report, arguments, sys.stdout.write, width(session), colored(session))


def _python(words: list[str], session: Session) -> None:
    from crash_ext.kernel import CrashKernel

    if not words:
        raise FaultkitError("no file given", "faultkit python FILE [ARGUMENT...]")
    path = os.path.expanduser(words[0])
    with open(path, "rb") as file:
        text = file.read()
    saved = sys.argv
    sys.argv = [path, *words[1:]]
    try:
        code = compile(text, path, "exec")
        kernel = CrashKernel(session.bridge)
        exec(code, {"__name__": "__main__", "__file__": path, "kernel": kernel})
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            raise FaultkitError(leaving.code) from None
    except (FaultkitError, OSError):
        raise
    except Exception:
        import traceback

        sys.stdout.write(traceback.format_exc())  # of the user's own program
    finally:
        sys.argv = saved


COMMANDS = {
    "deadlock": Command(
        _deadlock,
        "find deadlocks: who waits for whom, the cycle, and who queues behind it",
        "[--stacks cycle|all|none] [--json FILE] [--dot FILE] [--svg FILE] [--output FILE]",
        """\
  Examines all tasks of the dump, or of the live kernel: which lock each blocked
  task waits for, who holds it, and whether the waits close a cycle.  It says on
  what evidence, and what could not be seen.

    --stacks WHICH  back traces: of the members of cycles (default), all, none
    --json FILE     the report for machines ("-": standard output, alone)
    --dot FILE      the wait graph for graphviz
    --svg FILE      the same drawn, if graphviz is installed
    --output FILE   the report goes to FILE instead of the terminal

  Load the debug information of modules first (mod -S, or mod -s NAME) to have
  source lines and the types of their own.

EXAMPLE
  The report of a dump, and the same for a ticket and for a program:

    crash> deadlock
    crash> deadlock --output report.txt --json report.json
    crash> deadlock > report.txt""",
    ),
    "kdecode": Command(
        _kdecode,
        "back traces and their disassembly, mapped to source, with arguments and locals",
        "[PID|TASK|ADDRESS|SYMBOL+OFFSET]... [-a] [--from FILE] [-n FRAMES] [--no-source] "
        "[--no-dis] [--context N] [--source DIR] [--brief] [--json FILE] [--html FILE]",
        """\
  Decodes the frames of a task: without arguments those of the current context, at
  first the one that panicked.  Each frame has its function with the inline chain,
  file and line; arguments and locals with their values and where these are from, or
  why there is none; the source, if it is here; the code as it is in the dump, with
  what was patched; and, where an exception stopped it, the operand that was wrong.

    PID, TASK        the frames of that task; several may be given
    ADDRESS          a return address in the kernel's code (--exact: an instruction)
    SYMBOL+OFFSET    the same
    -a, --all        the tasks on all CPUs
    --from FILE      a text with back traces: an oops, sysrq output, bt...
    -n FRAMES        so many of each back trace
    --no-source, --no-dis, --context N   less, or N lines of source on each side
    --source DIR     a tree of the sources
    --module FILE, --debug-dir DIR, --vmlinux FILE   where debug information is
    --brief          one line a frame, to paste in a ticket
    --json FILE      the report for machines ("-": standard output, alone)
    --html FILE      a page with frames that fold
    --output FILE    the report goes to FILE instead of the terminal

  Load the debug information of modules first (mod -S, or mod -s NAME), or name it.

EXAMPLE
  Where process 4711 sleeps, in short and as a page:

    crash> kdecode 4711 --brief
    crash> kdecode 4711 --html case.html --source /usr/src/linux-6.1""",
    ),
    "sigsrc": Command(
        _sigsrc,
        "signals of programs: who sent them, and what killed or is killing whom",
        "[PID] [--kernel SIGNAL] [--vmlinux FILE] [--module FILE] [--log FILE] [--from FILE]",
        """\
  Of all programs in the dump, or of one process or thread: pending signals with
  their senders, processes that are being killed and why their threads have not
  died yet, stopped and traced tasks, zombies that a signal has ended; and what
  the kernel's log tells: the OOM killer's choice with the table it printed,
  faults, hardware-poisoned memory.

    PID              a process, or a thread; its masks and handlers are shown, too
    --kernel SIGNAL  instead: every place in this kernel build that can send the
                     signal (SIGBUS, bus or 7; all), by the code of the vmlinux
    --vmlinux FILE   another kernel than the dump's, for --kernel; else the modules
                     that `mod -s` has loaded are looked at, too
    --module FILE    a module for --kernel, too; may be given again
    --log FILE       instead: what this kernel log tells
    --from FILE      instead: what a tracer of sigsrc --arm has written
    --json FILE      the report for machines ("-": standard output, alone)
    --output FILE    the report goes to FILE instead of the terminal

EXAMPLE
  All of the dump, and then who sends SIGBUS in this kernel:

    crash> sigsrc
    crash> sigsrc --kernel SIGBUS""",
    ),
    "dstate": Command(
        _dstate,
        "why tasks are blocked in D state, and who or what would wake them",
        "[PID...] [--all] [--min-age SECONDS] [--stacks] [--json FILE] [--output FILE]",
        """\
  Examines all tasks of the dump, or those of some processes: since when each
  blocked one waits, in which system call, on which file, device or lock, why,
  and who has to act: the lock's holder, the device with its requests, the
  server, the control group, followed to the end of the chain.

    PID...            these processes only, stopped ones too
    --all             every process, as without any PID
    --min-age SECONDS reports what has been blocked for so long (default: 1)
    --stacks          shows a kernel stack of every group
    --from FILE       reads a kernel log (sysrq-w, hung-task reports) instead
    --json FILE       the report for machines ("-": standard output, alone)
    --output FILE     the report goes to FILE instead of the terminal

  Load the debug information of modules first (mod -S, or mod -s NAME): what is
  behind a device, an NFS or a FUSE mount is in their structures.

EXAMPLE
  The report of a dump, and of one process in it:

    crash> dstate
    crash> dstate 4711 --stacks
    crash> dstate --min-age 120 --json blocked.json""",
    ),
    "python": Command(
        _python,
        "run a Python file in the Python that faultkit has embedded",
        "FILE [ARGUMENT...]",
        """\
  Runs FILE with sys.argv set, and with `kernel` defined: the dump as faultkit's
  commands see it, a faultkit.kernel.target.Kernel.

EXAMPLE
  With a file pids.py that holds

    for task in kernel.tasks():
        print(task.tid, task.name)

    crash> faultkit python pids.py""",
        bare=False,
    ),
}

PREFIX = Command(
    lambda words, session: None,
    "diagnose deadlocks and other faults of the kernel",
    "COMMAND [ARGUMENT...]",
    "",
)


def _prefix_description() -> str:
    longest = max(map(len, COMMANDS))
    lines = ["  The commands, each with its own help (faultkit COMMAND --help):", ""]
    lines += [f"    {name:{longest}}  {command.short}" for name, command in COMMANDS.items()]
    bare = ", ".join(name for name, command in COMMANDS.items() if command.bare)
    lines += ["", f"  Known without the prefix, too, unless crash has another by that name: {bare}"]
    lines += ["", "EXAMPLE", "    crash> faultkit deadlock"]
    return "\n".join(lines)


def help_tables() -> list[tuple[str, list[str]]]:
    """[(name, [name, short text, synopsis, line of description...]), ...] for crash's `help`."""
    prefix = PREFIX._replace(description=_prefix_description())
    every = {"faultkit": prefix, **{name: c for name, c in COMMANDS.items() if c.bare}}
    return [
        (name, [name, command.short, command.synopsis, *command.description.splitlines()])
        for name, command in every.items()
    ]


def _help(name: str) -> str:
    """As crash's own `help` prints it, for what it does not know."""
    if name == "faultkit":
        command = PREFIX._replace(description=_prefix_description())
    else:
        command = COMMANDS[name]
        name = name if command.bare else f"faultkit {name}"
    return (
        f"\nNAME\n  {name} - {command.short}\n\nSYNOPSIS\n  {name} {command.synopsis}\n\n"
        f"DESCRIPTION\n{command.description}\n\n"
    )


def run(words: list[str], session: Session) -> None:
    """Run the command typed as `words`.  What goes wrong is printed, in one line; Ctrl-C and a
    reader that left early are raised."""
    said = words[0]
    rest = words[1:]
    try:
        if said == "faultkit":
            if not rest or rest[0] in ("-h", "--help", "help"):
                sys.stdout.write(_help(_known(rest[1]) if len(rest) > 1 else "faultkit"))
                return
            said, rest = _known(rest[0]), rest[1:]
        if rest[:1] in (["-h"], ["--help"]):
            sys.stdout.write(_help(said))
            return
        COMMANDS[said].run(rest, session)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except FaultkitError as error:
        _say(said, str(error))
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _say(said, f"{named}{error.strerror or error}")
    except BridgeError as error:
        _say(said, f"crash failed: {error}")
    except ModuleNotFoundError as error:
        _say(said, f"this Python has no module {error.name}; {session.without(str(error.name))}")
    except Exception as error:
        from faultkit.render.mistake import unforeseen

        _say(said, unforeseen(error))


def _known(name: str) -> str:
    if name not in COMMANDS:
        raise FaultkitError(f"no command `{name}`", "see `faultkit`")
    return name


def _say(name: str, message: str) -> None:
    from faultkit.render.escape import clean

    sys.stdout.write(f"{name}: {clean(' '.join(message.split()), 1000)}\n")


def host(session: Session) -> dict[str, str | None]:
    """What runs us, for the report."""
    return {"name": session.name, "version": session.bridge.version, "faultkit": __version__}


def width(session: Session) -> int:
    """Columns for a report: the terminal's, at most 100."""
    if not session.is_terminal():
        return WIDEST
    try:
        return min(os.get_terminal_size(1).columns or WIDEST, WIDEST)
    except OSError:
        return WIDEST


def colored(session: Session) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR or TERM=dumb.  crash's pager would show
    the codes, so there is colour only with `set scroll off`."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return session.is_terminal()
