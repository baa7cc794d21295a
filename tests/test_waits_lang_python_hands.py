"""Who has a plain Lock of CPython's, where it may have been given back by what was called since.
FAULTKIT_PYTHONS may name more interpreters, separated by colons."""

import re
from pathlib import Path

import pytest
from lang_waits import PROGRAMS, play
from test_waits_lang_python import PYTHONS

PROGRAM = PROGRAMS / "pyhands.py"
NAMES = re.findall(r"def ((?:gone|has)_\w+)", PROGRAM.read_text())


@pytest.fixture(scope="module", params=PYTHONS, ids=lambda path: Path(path).name)
def scene(request):
    with play(request.param, PROGRAM) as playing:
        yield playing


@pytest.mark.parametrize("name", NAMES)
def test_holder_is_named_only_if_nothing_it_called_may_have_released_the_lock(scene, name):
    wait = scene.wait_of(name, "python_lock")
    if name.startswith("has_"):
        assert scene.holders(wait) == ["T" + name]
    else:
        assert wait.holders == ()
        assert "may have released it since" in str(wait.missing)
