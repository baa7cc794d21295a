"""faultkit.so is a well-behaved guest of crash: it loads, fails, ends and goes without a trace."""

import json
import re
import shutil
from pathlib import Path

import pytest
from crash_session import EXTENSION, CrashTerminal, Session
from lab.dumps import dump as dump_of


@pytest.fixture(scope="module")
def dump():
    """A dump with deadlocks of kernel threads, and much else."""
    return dump_of("sleeping")


@pytest.fixture(scope="module")
def crash(dump):
    """A session in which the extension is loaded."""
    with Session(dump) as session:
        yield session


def lines(text):
    return text.splitlines()


# --- loading ----------------------------------------------------------------------------------


def test_loading_says_only_what_crash_says(crash):
    assert crash.loaded == f"{EXTENSION}: shared object loaded\n"


def test_help_is_like_crash_s_own(crash):
    text = crash.run("help deadlock")
    assert re.findall(r"^[A-Z]+$", text, re.M) == ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLE"]
    assert "\n  deadlock - find deadlocks" in text
    assert "\n  deadlock [--stacks" in text
    assert crash.run("deadlock --help") == text
    assert {"deadlock", "faultkit"} <= set(crash.run("help").split())
    assert "deadlock " in crash.run("help faultkit")
    assert crash.run("faultkit") == crash.run("help faultkit")


def test_loading_twice_is_refused_by_crash_and_harmless(crash):
    assert "already loaded" in crash.run(f"extend {EXTENSION}")
    assert "VERDICT: DEADLOCK" in crash.run("deadlock")


def test_unloading_and_loading_again(crash, tmp_path):
    for _ in range(10):
        assert crash.run(f"extend -u {EXTENSION}") == f"{EXTENSION}: shared object unloaded\n"
        assert "command not found: deadlock" in crash.run("deadlock")
        assert crash.run(f"extend {EXTENSION}") == f"{EXTENSION}: shared object loaded\n"
        assert "VERDICT: DEADLOCK" in crash.run("deadlock")


# --- the report -------------------------------------------------------------------------------


def test_the_bare_name_and_the_prefix_are_the_same(crash):
    assert crash.run("deadlock") == crash.run("faultkit deadlock")


def test_json_output_and_redirection(crash, tmp_path):
    text = crash.run("deadlock")
    assert crash.run(f"deadlock --output {tmp_path}/text --json {tmp_path}/json") == ""
    assert (tmp_path / "text").read_text() == text
    report = json.loads((tmp_path / "json").read_text())
    assert report["verdict"] == "found"
    assert report["host"]["name"] == "crash"
    assert report["target"]["kind"] == "vmcore"
    assert report["target"]["release"].startswith("6.1.0-")
    assert crash.run(f"deadlock > {tmp_path}/redirected") == ""
    assert (tmp_path / "redirected").read_text() == text
    assert crash.run(f"deadlock >> {tmp_path}/redirected") == ""
    assert (tmp_path / "redirected").read_text() == text * 2
    assert json.loads(crash.run("deadlock --json -"))["findings"] == report["findings"]


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deadlock --nonsense", "unrecognized arguments: --nonsense; see `help deadlock`"),
        ("deadlock --stacks some", "invalid choice: 'some'"),
        ("deadlock 4711", "all tasks of the kernel are examined"),
        ("deadlock --json /nonexistent/x", "No such file or directory"),
        ("faultkit nonsense", "no command `nonsense`; see `faultkit`"),
        ("faultkit python", "no file given"),
        ("faultkit python /nonexistent", "/nonexistent: No such file or directory"),
    ],
)
def test_a_user_s_error_is_one_line(crash, line, said):
    (last,) = lines(crash.run(line))[-1:]
    assert said in last
    assert not last.startswith(" ")


def test_a_program_s_own_traceback_is_shown(crash, tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("1 / 0\n")
    text = crash.run(f"faultkit python {file}", trouble=None)
    assert text.startswith("Traceback") and "ZeroDivisionError" in lines(text)[-1]
    for wrong in (b"def (:\n", b"x = '\xe9'\n", b"x\0"):
        file.write_bytes(wrong)
        text = crash.run(f"faultkit python {file}", trouble=None)
        assert text.startswith("Traceback") and "report it" not in text
    file.write_text("import sys; sys.exit('enough')\n")
    assert crash.run(f"faultkit python {file}") == "python: enough\n"


def test_output_and_errors_of_crash_s_commands_are_told_apart(crash, tmp_path):
    said = crash.python(
        tmp_path,
        """
import _faultkit
print(_faultkit.run("eval 1")[0].split()[:2], _faultkit.run("eval 1")[1] == "")
print(_faultkit.run("nonsense"))
for call, words in (
    (_faultkit.run, ("rd 1",)),
    (_faultkit.run, ("struct nonsense",)),
    (_faultkit.gdb, ("ptype struct nonsense",)),
    (_faultkit.gdb, ("print *(int *) 1",)),
    (_faultkit.read, (1, 8)),
    (_faultkit.read, (1, 8)),
    (_faultkit.read, (0, 4096)),
    (_faultkit.read_physical, (1 << 60, 8)),
):
    try:
        print(words, call(*words))
    except _faultkit.Error as error:
        print(words, "Error", str(error).strip())
print(_faultkit.run("bt 99999"))
""",
    )
    first, unknown, rd, struct, ptype, pointer, read, again, null, physical, bt = lines(said)
    assert first == "['hexadecimal:', '1'] True"
    assert unknown.startswith("(''") and "command not found: nonsense" in unknown
    assert "Error" in rd and "invalid" in rd
    assert "nonsense" in struct and "Error" in ptype and "Error" in pointer
    assert read == again == "(1, 8) Error cannot read 8 bytes at 0x1"
    assert null == "(0, 4096) Error cannot read 4096 bytes at 0x0"
    assert "Error" in physical
    assert "99999" in bt


# What a command that failed in any way must not change for the session and the ones that follow.
FAILURES = """
import _faultkit, os

QUICK = [
    (_faultkit.run, line) for line in (
        "rd 1", "rd -x nonsense", "bt 99999", "foreach nonsense", "foreach bt -z", "kmem -s 1",
        "list 1", "tree -t rbtree 1", "dis 1", "sym nonsense", "eval (", "p nonsense(", "vtop 1",
        "struct task_struct 1", "bt -", "set 99999", "search", "files 99999", "log -z",
        "mod -s nonsense", "rd " + "9" * 900, "x" * 5000, "foreach UN rd 1", "bt -f 1 nonsense",
    )
] + [
    (_faultkit.gdb, line) for line in ("x/s 1", "print nonsense(", "whatis", "frame 5", "x/i 1")
] + [
    (_faultkit.read, 1, 8), (_faultkit.read, 1 << 63, 1 << 20), (_faultkit.translate, 1, 1),
    (_faultkit.line, 1), (_faultkit.offset, "task_struct", "nonsense"), (_faultkit.lookup, 1),
    (_faultkit.bounds, 1), (_faultkit.read, 0, -1), (_faultkit.size, "x" * 1000),
]
# gdb looks long for what is not there.
SLOW = [
    (_faultkit.run, "nonsense"), (_faultkit.run, "struct nonsense"),
    (_faultkit.run, "task_struct.nonsense"), (_faultkit.gdb, "ptype struct nonsense"),
    (_faultkit.gdb, "print *(int *) 1"), (_faultkit.gdb, "list nonsense"),
    (_faultkit.member_type, "nonsense", "x"), (_faultkit.enumerator, "nonsense"),
]

def fail(calls):
    for call, *arguments in calls:
        try:
            call(*arguments)
        except (_faultkit.Error, ValueError):
            pass
    return len(calls)

def used():
    with open("/proc/self/statm") as file:
        return len(os.listdir("/proc/self/fd")), int(file.read().split()[1]) * 4
"""


def test_ten_thousand_failures_leave_no_trace(crash, tmp_path):
    before = crash.run("set"), crash.run("deadlock"), crash.run("bt 1")
    said = crash.python(
        tmp_path,
        FAILURES
        + """
fail(QUICK * 3 + SLOW * 3)
descriptors, kilobytes = used()
done = 0
while done < 10_000:
    done += fail(QUICK * 10 + SLOW)
now = used()
print(now[0] - descriptors, now[1] - kilobytes)
""",
    )
    descriptors, kilobytes = map(int, said.split())
    assert descriptors == 0
    assert kilobytes < 1024
    assert (crash.run("set"), crash.run("deadlock"), crash.run("bt 1")) == before


def test_a_hundred_reloads_use_no_more_memory_than_modules_need(crash, tmp_path):
    program = FAILURES + "print(*used())"
    sizes = []
    for _ in range(4):
        for _ in range(15):
            crash.run(f"extend -u {EXTENSION}")
            crash.run(f"extend {EXTENSION}")
            crash.run("deadlock --stacks none")
        sizes.append(list(map(int, crash.python(tmp_path, program).split())))
    assert sizes[3][0] == sizes[0][0]
    # What is lost at every reload is lost in every round; a heap that grows once is not.
    assert min(sizes[3][1] - sizes[2][1], sizes[2][1] - sizes[1][1]) < 4096


# --- output -----------------------------------------------------------------------------------


MORE = "--More--"  # of more(1): less(1) is not in every root
LINES = "for number in range(100_000): print(number, 'x' * 60)"


def test_a_reader_that_leaves_early_ends_the_command(crash, tmp_path):
    file = tmp_path / "lines.py"
    file.write_text(LINES)
    for _ in range(5):
        # A third of all pipes fail in crash 8.0.6 itself.
        said = crash.run(f"faultkit python {file} | head -n 2")
        assert said in (f"0 {'x' * 60}\n1 {'x' * 60}\n", "crash: pipe operation failed\n"), said
        assert crash.run("faultkit python /nonexistent").endswith("No such file or directory\n")


def test_a_full_disk_is_told(crash, tmp_path):
    file = tmp_path / "lines.py"
    file.write_text(LINES)
    assert "No space left on device" in crash.run(f"faultkit python {file} > /dev/full")
    said = "deadlock: cannot write /dev/full: No space left on device; name another file\n"
    assert crash.run("deadlock --output /dev/full").endswith(said)
    assert "VERDICT" in crash.run("deadlock")


def test_nested_commands_write_where_they_are_asked(crash, tmp_path):
    said = crash.python(
        tmp_path,
        """
import _faultkit
print("before")
text, errors = _faultkit.run("faultkit nonsense")
print(repr(text), repr(errors))
print(_faultkit.run("deadlock --stacks none")[0].partition("VERDICT: ")[2].partition(":")[0])
""",
    )
    before, nested, verdict = lines(said)
    assert before == "before"
    assert nested == repr("faultkit: no command `nonsense`; see `faultkit`\n") + " ''"
    assert verdict == "DEADLOCK"


# --- Ctrl-C and the pager ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def terminal(dump):
    with CrashTerminal(dump, "--no_scroll") as session:
        yield session


BUSY = {
    "in Python": "while True: pass",
    "in crash": "import _faultkit\nwhile True: _faultkit.run('foreach bt')",
    "in one command of crash": "import _faultkit\n_faultkit.run('foreach bt -f')\nwhile True: pass",
    "in gdb": "import _faultkit\nwhile True: _faultkit.gdb('info types sk_buff')",
    "in memory": "while True: kernel.read(kernel.tasks()[0].address, 8)",
    "in back traces": "while True: kernel.frames(kernel.tasks()[2])",
}


@pytest.mark.parametrize("where", BUSY)
def test_control_c_ends_a_command(terminal, tmp_path, where):
    (tmp_path / "busy.py").write_text("print('busy', flush=True)\n" + BUSY[where])
    terminal.type(f"faultkit python {tmp_path}/busy.py\n")
    terminal.until("busy\n")
    terminal.interrupt(0.5)
    assert "interrupted" in terminal.until("crash> ", 30)
    for _ in range(2):  # neither crash nor gdb has an interrupt left over
        assert "VERDICT: DEADLOCK" in terminal.run("deadlock")
        assert "hexadecimal: 1" in terminal.run("eval 1")
        assert "struct mutex {" in terminal.run("gdb ptype struct mutex")


def test_a_second_control_c_breaks_off_what_does_not_listen(terminal, tmp_path):
    # crash looks for an interrupt between commands only; a search for so much takes seconds.
    (tmp_path / "busy.py").write_text(
        "import _faultkit\nprint('busy', flush=True)\n"
        "wanted = ' '.join(f'{0xdeadbe00 + n:x}' for n in range(90))\n"
        "_faultkit.run(f'repeat -1 search -k {wanted}')\nprint('not reached')"
    )
    terminal.type(f"faultkit python {tmp_path}/busy.py\n")
    terminal.until("busy\n")
    terminal.interrupt(0.2)
    terminal.interrupt(0.2)
    said = terminal.until("crash> ", 60)
    assert "interrupted" in said and "not reached" not in said
    assert "VERDICT: DEADLOCK" in terminal.run("deadlock")


def test_colours_are_for_terminals_only(terminal):
    assert "\x1b[" not in terminal.run("deadlock")  # TERM=dumb


def test_the_pager_shows_a_report_and_can_be_left(dump, tmp_path):
    (tmp_path / "lines.py").write_text(LINES)
    import pygments  # the root's Python has none

    shutil.copytree(Path(pygments.__file__).parent, tmp_path / "site" / "pygments")
    with CrashTerminal(dump, TERM="xterm", FAULTKIT_SITE=f"{tmp_path}/site") as session:
        session.run("set scroll more")
        session.run("set scroll on")
        session.type(f"faultkit python {tmp_path}/lines.py\n")
        session.until(MORE, 30)
        session.type("q")
        session.until("crash> ")
        session.type("deadlock\n")
        report = session.until(MORE, 30)
        assert "VERDICT: DEADLOCK" in report
        assert "\x1b[3" not in report  # the pager is between: no colours
        session.type("q")
        session.until("crash> ")
        session.run("set scroll off")
        coloured = session.run("deadlock")
        assert "\x1b[3" in coloured and "VERDICT" in coloured
