"""A real oops, a NULL pointer followed by a module: its text on the console and the dump of the
same crash are decoded alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from crash_session import Session
from lab.dumps import dump

NAMES = (
    "6.1",
    pytest.param("5.10", marks=pytest.mark.matrix),
    pytest.param("6.12", marks=pytest.mark.matrix),
)
OPERAND = "rdi = 0x0, read of 0x4 (NULL)"  # packet->header->length


def by_text(made):
    words = [made.directory / "console", "--vmlinux", made.vmlinux]
    words += ["--module", made.overlay.module, "--no-source", "--json", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "faultkit", "kdecode", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    oops = next(trace for trace in report["traces"] if trace["kind"] == "oops")
    frames = [report["findings"][number] for number in oops["frames"]]
    return [frame for frame in frames if not frame["unreliable"]]


def by_crash(made):
    with Session(made, made.kernel.root) as crash:
        crash.run(f"mod -s laboops {made.overlay.module}")
        return json.loads(crash.run("kdecode --no-source --json -"))


def lines(frames):
    return [
        [(line["function"], line["file"].rpartition("/")[2], line["line"])
         for line in frame["inlines"]]
        for frame in frames
    ]  # fmt: skip


@pytest.mark.parametrize("kernel", NAMES)
def test_a_console_s_oops_is_decoded_as_its_dump_is(kernel):
    made = dump("oops", kernel)
    report = by_crash(made)
    told, dumped = by_text(made), report["findings"]
    assert report["notes"][0].startswith("the end of the log: BUG: kernel NULL pointer")
    assert "then: Kernel panic - not syncing: Fatal exception" in report["notes"][0]
    stopped = next(frame for frame in told if frame["exact"])
    assert stopped is told[0] and stopped["module"] == "laboops"
    assert stopped["inlines"][0]["function"] == "lab_length"
    assert OPERAND in stopped["notes"]
    begin = next(i for i, frame in enumerate(dumped) if frame["module"] == "laboops")
    assert dumped[begin]["exact"] and OPERAND in dumped[begin]["notes"]
    seen, expected = lines(dumped[begin:]), lines(told)
    # crash does not know modules' code that goes once they are loaded
    left_out = [chain for chain in expected if chain not in seen]
    assert [chain[-1][0] for chain in left_out] in ([], ["laboops_init"])
    assert seen == [chain for chain in expected if chain not in left_out]
    source = Path(__file__).resolve().parent / "lab/guests/oops/module/laboops.c"
    (_, _, number), *_ = expected[0]
    assert "packet->header->length" in source.read_text().splitlines()[number - 1]
