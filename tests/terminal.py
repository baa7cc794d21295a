"""gdb as people have it: at a terminal with a size, a pager and Ctrl-C; and in scripts."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from harness import COMMANDS, HarnessError, gdb_program, run_gdb

PROMPT = "(gdb) "
PAGER = "--Type <RET> for more, q to quit, c to continue without paging--"
FIRST = ("-iex", "set height 0", "-iex", "set width 80")  # before gdb has seen the size
PLAIN = {"TERM": "dumb", "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8", "HISTSIZE": "0"}
SOURCE = ("-ex", f"source {COMMANDS}")
TROUBLE = re.compile(r"Traceback|Python Exception|Error occurred|internal error")


def commands(*lines):
    """gdb's arguments to run these commands."""
    return [word for line in lines for word in ("-ex", line)]


def batch(*lines, source=SOURCE, seconds=60):
    """gdb -batch that runs these commands: (stdout, stderr), never a traceback."""
    stdout, stderr = run_gdb([*source, *commands(*lines)], seconds=seconds)
    assert not TROUBLE.search(stdout + stderr), stdout + stderr
    return stdout, stderr


def quiet(stderr):
    """gdb's errors without its warnings about sources and libraries that are not here."""
    noise = re.compile(r"warning|No such file or directory\.$")
    return [line for line in stderr.splitlines() if line and not noise.search(line)]


# For each core: whatever gdb says of it, then the report, or the line that says why not.
_EACH = """
import gdb, json, time
gdb.execute({file!r}, to_string=True)
for core in json.load(open({jobs!r})):
    for line in ("core-file", "core-file " + core):
        try:
            gdb.execute(line, to_string=True)
        except (gdb.error, UnicodeDecodeError):  # its own words have bytes of the damaged core
            pass
    said, began = "", time.process_time()
    try:
        gdb.execute("deadlock --json " + core + ".json", to_string=True)
    except gdb.error as error:
        said = str(error)
    with open({answers!r}, "a") as file:
        file.write(json.dumps([core, said, time.process_time() - began]) + "\\n")
"""


def examine_cores(cores, executable, directory, seconds=600):
    """`deadlock` on many cores in as few gdbs as they survive: [(core, report or None, error
    line, seconds of processor time)].  A core at which gdb itself dies is left out."""
    left, found = [str(core) for core in cores], []
    jobs, answers, script = (directory / name for name in ("jobs", "answers", "each.py"))
    script.write_text(
        _EACH.format(file=f"file {executable or ''}", jobs=str(jobs), answers=str(answers))
    )
    while left:
        jobs.write_text(json.dumps(left))
        answers.write_text("")
        batch(f"source {script}", seconds=seconds)
        told = [json.loads(line) for line in answers.read_text().splitlines()]
        for core, said, took in told:
            report = None
            if not said:
                with open(core + ".json") as file:
                    report = json.load(file)
            assert not TROUBLE.search(said), (core, said)
            found.append((core, report, said, took))
        left = left[len(told) + 1 :]
    return found


class Terminal:
    """gdb on a pseudo-terminal of 80 columns; `with` ends it.  `said` has all that it printed."""

    def __init__(self, *arguments, source=True, rows=40, **environment):
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            settings = {**os.environ, **PLAIN, **environment}
            settings.pop("DEBUGINFOD_URLS", None)
            try:
                os.execvpe(
                    gdb_program(), [gdb_program(), "-nx", "-q", *FIRST, *arguments], settings
                )
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, 80, 0, 0))
        self.said = ""
        self._unread = ""
        try:
            self.until(PROMPT)
            if source:
                self.run(f"source {COMMANDS}")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._fd)

    def until(self, mark, seconds=20):
        """What it prints up to `mark`, without the mark and with newlines only."""
        deadline = time.monotonic() + seconds
        while mark not in self._unread:
            if not select.select([self._fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise HarnessError(f"no {mark!r} within {seconds} s after {self._unread!r}")
            data = os.read(self._fd, 1 << 16).decode(errors="replace")
            self.said += data
            self._unread += data.replace("\r", "")
        answer, _, self._unread = self._unread.partition(mark)
        return answer

    def type(self, text):
        """Type without waiting for an answer."""
        os.write(self._fd, text.encode())

    def run(self, command, mark=PROMPT):
        """Run a command: what it prints until the next prompt, its echo left out."""
        self.type(command + "\n")
        return self.until(mark).partition("\n")[2]

    def selection(self):
        """The selected inferior, thread and frame."""
        text = self.run('printf "%d %d %#lx %#lx\\n", $_inferior, $_thread, $pc, $sp')
        return re.findall(r"\S+", text)
