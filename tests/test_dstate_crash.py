"""`dstate` in a real crash on real dumps: what the scenarios of boots with blocked tasks say.

No debug information of a module is loaded but where a kernel keeps no BTF of its modules."""

import json

import pytest
from crash_session import Session
from lab.blocked import problems, strangers
from lab.dumps import dump
from lab.store import locked

KERNELS = ("5.10", "6.1", "6.12", "7")
USUAL = ("6.1",)
PLAYED = ("stuck", "busy")


def _cases():
    for kernel in KERNELS:
        for boot in PLAYED:
            marks = () if kernel in USUAL else pytest.mark.matrix
            yield pytest.param(kernel, boot, id=f"{kernel}-{boot}", marks=marks)


@pytest.fixture
def said(session_directory):
    """Gives what crash says to some lines on a boot's dump, and the report as JSON."""

    def said(kernel, boot):
        made = dump(boot, kernel)
        path = session_directory / f"dstate-{boot}-{kernel}.json"
        with locked(path):
            if not path.exists():
                with Session(made, made.kernel.root) as crash:
                    if kernel == "5.10":  # without BTF of its modules
                        crash.run(f"mod -S {made.kernel.debug}")
                        for name in ("dm_mod", "loop", "nbd", "fuse", "nfs", "sunrpc"):
                            file = made.kernel.debug / f"{name}.ko.debug"
                            crash.run(f"mod -s {name} {file}", trouble=None)
                    answers = {line: crash.run(line) for line in _lines(path, boot)}
                path.with_suffix(".said").write_text(json.dumps(answers))
                path.with_suffix(".part").rename(path)
        return json.loads(path.with_suffix(".said").read_text()), json.loads(path.read_text())

    return said


def _lines(path, boot):
    lines = [
        f"dstate --json {path.with_suffix('.part')}",
        "dstate --min-age 100000",
        "dstate --watch",
        "dstate 99999",
        "dstate 0",
        "dstate 1 --all",
        "dstate --from /nonexistent",
        "dstate 1",
        "faultkit dstate --help",
        "help dstate",
    ]
    return lines if boot == "stuck" else lines[:1]


@pytest.mark.parametrize("kernel, boot", list(_cases()))
def test_what_is_blocked(said, kernel, boot):
    _, report = said(kernel, boot)
    made = dump(boot, kernel)
    wrong = [problem for fault in made.faults for problem in problems(report, fault)]
    assert not wrong, "\n".join([*wrong, *report["limits"]])
    assert strangers(report, made.faults) == []
    assert report["limits"] == []
    assert report["verdict"] == ("found" if boot == "stuck" else "not-found")
    assert report["target"]["kind"] == "vmcore"


def test_the_report_that_people_read(said):
    text = said("6.1", "stuck")[0]
    report = next(iter(text.values()))
    assert "VERDICT: STUCK: " in report
    assert ": lab-disk, suspended" in report
    assert max(map(len, report.splitlines())) <= 100


def test_ages(said):
    """Two seconds at least, as the guest waits for so long before it says that it is ready."""
    _, report = said("6.1", "stuck")
    for group in report["findings"]:
        assert 1.5 < group["longest_seconds"] < 300, group


@pytest.mark.parametrize(
    "line, words",
    [
        ("dstate --min-age 100000", "blocked for less than 100000 s"),
        ("dstate --watch", "dstate: --watch is for a machine that runs"),
        ("dstate 99999", "dstate: no process 99999; "),
        ("dstate 0", "`0` is no process id"),
        ("dstate 1 --all", "process ids and --all contradict each other"),
        ("dstate --from /nonexistent", "dstate: cannot read /nonexistent"),
        ("dstate 1", "no task is stuck in D state"),
        ("faultkit dstate --help", "--min-age SECONDS"),
        ("help dstate", "why tasks are blocked in D state"),
    ],
)
def test_words_typed(said, line, words):
    answers, _ = said("6.1", "stuck")
    assert words in answers[line], answers[line]
