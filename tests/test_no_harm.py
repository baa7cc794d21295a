"""A process that works goes on working, however often it is looked at."""

import os
import subprocess
import threading
import time

import harness
import pytest
from scenarios import Scenario
from terminal import batch

BUSY = Scenario("busy", "busy.c", (), "not-found", moving=True)

# One gdb that attaches, asks and detaches, or only asks, again and again.
ROUNDS = """
import gdb, os
def descriptors():
    return len(os.listdir("/proc/self/fd"))
verdicts = {{}}
for turn in range({rounds}):
    if {attached}:
        gdb.execute("attach {pid}", to_string=True)
    text = gdb.execute("deadlock" if {attached} else "deadlock {pid}", to_string=True)
    if {attached}:
        gdb.execute("detach", to_string=True)
    verdict = [line for line in text.splitlines() if line.startswith("VERDICT")][0][:18]
    verdicts[verdict] = verdicts.get(verdict, 0) + 1
    if turn == 9:
        before = descriptors()
print("VERDICTS", verdicts)
print("DESCRIPTORS", before, descriptors())
"""


class Watch:
    """What a busy process says of itself, and who traces it, while it is looked at."""

    def __init__(self, stage):
        self.stage = stage
        self.hops, self.longest, self.states, self.tracers = [], [], set(), set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.005):
            for task in harness._tasks(self.stage.pid):
                status = harness._proc(f"{task}/status")
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                self.states.add(fields.get("State", "?")[:1])
                self.tracers.add(fields.get("TracerPid"))
            harness._read_lines(self.stage, 0)
            notes = self.stage.notes
            if not self.hops or notes.get("hops", 0) != self.hops[-1]:
                self.hops.append(notes.get("hops", 0))
                self.longest.append(notes.get("longest", 0))


def assert_works(stage, before):
    """Every message gets on, none was lost, and nothing of the process has changed."""
    for _ in range(3):
        hops = stage.notes.get("hops", 0)
        deadline = time.monotonic() + 10
        while stage.notes.get("hops", 0) <= hops:
            assert time.monotonic() < deadline, "the process does not get on"
            harness._read_lines(stage, 0.1)
    assert stage.process.poll() is None, stage.errors()
    assert stage.errors() == ""
    assert inside(stage) == before
    harness.assert_unharmed(stage)


def inside(stage):
    """What the process has open, and whom it was born to."""
    return sorted(os.listdir(f"/proc/{stage.pid}/fd")), len(os.listdir(f"/proc/{stage.pid}/task"))


def look(stage, directory, rounds, attached):
    script = directory / "rounds.py"
    script.write_text(ROUNDS.format(rounds=rounds, attached=attached, pid=stage.pid))
    stdout, _ = batch(f"source {script}", seconds=60 + rounds)
    said = dict(line.split(" ", 1) for line in stdout.splitlines() if line[:1] in "VD")
    before, after = map(int, said["DESCRIPTORS"].split())
    assert after <= before, "gdb's descriptors leak"
    return said["VERDICTS"]


@pytest.mark.parametrize("rounds", [60, pytest.param(1000, marks=pytest.mark.full)])
def test_attached_again_and_again(tmp_path, rounds):
    with harness.running(BUSY, "dbg") as stage:
        before = inside(stage)
        with Watch(stage) as watch:
            verdicts = look(stage, tmp_path, rounds, True)
        assert verdicts == f"{{'VERDICT: NOT FOUND': {rounds}}}"
        assert len(watch.tracers) == 2  # the sampling does see a tracer
        assert_works(stage, before)


@pytest.mark.parametrize("rounds", [60, pytest.param(1000, marks=pytest.mark.full)])
def test_unattached_again_and_again(tmp_path, rounds):
    """Nothing is paused: no thread is ever traced or stopped, and the longest that main was
    kept from running is not out of proportion to what it was beside as much other load."""
    with harness.running(BUSY, "dbg") as stage:
        before = inside(stage)
        with Watch(stage) as alone:
            load = subprocess.Popen(["sh", "-c", "while :; do :; done"])
            time.sleep(3)
            load.kill()
            load.wait()
        with Watch(stage) as watch:
            verdicts = look(stage, tmp_path, rounds, False)
        assert verdicts == f"{{'VERDICT: NOT FOUND': {rounds}}}"
        assert watch.tracers == {"0"}
        assert watch.states <= set("RSD")
        assert max(watch.longest) < 10 * max(alone.longest) + 100_000  # microseconds
        assert_works(stage, before)
