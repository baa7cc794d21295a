"""Real programs whose locks record no holder: the holder is named, and nobody else."""

import contextlib
import subprocess
import time

import pytest
from building import Unplayable, build

from faultkit import waits
from faultkit.infer.holders import infer_holders, resolve
from faultkit.model import INFERRED
from faultkit.procfs.process import ProcProcess
from faultkit.world import Blocked, World

C = ("dbg", "opt", "stripped", "static", "static-stripped")
RUST = ("rust", "rust-opt", "rust-stripped")
KINDS = ("rwlock", "semaphore", "barrier", "rust_mutex", "rust_rwlock", "flock")


@contextlib.contextmanager
def played(program, variant, *arguments, cwd=None):
    """The program's World and process, once it says that it is ready."""
    try:
        executable = build(program, variant)
    except Unplayable as error:
        pytest.skip(str(error))
    running = subprocess.Popen([str(executable), *arguments], stdout=subprocess.PIPE, cwd=cwd)
    try:
        assert running.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        process = ProcProcess(running.pid)
        yield World([process]), process
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def named(process, tasks):
    return sorted(process.describe(task).name for task in tasks)


def waiting(world, process, kinds=KINDS):
    """The waits of these kinds by their threads' names, as providers see them."""
    found = {}
    for task in process.tasks():
        call = process.syscall(task)
        wait = waits.recognise(Blocked(world, process, task, call)) if call else None
        if wait is not None and wait.lock.kind in kinds:
            found[process.describe(task).name] = wait
    return found


def resolved(world, process, kinds=KINDS):
    """{waiter: names of whom inference holds for the holders}, and each wait resolved."""
    answers = {
        name: resolve(world, wait, wait.candidates or process.tasks())
        for name, wait in waiting(world, process, kinds).items()
    }
    return {name: named(process, wait.holders) for name, wait in answers.items()}, answers


def crossed(world, process, kinds=KINDS):
    """Assert that a and b wait for each other, by inference, with evidence."""
    holders, answers = resolved(world, process, kinds)
    assert holders["a"] == ["b"], answers["a"]
    assert holders["b"] == ["a"], answers["b"]
    for wait in answers.values():
        assert wait.confidence == INFERRED
        assert any("calls" in line or "lock cmpxchg" in line for line in wait.evidence)


@pytest.mark.parametrize("variant", C)
@pytest.mark.parametrize("scene", ["rwlock", "wrapper", "semaphore"])
def test_two_threads_that_hold_what_the_other_wants(scene, variant):
    with played("infer_locks.c", variant, scene) as (world, process):
        crossed(world, process)


@pytest.mark.parametrize("variant", C)
def test_locks_that_are_taken_only_where_there_are_threads(variant):
    """Whether a weak symbol is there, memory that nobody writes to tells."""
    with played("infer_locks.c", variant, "weak") as (world, process):
        holders, _ = resolved(world, process)
        if variant == "dbg" and holders == {"a": [], "b": []}:
            return  # the answer of a function that is called is not followed
        crossed(world, process)


@pytest.mark.parametrize("variant", C)
@pytest.mark.parametrize("scene", ["told", "told-later"])
def test_what_a_callee_writes_to_a_local_variable_is_not_known(variant, scene):
    """b did not take what a waits for: a function that it called told it not to."""
    with played("infer_locks.c", variant, scene) as (world, process):
        holders, answers = resolved(world, process)
        assert "a" in holders and "b" not in holders["a"], answers["a"]


@pytest.mark.parametrize("variant", C)
@pytest.mark.parametrize("scene", ["table", "wrapped-table", "asked"])
def test_weak_signs_do_not_add_up(variant, scene):
    """b's code takes the lock on some ways, or gave it back by a pointer to a function, maybe in a
    callee; that the lock's address lies on its stack comes of the same code."""
    with played("infer_locks.c", variant, scene) as (world, process):
        holders, answers = resolved(world, process)
        assert "writer" in holders and "b" not in holders["writer"], answers


@pytest.mark.parametrize("variant", RUST)
@pytest.mark.parametrize("kind", ["mutex", "rwlock"])
def test_rust_locks(kind, variant):
    with played("infer_rust.rs", variant, kind) as (world, process):
        crossed(world, process, (f"rust_{kind}",))


@pytest.mark.parametrize("variant", RUST)
@pytest.mark.parametrize("scene", ["take", "closure"])
def test_a_guard_that_others_dropped(scene, variant):
    """b had the lock, and a function that it lent its guard to gave it back."""
    with played("infer_rust.rs", variant, scene) as (world, process):
        holders, answers = resolved(world, process)
        assert "b" not in holders["w"], answers


@pytest.mark.parametrize("variant", ["musl", "musl-dynamic"])
def test_normal_mutexes_of_musl(variant):
    with played("infer_musl.c", variant) as (world, process):
        crossed(world, process, ("pthread_mutex",))


def test_a_stripped_static_musl_program_is_not_guessed_at():
    with played("infer_musl.c", "musl-stripped") as (world, process):
        holders, _ = resolved(world, process, ("pthread_mutex",))
        assert holders["a"] in ([], ["b"])
        assert holders["b"] in ([], ["a"])


@pytest.mark.parametrize("variant", ["dbg", "opt", "stripped"])
def test_shared_mutex(variant):
    with played("infer_shared.cc", variant) as (world, process):
        crossed(world, process)


@pytest.mark.parametrize("variant", C)
def test_a_reader_that_wants_to_write_the_same_lock(variant):
    with played("infer_locks.c", variant, "upgrade") as (world, process):
        holders, answers = resolved(world, process)
        assert holders == {"a": ["a"]}, answers


@pytest.mark.parametrize("variant", C)
def test_two_readers_and_no_innocent(variant):
    with played("infer_locks.c", variant, "sleeping") as (world, process):
        holders, answers = resolved(world, process)
        if variant in ("opt", "stripped") and not holders["writer"]:
            return  # only rbx has the argument, and /proc does not show it: silence is right
        assert holders["writer"] == ["a", "b"], answers


@pytest.mark.parametrize("variant", C)
def test_an_idle_pool_waits_for_nobody_in_particular(variant):
    with played("infer_locks.c", variant, "pool") as (world, process):
        holders, answers = resolved(world, process)
        assert holders and set(map(tuple, holders.values())) == {()}, answers


@pytest.mark.parametrize("variant", ["dbg", "opt", "stripped"])
def test_the_thread_that_has_still_to_arrive_at_a_barrier(variant):
    with played("infer_locks.c", variant, "barrier") as (world, process):
        holders, answers = resolved(world, process)
        assert holders == {"a": ["b"]}, answers


def test_which_thread_of_a_process_holds_a_file_lock(tmp_path):
    file = str(tmp_path / "file")
    with played("infer_locks.c", "dbg", "flock", file) as (world, process):
        wait = waiting(world, process)["waiter"]
        suspects = infer_holders(world, wait.but(holders=()), process.tasks())
        strong = [suspect.task for suspect in suspects if suspect.strength >= 2]
        assert named(process, strong) == ["a"], suspects


@pytest.mark.parametrize("variant", ["dbg", "opt", "stripped"])
def test_who_locks_a_file_twice_is_known_by_its_code(variant, tmp_path):
    """Also where nothing tells the descriptor any more: it alone locks files."""
    with played("infer_locks.c", variant, "flock-twice", "file", cwd=tmp_path) as (world, process):
        holders, answers = resolved(world, process)
        assert holders == {"waiter": ["waiter"]}, answers


@pytest.mark.parametrize("variant", C)
def test_who_locked_another_file_is_not_named(variant, tmp_path):
    """The thread that locked the one that is wanted has ended; its descriptor is still open."""
    with played("infer_locks.c", variant, "flock-other", "file", cwd=tmp_path) as (world, process):
        holders, answers = resolved(world, process)
        assert holders == {"waiter": []}, answers


@pytest.mark.parametrize("variant", C)
def test_the_innocent_are_never_strong_suspects(variant):
    with played("infer_locks.c", variant, "rwlock") as (world, process):
        for wait in waiting(world, process).values():
            for suspect in infer_holders(world, wait, wait.candidates):
                if process.describe(suspect.task).name not in ("a", "b"):
                    assert suspect.strength < 2, suspect
