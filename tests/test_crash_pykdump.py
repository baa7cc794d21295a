"""faultkit inside PyKdump: over its documented interface, on a real dump (tests/pykdump)."""

import json

import pytest
from crash_session import CHECKOUT, Session
from lab.dumps import dump

EPYTHON = CHECKOUT / "tests/pykdump/epython.py"
PROGRAM = CHECKOUT / "crash_ext/faultkit.py"


@pytest.fixture(scope="module")
def crash():
    with Session(dump("sleeping")) as session:
        yield session


def epython(crash, *words):
    return crash.run(" ".join(map(str, ["faultkit python", EPYTHON, *words])))


def test_the_report_is_faultkit_so_s(crash):
    report = epython(crash, PROGRAM, "deadlock")
    assert "VERDICT: DEADLOCK" in report
    assert report == crash.run("deadlock")
    assert epython(crash, PROGRAM.with_name("deadlock.py")) == report


def test_json_without_the_json_module(crash, tmp_path):
    epython(crash, PROGRAM, "deadlock", "--json", tmp_path / "pykdump")
    crash.run(f"deadlock --json {tmp_path}/crash")
    reports = [json.loads((tmp_path / name).read_text()) for name in ("pykdump", "crash")]
    for report in reports:
        del report["elapsed_seconds"]
    assert reports[0] == reports[1]


def test_what_the_library_lacks_is_told_with_the_remedy(crash, tmp_path):
    (line,) = epython(crash, PROGRAM, "deadlock", "--svg", tmp_path / "x").splitlines()[-1:]
    assert line.startswith("deadlock: this Python has no module subprocess; ")
    assert "PYKDUMPPATH=/usr/lib/python3." in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonsense",), "faultkit: no command `nonsense`; see `faultkit`\n"),
        (("deadlock", "--output", "/nonexistent/x"), "directory; name another file\n"),
    ],
)
def test_errors_are_one_line(crash, words, said):
    assert epython(crash, PROGRAM, *words).endswith(said)


def test_without_a_command_there_is_help(crash):
    assert epython(crash, PROGRAM) == crash.run("faultkit")


def test_every_bare_command_has_a_program_of_its_name(crash, tmp_path):
    """PyKdump runs the program of a registered command by its name."""
    names = crash.python(
        tmp_path,
        "from crash_ext import commands\nprint(*[name for name, _ in commands.help_tables()])",
    ).split()
    assert {"faultkit", "deadlock"} <= set(names)
    for name in names:
        assert (CHECKOUT / f"crash_ext/{name}.py").is_file()


def test_commands_are_registered_where_pykdump_finds_them():
    environment = {"PYKDUMPPATH": f"/nonexistent:{PROGRAM.parent}", "SHOW_PROGRAMS": "1"}
    with Session(dump("sleeping"), **environment) as session:
        for _ in range(2):
            told = epython(session, PROGRAM, "deadlock", "--stacks", "none")
            assert "VERDICT: DEADLOCK" in told
            registered = [line.split(" - ")[0] for line in told.splitlines() if " - " in line]
            assert {"deadlock", "faultkit", "kdecode"} <= set(registered)
