"""tools/transcripts: what it replaces, what it leaves, when it complains."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "transcripts"


def document(command, text):
    return f"before\n\n<!-- transcript: {command} -->\n```text\n{text}```\n\nafter ```x``` end\n"


@pytest.fixture
def refresh(tmp_path):
    """Run the tool on a document of that text; returns its status, errors, and the new text."""

    def run(text, *options):
        file = tmp_path / "document.md"
        file.write_text(text)
        done = subprocess.run(
            [sys.executable, TOOL, *options, file], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr, file.read_text()

    return run


@pytest.mark.parametrize("old", ["", "stale\n", "two\nlines\n"])
def test_a_stale_block_is_replaced(refresh, old):
    status, _, text = refresh(document("echo fresh", old))
    assert (status, text) == (0, document("echo fresh", "fresh\n"))


def test_check_reports_and_writes_nothing(refresh):
    before = document("echo fresh", "stale\n")
    status, errors, text = refresh(before, "--check")
    assert (status, text) == (1, before)
    assert "document.md: echo fresh: stale" in errors
    assert refresh(document("echo fresh", "fresh\n"), "--check")[0] == 0


NOW = "LWP 812 0x7f0123456789  |  812  |  in 0.31 s"


@pytest.mark.parametrize(
    ("then", "same"),
    [
        ("LWP 4711 0x7fabcdef0123 | 4711 | in 12 ms", True),
        ("LWP 4711 0x7fabcdef0123 | 4712 | in 12 ms", False),  # another process
        ("LWP 4711 0x404080 | 4711 | in 12 ms", False),  # an address that is not randomised
        ("LWP 4711 0x7fabcdef0123 | 4711 | in 12 ms more", False),
    ],
)
def test_only_what_changes_from_run_to_run_is_ignored(refresh, then, same):
    before = document(f"echo '{NOW}'", then + "\n")
    _, _, text = refresh(before)
    assert text == (before if same else document(f"echo '{NOW}'", NOW + "\n"))


def test_a_command_that_fails_leaves_its_block(refresh):
    before = document("echo half; false", "whole\n")
    status, errors, text = refresh(before)
    assert (status, text) == (1, before)
    assert "failed: exit status 1" in errors


def test_the_environment_is_fixed(refresh):
    command = "echo $COLUMNS $NO_COLOR $(basename $PWD/Makefile) $(test -t 0 || echo no)"
    assert "100 1 Makefile no\n" in refresh(document(command, ""))[2]


@pytest.mark.parametrize(("then", "stale"), [("4711, 4712", 0), ("4711, 4711", 1)])
def test_victims_without_a_name_are_ids_too(refresh, then, stale):
    now = "2 more threads queue behind it: "
    assert refresh(document(f"echo {now}812, 813", f"{now}{then}\n"), "--check")[0] == stale
