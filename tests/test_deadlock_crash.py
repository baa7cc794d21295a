"""`deadlock` in a real crash on real dumps: every fault of the lab's boots, as their scenarios say.

One session per dump writes the report; each fault is a test of its own.
"""

import json
import subprocess
from pathlib import Path

import pytest
from lab.checking import problems, strangers
from lab.dumps import Dump, dump
from lab.scenarios.boots import BOOTS
from lab.store import locked

CHECKOUT = Path(__file__).resolve().parent.parent
# What every run of the tests looks at; `make test-matrix` has the rest.
USUAL = {
    "6.1": tuple(BOOTS),
    "6.12": ("sleeping",),
}
KERNELS = ("5.10", "6.1", "6.12", "7")


def _boots():
    for kernel in KERNELS:
        for boot in BOOTS.values():
            marks = () if boot.name in USUAL.get(kernel, ()) else pytest.mark.matrix
            yield kernel, boot, marks


def _faults():
    for kernel, boot, marks in _boots():
        for fault in boot.on(kernel):
            name = f"{kernel}-{boot.name}-{fault.name}"
            yield pytest.param(kernel, boot.name, fault, id=name, marks=marks)


@pytest.fixture(scope="session")
def session_directory(tmp_path_factory):
    """A directory that all workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture
def report_of(session_directory):
    """Gives the report on a boot's dump, made by one session of crash for all workers."""

    def report_of(kernel, boot):
        made = dump(boot, kernel)
        path = session_directory / f"{boot}-{kernel}.json"
        with locked(path):
            if not path.exists():
                said = crash_says(made, f"deadlock --stacks none --json {path}.part")
                assert Path(f"{path}.part").exists(), said
                Path(f"{path}.part").rename(path)
        return json.loads(path.read_text())

    return report_of


def crash_says(made: Dump, *commands: str) -> str:
    """What crash prints for these commands, with the extension loaded and, for its types, the
    fixture's module."""
    words = made.crash
    loaded = [f"extend {CHECKOUT}/crash_ext/faultkit.so"]
    if "--no_modules" not in words:
        loaded.append(f"mod -s faultlab {made.module}")
    done = subprocess.run(
        [*words, "-s", "--no_scroll"],
        input="\n".join([*loaded, *commands, "q"]) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=600,
        cwd=CHECKOUT,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


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
    if any(fault.findings and not fault.unsure for fault in made.faults):
        assert report["verdict"] == "found"
    else:
        assert report["verdict"] in ("not-found", "inconclusive")
    assert report["verdict"] != "inconclusive" or report["limits"]
