"""`sigsrc` on garbage: siginfos, notes, code, stacks and memory that may hold anything."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faultkit.analyzers.sigsrc import analyze
from faultkit.code.encoding import REGISTERS, encoding
from faultkit.code.operands import accesses, needs_alignment, privileged
from faultkit.code.x86 import decode
from faultkit.corethreads import core_facts
from faultkit.model import Task
from faultkit.render.machine import render_json
from faultkit.render.sigsrc_text import render_sigsrc
from faultkit.signals.bpf import ACTIONS, run, seccomp_data
from faultkit.signals.frames import signal_frames
from faultkit.signals.names import signal_name, signal_number
from faultkit.signals.siginfo import parse_siginfo
from faultkit.target import Mapping, Process, ReadError, SignalMasks

HOST = {"name": None, "version": None, "faultkit": "0"}
NUMBERS = (4, 5, 6, 7, 8, 10, 11, 13, 14, 17, 24, 25, 29, 31, 35)
CODES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 0x80, -1, -2, -4, -5, -6, -7, -60, 9999, 0x405)


class Garbage(Process):
    """A process all of whose memory is made up, from a seed: mostly pointers to itself."""

    kind = "core"
    live = False
    here = False
    name = "garbage"

    def __init__(self, seed: int, number: int, code: int) -> None:
        self.pid = 100
        self.random = random.Random(seed)
        starts = [self.random.randrange(1, 1 << 35) << 12 for _ in range(6)]
        perms = ("r-x", "rw-", "rw-", "r--", "---", "rwx")
        self.maps = sorted(
            Mapping(start, start + (16 << 12), 0, "" if perm == "rw-" else f"/x/\x1b{start}", perm)
            for start, perm in zip(starts, perms)
        )
        self.info = struct.pack("<4i", number, 0, code, 0) + self.random.randbytes(112)

    def tasks(self):
        return [Task(100, 100), Task(100, 101)]

    def syscall(self, task):
        return None

    def mappings(self):
        return self.maps

    def some_address(self) -> int:
        mapping = self.random.choice(self.maps)
        return mapping.start + self.random.randrange(mapping.end - mapping.start)

    def read(self, address, size):
        if self.mapping(address) is None or self.mapping(address + size - 1) is None:
            raise ReadError(address, size)
        own = random.Random(address >> 12)
        data = own.randbytes(64) + b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05" + b"\x0f\x05"
        pointers = struct.pack("<8Q", *(self.some_address() & ~7 for _ in range(8)))
        return ((pointers + data) * (size // 32 + 2))[:size]

    def struck(self):
        return self.tasks()[0]

    def siginfo(self, task):
        return self.info

    def masks(self, task):
        return SignalMasks(*(self.random.getrandbits(64) for _ in range(5)))

    def queued(self, task, shared):
        return [self.random.randbytes(128), self.info, b"", self.random.randbytes(20)]

    def all_registers(self, task):
        names = (*REGISTERS, "rip", "eflags", "orig_rax", "fs_base", "gs_base", "mxcsr", "pkru")
        return {
            name: self.some_address() if self.random.random() < 0.7 else self.random.getrandbits(64)
            for name in names
        }


@pytest.mark.parametrize("number", NUMBERS)
def test_garbage_is_explained_without_an_error(number):
    for code in CODES:
        for seed in range(1):
            report = analyze(Garbage(seed, number, code), HOST)
            text = render_sigsrc(report, 100, False)
            assert signal_name(number) in text
            assert "\x1b" not in text + render_json(report)


@given(st.binary(min_size=0, max_size=140))
def test_siginfo(data):
    info = parse_siginfo(data)
    assert info is None or 1 <= info.number <= 64


LAYOUTS = [  # number, code, what lies behind 16 bytes, and what is read of it
    (10, 0, "iI", (7, 8), {"pid": 7, "uid": 8, "layout": "sent"}),
    (10, -6, "iIQ", (7, 8, 9), {"pid": 7, "uid": 8, "value": None}),
    (35, -1, "iIQ", (7, 8, 9), {"pid": 7, "value": 9, "layout": "queued"}),
    (14, -2, "iIQ", (1, 2, 3), {"timer": 1, "overrun": 2, "value": 3, "pid": None}),
    (17, 2, "iIi", (7, 8, 9), {"pid": 7, "uid": 8, "status": 9, "layout": "child"}),
    (11, 1, "Q", (0x10,), {"address": 0x10, "pid": None}),
    (11, 0x80, "Q", (0,), {"layout": "sent", "pid": 0}),
    (11, 3, "QQQQ", (1, 0, 3, 4), {"address": 1, "lower": 3, "upper": 4}),
    (11, 4, "QQI", (1, 0, 5), {"address": 1, "pkey": 5}),
    (7, 4, "Qh", (1, 12), {"address": 1, "lsb": 12}),
    (7, 2, "Qh", (1, 12), {"address": 1, "lsb": None}),
    (29, 1, "qi", (3, 4), {"band": 3, "fd": 4}),
    (40, 1, "qi", (3, 4), {"band": 3, "fd": 4, "layout": "poll"}),  # F_SETSIG
    (31, 1, "QiI", (1, 59, 0xC000003E), {"call_address": 1, "nr": 59, "arch": 0xC000003E}),
    (12, 7, "iI", (7, 8), {"pid": 7, "layout": "sent"}),
]


@pytest.mark.parametrize(("number", "code", "form", "values", "wanted"), LAYOUTS)
def test_layout(number, code, form, values, wanted):
    data = struct.pack("<4i", number, 0, code, 0) + struct.pack(f"<{form}", *values)
    info = parse_siginfo(data.ljust(128, b"\0"))
    assert {name: getattr(info, name) for name in wanted} == wanted


@given(st.binary(min_size=1, max_size=20), st.integers(0, (1 << 64) - 1))
@settings(max_examples=1000)
def test_operands(code, value):
    registers = dict.fromkeys(REGISTERS, value)
    for access in accesses(code, 0x401000, registers):
        assert access.address is None or 0 <= access.address < 1 << 64
        assert access.mode in ("read", "write")
    parts = encoding(code, 0x401000)
    assert (parts is None) == (decode(code, 0x401000) is None)
    if parts is not None:
        assert needs_alignment(parts) in (1, 16)
        privileged(parts)


@given(st.binary(max_size=400), st.integers(0, 500))
def test_seccomp_filters(program, nr):
    verdict = run(program, seccomp_data(nr, 0xC000003E, 0, range(6)))
    assert verdict is None or (verdict.action in ACTIONS.values() and verdict.data < 1 << 16)


def test_a_seccomp_filter():
    statements = [  # ld nr; and 0xff; jeq 7, 0, 1; ret trap 5; tax; st; ld mem; ret A
        (0x20, 0, 0, 0), (0x54, 0, 0, 0xFF), (0x15, 0, 1, 7), (0x06, 0, 0, 0x30005),
        (0x07, 0, 0, 0), (0x00, 0, 0, 0x7FFF0000), (0x02, 0, 0, 3), (0x60, 0, 0, 3),
        (0x16, 0, 0, 0),
    ]  # fmt: skip
    program = b"".join(struct.pack("<HBBI", *one) for one in statements)
    verdict = run(program, seccomp_data(0x107, 0, 0, range(6)))
    assert verdict == ("SECCOMP_RET_TRAP", 5, 3)
    verdict = run(program, seccomp_data(8, 0, 0, range(6)))
    assert verdict == ("SECCOMP_RET_ALLOW", 0, 8)


@given(st.binary(max_size=4096))
def test_notes_of_a_damaged_core(tmp_path_factory, data):
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<2HI3QI6H", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    note = struct.pack("<2I6Q", 4, 4, 120, 0, 0, len(data) * 2, 0, 4)
    path = tmp_path_factory.mktemp("core") / "core"
    path.write_bytes(header + note + data)
    facts = core_facts(str(path))
    assert all(-(1 << 31) <= thread.tid < 1 << 31 for thread in facts.threads)


def test_a_stack_full_of_signal_frames_ends():
    class Endless(Garbage):
        def read(self, address, size):
            self.reads = getattr(self, "reads", 0) + 1
            mapping = self.mapping(address)
            if mapping is None:
                raise ReadError(address, size)
            if mapping.perms == "r-x":
                return b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05".ljust(size, b"\0")[:size]
            back = next(one.start for one in self.maps if one.perms == "r-x")
            return (struct.pack("<Q", back) * (size // 8 + 1))[:size]

    process = Endless(1, 11, 1)
    stack = next(one for one in process.maps if one.perms == "rw-")
    assert len(list(signal_frames(process, stack.start))) <= 8
    assert process.reads < 100_000


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGSEGV", 11), ("segv", 11), ("11", 11), ("SIGRTMIN+3", 37), ("RTMAX-1", 63),
     ("SIGPOLL", 29), ("0", None), ("65", None), ("SIGNOPE", None), ("SIGRTMIN+99", None)],
)  # fmt: skip
def test_signal_numbers(text, number):
    assert signal_number(text) == number


CODE = [  # instruction, registers, (mode, address, size)
    ("8b4030", {"rax": 0}, ("read", 0x30, 4)),
    ("488b04c8", {"rax": 16, "rcx": 2}, ("read", 32, 8)),
    ("c6040600", {"rax": 5, "rsi": 7}, ("write", 12, 1)),
    ("f3a4", {"rsi": 1, "rdi": 2}, ("read", 1, 1)),
    ("f348ab", {"rdi": 64}, ("write", 64, 8)),
    ("0f2900", {"rax": 17}, ("write", 17, 16)),
    ("660f6f07", {"rdi": 33}, ("read", 33, 16)),
    ("c5fc1106", {"rsi": 8}, ("write", 8, 16)),
    ("64488b0425280000 00".replace(" ", ""), {"fs_base": 0x1000}, ("read", 0x1028, 8)),
    ("50", {"rsp": 0x2000}, ("write", 0x1FF8, 8)),
    ("c3", {"rsp": 0x2000}, ("read", 0x2000, 8)),
    ("e800000000", {"rsp": 0x2000}, ("write", 0x1FF8, 8)),
    ("ff10", {"rax": 8, "rsp": 0}, ("read", 8, 8)),
    ("678b00", {"rax": 0x1_0000_0010}, ("read", 0x10, 4)),
    ("f00fc108", {"rax": 4}, ("write", 4, 4)),
    ("f7 38".replace(" ", ""), {"rax": 4}, ("read", 4, 4)),
    ("48cf", {"rsp": 8}, ("read", 8, 8)),
    ("0fb600", {"rax": 9}, ("read", 9, 1)),
    ("f20f1000", {"rax": 9}, ("read", 9, 8)),
    ("f30f1100", {"rax": 9}, ("write", 9, 4)),
    ("d918", {"rax": 9}, ("write", 9, 4)),
    ("8f00", {"rax": 9, "rsp": 0}, ("write", 9, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "registers", "wanted"), CODE)
def test_operand(code, registers, wanted):
    first = accesses(bytes.fromhex(code), 0x400000, registers)[0]
    assert (first.mode, first.address, first.size) == wanted


@pytest.mark.parametrize("code", ["8d4030", "0f1f4000", "0f0d08", "0f1808", "90", "89d8", "f4"])
def test_no_operand(code):
    assert accesses(bytes.fromhex(code), 0, dict.fromkeys(REGISTERS, 0)) == []
