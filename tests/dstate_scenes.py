"""Real tasks that are blocked in the kernel, and the clean-up that wakes them again.

Each scene is a context manager in SCENES that yields a Scene once all of its tasks are blocked.
tools/dstate-scene plays them for the documents.  They need root, /dev/fuse, loop devices or
control groups; without, they raise Unplayable.
"""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from building import Unplayable, build
from dstate_stage import (
    IMAGE,
    Actors,
    Fuse,
    actors,
    await_states,
    blank,
    cgroup,
    ext4,
    fuse,
    need_root,
    run,
)


@dataclass
class Scene:
    """`pids` are the processes by their names in the scene; `facts` what a test wants to know."""

    pids: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


SCENES = {}


def scene(function: Any) -> Any:
    """Register a scene by its name; the generator gets a scratch directory and the actors."""

    @contextlib.contextmanager
    def played() -> Iterator[Scene]:
        need_root()
        scratch = tempfile.TemporaryDirectory(prefix="faultkit-")
        with scratch as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            yield stack.enter_context(contextlib.contextmanager(function)(folder, stack))

    SCENES[function.__name__.replace("_", "-")] = played
    return played


def cast(stack: contextlib.ExitStack, server: "Fuse | None" = None) -> Actors:
    """The actors of a scene; the server that they wait for is ended before they are."""
    players = stack.enter_context(actors())
    if server is not None:
        stack.callback(os.kill, server.pid, signal.SIGKILL)
    return players


READ = "import sys; open(sys.argv[1], 'rb', 0).read(4096)"
WRITE = "import sys; open(sys.argv[1], 'r+b', 0).write(b'x' * 4096)"


@scene
def fuse_read(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A reader whose FUSE server does not answer, killed already: not even SIGKILL ends it."""
    mounted = stack.enter_context(fuse(folder))
    reader = cast(stack, mounted).python(READ, mounted.point / "hang")
    await_states(reader, "S", "request_wait_answer")
    time.sleep(0.1)
    os.kill(reader, signal.SIGKILL)
    await_states(reader, "D", "request_wait_answer")
    yield Scene({"reader": reader, "server": mounted.pid}, {"point": str(mounted.point)})


@scene
def fuse_stopped(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """The server is stopped; a second writer of the same file waits for the first one's lock."""
    mounted = stack.enter_context(fuse(folder))
    players = cast(stack, mounted)
    path = mounted.point / "hang"
    first = players.python(WRITE, path)
    await_states(first, "S", "request_wait_answer")
    second = players.python(WRITE, path)
    await_states(second, "D", "fuse_file_write_iter")
    os.kill(mounted.pid, signal.SIGSTOP)
    yield Scene({"first": first, "second": second, "server": mounted.pid}, {"path": str(path)})


@scene
def loop_over_fuse(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """An ext4 on a loop device whose file is on a FUSE file system that has gone deaf."""
    mounted = stack.enter_context(fuse(folder, IMAGE))
    image = mounted.point / "image"
    point, device = stack.enter_context(ext4(folder, image))
    (point / "data").write_bytes(b"x" * (1 << 20))
    run("sync", point / "data")
    with open(point / "data") as data:
        os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    players = cast(stack, mounted)
    mounted.go_deaf()
    reader = players.python(READ, point / "data")
    syncer = players.python(
        "import os, sys; f = open(sys.argv[1], 'r+b', 0); f.write(b'y'); os.utime(f.fileno());"
        "os.fsync(f.fileno())", point / "data"
    )  # fmt: skip
    await_states(reader, "D", "filemap_")
    await_states(syncer, "D")
    yield Scene(
        {"reader": reader, "syncer": syncer, "server": mounted.pid},
        {"device": device, "image": str(image), "point": str(point)},
    )


@scene
def frozen_ext4(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """Two writers on a frozen file system."""
    point, device = stack.enter_context(ext4(folder, blank(folder)))
    (point / "data").write_bytes(b"x" * 4096)
    players = cast(stack)
    run("fsfreeze", "-f", point)
    stack.callback(run, "fsfreeze", "-u", point)
    writers = [
        players.python(WRITE, point / "data"),
        players.python("import os, sys; os.mkdir(sys.argv[1])", point / "new"),
    ]
    for writer in writers:
        await_states(writer, "D", "percpu_rwsem_wait")
    yield Scene(dict(zip(("writer", "maker"), writers)), {"point": str(point), "device": device})


@scene
def vfork(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A parent that has called vfork()."""
    program, _ = cast(stack).announced([str(build("dstate.c", "dbg")), "vfork"])
    await_states(program.pid, "D")
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    yield Scene({"parent": program.pid, "child": int(children[0])})


@scene
def vfork_opens(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A parent that has called vfork(), of a child that opens a FIFO on a disk."""
    command = [str(build("dstate.c", "dbg")), "vfork-opens", str(folder / "fifo")]
    program, _ = cast(stack).announced(command)
    await_states(program.pid, "D")
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    yield Scene({"parent": program.pid, "child": int(children[0])})


@scene
def freezer_v1(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A sleeper that was frozen where it slept."""
    group = stack.enter_context(cgroup("freezer"))
    sleeper = cast(stack).python("import ctypes; ctypes.CDLL(None).sleep(1000)")
    await_states(sleeper, "S", "hrtimer_nanosleep")
    (group / "cgroup.procs").write_text(str(sleeper))
    stack.callback((group / "freezer.state").write_text, "THAWED")
    (group / "freezer.state").write_text("FROZEN")
    await_states(sleeper, "D")
    yield Scene({"sleeper": sleeper}, {"group": str(group)})


@scene
def freezer_v2(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A sleeper that was frozen by cgroup.freeze: S state, and it does nothing."""
    group = stack.enter_context(cgroup(""))
    sleeper = cast(stack).python("import time; time.sleep(1000)")
    (group / "cgroup.procs").write_text(str(sleeper))
    stack.callback((group / "cgroup.freeze").write_text, "0")
    (group / "cgroup.freeze").write_text("1")
    await_states(sleeper, "S", "get_signal")
    yield Scene({"sleeper": sleeper}, {"group": str(group)})


@scene
def memory_limit(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A process at its control group's limit, whose OOM killer is off."""
    group = stack.enter_context(cgroup("memory"))
    players = cast(stack)
    (group / "memory.limit_in_bytes").write_text(str(32 << 20))
    (group / "memory.oom_control").write_text("1")
    eater = players.python(
        "import sys; open(sys.argv[1], 'w').write('0'); x = bytearray(100 << 20)",
        group / "cgroup.procs",
    )
    stack.callback((group / "memory.limit_in_bytes").write_text, str(1 << 30))
    await_states(eater, "D", "mem_cgroup_oom")
    yield Scene({"eater": eater}, {"group": str(group)})


@scene
def exec_waits(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """exec in a process one of whose threads does not end."""
    mounted = stack.enter_context(fuse(folder))
    program = cast(stack, mounted).python(
        """
        import os, sys, threading, time
        threading.Thread(target=lambda: open(sys.argv[1], "rb", 0).read(1), daemon=True).start()
        time.sleep(0.5)
        os.execv("/bin/sleep", ["sleep", "1000"])
        """,
        mounted.point / "hang",
    )
    await_states(program, "D", "begin_new_exec")
    threads = [int(tid) for tid in os.listdir(f"/proc/{program}/task") if int(tid) != program]
    yield Scene({"program": program, "server": mounted.pid}, {"thread": threads[0]})


@scene
def dead_leader(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A process that exits, but for one thread that does not."""
    mounted = stack.enter_context(fuse(folder))
    program = cast(stack, mounted).python(
        """
        import os, sys, threading, time
        threading.Thread(target=lambda: open(sys.argv[1], "rb", 0).read(1), daemon=True).start()
        time.sleep(0.5)
        os._exit(0)
        """,
        mounted.point / "hang",
    )
    await_states(program, "D", "request_wait_answer")
    yield Scene({"program": program, "server": mounted.pid}, {"path": str(mounted.point / "hang")})


@scene
def core_dump(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A process that dumps its core into a directory whose lock another one holds."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/", "@")):
        raise Unplayable(f"cores do not go to the working directory here: {pattern}")
    mounted = stack.enter_context(fuse(folder))
    players = cast(stack, mounted)
    holder = players.python("import os, sys; os.unlink(sys.argv[1])", mounted.point / "lost")
    await_states(holder, "S", "request_wait_answer")
    program = players.python(
        """
        import os, resource, sys, threading, time
        resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
        threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
        os.chdir(sys.argv[1])
        os.kill(os.getpid(), 6)
        """,
        mounted.point,
    )
    await_states(program, "D", "coredump")
    yield Scene({"program": program, "holder": holder, "server": mounted.pid})


@scene
def userfault(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """Page faults that the process's own userfaultfd handler does not resolve."""
    program, _ = cast(stack).announced([str(build("dstate.c", "dbg")), "fault"])
    await_states(program.pid, "D", "handle_userfault")
    yield Scene({"program": program.pid})


@scene
def mmap_lock(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A process whose mmap_lock is held by a thread in D: reading its cmdline hangs."""
    point, _ = stack.enter_context(ext4(folder, blank(folder)))
    (point / "data").write_bytes(b"x" * 4096)
    run("sync", point / "data")
    players = cast(stack)
    run("fsfreeze", "-f", point)
    stack.callback(run, "fsfreeze", "-u", point)
    program, _ = players.announced([str(build("dstate.c", "dbg")), "mapping", str(point / "data")])
    await_states(program.pid, "D", "vm_mmap_pgoff")
    yield Scene({"program": program.pid}, {"point": str(point)})


@scene
def stopped(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A process that SIGSTOP has stopped."""
    sleeper = cast(stack).python("import time; time.sleep(1000)")
    time.sleep(0.2)
    os.kill(sleeper, signal.SIGSTOP)
    await_states(sleeper, "T")
    yield Scene({"sleeper": sleeper})


@scene
def busy(folder: Path, stack: contextlib.ExitStack) -> Iterator[Scene]:
    """A healthy machine at work: writers that sync, readers, vfork and exec, computing."""
    players = cast(stack)
    writer = """
        import os, sys
        while True:
            with open(sys.argv[1], "wb", 0) as file:
                for _ in range(64):
                    file.write(os.urandom(1 << 16))
                    os.fsync(file.fileno())
        """
    spawner = """
        import subprocess
        while True:
            subprocess.run(["/bin/true"])
        """
    workers = [players.python(writer, folder / f"file{number}") for number in range(4)]
    workers += [players.python(spawner) for _ in range(2)]
    time.sleep(1)
    yield Scene({f"worker{number}": pid for number, pid in enumerate(workers)})
