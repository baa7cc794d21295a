"""faultkit for gdb: `source` this file, then `help faultkit`.

It only defines commands; what they need is imported when they are first used.
"""

import os
import sys

import gdb


def _prepare():
    """Make faultkit's packages importable, whatever Python gdb embeds.

    Only appends to sys.path: the virtual environment of this checkout, this installation,
    FAULTKIT_SITE.  The packages beside this very file win over any other copy.
    """
    here = os.path.realpath(os.path.expanduser(_prepare.__code__.co_filename))
    root = os.path.dirname(os.path.dirname(here))
    venv = os.path.join(root, ".venv", "lib")
    pythons = sorted(os.listdir(venv)) if os.path.isdir(venv) else []
    places = [os.path.join(venv, python, "site-packages") for python in pythons]
    places.append(root)
    places += [place for place in os.environ.get("FAULTKIT_SITE", "").split(os.pathsep) if place]
    sys.path.extend(place for place in places if place not in sys.path)
    for name in [name for name in sys.modules if name.split(".")[0] in ("faultkit", "gdb_ext")]:
        del sys.modules[name]  # sourced again: take the files as they are now
    sys.path.insert(0, root)
    try:
        import faultkit  # noqa: F401
        import gdb_ext  # noqa: F401
    except ImportError:
        missing = "faultkit: its packages are missing in " + root + "; install it again"
        raise gdb.GdbError(missing) from None
    finally:
        sys.path.remove(root)


class _Prefix(gdb.Command):
    """Diagnose deadlocks and other faults of the inferior, or of any process.

Each command says what was found, on what evidence, and what could not be seen.
They change nothing: no setting of gdb, nothing in the process."""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_SUPPORT, gdb.COMPLETE_NONE, True)

    def invoke(self, argument, from_tty):
        _refuse("faultkit", argument)
        gdb.execute("help faultkit")


class _SetPrefix(gdb.Command):
    """Settings of faultkit."""

    def __init__(self, name, then):
        super().__init__(name, gdb.COMMAND_SUPPORT, gdb.COMPLETE_NONE, True)
        self._name, self._then = name, then

    def invoke(self, argument, from_tty):
        _refuse(self._name, argument)
        gdb.execute(self._then)


def _refuse(prefix, argument):
    """Say as gdb does that a prefix command has no such sub-command."""
    if argument:
        raise gdb.GdbError(f'Undefined {prefix} command: "{argument}".  Try "help {prefix}".')


class _Color(gdb.Parameter):
    """Whether faultkit's reports are coloured: auto, on or off.

"auto" follows the terminal, gdb's `style enabled` and NO_COLOR."""

    set_doc = "Set whether faultkit's reports are coloured."
    show_doc = "Show whether faultkit's reports are coloured."

    def __init__(self):
        super().__init__(
            "faultkit color", gdb.COMMAND_SUPPORT, gdb.PARAM_ENUM, ["auto", "on", "off"]
        )
        self.value = "auto"

    def get_set_string(self):
        return ""

    def get_show_string(self, value):
        return f"faultkit's reports are coloured: {value}."


class _Deadlock(gdb.Command):
    """Find deadlocks: who waits for whom, the cycle, and who queues behind it.

Usage: deadlock [PID...] [--stacks cycle|all|none] [--json FILE] [--dot FILE]
                [--svg FILE] [--output FILE]

Without PID the inferior, live or a core, is examined.  With PIDs those
processes are, through /proc: nothing is attached, nothing is paused, and a
thread in D state does no harm.

  --stacks WHICH  back traces: of the members of cycles (default), all, none
  --json FILE     the report for machines ("-": standard output, alone)
  --dot FILE      the wait graph for graphviz
  --svg FILE      the same drawn, if graphviz is installed
  --output FILE   the report goes to FILE instead of the terminal"""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_SUPPORT)

    def invoke(self, argument, from_tty):
        from gdb_ext import commands

        commands.deadlock(argument)

    def complete(self, text, word):
        from gdb_ext import commands

        return commands.complete("deadlock", text, word)


class _Dstate(gdb.Command):
    """Say why tasks sit in D state, and who or what would wake them.

Usage: dstate [PID...] [--all] [--from FILE] [--min-age SECONDS] [--stacks]
              [--watch] [--json FILE] [--output FILE]

Without PID the inferior is examined, without an inferior the whole machine.
It reads /proc: nothing is attached, nothing is paused.

  --all             every process of this machine
  --from FILE       a kernel log: sysrq-w, sysrq-t, hung-task reports
  --min-age SECONDS what has been blocked for so long (default: 1)
  --stacks          show a kernel stack of every group
  --watch           look every second until interrupted; show what moves
  --json FILE       the report for machines ("-": standard output, alone)
  --output FILE     the report goes to FILE instead of the terminal"""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_SUPPORT)

    def invoke(self, argument, from_tty):
        from gdb_ext import commands

        commands.dstate(argument)

    def complete(self, text, word):
        from gdb_ext import commands

        return commands.complete("dstate", text, word)


class _Sigsrc(gdb.Command):
    """Say which signal ended or stopped the program, who or what sent it, and why.

Usage: sigsrc [PID] [--watch] [--json FILE] [--output FILE]
       sigsrc --log FILE [PID] | --from FILE | --arm PID [--tracer TRACER]
       sigsrc --kernel SIGNAL [--vmlinux FILE] [--module FILE]

Of a fault: which access failed, and why; of a signal that was sent: by whom;
of those that are pending, too.  Without PID the inferior, live or a core, is
examined.  With PID that process is, through /proc, which tells of pending
signals but not of their senders.

  --watch         let the inferior run; tell of each signal until interrupted
  --log FILE      what a kernel log (dmesg, journalctl, /dev/kmsg) says, of PID
                  or of all
  --arm PID       print a tracer for the next signal; --tracer says which one:
                  tracefs (default), bpftrace, systemtap
  --from FILE     explain what that tracer wrote
  --kernel SIGNAL every place in a kernel that can send the signal; the one of
                  this machine, or of --vmlinux, with each --module
  --json FILE     the report for machines ("-": standard output, alone)
  --output FILE   the report goes to FILE instead of the terminal"""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_SUPPORT)

    def invoke(self, argument, from_tty):
        from gdb_ext import commands

        commands.sigsrc(argument)

    def complete(self, text, word):
        from gdb_ext import commands

        return commands.complete("sigsrc", text, word)


class _Kdecode(gdb.Command):
    """Map back traces and their disassembly to source, with arguments and locals.

Usage: kdecode [ADDRESS|SYMBOL+OFFSET]... [-a|--all] [--from FILE]
               [-n FRAMES] [--no-source] [--no-dis] [--context N]
               [--source DIR] [--brief] [--json FILE] [--html FILE]
               [--output FILE]

Of the selected thread, of all with --all, or of places in the code.  Each
frame has its inline chain, values with where they are from or why there is
none, source and code, and, where a fault stopped it, the operand that was
wrong.  With a vmlinux instead of a program it is the kernel's code.

  --from FILE     a text with back traces: an oops, sysrq output, bt...
  -n FRAMES       so many of each back trace
  --context N     N lines of source on each side (default: 4)
  --source DIR    a tree of the sources
  --debug-dir DIR, --vmlinux FILE, --module FILE
                  where debug information is
  --exact         addresses are instructions, not return addresses
  --brief         one line a frame, to paste in a ticket
  --html FILE     a page with frames that fold
  --json FILE     the report for machines ("-": standard output, alone)
  --output FILE   the report goes to FILE instead of the terminal"""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_SUPPORT)

    def invoke(self, argument, from_tty):
        from gdb_ext import commands

        commands.kdecode(argument)

    def complete(self, text, word):
        from gdb_ext import commands

        return commands.complete("kdecode", text, word)


def _is_free(name):
    """Whether no command of that very name exists but ours."""
    if name in getattr(gdb, "_faultkit_commands", ()):
        return True
    return name not in gdb.execute("complete " + name, to_string=True).splitlines()


def _define():
    _Prefix("faultkit")
    if not hasattr(gdb, "_faultkit_commands"):
        _SetPrefix("set faultkit", "help set faultkit")
        _SetPrefix("show faultkit", "show faultkit color")
        _Color()
        gdb._faultkit_commands = set()
    commands = (
        ("deadlock", _Deadlock), ("dstate", _Dstate), ("sigsrc", _Sigsrc), ("kdecode", _Kdecode),
    )  # fmt: skip
    for name, command in commands:
        command("faultkit " + name)
        if _is_free(name):
            command(name)
            gdb._faultkit_commands.add(name)


if sys.version_info < (3, 9):  # noqa: UP036 - gdb may embed any Python
    print("faultkit: Python 3.9 or newer is needed, this gdb embeds " + sys.version.split()[0])
else:
    _prepare()
    _define()
