"""The demonstration: the diagnosis is right, and nothing is left running, whatever happens."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def processes_of(session):
    """The living processes of a session (field 6 of /proc/PID/stat), zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        state, _, _, sid = rest.split()[:4]
        if int(sid) == session and state != "Z":
            found.append(name)
    return found


@pytest.fixture
def demo():
    """tools/demo in a session of its own, started as from a terminal."""
    with subprocess.Popen(
        [ROOT / "tools" / "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        for _ in processes_of(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def test_demo_prints_the_diagnosis(demo):
    output, errors = demo.communicate(timeout=120)
    assert (demo.returncode, errors) == (0, "")
    verdict, members = re.search(
        r"^VERDICT: ([^\n]*)\n(.*?)^  CYCLE: ", output, re.MULTILINE | re.DOTALL
    ).groups()
    assert verdict.startswith("DEADLOCK: 1 cycle, 2 threads")
    for word in ('"transfer"', "<audit>", '"close-day"', "<accounts>", "transfer.c:"):
        assert word in members
    assert "4 more threads queue behind it" in output
    for taken in ("close_day() calls pthread_mutex_lock on it", "transfer() calls"):
        assert taken in " ".join(output.split())  # where the holders took the locks
    assert processes_of(demo.pid) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(demo, sent):
    demo.stdout.readline()  # the program is stuck, gdb comes next
    os.killpg(demo.pid, sent)
    demo.communicate(timeout=60)
    assert demo.returncode in (128 + sent, -sent)
    assert processes_of(demo.pid) == []
