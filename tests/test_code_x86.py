"""The instruction decoder against objdump, and what it says of lock and call instructions."""

import shutil
import subprocess
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultkit.code.arguments import argument_at_call
from faultkit.code.encoding import Memory
from faultkit.code.x86 import call_before, decode, instructions
from faultkit.target import ReadError

LIBRARIES = ["libc.so.6", "libm.so.6", "libstdc++.so.6", "libcrypto.so.3"]
SAMPLE = 50_000  # instructions of each file
KINDS = {
    "call": "call", "jmp": "jmp", "ret": "ret", "lea": "lea", "push": "push", "pop": "pop",
    "leave": "leave", "syscall": "syscall", "cmpxchg": "cmpxchg", "xadd": "xadd",
    "movslq": "movsxd", "cltq": "movsxd",
}  # fmt: skip


def disassembly(path):
    """(address, bytes, text) of each instruction that objdump finds in a file's code."""
    with subprocess.Popen(
        ["objdump", "-d", "-w", "-j", ".text", str(path)], stdout=subprocess.PIPE, text=True
    ) as objdump:
        try:
            for line in objdump.stdout:
                parts = line.split("\t")
                if len(parts) == 3:
                    yield int(parts[0].rstrip(": \n"), 16), bytes.fromhex(parts[1]), parts[2]
        finally:
            objdump.kill()


def library(name):
    for directory in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"):
        path = Path(directory, name)
        if path.exists():
            return path
    pytest.skip(f"no {name}")


@pytest.mark.parametrize("name", LIBRARIES)
def test_boundaries_and_kinds_are_objdumps(name):
    if shutil.which("objdump") is None:
        pytest.skip("no objdump")
    compared = 0
    for address, code, text in islice(disassembly(library(name)), SAMPLE):
        mnemonic = text.split()[0]
        # Data between functions, and fwait, which objdump joins to the next instruction.
        if "(bad)" in text or mnemonic.startswith(("rex", ".byte")) or code[0] == 0x9B:
            continue
        found = decode(code, address)
        assert found is not None and found.size == len(code), (hex(address), text, found)
        if mnemonic in KINDS:
            assert found.kind == KINDS[mnemonic], (hex(address), text, found)
        if mnemonic == "lock":
            assert found.lock, text
        compared += 1
    assert compared > 0.99 * SAMPLE or (name == "libcrypto.so.3" and compared > 0.8 * SAMPLE)


def test_direct_targets_are_objdumps():
    for address, code, text in islice(disassembly(library("libc.so.6")), SAMPLE):
        words = text.split()
        if words[0] in ("call", "jmp", "je", "jne", "ja") and len(words) > 2 and words[2][0] == "<":
            assert decode(code, address).target == int(words[1], 16), text


@pytest.mark.parametrize(
    "code, kind, destination, source",
    [
        ("488d3d10000000", "lea", "rdi", Memory(None, None, 1, 0x1017)),
        ("488d7dd8", "lea", "rdi", Memory("rbp", None, 1, -40)),
        ("488d7c2408", "lea", "rdi", Memory("rsp", None, 1, 8)),
        ("bf60404000", "mov", "rdi", 0x404060),
        ("48c7c7ffffffff", "mov", "rdi", -1),
        ("49bc8877665544332211", "mov", "r12", 0x1122334455667788),
        ("4889df", "mov", "rdi", "rbx"),
        ("488b45f8", "mov", "rax", Memory("rbp", None, 1, -8)),
        ("48894424f8", "mov", Memory("rsp", None, 1, -8), "rax"),
        ("4a8b7ce808", "mov", "rdi", Memory("rax", "r13", 8, 8)),
        ("f00fb117", "cmpxchg", Memory("rdi", None, 1, 0), "rdx"),
        ("8707", "xchg", Memory("rdi", None, 1, 0), "rax"),
        ("ff1510000000", "call", None, Memory(None, None, 1, 0x1016)),
        ("41ffd4", "call", None, "r12"),
        ("648b042510000000", "mov", "rax", Memory(None, None, 1, 16, "fs")),
        ("4863d0", "movsxd", "rdx", "rax"),
        ("4898", "movsxd", "rax", "rax"),
        ("48c1e003", "shl", "rax", 3),
        ("48d1e0", "shl", "rax", 1),
        ("48d3e0", "other", "rax", None),
        ("486bc038", "imul", "rax", "rax"),
    ],
)
def test_meanings(code, kind, destination, source):
    found = decode(bytes.fromhex(code), 0x1000)
    assert (found.kind, found.destination, found.source) == (kind, destination, source)
    assert found.size == len(code) // 2
    assert found.factor == (0x38 if kind == "imul" else 1)


@given(st.binary(max_size=40), st.integers(0, 40))
def test_any_bytes_decode_or_do_not(code, offset):
    found = decode(code, 0x7FFF_0000_0000, offset)
    assert found is None or (0 < found.size <= 15 and offset + found.size <= len(code))


def reader(code, base=0x1000):
    def read(address, size):
        if not base <= address <= address + size <= base + len(code):
            raise ReadError(address, size)
        return code[address - base : address - base + size]

    return read


@pytest.mark.parametrize("call", ["e800010000", "ff1500010000", "ffd0", "41ff542408", "ff5008"])
def test_finds_the_call_before_a_return_address(call):
    call = bytes.fromhex(call)
    read = reader(bytes.fromhex("4889c7") + call)
    found = call_before(read, 0x1003 + len(call))
    assert found is not None and found.kind == "call" and found.end == 0x1003 + len(call)


def test_no_call_before_other_code():
    assert call_before(reader(b"\x90" * 16), 0x1010) is None
    assert call_before(reader(b""), 0x5000) is None


def trace(code, register="rdi", registers=None, memory=b"", **more):
    """The argument at the last instruction of `code`."""
    listing = list(instructions(reader(bytes.fromhex(code)), 0x1000, 0x1000 + len(code) // 2))
    index = len(listing) - 1
    read = reader(memory, 0x2000)
    return argument_at_call(listing, index, register, registers or {}, read, **more)


CALL = "e800000000"


@pytest.mark.parametrize(
    "code, registers, expected",
    [
        ("bf34120000" + CALL, {}, (0x1234, True)),
        ("488d3d00100000" + CALL, {}, (0x2007, True)),
        ("bb785600004889df" + CALL, {}, (0x5678, True)),
        ("488d7dd8" + CALL, {"rbp": 0x7F00}, (0x7F00 - 40, True)),
        ("488d7c2410" + CALL, {"rsp": 0x7F00}, (0x7F10, True)),
        ("4889df" + CALL, {"rbx": 0x77}, (0x77, True)),
        ("31ff" + CALL, {}, (0, True)),
        (CALL + CALL, {}, None),  # a call destroys rdi
        (CALL, {}, None),  # a parameter
        ("4889c7" + CALL, {}, None),
        # A jump over the write makes it uncertain.
        ("7405bf34120000" + CALL, {}, (0x1234, False)),
        # Code behind a jump that nothing reaches.
        ("bf34120000eb00c3" + CALL, {}, None),
    ],
)
def test_argument_at_call(code, registers, expected):
    assert trace(code, registers=registers) == expected


def test_argument_from_memory_is_uncertain():
    code = "488b3d" + (0x2000 - 0x1007).to_bytes(4, "little").hex() + CALL
    assert trace(code, memory=(0x4242).to_bytes(8, "little")) == (0x4242, False)


def test_parameters_come_from_the_caller():
    from faultkit.code.arguments import Value

    asked = []

    def at_entry(register):
        asked.append(register)
        return Value(0x99, True)

    assert trace("4889f7" + CALL, at_entry=at_entry) == (0x99, True)
    assert asked == ["rsi"]
