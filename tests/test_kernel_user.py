"""Programs in kernel dumps: what their tasks wait for, checked against what the lab played, and
against drgn's own helpers."""

import fnmatch
import os

import drgn
import pytest
from drgn.helpers.linux.fs import d_path, for_each_file
from drgn.helpers.linux.mm import for_each_vma
from kernel_dumps import WithoutUserPages, look, open_as, opened, report_of
from lab.dumps import dump
from lab.scenarios import users

from faultkit.kernel.files import Files, processes
from faultkit.kernel.mm import mapped_by
from faultkit.model import EVENT, HELD, OUTSIDE, PROVEN
from faultkit.world import ELSEWHERE, GONE, HERE, SEVERAL, Owner

KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def cycles(report):
    """The cycles: {members' names: the kinds that they wait for, in the same order}."""
    found = {}
    for finding in report.findings:
        if finding.type == "cycle":
            members = sorted((wait.task.name, wait.lock.kind) for wait in finding.members)
            found[tuple(name for name, _ in members)] = tuple(kind for _, kind in members)
    return found


def claimed(report):
    """The names of all tasks of which something is claimed."""
    return {
        task.name
        for finding in report.findings
        for task in (*(wait.task for wait in finding.members), *finding.victims)
    }


@pytest.fixture(scope="module")
def reports():
    made = {}

    def get(kernel):
        if kernel not in made:
            made[kernel] = report_of(opened("users", kernel))
        return made[kernel]

    return get


@every_kernel
@pytest.mark.parametrize("fault", users.ALL, ids=lambda fault: fault.name)
def test_fault(reports, kernel, fault):
    report = reports(kernel)
    found = cycles(report)
    for expect in fault.findings:
        names = tuple(sorted(expect.members))
        if names not in found:
            assert fault.unsure, f"{names} is not among {sorted(found)}"
            assert report.limits
            continue
        kinds = dict(zip(expect.members, expect.kinds))
        for name, kind in zip(names, found[names]):
            assert kinds[name] in ("", kind)
    if not fault.findings and not fault.allowed:
        names = claimed(report)
        assert not [name for name in names if any(fnmatch.filter([name], p) for p in fault.threads)]


@every_kernel
def test_no_cycle_but_those_that_were_played(reports, kernel):
    played = {tuple(sorted(e.members)) for fault in users.ALL for e in fault.findings}
    assert set(cycles(reports(kernel))) <= played


@every_kernel
def test_nothing_of_this_machine_is_looked_at(monkeypatch, kernel):
    """The tids of a dump mean nothing to the machine that reads it."""
    host = opened("users", kernel)
    report_of(host)  # what is imported at first use is a matter of this machine
    touched = []
    for name in ("open", "stat", "lstat", "readlink", "listdir", "getpgid", "kill", "pidfd_open"):
        real = getattr(os, name)

        def watch(*args, _real=real, _name=name, **more):
            touched.append((_name, args))
            return _real(*args, **more)

        monkeypatch.setattr(os, name, watch)
    report_of(host)
    assert not [call for call in touched if not str(call[1][:1]).endswith(".py',)")]


# A dump as `makedumpfile -d 31` leaves it: what the kernel itself knows remains.


@pytest.fixture(scope="module")
def without_user_pages():
    return open_as(WithoutUserPages, dump("users"))


@pytest.fixture(scope="module")
def filtered(without_user_pages):
    return report_of(without_user_pages)


@pytest.mark.parametrize("name", ("fl", "po", "of", "pc", "pf", "un", "sv"))
def test_kernel_objects_are_known_without_user_pages(filtered, name):
    assert (f"{name}-a", f"{name}-b") in cycles(filtered)


def test_owners_are_not_guessed_without_user_pages(filtered):
    assert filtered.verdict == "found"
    for finding in filtered.findings:
        for wait in finding.members:
            # the kernel records the owner of a priority-inheriting one
            of_user = wait.lock.kind in ("pthread_mutex", "rwlock", "join", "futex")
            assert not of_user or wait.task.name == "up-b"
    assert any("user pages" in limit and "makedumpfile" in limit for limit in filtered.limits)


def test_the_owner_of_a_pi_futex_is_known_without_user_pages(without_user_pages):
    waits = {task.name: wait for task, wait in look(without_user_pages).waits.items()}
    assert [holder.name for holder in waits["up-b"].holders] == ["up-a"]
    assert (waits["up-b"].needs, waits["up-b"].confidence) == (HELD, PROVEN)
    assert not waits["um-a"].holders


@every_kernel
def test_mappings_are_those_that_drgn_sees(kernel):
    host = opened("users", kernel)
    world = look(host).programs.world
    seen = 0
    for pid, tasks in processes(world.system).items():
        process = world.process(pid)
        if process is None:
            continue
        struct = drgn.Object(host.program, "struct task_struct *", value=tasks[0].address)
        expected = [(int(vma.vm_start), int(vma.vm_end)) for vma in for_each_vma(struct.mm)]
        assert [(mapping.start, mapping.end) for mapping in process.mappings()] == expected
        paths = {
            int(vma.vm_start): d_path(vma.vm_file.f_path).decode()
            for vma in for_each_vma(struct.mm)
            if vma.vm_file
        }
        for mapping in process.mappings():
                path = paths.get(mapping.start, "")
                if path.startswith("/"):  # drgn has words of its own for what has no path
                    assert mapping.path.removesuffix(" (deleted)") == path
        seen += len(expected)
    assert seen > 100


@every_kernel
def test_descriptors_are_those_that_drgn_sees(kernel):
    host = opened("users", kernel)
    files = Files(look(host).system)
    seen = 0
    for tasks in processes(files.system).values():
        struct = drgn.Object(host.program, "struct task_struct *", value=tasks[0].address)
        if not struct.files:
            continue
        # drgn also has descriptors that are reserved for a file being opened
        expected = {fd: file.value_() for fd, file in for_each_file(struct) if file}
        assert files.descriptors(tasks[0]) == expected
        for fd, file in for_each_file(struct):
            if not file:
                continue
            link = files.link(files.open_file(tasks[0], fd))
            inode = int(file.f_inode.i_ino)
            if link.startswith(("pipe:", "socket:")):
                assert link.endswith(f":[{inode}]")
            elif link.startswith("/"):
                assert link == d_path(file.f_path).decode()
        seen += len(expected)
    assert seen > 100


@every_kernel
def test_everybody_who_maps_a_file_is_found(kernel):
    snapshot = look(opened("users", kernel))
    world = snapshot.programs.world
    [first] = [task for task in snapshot.tasks if task.name == "us-a"]
    process = world.process(first.pid)
    [wait] = [wait for task, wait in snapshot.waits.items() if task == first]
    mapping = process.mapping(wait.lock.address)
    assert mapping.shared and wait.lock.key[0] == "shared"
    sharers = {other.pid for other, _ in world.sharers(mapping)}
    expected = {
        pid
        for pid in processes(world.system)
        if (other := world.process(pid)) is not None
        and any((m.device, m.inode) == (mapping.device, mapping.inode) for m in other.mappings())
    }
    assert sharers == expected
    assert {task.pid for task in snapshot.tasks if task.name in ("us-a", "us-b")} <= sharers
    assert mapped_by(world.files, 0) == set()


def test_owners_in_shared_memory_are_looked_up_in_their_own_namespaces(monkeypatch):
    """As if us-b were in another pid namespace than everybody else."""
    snapshot = look(opened("users"))
    world = snapshot.programs.world
    first, second = (
        next(task for task in snapshot.tasks if task.name == name) for name in ("us-a", "us-b")
    )
    process = world.process(first.pid)
    mapping = process.mapping(snapshot.waits[first].lock.address)
    sharers = {other.pid for other, _ in world.sharers(mapping)}
    outsider = next(
        task
        for task in snapshot.tasks
        if task.pid not in sharers and world.owner(process, task.tid).where == ELSEWHERE
    )

    def answers(tid):
        world.forget()
        return [world.owner(process, tid, mapping), world.owner(process, tid, None)]

    same = {pid: 1 for pid in world.kinship.pid_namespaces}
    monkeypatch.setattr(world.kinship, "pid_namespaces", same)
    for tid in (first.tid, second.tid, outsider.tid, 4_000_000):
        among, plain = answers(tid)
        assert among == plain and among.sure
    monkeypatch.setattr(world.kinship, "pid_namespaces", {**same, second.pid: 2})
    assert answers(first.tid)[0] == Owner(HERE, first, sure=False)
    assert answers(second.tid)[0] == Owner(ELSEWHERE, second, sure=False)
    assert answers(outsider.tid)[0] == Owner(GONE, None)
    monkeypatch.setattr(world.kinship, "inner_tids", lambda tasks: {1: tasks[0]})
    found = answers(1)[0]
    assert found.where == SEVERAL and {first, second} <= set(found.among)


def test_children_and_parents_agree():
    snapshot = look(opened("users"))
    kinship = snapshot.programs.world.kinship
    seen = 0
    for pid in processes(snapshot.system):
        for child in kinship.children(pid):
            assert kinship.parent(child) == pid
            seen += 1
    assert seen > 20
    [parent] = [task for task in snapshot.tasks if task.name == "ch-parent"]
    [child] = [task for task in snapshot.tasks if task.name == "ch-child"]
    assert kinship.children(parent.pid) == [child.pid]


def test_sleeps_of_programs_are_no_waits_for_others():
    snapshot = look(opened("users"))
    for task, wait in snapshot.waits.items():
        if task.name.startswith("uq-"):
            assert wait.needs in (OUTSIDE, EVENT, HELD)
            assert not wait.fault
