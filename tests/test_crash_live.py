"""crash on the very kernel that it runs on (/proc/kcore), in guests of the lab."""

import json

import pytest
from lab.checking import problems, strangers
from lab.live import look
from lab.scenarios.boots import find

pytestmark = pytest.mark.matrix


def reports(text):
    """The JSON objects among what crash printed."""
    decoder, found = json.JSONDecoder(), []
    at = text.find("\n{\n")
    while at >= 0:
        report, end = decoder.raw_decode(text, at + 1)
        found.append(report)
        at = text.find("\n{\n", end)
    return found


def test_what_stands_still_is_told_as_of_a_dump():
    text = look("users", ["deadlock --json -", "deadlock --stacks none"])
    (report,) = reports(text)
    assert report["target"]["name"] == "kcore"
    faults = find("users").on("6.1")
    assert [problem for fault in faults for problem in problems(report, fault)] == []
    assert strangers(report, faults) == []
    assert "VERDICT: DEADLOCK" in text and "Traceback" not in text


def test_where_processes_come_and_go_nothing_is_made_up():
    commands = ["deadlock --json -", "dstate --json -", "sigsrc", "deadlock --json -"]
    text = look("quiet", commands, storm=True)
    found = reports(text)
    assert [report["command"] for report in found] == ["deadlock", "dstate", "deadlock"]
    assert [report["findings"] for report in found if report["command"] == "deadlock"] == [[], []]
    assert "Traceback" not in text
