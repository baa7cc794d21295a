"""What the kernel tells of stopped threads is what gdb and /proc tell of them."""

import harness
import pytest
from harness import CHECKOUT
from scenarios import ALL
from terminal import SOURCE, batch

SCENES = {scenario.name: scenario for scenario in ALL}

COMPARE = """
import sys
import gdb
sys.path.insert(0, {checkout!r})
from faultkit.model import Task
from faultkit.procfs.process import ProcProcess
from gdb_ext.registers import FEW, TRACER

process = ProcProcess({pid})
tids = [thread.ptid[1] for thread in gdb.selected_inferior().threads()]
early = [TRACER.stopped(tids[0]) for _ in range(FEW)]
print("EARLY", set(early))
for thread in gdb.selected_inferior().threads():
    thread.switch()
    read = gdb.newest_frame().read_register
    tid = thread.ptid[1]
    call, result = TRACER.stopped(tid)
    names = ("rdi", "rsi", "rdx", "r10", "r8", "r9", "rsp", "rip")
    by_gdb = [int(read(name)) & (1 << 64) - 1 for name in names]
    number = int(read("orig_rax"))
    blocked = number >= 0
    print(
        "THREAD", "blocked" if blocked else "running",
        call.nr == (number if blocked else -1),
        not blocked or [*call.args, call.sp, call.pc] == by_gdb,
        (process.syscall(Task({pid}, tid)) == call) if blocked else "-",
        result == int(read("rax")),
    )
print("OTHER", TRACER.stopped(1), TRACER.stopped({pid} + 1_000_000_000))
"""

# Without ctypes, or whatever it takes to call ptrace
DENIED = """
import sys
sys.modules["ctypes"] = None
from gdb_ext.registers import FEW, TRACER
print("DENIED", {{TRACER.stopped({pid}) for _ in range(FEW + 2)}})
"""


@pytest.mark.parametrize("scene", ["mutex-timed", "negative-busy-holder", "ipc-pipe"])
def test_what_the_kernel_tells_is_what_gdb_tells(scene, tmp_path):
    with harness.running(SCENES[scene], "dbg") as stage:
        script = tmp_path / "compare.py"
        script.write_text(COMPARE.format(checkout=str(CHECKOUT), pid=stage.pid))
        stdout, _ = batch(f"attach {stage.pid}", f"source {script}")
    assert "EARLY {None}" in stdout
    assert "OTHER None None" in stdout
    told = [line.split() for line in stdout.splitlines() if line.startswith("THREAD")]
    assert told
    for _, state, *same in told:
        assert same == ["True", "True", "True" if state == "blocked" else "-", "True"], told
    if scene == "negative-busy-holder":
        assert "running" in {state for _, state, *_ in told}


def test_threads_are_found_without_ctypes(tmp_path):
    with harness.running(SCENES["mutex-normal"], "dbg") as stage:
        script = tmp_path / "denied.py"
        script.write_text(DENIED.format(pid=stage.pid))
        stdout, _ = batch(f"attach {stage.pid}", f"source {script}", "deadlock", source=SOURCE)
    assert "DENIED {None}" in stdout
    assert "VERDICT: DEADLOCK" in stdout
