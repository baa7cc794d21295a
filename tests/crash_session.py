"""crash as people have it: a session that reads lines, and one at a terminal."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

from terminal import Terminal

CHECKOUT = Path(__file__).resolve().parent.parent
EXTENSION = CHECKOUT / "crash_ext" / "faultkit.so"
PROMPT = "crash> "
TROUBLE = re.compile(r"Traceback|internal error|<segmentation violation|recursive restart")
SECONDS = 120
LONGEST = 600  # seconds that one line may take: crash has hung, or its root is gone


def built():
    """faultkit.so, up to date."""
    make = ["make", "-s", "-C", str(CHECKOUT / "crash_ext/src")]
    subprocess.run(make, check=True, timeout=300)
    return EXTENSION


def command(dump, root, *arguments, environment=()):
    """The command line of a crash of a Debian root ("none": this machine's) on the lab's dump."""
    settings = [f"{name}={value}" for name, value in dict(environment).items()]
    options = [] if dump.has_modules else ["--no_modules"]
    files = [str(dump.vmlinux), str(dump.vmcore)]
    crash = ["env", *settings, "crash", *options, *arguments, *files]
    return crash if root == "none" else [str(CHECKOUT / "tests/roots/run"), root, *crash]


class Session:
    """A crash that reads its commands from a pipe; `with` ends it."""

    def __init__(self, dump, root="trixie", extension=EXTENSION, options=(), **environment):
        built()
        self.process = subprocess.Popen(
            command(dump, root, "-s", "--no_scroll", *options, environment=environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
        )
        self._count = 0
        self.loaded = self.run(f"extend {extension}") if extension else ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """The exit status after `q`."""
        if self.process.poll() is None:
            try:
                self.process.stdin.write("q\n")
                self.process.stdin.close()
                return self.process.wait(20)
            except (OSError, subprocess.TimeoutExpired):
                self.process.kill()
        self.process.stdout.close()
        return self.process.wait()

    def run(self, line, trouble=TROUBLE):
        """What the line prints, errors as well, until crash is ready for the next one."""
        self._count += 1
        mark = f"mark {self._count} of this session"
        self.process.stdin.write(f"{line}\n!echo {mark}\n")
        self.process.stdin.flush()
        said = []
        watch = threading.Timer(LONGEST, self.process.kill)
        watch.start()
        try:
            for text in self.process.stdout:
                if text == mark + "\n":
                    answer = "".join(said)
                    assert not trouble or not trouble.search(answer), answer
                    return answer
                said.append(text)
        finally:
            watch.cancel()
        raise AssertionError(f"crash ended in {line!r}, saying {''.join(said)!r}")

    def python(self, directory, source, *arguments):
        """What a Python program prints in it."""
        file = Path(directory) / f"snippet-{self._count}.py"
        file.write_text(source)
        return self.run(" ".join(["faultkit python", str(file), *map(str, arguments)]))


class CrashTerminal(Terminal):
    """crash on a pseudo-terminal of 80 columns; `with` ends it."""

    def __init__(self, dump, *arguments, root="trixie", rows=24, **environment):
        built()
        settings = {"TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": "/dev/null", **environment}
        words = command(dump, root, "-s", *arguments, environment=settings)
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvp(words[0], words)
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, 80, 0, 0))
        self.said = self._unread = ""
        try:
            self.until(PROMPT, SECONDS)
            self.run(f"extend {EXTENSION}")
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        # crash is a child of the root's shell, which dies with `unshare --kill-child`.
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._fd)

    def run(self, command, mark=PROMPT):
        """Run a command: what it prints until the next prompt, its echo left out."""
        self.type(command + "\n")
        return self.until(mark, SECONDS).partition("\n")[2]

    def interrupt(self, seconds=0.0):
        """Ctrl-C, after a pause."""
        time.sleep(seconds)
        self.type("\x03")
