"""Which tests run: those marked `full` only with -m full (or the like) or FAULTKIT_FULL=1."""

import os
import re
from pathlib import Path

import pytest

if "FAULTKIT_ROOT_SUITE" in os.environ:
    # A root can't make roots and dumps, nor run the crash of another one.
    collect_ignore = [
        path.name
        for path in Path(__file__).parent.glob("test_*.py")
        if re.search(r"^from (lab|kernel_dumps|crash_session)\b", path.read_text(), re.MULTILINE)
    ]


@pytest.fixture(scope="session")
def session_directory(tmp_path_factory):
    """A directory that all workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


def pytest_collection_modifyitems(config, items):
    if os.environ.get("FAULTKIT_FULL") == "1" or "full" in config.getoption("-m"):
        return
    slow = [item for item in items if item.get_closest_marker("full")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """What this machine cannot do is skipped, with the reason."""
    from harness import Unplayable

    outcome = yield
    if outcome.excinfo is not None and issubclass(outcome.excinfo[0], Unplayable):
        outcome.force_exception(pytest.skip.Exception(str(outcome.excinfo[1])))
