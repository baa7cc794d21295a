"""`deadlock` in a real crash on real dumps: every fault of the lab's boots, as their scenarios say.

One session per dump writes the report; each fault is a test of its own.
"""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from crash_session import Session, built, command
from lab.checking import problems, strangers
from lab.dumps import dump
from lab.scenarios.boots import BOOTS
from lab.store import locked

RUN = Path(__file__).parent / "roots" / "run"

# What every run of the tests looks at; `make test-matrix` has the rest.
USUAL = {
    "6.1": tuple(BOOTS),
    "6.12": ("sleeping",),
}
KERNELS = ("5.10", "6.1", "6.12", "7")


def _boots():
    for kernel in KERNELS:
        for boot in [boot for boot in BOOTS.values() if boot.on(kernel)]:
            marks = () if boot.name in USUAL.get(kernel, ()) else pytest.mark.matrix
            yield kernel, boot, marks


def _faults():
    for kernel, boot, marks in _boots():
        for fault in boot.on(kernel):
            name = f"{kernel}-{boot.name}-{fault.name}"
            yield pytest.param(kernel, boot.name, fault, id=name, marks=marks)


@pytest.fixture
def report_of(session_directory):
    """Gives the report on a boot's dump, made by one session of crash for all workers."""

    def report_of(kernel, boot):
        made = dump(boot, kernel)
        path = session_directory / f"{boot}-{kernel}.json"
        with locked(path):
            if not path.exists():
                with Session(made, made.kernel.root) as crash:
                    if made.has_modules:
                        crash.run(f"mod -s faultlab {made.module}")
                    said = crash.run(f"deadlock --stacks none --json {path}.part")
                assert Path(f"{path}.part").exists(), said
                Path(f"{path}.part").rename(path)
        return json.loads(path.read_text())

    return report_of


@pytest.mark.parametrize("kernel, boot, fault", list(_faults()))
def test_fault(report_of, kernel, boot, fault):
    report = report_of(kernel, boot)
    wrong = problems(report, fault)
    assert not wrong, "\n".join([*wrong, *report["limits"]])


@pytest.mark.parametrize(
    "kernel, boot", [pytest.param(k, b.name, id=f"{k}-{b.name}", marks=m) for k, b, m in _boots()]
)
def test_nothing_else_is_claimed(report_of, kernel, boot):
    made = dump(boot, kernel)
    report = report_of(kernel, boot)
    assert strangers(report, made.faults) == []
    sure = [fault for fault in made.faults if fault.findings and not fault.unsure]
    if sure:
        assert report["verdict"] == "found"
    elif any(fault.findings for fault in made.faults):
        assert report["verdict"] != "not-found"
    elif not any(fault.allowed for fault in made.faults):  # else test_fault tells
        assert report["verdict"] != "found"
    assert report["verdict"] != "inconclusive" or report["limits"]


@pytest.mark.parametrize("level, told", [(23, ["-d 17"]), (31, ["-d 17", "-d 23"])])
def test_what_programs_share_is_kept_by_another_dump_level(tmp_path, level, told):
    """Shared memory is page cache to makedumpfile: -d 23 keeps the words of private locks only."""
    made = dump("users-lzo")
    less = replace(made, directory=tmp_path)
    again = ["makedumpfile", "-l", "-d", str(level), made.vmcore, less.vmcore]
    subprocess.run([RUN, made.kernel.root, *again], check=True, capture_output=True, timeout=300)
    with Session(less, made.kernel.root) as crash:
        crash.run(f"deadlock --stacks none --json {tmp_path}/report")
    report = json.loads((tmp_path / "report").read_text())
    lines = [line for line in report["limits"] if line.startswith("the words of some futexes")]
    assert sorted(re.search(r"-d \d+", line)[0] for line in lines) == told
    members = {wait["task"]["name"] for cycle in report["findings"] for wait in cycle["members"]}
    assert ("um-a" in members) == (level == 23)


def test_the_example_session_leaves_its_reports(tmp_path):
    made = dump("sleeping")
    checkout = built().parent.parent
    (tmp_path / "crash_ext").symlink_to(checkout / "crash_ext")
    example = checkout / "examples" / "deadlock.crash"
    crash = command(made, made.kernel.root, "-s", "-i", str(example))
    done = subprocess.run(
        crash, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert "VERDICT: DEADLOCK: " in done.stdout, done.stdout + done.stderr
    assert json.loads((tmp_path / "deadlock.json").read_text())["verdict"] == "found"
    assert "VERDICT: DEADLOCK" in (tmp_path / "deadlock.txt").read_text()
