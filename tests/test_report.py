"""Whatever strings a target holds: reports are well-formed, and nothing in them steers a
terminal or a drawing."""

import json
import random
import re
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultkit.model import Finding, Frame, Lock, Report, SourceLine, Task, Wait
from faultkit.render.dot import render_dot
from faultkit.render.escape import clean
from faultkit.render.machine import render_json
from faultkit.render.style import FEW, Style, printed_length
from faultkit.render.text import render_text

NASTY = [
    "\x1b[31mred", "a\nb", 'quo"te', "\x1b" * 15, "\udc80\udcff", "\u202egnp.exe", "\\", "\\N", "",
    "&#27;[31m", "&quot;", "<b>", "\0", "\x7f", "\x9b31m", "\u2028", "a" * 500, "\r", "x -> y",
    "\u200b", "\ufeff", "日本語", "%s{}", " ", "\t",
]  # fmt: skip


class Invented:
    """A report with hostile strings in every field, from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self):
        if self.random.random() < 0.7:
            return self.random.choice(NASTY)
        size = self.random.choice((1, 5, 30, 300))
        points = (self.random.choice((0x80, 0x3000, 0x110000)) for _ in range(size))
        return "".join(chr(self.random.randrange(limit)) for limit in points)

    def maybe(self, make):
        return make() if self.random.random() < 0.8 else None

    def number(self):
        return self.random.getrandbits(self.random.choice((4, 32, 64)))

    def several(self, make, most, least=0):
        return tuple(make() for _ in range(self.random.randint(least, most)))

    def task(self):
        number = self.random.choice((None, "1", "23"))
        return Task(self.random.randint(1, 5), self.random.randint(1, 9), self.maybe(self.text),
                    None, number)  # fmt: skip

    def source(self):
        line = self.random.choice((None, 0, 7))
        return SourceLine(self.maybe(self.text), self.maybe(self.text), line)

    def frame(self):
        return Frame(self.random.randint(0, 99), self.number(), self.maybe(self.text),
                     self.maybe(self.number), self.maybe(self.text), self.several(self.source, 2),
                     )  # fmt: skip

    def wait(self):
        lock = Lock("pthread_mutex", self.maybe(self.number), self.maybe(self.text))
        return Wait(
            self.task(),
            lock,
            mode=self.random.choice((None, "read")),
            holders=self.several(self.task, 5),
            confidence=self.random.choice(("proven", "inferred")),
            evidence=self.several(self.text, 2),
            timed=self.random.random() < 0.3,
            frames=self.several(self.frame, 3),
        )

    def finding(self):
        if self.random.random() < 0.3:
            return Finding("chain", victims=self.several(self.task, 3, 1), root=self.task(),
                           root_waits_for=self.wait())  # fmt: skip
        return Finding(
            self.random.choice(("cycle", "self-deadlock", "corrupt-lock", "orphaned-lock")),
            self.several(self.wait, 3, 1),
            self.several(self.task, 50),
            explanation=self.maybe(self.text),
            evidence=self.several(self.text, 2),
        )

    def report(self):
        report = Report(
            "deadlock",
            {"name": "gdb", "version": "13.1", "faultkit": "0.1"},
            {"kind": self.random.choice(("process", "core")), "name": self.text(), "release": None},
            self.random.choice(("found", "not-found", "inconclusive")),
            self.text(),
            self.several(self.finding, 3),
            self.several(self.text, 3),
            {"tasks": 3, "running": 1, "waiters": 2, "resolved": 1},
        )
        report.notes = list(self.several(self.text, 2))
        report.stacks = [(self.task(), self.several(self.frame, 2)) for _ in range(2)]
        return report


REPORTS = [Invented(seed).report() for seed in range(150)]


def assert_harmless(text):
    """No control character but the newline, nothing invisible or that turns the text around."""
    bad = {char for char in text if char != "\n" and unicodedata.category(char)[0] in "CZ"}
    assert bad <= {" "}, bad


@pytest.mark.parametrize("width", [20, 60, 80, 100])
def test_text(width):
    for report in REPORTS:
        assert_good_text(report, width)


def assert_good_text(report, width):
    text = render_text(report, width, False)
    assert_harmless(text)
    assert text.startswith("faultkit ")
    assert text.count("\nSUMMARY: ") == 1
    for line in text.splitlines():
        if len(line) > max(width, 60):
            assert " " not in line.strip().partition(": ")[2] or len(max(line.split(), key=len)) > (
                max(width, 60) - 30
            ), line


@pytest.mark.parametrize("report", REPORTS[::3])
def test_color_adds_nothing_but_colors(report):
    pytest.importorskip("pygments")
    painted = render_text(report, 100, True)
    assert_harmless(re.sub("\x1b\\[[0-9;]*m", "", painted))


def strings(value):
    """All strings in a JSON value, names of members included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value:
            yield from strings(item)
            if isinstance(value, dict):
                yield from strings(value[item])


@pytest.mark.parametrize("report", REPORTS[::3])
def test_json(report):
    text = render_json(report)
    text.encode("ascii")
    assert_harmless(text)
    value = json.loads(text)
    for string in strings(value):
        assert_harmless(string)
        assert "\n" not in string
    assert value["schema"] == "faultkit/1"
    assert len(value["findings"]) == len(report.findings)
    assert [task["tid"] for f in value["findings"] for task in f["victims"]] == [
        task.tid for finding in report.findings for task in finding.victims
    ]


@pytest.mark.parametrize("report", REPORTS[::3])
def test_graph_is_harmless(report):
    graph = render_dot(report)
    assert_harmless(graph)
    assert not re.search(r"&(?!amp;)", graph)
    graph.encode("utf-8")


@pytest.mark.parametrize("report", REPORTS[:12])
def test_graph_is_drawn(report):
    if shutil.which("dot") is None:
        pytest.skip("no graphviz here")
    graph = render_dot(report)
    for form in ("canon", "svg"):
        done = subprocess.run(["dot", f"-T{form}"], input=graph.encode(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
    assert_harmless(done.stdout.decode())


@given(st.text())
def test_clean_text_is_printable_and_plain_text_stays(text):
    assert clean(text, 100000).isprintable()
    if text.isprintable():
        assert clean(text, 100000) == text


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_is_escaped(text):
    assert_harmless(clean(text))
    assert len(clean(text)) <= 240


def test_few_rows_are_aligned_as_tabulate_does_it():
    """Colours and all; tabulate is imported for more rows only."""
    for color in (False, True):
        style = Style(color)
        rows = [(style.paint("*white*", who), "x" * number, "", f"held by T{number}")
                for number, who in enumerate(("T2", "T13", "T4", "T5", "T6 of 7", "T7", "T8", "T9"))
                ]  # fmt: skip
        assert len(rows) == FEW
        few = style.table(rows, 100)
        more = style.table([*rows, rows[0]], 100)
        assert few is not None and more is not None
        assert few == more[:-1]
        widest = max(map(printed_length, few))
        assert style.table(rows, widest) == few
        assert style.table(rows, widest - 1) is None
        assert style.missing == []
