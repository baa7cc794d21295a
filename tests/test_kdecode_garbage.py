"""kdecode's readers on garbage: what is broken gives a reason or nothing, never another error, and
what is shown of a target can't steer a terminal or a page."""

import random
import re

import pytest

from faultkit.code import FormatError
from faultkit.decode.callframes import FrameTable, frame_states
from faultkit.decode.disassembly import Piece, disassemble, window
from faultkit.decode.location import Context, Type, Unavailable, locate, value_of
from faultkit.decode.model import Decoded, DecodedTrace, Inline, Instruction, Trace, Value
from faultkit.decode.operand import meaning_of, parse
from faultkit.decode.patches import Original, mark
from faultkit.decode.source import Sources
from faultkit.model import Frame, Report
from faultkit.render.arrows import arrows
from faultkit.render.kdecode_brief import render_brief
from faultkit.render.kdecode_html import render_html
from faultkit.render.kdecode_text import render_kdecode
from faultkit.target import ReadError

ROUNDS = 3000
EVIL = "x\x1b]0;title\x07\x1b[2J\u202e<script>alert(1)</script>\"'&"


def memory(address, size):
    if size < 0 or address & 1 << 40:
        raise ReadError(address, size)
    return bytes(address + index & 0xFF for index in range(min(size, 64)))


def context(picker):
    registers = {name: picker.getrandbits(64) for name in ("rbx", "rbp", "rsp", "r12")}
    made = Context(memory, registers, picker.choice((None, 0x1000)), picker.choice((None, b"\x9c")))
    made.base_type = lambda offset: Type(1 << offset % 4, bool(offset & 1)) if offset & 3 else None
    return made


def test_locations_of_random_bytes():
    picker = random.Random(1)
    told = 0
    for _ in range(ROUNDS):
        code = bytes(picker.choices(range(256), k=picker.randrange(1, 24)))
        for ask in (lambda code, made: locate(code, made, 8), value_of):
            try:
                ask(code, context(picker))
                told += 1
            except (Unavailable, FormatError):
                continue
    assert told > 50  # some are sound


@pytest.mark.parametrize(
    "code, known, value",
    [
        (b"\x30\x9f", {}, 0),  # lit0
        (b"\x53", {"rbx": 7}, 7),  # reg3
        (b"\x73\x08\x9f", {"rbx": 7}, 15),  # breg3+8
        (b"\x08\xff\x08\x01\x22\x9f", {}, 0x100),  # 255 + 1
        (b"\x09\xff\x9f", {}, (1 << 64) - 1),  # const1s -1
        (b"\x73\x00\xa8\x01\x35\x24\x9f", {"rbx": 0x1FF}, 0xE0),  # to a byte, << 5
    ],
)
def test_values_of_locations(code, known, value):
    made = Context(memory, known)
    made.base_type = lambda offset: Type(1, False)
    (place,) = locate(code, made, 8)
    assert int.from_bytes(place.value, "little") == value


def test_unknown_registers_have_a_reason():
    for code, said in ((b"\x55", "rdi"), (b"\x53", "rbx"), (b"\xa3\x01\x55\x9f", "entry")):
        with pytest.raises(Unavailable, match=said):
            locate(code, Context(memory, {}), 8)


def test_call_frame_information_of_random_bytes():
    picker = random.Random(2)
    frame = Frame(0, 0x1008, sp=0x7000, function_start=0x1000)
    above = Frame(1, 0x2008, sp=0x7040, function_start=0x2000)
    cie = b"\x14\0\0\0\xff\xff\xff\xff\x03\0\x01\x78\x10\x0c\x07\x08\x90\x01" + bytes(6)
    for _ in range(ROUNDS):
        program = bytes(picker.choices(range(256), k=picker.randrange(0, 24)))
        body = bytes(4) + (0x1000).to_bytes(8, "little") + (0x100).to_bytes(8, "little") + program
        data = cie + len(body).to_bytes(4, "little") + body
        table = FrameTable(data)
        states = frame_states(
            [frame, above], {"rbx": 1, "rbp": 2}, lambda start, t=table: (t, 0), memory, True
        )
        assert len(states) == 2
        assert set(states[1].registers) <= {"rbx", "rbp", "r12", "r13", "r14", "r15", "rsp"}
        if states[0].cfa is not None:
            assert states[0].cfa == above.sp
    for _ in range(ROUNDS):
        noise = bytes(picker.choices((0, 1, 0x10, 0xFF, 0x90), k=64))
        FrameTable(noise).find(picker.choice((0, 0x1000, 0xFFFFFFFFFFFFFFFF)))


def test_random_bytes_disassemble_and_compare():
    picker = random.Random(3)
    pieces = []
    for index in range(40):
        data = bytes(picker.choices(range(256), k=picker.randrange(1, 60)))
        pieces.append(Piece(0xFFFFFFFF81000000 + 4096 * index, data))
    found = disassemble(pieces, lambda addresses: dict.fromkeys(addresses, EVIL))
    assert len(found) == len(pieces)
    for piece, instructions in zip(pieces, found):
        assert b"".join(each.bytes for each in instructions) == piece.data
        other = bytes(picker.choices(range(256), k=len(piece.data)))
        marked = mark(instructions, Original(piece.start, other), lambda address: None)
        assert [each.bytes for each in marked] == [each.bytes for each in instructions]
        shown = window(instructions, piece.start + len(piece.data), False, 3)
        assert sum(each.current for each in shown) == 1
        margins = arrows(instructions)
        assert len({len(margin) for margin in margins}) <= 1
        for instruction in instructions:
            parse(instruction.text)


def test_moved_addresses_are_no_patches():
    """KASLR changes absolute addresses in the code, by as much as the kernel moved."""
    file = bytes.fromhex("48c7c7f8ec3482c3")  # mov $0xffffffff8234ecf8,%rdi; ret
    live = bytes.fromhex("48c7c7f8ec3494c3")
    (code,) = disassemble([Piece(0x1000, live)], lambda addresses: {})
    marked = mark(code, Original(0x1000, file, {}, 0x12000000), lambda address: None)
    assert [each.note for each in marked] == [None, None]
    marked = mark(code, Original(0x1000, file, {}, 0x11000000), lambda address: None)
    assert marked[0].note


@pytest.mark.parametrize(
    "live, file, names, said",
    [
        ("0f1f440000", "e8fb0f0000", {0x2000: "__fentry__"}, "fentry, not traced"),
        ("e8fb1f0000", "e8fb0f0000", {0x2000: "__fentry__"}, "fentry, TRACED by ftrace"),
        ("c3cccccccc", "e9fb0f0000", {0x2000: "__x86_return_thunk"}, "return thunk"),
        ("e8fb1f0000", "e8fb0f0000", {0x2000: "__SCT__tp_func"}, "static call tp_func"),
        ("ccfb0f0000", "e8fb0f0000", {0x2000: "kfree"}, "breakpoint"),
        ("e9fb0f0000", "0f1f440000", {}, "static key that is on"),
        ("3e0fb11790", "f00fb11790", {}, "lock prefix"),
    ],
)
def test_who_patched(live, file, names, said):
    (code,) = disassemble([Piece(0x1000, bytes.fromhex(live))], lambda addresses: {})
    marked = mark(code, Original(0x1000, bytes.fromhex(file)), names.get)
    assert said in marked[0].note


def test_what_fills_an_alternative_is_no_breakpoint():
    """int3 behind a shorter replacement is padding; one over a first byte alone is a breakpoint."""
    file = bytes.fromhex("4889c74889fb4889f14889d0")
    for live, told in (("eb0accccccccccccccccccc3", 0), ("4889c7cc89fb4889f14889d0", 1)):
        (code,) = disassemble([Piece(0x1000, bytes.fromhex(live))], lambda addresses: {})
        notes = [each.note or "" for each in mark(code, Original(0x1000, file), lambda a: None)]
        assert sum("breakpoint" in note for note in notes) == told, notes


def test_what_a_bad_pointer_is():
    assert meaning_of(0) == "NULL"
    assert "first page" in meaning_of(0x18)
    assert meaning_of((1 << 64) - 12) == "an error, -12"
    assert "LIST_POISON1" in meaning_of(0xDEAD000000000108)
    assert "use after free" in meaning_of(0x6B6B6B6B6B6B6B6B)
    assert "not" in meaning_of(0x1234567812345678) and "canonical" in meaning_of(1 << 62)
    assert meaning_of(0xFFFF888012345678) is None
    assert meaning_of(0x7FFFF7E00000) is None


def test_sources_stay_in_their_tree(tmp_path):
    (tmp_path / "tree/fs").mkdir(parents=True)
    (tmp_path / "tree/fs/namei.c").write_text("int a;\nint lookup(void)\n{\n}\n")
    (tmp_path / "secret.c").write_text("no\n")
    sources = Sources((str(tmp_path / "tree"),))
    assert sources.window("/build/linux-6.1/fs/namei.c", 2, 1) == [
        (1, "int a;"), (2, "int lookup(void)"), (3, "{"),
    ]  # fmt: skip
    for path in ("../secret.c", "/build/../../secret.c", "fs", "/dev/zero", "fs/../../secret.c"):
        assert sources.find(path) is None
    assert sources.mismatch("fs/namei.c", 2, "lookup", 2) is None
    assert "another version" in sources.mismatch("fs/namei.c", 4, "lookup", 99)
    assert "at least 400" in sources.mismatch("fs/namei.c", 400, None, None)


def test_hostile_names_are_escaped():
    """Symbols, files, values, notes, titles: all of them come from a target or a text."""
    frame = Decoded(0, 0x1000, False, EVIL, 1, 2, EVIL)
    frame.inlines = [Inline(EVIL, EVIL, 1, 1)]
    frame.inline_text = [EVIL]
    frame.source = [(1, EVIL)]
    frame.instructions = [Instruction(0x1000, b"\x90", EVIL, EVIL, 1, True, EVIL)]
    frame.arguments = [Value(EVIL, EVIL, EVIL, EVIL, None, EVIL, EVIL)]
    frame.locals = [Value(EVIL, EVIL, None, None, EVIL)]
    frame.notes = [EVIL]
    trace = Trace("oops", EVIL)
    trace.task, trace.notes = EVIL, [EVIL]
    report = Report("kdecode", {"name": "x"}, {"kind": "text", "name": EVIL}, "found", EVIL)
    report.traces = [DecodedTrace(trace, [frame])]
    report.notes = report.limits = [EVIL]
    for text in (render_kdecode(report, 100, False), render_brief(report, 100, False)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    page = render_html(report)
    assert "<script" not in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)
