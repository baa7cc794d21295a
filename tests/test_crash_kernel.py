"""What faultkit sees of a dump through crash is what drgn sees of it, and so is what it says."""

import json

import pytest
from crash_session import Session
from kernel_dumps import opened, report_of
from lab.dumps import dump
from lab.store import locked

from faultkit.render.machine import report_object

BOOTS = ("sleeping", "users", "spin-crossed", "spin-others-virtual")

LOOK = """
import json, sys
def frames(task):
    return [[f.address, f.symbol, f.offset, f.module, f.sp] for f in kernel.frames(task)]
def user(task, address):
    try:
        return kernel.read_user(task, address, 64).hex()
    except Exception:
        return None
tasks = {}
for task in kernel.tasks():
    tasks[str(task.address)] = [task.pid, task.tid, task.name, task.cpu, frames(task)]
names = json.load(open(sys.argv[1]))
seen = {
    "release": kernel.release, "kind": kernel.kind, "tasks": tasks,
    "running": {str(cpu): task.address for cpu, task in kernel.running().items()},
    "registers": {str(cpu): kernel.registers(cpu) for cpu in kernel.cpus()},
    "per_cpu": [kernel.per_cpu(kernel.symbol("runqueues"), cpu) for cpu in kernel.cpus()],
    "offsets": [kernel.offset(*name) for name in names["offsets"]],
    "sizes": [kernel.size(*name) for name in names["sizes"]],
    "enumerators": [kernel.enumerator(name) for name in names["enumerators"]],
    "symbols": [kernel.symbol(name) for name in names["symbols"]],
    "bounds": [kernel.function_bounds(kernel.symbol(name) + 3) for name in names["functions"]],
    "user": [user(task, 0x400000) for task in kernel.tasks()],
    "limits": list(kernel.limits()),
}
with open(sys.argv[2], "w") as file:
    json.dump(seen, file)
"""

NAMES = {
    "offsets": [
        ("mutex", "owner"),
        ("mutex", "wait_list.next"),
        ("mutex", "nonsense"),
        ("nonsense", "x"),
        ("task_struct", "thread.sp"),
        ("task_struct", "se.exec_start"),
        ("futex_q", "key.both.word"),
        ("page", "mapping"),
        ("rt_mutex_base", "waiters.rb_root.rb_node"),
        ("wait_queue_head_t", "head"),
        ("task_struct", "mm.pgd"),
    ],
    "sizes": [
        ("mutex",),
        ("spinlock_t",),
        ("atomic_t",),
        ("thread_union",),
        ("mutex", "wait_list"),
        ("task_struct", "comm"),
        ("nonsense",),
        ("mutex", "nonsense"),
    ],
    "enumerators": ["WORK_BUSY_PENDING", "PG_locked", "RWSEM_WAITING_FOR_READ", "NONSENSE"],
    "symbols": ["init_task", "schedule", "runqueues", "nonsense"],
    "functions": ["schedule", "mutex_lock", "down_read"],
}


@pytest.fixture(scope="module", params=BOOTS)
def seen(request, session_directory):
    """(drgn's kernel, what crash saw of it, what `deadlock` said in crash): one session of crash
    for all workers."""
    directory = session_directory / f"seen-{request.param}"
    with locked(directory):
        if not (directory / "report").exists():
            directory.mkdir(exist_ok=True)
            look(dump(request.param), directory)
    told = [json.loads((directory / name).read_text()) for name in ("seen", "report")]
    return (opened(request.param), *told)


def look(made, directory):
    """Have crash write what it sees into the directory."""
    with Session(made) as session:
        session.run(f"mod -s faultlab {made.module}")
        for module in made.kernel.debug.glob("fuse.ko*"):  # as kernel_dumps has it
            session.run(f"mod -s fuse {module}")
        (directory / "names").write_text(json.dumps(NAMES))
        assert session.python(directory, LOOK, directory / "names", directory / "seen") == ""
        session.run(f"deadlock --stacks none --json {directory}/report > /dev/null")


def test_tasks_and_their_frames(seen):
    kernel, crash, _ = seen
    tasks = {str(task.address): task for task in kernel.tasks()}
    assert set(tasks) == set(crash["tasks"])
    for address, (pid, tid, name, cpu, frames) in crash["tasks"].items():
        task = tasks[address]
        assert (pid, tid, name, cpu) == (task.pid, task.tid, task.name, task.cpu)
        expected = [frame for frame in kernel.frames(task) if frame.address >> 47 == 0x1FFFF]
        if len(expected) < len(frames):  # drgn does not get out of every spinning function
            expected = expected[:1]
            frames = frames[:1]
        assert [frame[0] for frame in frames] == [frame.address for frame in expected]
        assert [frame[4] for frame in frames] == [frame.sp for frame in expected]
        named = [
            (mine, its)
            for mine, its in zip(frames, expected)
            # drgn takes a return address behind a function that never returns for the next one's
            if its.symbol and its.symbol == mine[1]
        ]
        assert len(named) >= len(frames) - 4
        for mine, its in named:
            assert mine[1:4] == [its.symbol, its.offset, its.module]


def test_cpus(seen):
    kernel, crash, _ = seen
    running = kernel.running()
    assert {str(cpu): task.address for cpu, task in running.items()} == crash["running"]
    assert len(crash["registers"]) == len(running)
    for cpu, values in crash["registers"].items():
        known = kernel.registers(int(cpu))
        assert {"rip", "rsp", "rax", "r15"} <= set(values)
        assert {name: known[name] for name in values if name in known} == {
            name: value for name, value in values.items() if name in known
        }
    queue = kernel.symbol("runqueues")
    assert crash["per_cpu"] == [kernel.per_cpu(queue, int(cpu)) for cpu in crash["registers"]]


def test_types_and_symbols(seen):
    kernel, crash, _ = seen
    assert crash["release"] == kernel.release
    assert crash["kind"] == "vmcore"
    assert crash["offsets"] == [kernel.offset(*name) for name in NAMES["offsets"]]
    assert crash["sizes"] == [kernel.size(*name) for name in NAMES["sizes"]]
    assert crash["enumerators"] == [kernel.enumerator(name) for name in NAMES["enumerators"]]
    assert crash["symbols"] == [kernel.symbol(name) for name in NAMES["symbols"]]
    for name, (start, end) in zip(NAMES["functions"], crash["bounds"]):
        its = kernel.function_bounds(kernel.symbol(name))
        assert start == its[0]
        assert its[1] <= end <= its[1] + 64  # padding belongs to nobody


def test_user_memory(seen):
    kernel, crash, _ = seen
    found = 0
    for task, text in zip(crash["tasks"], crash["user"]):
        task = next(known for known in kernel.tasks() if str(known.address) == task)
        try:
            its = kernel.read_user(task, 0x400000, 64).hex()
        except Exception:
            its = None
        assert text == its, task
        found += its is not None
    assert found


def test_nothing_is_missing(seen):
    assert seen[1]["limits"] == []


def test_the_report(seen):
    kernel, _, report = seen
    cycles = [finding for finding in report["findings"] if finding["type"] == "cycle"]
    members = {tuple(sorted(wait["task"]["name"] for wait in c["members"])) for c in cycles}
    if ("sh-a", "sh-b") in members:
        assert members == {("sh-a", "sh-b"), ("ss-a", "ss-b")}
        return  # drgn does not get out of the function that spins
    expected = report_object(report_of(kernel))
    assert report["verdict"] == expected["verdict"]
    assert report["counts"] == expected["counts"]
    for found, its in zip(bare(report["findings"]), bare(expected["findings"])):
        assert found == its
    assert len(report["findings"]) == len(expected["findings"])
    assert report["limits"] == expected["limits"]


def bare(findings):
    """Findings without lines and frames, which the two hosts tell in their own ways."""
    text = json.dumps(findings, sort_keys=True)
    plain = json.loads(text)
    for finding in plain:
        for wait in finding["members"] + [finding["root_waits_for"]]:
            if wait:
                wait["frames"] = None
    return plain


UNLISTED = """
from crash_ext.limits import limits
from faultkit.target import ReadError

def said():
    return [limit for limit in limits(kernel) if " lists " in limit]

assert said() == []
tasks, read = kernel.tasks(), kernel.read
left_out = [task for task in tasks if task.pid > 2 and task.tid == task.pid][5:15]
kernel._tasks = [task for task in tasks if task not in left_out]
print(*said())
size = kernel.size("task_struct")

def lacking(address, count):
    if any(task.address <= address < task.address + size for task in left_out):
        raise ReadError(address, count)
    return read(address, count)

kernel.read = lacking
print(*said())
kernel._tasks = [task for task in tasks if task.tid == task.pid]
kernel.read = read
print(*said())
"""


def test_why_crash_lists_too_few_tasks(tmp_path):
    with Session(dump("users")) as crash:
        by_crash, by_dump, threads = crash.python(tmp_path, UNLISTED).splitlines()
    assert "use a newer one" in by_crash
    assert "the dump lacks the memory of some" in by_dump
    assert "may be damaged" in threads
