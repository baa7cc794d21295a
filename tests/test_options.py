"""The options that the commands know, and those that their help and documents tell of."""

import re
from importlib import import_module

import pytest
from harness import CHECKOUT
from terminal import batch

from crash_ext.commands import COMMANDS
from faultkit.options import Known

OPTION = re.compile(r"(?<![\w-])(?:--[a-z][a-z-]*|-[a-z]\b)")
# What a host refuses, with a word on where it works: its help need not tell of it.
ELSEWHERE = {
    ("gdb", "sigsrc"): {"--run"},
    ("crash", "sigsrc"): {"--watch", "--arm", "--tracer", "--run"},
    ("crash", "dstate"): {"--watch"},
}
EACH = ("deadlock", "dstate", "sigsrc", "kdecode")


def known(command):
    module = import_module(f"faultkit.options.{command}")
    return set(Known(module.add_session_arguments).options)


def of_shell(command):
    module = import_module(f"faultkit.options.{command}")
    return set(Known(getattr(module, f"add_{command}_arguments")).options)


@pytest.mark.parametrize("command", EACH)
def test_help_in_gdb_tells_of_all(command):
    help_text, prefixed = batch(f"help {command}")[0], batch(f"help faultkit {command}")[0]
    assert help_text == prefixed
    assert f"Usage: {command} [" in help_text
    told = set(OPTION.findall(help_text))
    assert told == known(command) - ELSEWHERE.get(("gdb", command), set())
    assert max(map(len, help_text.splitlines())) <= 80
    first = help_text.splitlines()[0]  # what `apropos` and `help support` show of it
    assert first.endswith(".")


@pytest.mark.parametrize("command", EACH)
def test_help_in_crash_tells_of_all(command):
    told = COMMANDS[command]
    options = set(OPTION.findall(told.synopsis + told.description))
    missing = known(command) - ELSEWHERE.get(("crash", command), set()) - options
    assert not missing
    told_elsewhere = {"-s", "-S", "--arm"}  # mod's, and whose output --from reads
    assert options - known(command) <= told_elsewhere


@pytest.mark.parametrize("command", EACH)
def test_the_document_tells_of_all(command):
    text = (CHECKOUT / "docs" / f"{command}.md").read_text(encoding="utf-8")
    told = set(OPTION.findall(text))
    assert not (known(command) | of_shell(command)) - told
