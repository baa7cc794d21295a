"""Small Python programs that block in a system call, and what the providers say of them."""

import contextlib
import subprocess
import sys
import textwrap
import time

from faultkit import waits
from faultkit.procfs.process import ProcProcess
from faultkit.world import Blocked, World

PREFACE = "import ctypes, fcntl, os, select, signal, socket, struct, sys, threading, time\n"
PREFACE += "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # else its handler might answer others
READY = "print('ready', flush=True)\n"


class Programs:
    """Starts programs, and ends those that it started."""

    def __init__(self):
        self.running = []

    def start(self, code, *arguments, pass_fds=()):
        """A program that runs `code`, which calls READY (replaced by a print) before it blocks;
        returns once it has."""
        code = PREFACE + textwrap.dedent(code).replace("READY", READY.strip())
        program = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            pass_fds=pass_fds,
            text=True,
        )
        self.running.append(program)
        line = program.stdout.readline()
        assert line.startswith("ready"), f"the program said {line!r}"
        program.words = line.split()[1:]
        return program

    def end(self):
        for program in self.running:
            program.kill()
            program.wait()
            program.stdout.close()


def pid_of(program):
    return program if isinstance(program, int) else program.pid


def blocked(program, *numbers, tid=None, world=None):
    """The task as a provider gets it, once it is blocked in one of these system calls."""
    pid = pid_of(program)
    process = ProcProcess(pid)
    world = world or World([process])
    deadline = time.monotonic() + 10
    seen = None
    while time.monotonic() < deadline:
        for task in process.tasks():
            if tid is not None and task.tid != tid:
                continue
            seen = process.syscall(task)
            if seen is not None and seen.nr in numbers:
                time.sleep(0.05)
                if process.syscall(task) == seen:
                    return Blocked(world, process, task, seen)
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is not blocked in {numbers}, but in {seen}")


def wait_of(program, *numbers, tid=None):
    """What the program's task waits for."""
    return waits.recognise(blocked(program, *numbers, tid=tid))


def pids(tasks):
    return {task.pid for task in tasks}


@contextlib.contextmanager
def programs():
    started = Programs()
    try:
        yield started
    finally:
        started.end()
