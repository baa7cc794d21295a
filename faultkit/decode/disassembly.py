"""Machine code as text: one objdump over an ELF file made of all the bytes to show.

The bytes are the target's own: what runs is not what the file on disk has (see patches.py).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from faultkit.decode.model import Instruction
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MOST_PIECES = 4096  # of one ELF file
MOST_BYTES = 8 << 20
SECONDS = 30
_LINE = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} ?)+)\s*(?:\t(.*))?$")
_SECTION = re.compile(r"^Disassembly of section \.c(\d+):")
_BRANCH = re.compile(
    r"^(?:(?:bnd|notrack|cs|ds|data16|rex\.?\w*|rep|repz|lock)\s+)*"
    r"(call|jmp|j\w+|loop\w*|xbegin)q?(?:,p[nt])?\s+(?:0x)?([0-9a-f]+)\b(?!\()"
)
_RIP = re.compile(r"\s+# (?:0x)?([0-9a-f]+)\s*$")
_ADDRESS = re.compile(r"\$0x(ffffffff[89a-f][0-9a-f]{7})\b")  # of the kernel's image, immediate
_SCALED = re.compile(r"-0x([0-9a-f]{8})\(,%")  # a table of the kernel's, below 2^64

# "symbol" or "symbol+0x10" of each address that has a name
Names: TypeAlias = "Callable[[Iterable[int]], Mapping[int, str | None]]"


class Piece(NamedTuple):
    """Bytes at an address; `start` is where an instruction surely begins.  What lies before
    `shown_from` is left out."""

    start: int
    data: bytes
    shown_from: int = 0


def disassemble(pieces: Sequence[Piece], names_of: Names) -> list[list[Instruction]]:
    """The instructions of each piece, in order; those behind its end are cut.

    `names_of` names addresses, all at once; by it calls, jumps and what is addressed relative to
    rip get a note.  Raises FaultkitError without objdump.
    """
    found: list[list[Instruction]] = []
    first = 0
    while first < len(pieces):
        last, size = first, 0
        while last < len(pieces) and last - first < MOST_PIECES and size < MOST_BYTES:
            size += len(pieces[last].data)
            last += 1
        found += _run(pieces[first:last], names_of)
        first = last
    return found


def _run(pieces: Sequence[Piece], names_of: Names) -> list[list[Instruction]]:
    found: list[list[_Told]] = [[] for _ in pieces]
    current, first = found[0], pieces[0].shown_from
    for line in _objdump(_elf(pieces)).splitlines():
        address, tab, _ = line.partition(":\t")
        if tab and int(address, 16) < first:
            continue
        match = _LINE.match(line) if tab else None
        if match:
            current.append(_instruction(int(match[1], 16), match[2], match[3] or ""))
            continue
        section = _SECTION.match(line)
        if section:
            number = int(section[1])
            current, first = found[number], pieces[number].shown_from
    pointed = {told.pointed for some in found for told in some if told.pointed is not None}
    names = names_of(pointed)
    return [[_named(told, names) for told in some] for some in found]


class _Told(NamedTuple):
    instruction: Instruction
    pointed: int | None  # the address that it calls, jumps to or works with
    is_data: bool


def _named(told: _Told, names: Mapping[int, str | None]) -> Instruction:
    instruction, pointed, is_data = told
    if pointed is None:
        return instruction
    note = names.get(pointed)
    if note is None and is_data:
        note = f"{pointed:#x}"
    return instruction._replace(note=note)


def _instruction(address: int, digits: str, text: str) -> _Told:
    text = " ".join(text.split(None, 1)) if " " in text else text
    target = pointed = None
    branch = _BRANCH.match(text)
    if branch:
        pointed = int(branch[2], 16)
        target = pointed if branch[1] != "call" else None
        text = text.replace(f"0x{branch[2]}", f"{pointed:#x}")
    else:
        comment = _RIP.search(text)
        if comment:
            pointed = int(comment[1], 16)
            text = text[: comment.start()]
        else:
            immediate, scaled = _ADDRESS.search(text), _SCALED.search(text)
            if immediate:
                pointed = int(immediate[1], 16)
            elif scaled:
                pointed = (1 << 64) - int(scaled[1], 16)
    instruction = Instruction(address, bytes.fromhex(digits), text.strip(), target=target)
    return _Told(instruction, pointed, not branch and "(%rip)" in text)


def window(
    instructions: Sequence[Instruction], address: int, exact: bool, context: int
) -> list[Instruction]:
    """The instruction at `address`, or with `exact` false the call that returns to there, marked
    as current, with `context` instructions before and behind it.

    Where `address` is no boundary, that which covers it is marked; [] if there is none.
    """
    wanted = address if exact else address - 1
    place = next(
        (
            index
            for index, instruction in enumerate(instructions)
            if instruction.address <= wanted < instruction.address + len(instruction.bytes)
        ),
        None,
    )
    if place is None:
        return []
    shown = list(instructions[max(place - context, 0) : place + context + 1])
    index = place - max(place - context, 0)
    shown[index] = shown[index]._replace(current=True)
    return shown


def _elf(pieces: Sequence[Piece]) -> bytes:
    """An ELF file (System V gABI, chapter 4) with one section of code per piece."""
    names = b"\0" + b"".join(b".c%d\0" % index for index in range(len(pieces))) + b".names\0"
    data, headers = bytearray(64), [bytes(64)]
    at = 1
    for index, piece in enumerate(pieces):
        headers.append(
            struct.pack(
                "<IIQQQQIIQQ", at, 1, 6, piece.start, len(data), len(piece.data), 0, 0, 1, 0
            )
        )
        data += piece.data
        at += len(b".c%d\0" % index)
    headers.append(struct.pack("<IIQQQQIIQQ", at, 3, 0, 0, len(data), len(names), 0, 0, 1, 0))
    data += names
    data += bytes(-len(data) % 8)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 0, len(data), 0,
        64, 0, 0, 64, len(headers), len(headers) - 1,
    )  # fmt: skip
    data[:64] = header
    return bytes(data) + b"".join(headers)


def _objdump(elf: bytes) -> str:
    try:
        import subprocess
    except ImportError:
        raise FaultkitError(
            "no disassembly: this Python has no module subprocess", "--no-dis goes without it"
        ) from None

    handle = os.memfd_create("faultkit-code", 0)
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(elf)
        done = subprocess.run(
            ["objdump", "-d", "-w", "-z", f"/proc/self/fd/{handle}"],
            capture_output=True,
            pass_fds=(handle,),
            timeout=SECONDS,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise FaultkitError(
            "no disassembly without objdump", "install binutils, or say --no-dis"
        ) from None
    except (OSError, subprocess.SubprocessError) as error:
        raise FaultkitError(f"objdump failed: {error}", "--no-dis goes without it") from None
    finally:
        os.close(handle)
    return done.stdout.decode("ascii", "replace")
