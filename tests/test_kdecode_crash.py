"""`kdecode` in a real crash on the lab's dumps: tasks, CPUs, places, modules, text; and damage."""

import json
import re

import pytest
from crash_session import Session
from lab.dumps import dump


@pytest.fixture(scope="module")
def crash():
    """A session on a dump of programs, kernel threads and modules."""
    made = dump("users")
    with Session(made, made.kernel.root) as session:
        session.run(f"mod -s faultlab {made.module}")
        yield session


def frames(crash, words):
    return json.loads(crash.run(f"kdecode {words} --json -"))


def task_of(crash, name):
    found = re.search(rf"^>? +(\d+) .* {re.escape(name)}\s*$", crash.run("ps"), re.M)
    assert found, name
    return found[1]


def by_symbol(report):
    return {re.sub(r"\..*", "", frame["symbol"]): frame for frame in report["findings"]}


def test_a_task_by_its_id_and_address(crash):
    pid = task_of(crash, "uk-a")
    report = frames(crash, f"{pid} --no-dis")
    assert report["verdict"] == "found"
    assert report["traces"][0]["task"] == "uk-a"
    found = by_symbol(report)
    assert found["__mutex_lock"]["inlines"][0]["function"] == "__mutex_lock_common"
    assert found["__mutex_lock"]["arguments"]["lock"]["meaning"] == "lab_device_locks [faultlab]"
    assert found["__schedule"]["locals"]["prev"]["meaning"] == f'task {pid} "uk-a"'
    address = found["__schedule"]["locals"]["prev"]["value"]
    again = frames(crash, f"{address[2:]} --no-dis")
    assert again["findings"] == report["findings"]


def test_lines_are_those_of_crash_s_own_gdb(crash):
    """Of frames without inlined functions, looked up at the call."""
    report = frames(crash, f"{task_of(crash, 'frozen-create')} --no-dis")
    checked = 0
    for frame in report["findings"]:
        if not frame["inlines"] or frame["module"] or len(frame["inlines"]) > 1:
            continue
        at = int(frame["address"], 16) - (not frame["exact"])
        said = crash.run(f"gdb info line *{at:#x}")
        line = re.search(r"Line (\d+) of \"([^\"]+)\"", said)
        assert line, said
        inner = frame["inlines"][0]
        assert (int(line[1]), line[2].split("/")[-1]) == (
            inner["line"], inner["file"].split("/")[-1],
        )  # fmt: skip
        checked += 1
    assert checked >= 4


def test_what_pointers_mean(crash):
    found = by_symbol(frames(crash, f"{task_of(crash, 'frozen-create')} --no-dis"))
    assert found["do_filp_open"]["arguments"]["pathname"]["meaning"].startswith("filename /")
    assert found["mnt_want_write"]["arguments"]["sb"]["meaning"] == "super_block ram0"
    assert found["mnt_want_write"]["arguments"]["m"]["meaning"] == "slab mnt_cache"


def test_code_is_the_dump_s_own(crash):
    """Each instruction's bytes are those in memory, as crash's `rd` shows them."""
    report = frames(crash, f"{task_of(crash, 'uk-a')}")
    for frame in report["findings"][:4]:
        code = frame["disassembly"]
        assert [each["current"] for each in code].count(True) == 1
        current = next(each for each in code if each["current"])
        size = len(current["bytes"]) // 2
        shown = crash.run(f"rd -8 {current['address'][2:]} {size}")
        memory = re.match(r"[0-9a-f]+: +((?:[0-9a-f]{2} )+)", shown.strip())
        assert memory, shown
        assert memory[1].replace(" ", "") == current["bytes"]
        assert int(current["address"], 16) + size == int(frame["address"], 16)


def test_every_cpu(crash):
    report = frames(crash, "-a --no-dis")
    assert sorted(trace["cpu"] for trace in report["traces"]) == list(range(len(report["traces"])))
    assert len(report["traces"]) == int(re.search(r"CPUS: (\d+)", crash.run("sys"))[1])


def test_the_current_context(crash):
    pid = task_of(crash, "uk-a")
    before = re.search(r"PID: (\d+)", crash.run("set"))[1]
    crash.run(f"set {pid}")
    try:
        assert frames(crash, "-n 2")["traces"][0]["pid"] == int(pid)
    finally:
        crash.run(f"set {before}")


def test_places_in_code(crash):
    report = frames(crash, "schedule schedule+0x5a")
    first, second = report["findings"]
    assert (first["exact"], second["exact"]) == (True, False)
    assert first["offset"] == 0
    assert next(i for i in second["disassembly"] if i["current"])["note"] == "__schedule"
    address = int(second["address"], 16)
    assert frames(crash, f"{address:x}")["findings"][0]["inlines"] == second["inlines"]
    exact = frames(crash, f"{address:x} --exact")["findings"][0]
    assert next(i for i in exact["disassembly"] if i["current"])["address"] == f"{address:#x}"


def test_text_and_pages(crash, tmp_path):
    pid = task_of(crash, "uk-a")
    (tmp_path / "bt").write_text(crash.run(f"bt {pid}"))
    page = tmp_path / "case.html"
    brief = crash.run(f"kdecode --from {tmp_path}/bt --brief")
    own = crash.run(f"kdecode {pid} --brief --html {page}")
    places = re.compile(r"[\w/]+\.[ch]:\d+")
    assert places.findall(brief) == places.findall(own)
    text = page.read_text()
    assert text.count("<details") == own.count(" #")
    assert "lab_device_locks [faultlab]" in text
    assert not re.search(r"<script|https?://|src=", text)


@pytest.mark.parametrize(
    "words, said",
    [
        ("7654321", "no task has the id 7654321"),
        ("no_such_symbol", "no_such_symbol is no task, address or symbol"),
        ("0xffff888000000000", "is neither a task nor in the kernel's code"),
        ("-n 0", "`0` is no number of frames"),
        ("--context many", "`many` is no number of lines"),
        ("1 -a", "contradict each other"),
        ("--vmlinux /nowhere", "there is no file /nowhere"),
        ("--from /nowhere", "/nowhere"),
    ],
)
def test_errors_are_one_line(crash, words, said):
    text = crash.run(f"kdecode {words}")
    assert said in text
    assert len(text.splitlines()) == 1


def test_a_panic_with_cold_code_and_an_interrupt():
    """The task that panicked is the default; .cold functions have lines; of the frame that the
    interrupt stopped all registers are known."""
    made = dump("spin-panic")
    with Session(made, made.kernel.root) as crash:
        crash.run(f"mod -s faultlab {made.module}")
        report = frames(crash, "")
        assert report["traces"][0]["task"] == "ss-a"
        found = {frame["symbol"]: frame for frame in report["findings"]}
        assert found["panic"]["inlines"][0]["file"].endswith("kernel/panic.c")
        cold = found["watchdog_timer_fn.cold"]
        assert cold["inlines"][-1]["function"] == "watchdog_timer_fn"
        spinning = found["native_queued_spin_lock_slowpath"]
        assert spinning["exact"]
        lock = spinning["arguments"]["lock"]
        assert "lab_" in lock["meaning"], lock
        assert lock["origin"] in ("rdi", "rbx", "rbp", "r12", "r13", "r14", "r15")
        assert found["spin_abba_a"]["module"] == "faultlab"
