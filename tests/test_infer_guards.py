"""Scoped guards: which variables hold a lock, by their type, members and line; and in a real
gdb, that the guards of a real program are recognised as such."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from building import build

from faultkit.layouts.guards import guard_of
from faultkit.target import Local

LOCK = 0x4040
HELD = frozenset((LOCK,))


def local(type_, pointers, line=10, frame_line=12):
    return Local(1, "guard", type_, 0x7FFE0000, pointers, line, frame_line, "update")


@pytest.mark.parametrize(
    "type_, pointers",
    [
        ("std::lock_guard<std::mutex>", {"_M_device": LOCK}),
        ("class std::shared_lock<std::shared_mutex>", {"_M_pm": LOCK, "_M_owns": 1}),
        ("std::unique_lock<std::mutex>", {"_M_device": LOCK, "_M_owns": 1}),
        ("std::__1::unique_lock<std::__1::mutex>", {"__m_": LOCK, "__owns_": 1}),
        ("std::scoped_lock<std::mutex, std::mutex>", {"_M_devices._M_head_impl": LOCK}),
        ("boost::unique_lock<boost::mutex>", {"m": LOCK, "is_locked": 1}),
        ("absl::MutexLock", {"mu_": LOCK}),
        ("std::sync::poison::mutex::MutexGuard<u64>", {"lock": LOCK, "poison.panicking": 0}),
        ("std::sync::rwlock::RwLockReadGuard<u64>", {"data.pointer": 0x50, "inner_lock": LOCK}),
    ],
)
def test_a_guard_that_refers_to_the_lock_holds_it(type_, pointers):
    assert guard_of(local(type_, pointers), HELD)
    assert not guard_of(local(type_, pointers), frozenset((LOCK + 8,)))


@pytest.mark.parametrize(
    "candidate",
    [
        local("std::unique_lock<std::mutex>", {"_M_device": LOCK, "_M_owns": 0}),
        local("std::lock_guard<std::mutex>", {"_M_device": LOCK}, line=12),
        local("std::lock_guard<std::mutex>", {"_M_device": LOCK}, line=13),
        local("std::vector<std::mutex*>", {"_M_start": LOCK}),
        local("conf", {"lock": LOCK}),
    ],
)
def test_what_does_not_hold_it(candidate):
    assert guard_of(candidate, HELD) is None


SCRIPT = """
import sys
sys.path.insert(0, {checkout!r})
from faultkit.layouts.guards import guard_of, guard_type
from gdb_ext.target import GdbProcess, selection_kept
with selection_kept():
    process = GdbProcess()
    for task in process.tasks():
        for local in process.locals(task):
            if guard_type(local):
                held = guard_of(local, frozenset(local.pointers.values()))
                print("GUARD", process.describe(task).name, local.name, bool(held))
"""


def test_guards_of_a_real_program(tmp_path):
    gdb = os.environ.get("FAULTKIT_GDB", "gdb")
    if shutil.which(gdb) is None:
        pytest.skip("no gdb here")
    script = tmp_path / "guards.py"
    script.write_text(SCRIPT.format(checkout=str(Path(__file__).resolve().parents[1])))
    program = subprocess.Popen([str(build("infer_shared.cc", "dbg"))], stdout=subprocess.PIPE)
    try:
        assert program.stdout.readline() == b"ready\n"
        command = [gdb, "-nx", "-q", "-batch", "-ex", "set debuginfod enabled off"]
        command += ["-p", str(program.pid), "-ex", f"source {script}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    guards = {tuple(line.split()[1:]) for line in done.stdout.splitlines() if "GUARD" in line}
    assert ("a", "guard", "True") in guards, done.stdout + done.stderr
    assert ("b", "guard", "True") in guards
    assert {(name, held) for _, name, held in guards if name != "guard"} == {
        ("unlocked", "False"), ("deferred", "False"), ("later", "False"), ("writer", "False"),
    }  # fmt: skip
