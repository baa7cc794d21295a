"""The harness: it plays every scene, sees what is wrong with a report, and leaves nothing."""

import contextlib
import os
import signal
import subprocess
import time

import harness
import pytest
from scenarios import ALL, Expect, Scenario

BY_NAME = {scenario.name: scenario for scenario in ALL}
NORMAL = BY_NAME["mutex-normal"]
FUTEX = "202"


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_every_scene_plays_and_has_everybody_it_expects(scenario):
    with harness.running(scenario, scenario.variants[0]) as stage:
        for core in (False, True):
            for expect in scenario.expected(core):
                victims = expect.victims if isinstance(expect.victims, tuple) else ()
                root = (expect.root,) if expect.root else ()
                assert {*expect.members, *victims, *root} <= set(stage.tids)
        assert stage.process.poll() is None


def test_members_of_a_cycle_sleep_in_the_kernel():
    with harness.running(NORMAL, "dbg") as stage:
        calls = harness.picture(stage)
        for name in ("a", "b"):
            pid, tid = stage.tids[name]
            assert calls[f"{pid}/task/{tid}"].split()[0] == FUTEX


def test_nothing_survives_a_scene():
    with harness.running(BY_NAME["mutex-processes"], "dbg") as stage:
        processes = stage.procs
        assert len(processes) == 2
    deadline = time.monotonic() + 5
    while any(harness.alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(harness.alive(pid) for pid in processes)


def test_a_program_that_fails_is_an_error():
    wrong = Scenario("wrong", "mutex.c", ("no-such-scene",), "found")
    with pytest.raises(harness.HarnessError, match="no-such-scene"):
        with harness.running(wrong, "dbg"):
            pass


def test_gdb_attaching_does_no_harm():
    with harness.running(BY_NAME["mutex-timed"], "opt") as stage:
        harness.run_gdb(["-p", str(stage.pid), "-ex", "info threads"])
        harness.assert_unharmed(stage)


def test_harm_is_seen():
    with harness.running(NORMAL, "dbg") as stage:
        os.kill(stage.pid, signal.SIGSTOP)
        with pytest.raises(AssertionError, match="State"):
            harness.assert_unharmed(stage, seconds=0.2)


@pytest.mark.parametrize("take", [harness.kernel_core, harness.gcore_core])
def test_a_core_holds_every_thread(take):
    with harness.running(NORMAL, "stripped") as stage:
        core = take(stage)
        stdout, _ = harness.run_gdb([str(stage.executable), str(core), "-ex", "info threads"])
    for _, tid in stage.tids.values():
        assert f"LWP {tid}" in stdout


def test_a_gdb_that_hangs_is_ended():
    with pytest.raises(harness.HarnessError, match="took more than"):
        harness.run_gdb(["-ex", "shell sleep 20"], seconds=1)


def test_a_build_is_reused_and_can_be_raced(tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTKIT_CACHE", str(tmp_path))
    code = "import sys, building; print(building.build('mutex.c', 'dbg'))"
    command = ["python3", "-c", code]
    here = os.path.dirname(harness.__file__)
    racers = [subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE) for _ in range(3)]
    built = {racer.communicate()[0].decode().strip() for racer in racers}
    assert len(built) == 1
    made = os.stat(*built).st_mtime_ns
    assert os.stat(harness.build("mutex.c", "dbg")).st_mtime_ns == made
    assert os.listdir(os.path.dirname(*built)) == ["mutex"]


# --- comparing --------------------------------------------------------------------------------


class Cast:
    """Threads a, b, c... with the tids 1, 2, 3..."""

    def name(self, tid):
        return "_abcdefgh"[tid]


def wait(tid, holder, kind="pthread_mutex", name=None, confidence="proven"):
    return {
        "task": {"pid": 1, "tid": tid},
        "waits_for": {"kind": kind, "address": "0x1", "name": name},
        "held_by": [{"pid": 1, "tid": holder}],
        "confidence": confidence,
    }


def report(*findings, verdict="found"):
    return {
        "schema": "faultkit/1",
        "command": "deadlock",
        "verdict": verdict,
        "findings": list(findings),
    }


CYCLE = {
    "type": "cycle",
    "members": [wait(1, 2, name="x"), wait(2, 3, "rwlock"), wait(3, 1)],
    "victims": [{"pid": 1, "tid": 4}],
}
EXPECTED = Expect("cycle", ("a", "b", "c"), ("pthread_mutex", "rwlock", "pthread_mutex"), ("d",))


def passes(expect, *findings, verdict="found", symbols=True):
    scenario = Scenario("s", "mutex.c", (), "found", (expect,) if expect else ())
    with contextlib.suppress(AssertionError):
        harness.check(report(*findings, verdict=verdict), scenario, Cast(), symbols=symbols)
        return True
    return False


def test_a_cycle_is_compared_up_to_rotation_and_not_up_to_order():
    turned = {**CYCLE, "members": CYCLE["members"][1:] + CYCLE["members"][:1]}
    swapped = {**CYCLE, "members": [CYCLE["members"][i] for i in (1, 0, 2)]}
    assert passes(EXPECTED, CYCLE)
    assert passes(EXPECTED, turned)
    assert not passes(EXPECTED, swapped)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "self-deadlock"},
        {"members": CYCLE["members"][:2]},
        {"victims": []},
        {"members": [wait(1, 2), wait(2, 3, "futex"), wait(3, 1)]},
        {"members": [wait(1, 3), wait(2, 3, "rwlock"), wait(3, 1)]},
    ],
)
def test_every_difference_counts(change):
    assert not passes(EXPECTED, {**CYCLE, **change})


def test_a_missing_and_an_unexpected_finding_are_wrong():
    assert not passes(EXPECTED)
    assert not passes(EXPECTED, CYCLE, CYCLE)
    assert not passes(None, CYCLE)
    assert not passes(EXPECTED, CYCLE, verdict="not-found")


def test_names_count_where_there_are_symbols():
    named = Expect("cycle", ("a", "b", "c"), names=("y", None, None))
    assert not passes(named, CYCLE)
    assert passes(named, CYCLE, symbols=False)


def test_confidence_is_that_of_the_weakest_edge():
    weak = {**CYCLE, "members": [wait(1, 2, confidence="inferred"), *CYCLE["members"][1:]]}
    proven = Expect("cycle", ("a", "b", "c"), confidence="proven")
    inferred = Expect("cycle", ("a", "b", "c"), confidence="inferred")
    assert passes(proven, CYCLE) and not passes(proven, weak)
    assert passes(inferred, weak) and not passes(inferred, CYCLE)


def test_tasks_of_a_chain_are_all_but_its_root():
    chain = {
        "type": "chain",
        "members": [wait(2, 1), wait(3, 1)],
        "victims": [{"pid": 1, "tid": 4}],
        "root": {"pid": 1, "tid": 1},
    }
    assert passes(Expect("cycle|chain", ("d", "c", "b"), root="a"), chain)
    assert passes(Expect("chain", victims=3), chain)
    assert not passes(Expect("chain", ("b", "c"), root="a"), chain)
    assert not passes(Expect("chain", victims=3, root="b"), chain)
