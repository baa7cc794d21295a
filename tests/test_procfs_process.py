"""One process through /proc: its memory, its mappings, how long it has been stopped."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from faultkit.model import Task
from faultkit.procfs.age import seconds_stopped
from faultkit.procfs.clocks import read_sched
from faultkit.procfs.process import ProcProcess
from faultkit.procfs.status import is_dead, status, switches
from faultkit.target import PAGE, ReadError
from faultkit.world import thread_group


@pytest.fixture
def own():
    process = ProcProcess(os.getpid())
    yield process
    process.close()


def test_held_memory_is_of_one_moment(own):
    buffer = ctypes.create_string_buffer(b"before", 64)
    address = ctypes.addressof(buffer)
    own.hold(address, 32)
    buffer.raw = b"after".ljust(64, b"\0")
    assert own.read(address, 6) == b"before"
    own.let_go()
    assert own.read(address, 5) == b"after"


def test_what_is_held_ends_at_the_page():
    """What lies beyond may be unmapped, or not be asked for: it is read as always."""
    pages = mmap.mmap(-1, 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    pages[: 2 * PAGE] = b"x" * PAGE + b"y" * PAGE
    process = ProcProcess(os.getpid())
    process.hold(start + PAGE - 4, 64)
    assert process.held(start + PAGE - 4, 4) == b"xxxx"
    assert process.held(start + PAGE - 4, 5) is None
    assert process.held(start + PAGE - 69, 1) is None
    assert process.read(start + PAGE - 4, 8) == b"xxxxyyyy"
    process.hold(start + PAGE, 64)
    assert process.held(start + PAGE - 1, 1) is None
    assert process.held(start + PAGE, 64) == b"y" * 64
    process.close()


def test_nothing_is_held_of_what_cannot_be_read(own):
    own.hold(8, 64)
    assert own.held(8, 1) is None
    with pytest.raises(ReadError):
        own.read(8, 4)


def test_the_mapping_of_an_address(own):
    mappings = own.mappings()
    assert len(mappings) > 10
    for mapping in mappings:
        assert own.mapping(mapping.start) == own.mapping(mapping.end - 1) == mapping
    starts = {mapping.start for mapping in mappings}
    for mapping in mappings:
        if mapping.end not in starts:
            assert own.mapping(mapping.end) is None
    assert own.mapping(0) is None
    assert own.mapping((1 << 64) - 1) is None


def test_files_are_the_mappings_with_a_path(own):
    files = own.files()
    assert files == [mapping for mapping in own.mappings() if mapping.path.startswith("/")]
    assert any("python" in mapping.path for mapping in files)


def test_code_is_in_files_and_in_executable_memory(own):
    with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC):
        process = ProcProcess(os.getpid())
        code = process.code_mappings()
        assert code == [m for m in process.mappings() if "/" in m.path or "x" in m.perms]
        assert any(not mapping.path for mapping in code)
        assert any(mapping.path == "[vdso]" for mapping in code)


@pytest.mark.parametrize("cpu", sorted(os.sched_getaffinity(0)))
def test_how_long_a_process_has_been_stopped(cpu):
    """On whichever CPU it stopped, and we are: the clocks of two may differ."""
    busy = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            os.kill(child.pid, signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)
            began = time.monotonic()
            time.sleep(0.4)
            said = seconds_stopped([Task(child.pid, child.pid)])
            assert 0.1 < said < time.monotonic() - began + 0.1
        finally:
            child.kill()


def test_nobody_was_stopped():
    assert seconds_stopped([]) is None


@pytest.mark.parametrize(
    "name",
    [
        b"\rState:\tZ",
        b"\rTgid:\t1",
        b"\vTgid:\t1",
        b"\r1_switches",
        b"nr_switches",
        b"x\xe2\x80\xa8Tgid:1",
    ],
)
def test_a_name_is_not_taken_for_a_line(name):
    """/proc/PID/status escapes only newlines in it (fs/proc/array.c, proc_task_name())."""
    started, ended = threading.Event(), threading.Event()

    def named() -> None:
        ctypes.CDLL(None).prctl(15, name)  # PR_SET_NAME
        started.set()
        ended.wait()

    thread = threading.Thread(target=named)
    thread.start()
    try:
        started.wait()
        tid, pid = thread.native_id, os.getpid()
        assert thread_group(tid) == pid
        while status(pid, tid)["State"].startswith("R"):
            time.sleep(0.01)
        assert status(pid, tid)["State"].startswith("S")
        assert status(pid, tid)["Tgid"] == str(pid)
        assert switches(pid, tid) == read_sched(pid, tid).switches
        assert not is_dead(tid)
    finally:
        ended.set()
        thread.join()
