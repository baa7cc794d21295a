"""Other C libraries' programs under this machine's gdb, and this machine's under other gdbs.

Programs that need no library at run time are built in the Debian roots (tests/roots) and run
here: static and stripped ones of glibc 2.31 and 2.41 and of two versions of musl, of which
nothing tells whose they are.  The suite within the roots is tests/roots/test's.
"""

import functools
import json
import os
import subprocess

import harness
import pytest
from scenarios import ALL

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.skipif("FAULTKIT_ROOT_SUITE" in os.environ, reason="this is within a root"),
    pytest.mark.skipif(os.geteuid() != 0, reason="roots need root"),
]

ROOTS = harness.TESTS / "roots"
SUITES = ("bullseye", "trixie")
VARIANTS = ("static-stripped", "musl-stripped")
MODES = ("attached", "unattached")

BUILD_ALL = """
import json, sys
sys.path.insert(0, "tests")
from building import HarnessError, Unplayable, build
built = {}
for wish in json.loads(sys.argv[1]):
    try:
        built["{} {}".format(*wish)] = str(build(*wish))
    except (HarnessError, Unplayable) as error:
        built["{} {}".format(*wish)] = str(error)
print(json.dumps(built))
"""


def _foreign():
    """Every scenario of a C program that can be linked statically, in the modes by turns."""
    for number, scenario in enumerate(ALL):
        for variant in VARIANTS:
            if scenario.program.endswith(".c") and variant in scenario.variants:
                for turn, suite in enumerate(SUITES):
                    mode = MODES[(number + turn) % 2]
                    name = f"{scenario.name}-{suite}-{variant}-{mode}"
                    yield pytest.param(scenario, variant, suite, mode, id=name)


FOREIGN = list(_foreign())


@functools.cache
def built(suite):
    """{"program variant": the executable's path, or why there is none} of what a root builds."""
    wishes = sorted({(case.values[0].program, case.values[1]) for case in FOREIGN})
    arguments = ["/usr/bin/python3", "-c", BUILD_ALL, json.dumps(wishes)]
    done = subprocess.run(
        [ROOTS / "run", suite, *arguments],
        cwd=harness.CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@functools.cache
def root_of(suite):
    return subprocess.run(
        [ROOTS / "root", suite],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.parametrize("scenario, variant, suite, mode", FOREIGN)
def test_foreign_program(scenario, variant, suite, mode):
    executable = root_of(suite) + built(suite)[f"{scenario.program} {variant}"]
    assert os.access(executable, os.X_OK), executable
    with harness.running(scenario, variant, [executable]) as stage:
        if mode == "attached":
            report, _, _ = harness.gdb_deadlock(pid=stage.target)
        else:
            report, _, _ = harness.unattached_deadlock(stage.target)
        harness.check(report, scenario, stage, symbols=False)


UNDER_OTHER_GDBS = (
    "mutex-normal",
    "mutex-robust",
    "mutex-pi",
    "rwlock-writers",
    "sync-join-mutex",
    "sync-stdio",
    "mixed-join-and-two-mutexes",
    "negative-condvar-pool",
)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("variant", ["dbg", "stripped"])
@pytest.mark.parametrize("name", UNDER_OTHER_GDBS)
def test_other_gdb(name, variant, suite, monkeypatch):
    """A gdb that knows neither this C library nor its thread library still sees the threads."""
    scenario = next(scenario for scenario in ALL if scenario.name == name)
    monkeypatch.setenv("FAULTKIT_ROOT", suite)
    with harness.running(scenario, variant) as stage:
        report, _, _ = harness.gdb_deadlock(pid=stage.target, gdb=str(ROOTS / "gdb"))
        harness.assert_unharmed(stage)
        harness.check(report, scenario, stage, symbols=variant != "stripped")
