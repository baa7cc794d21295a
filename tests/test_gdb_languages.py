"""gdb's own language, which follows the selected frame, changes nothing of what is found."""

import harness
import pytest
from scenarios import ALL
from terminal import SOURCE, batch

SCENES = {scenario.name: scenario for scenario in ALL}


@pytest.fixture(scope="module")
def stuck():
    with harness.running(SCENES["mutex-normal"], "dbg") as stage:
        yield stage


def reports(stage, language):
    """What the commands say in that language, and gdb's word on it before and after."""
    ask = "python print('language', gdb.parameter('language'))"
    commands = ("deadlock --stacks none", "kdecode main --brief", "kdecode main+4 --brief")
    stdout, stderr = batch(
        f"set language {language}", ask, *commands, ask, source=("-p", str(stage.pid), *SOURCE)
    )
    shown = stdout[stdout.index("language ") :]
    assert shown.count(f"language {language}\n") == 2
    kept = [line for line in shown.splitlines() if not line.startswith(("faultkit ", "language "))]
    return kept, [line for line in stderr.splitlines() if line.startswith(("deadlock", "kdecode"))]


@pytest.mark.parametrize("language", ["rust", "ada", "fortran", "go", "d", "pascal", "modula-2"])
def test_names_are_found_in_any_language(stuck, language):
    said, errors = reports(stuck, language)
    assert not errors
    assert said == reports(stuck, "auto")[0]
    assert any("<accounts" in line for line in said)
