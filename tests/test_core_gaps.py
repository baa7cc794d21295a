"""Cores that lack memory: less is found in them, and nothing that a whole one would not show.

What a core leaves out of the program's data gdb reads from the program's file instead: words of
the time before it started, or whatever else lies there in the file.
"""

import random
import struct

import harness
import pytest
import scenarios

from faultkit.corefile import Gaps

SCENES = (
    "mutex-normal",
    "mutex-pi",
    "rwlock-with-mutex",
    "rwlock-writers",
    "stuck-exited",
    "stuck-chain-condvar",
    "sync-join-mutex",
    "cxx-mutex",
)
RATES = (0.1, 0.15, 0.3, 0.6)
BY_NAME = {scenario.name: scenario for scenario in scenarios.ALL}


def with_gaps(core, seed, rate):
    """The core without some of its segments, or without the ends of these."""
    draw = random.Random(seed)
    data = bytearray(core.read_bytes())
    (at,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    for place in range(at, at + 56 * count, 56):
        (kind,) = struct.unpack_from("<I", data, place)
        (size,) = struct.unpack_from("<Q", data, place + 32)
        if kind == 1 and draw.random() < rate:  # PT_LOAD
            kept = draw.choice((0, size // 2 & -4096))
            struct.pack_into("<Q", data, place + 32, kept)
    path = core.with_name(f"gaps-{seed}")
    path.write_bytes(data)
    return path


def claimed(report):
    """The type and the members of every finding but chains, whose roots may be lacking."""
    return {
        (finding["type"], frozenset(wait["task"]["tid"] for wait in finding["members"]))
        for finding in report["findings"]
        if finding["type"] != "chain"
    }


@pytest.mark.parametrize("variant", ["dbg", "stripped"])
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_claimed_because_of_what_is_lacking(scene, variant):
    with harness.running(BY_NAME[scene], variant) as stage:
        core = harness.gcore_core(stage)
        whole, _, _ = harness.gdb_deadlock(exe=stage.executable, core=core)
        for seed, rate in enumerate(RATES):
            part = with_gaps(core, seed, rate)
            report, _, _ = harness.gdb_deadlock(exe=stage.executable, core=part)
            new = claimed(report) - claimed(whole)
            assert not new, (seed, new, report["findings"])
            if whole["verdict"] == "found" and report["verdict"] == "not-found":
                raise AssertionError(f"{seed}: silent, and no limit says why")


def test_gaps(tmp_path):
    """Of writable memory only; what was cut off with the file's end is lacking, too."""
    headers = (
        (1, 6, 4096, 0x1000, 0, 4096, 4096, 1),  # held
        (1, 6, 8192, 0x2000, 0, 2048, 4096, 1),  # its second half was left out
        (1, 5, 12288, 0x3000, 0, 0, 4096, 1),  # code: the file has it
        (1, 6, 12288, 0x4000, 0, 4096, 4096, 1),  # the file ends in its middle
    )
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<2H", header, 54, 56, len(headers))
    table = b"".join(struct.pack("<2I6Q", *fields) for fields in headers)
    core = tmp_path / "core"
    core.write_bytes((header + table).ljust(12288 + 1024, b"\0"))
    gaps = Gaps(str(core))
    for address, lacking in (
        (0x1000, False), (0x1FF8, False), (0x2000, False), (0x27F8, False), (0x2800, True),
        (0x2FF8, True), (0x3000, False), (0x43F8, False), (0x43FC, True), (0x4FF8, True),
        (0x5000, False), (0xFFC, False),
    ):  # fmt: skip
        assert gaps.touch(address, 8) is lacking, hex(address)
    assert not Gaps(str(tmp_path / "none")).touch(0x1000, 8)
