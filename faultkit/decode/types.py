"""C types of a unit: names, sizes, members, and values in words."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

from faultkit.debuginfo import constants as c
from faultkit.debuginfo.units import Entry, Unit
from faultkit.decode.location import Type as BaseType
from faultkit.decode.variables import (
    AT_CONST_VALUE,
    AT_DECLARATION,
    children,
    type_of,
)
from faultkit.record import NamedTuple

ARRAY, CLASS, ENUM, POINTER, STRUCT, TYPEDEF, UNION = 0x01, 0x02, 0x04, 0x0F, 0x13, 0x16, 0x17
MEMBER, SUBRANGE, BASE, CONST, ENUMERATOR, VOLATILE, RESTRICT = (
    0x0D, 0x21, 0x24, 0x26, 0x28, 0x35, 0x37,
)  # fmt: skip
REFERENCE, SUBROUTINE, RVALUE_REFERENCE, ATOMIC, INHERITANCE = 0x10, 0x15, 0x42, 0x47, 0x1C
VARIANT, VARIANT_PART = 0x19, 0x33
AT_EXTERNAL = 0x3F
AT_BYTE_SIZE, AT_BIT_SIZE, AT_COUNT, AT_UPPER_BOUND = 0x0B, 0x0D, 0x37, 0x2F
AT_DISCR, AT_DISCR_VALUE, AT_SIGNATURE = 0x15, 0x16, 0x69
AT_ENCODING, AT_MEMBER_LOCATION, AT_BIT_OFFSET, AT_DATA_BIT_OFFSET = 0x3E, 0x38, 0x0C, 0x6B
BOOLEAN, COMPLEX, FLOAT, SIGNED, SIGNED_CHAR, UNSIGNED_CHAR, UTF = (
    0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x10,
)  # fmt: skip
# Forms of a bound that is a constant; others tell where a variable has it.
_CONSTANTS = frozenset((c.FORM_DATA1, c.FORM_DATA2, c.FORM_DATA4, c.FORM_DATA8, c.FORM_UDATA,
                        c.FORM_SDATA, c.FORM_IMPLICIT_CONST))  # fmt: skip
_QUALIFIERS = {CONST: "const", VOLATILE: "volatile", RESTRICT: "restrict", ATOMIC: "_Atomic"}
_COMPOUND = {STRUCT: "struct", CLASS: "class", UNION: "union", ENUM: "enum"}
_POINTERS = (POINTER, REFERENCE, RVALUE_REFERENCE)
DEEPEST = 24
MOST_MEMBERS = 6  # of a structure that are shown
MOST_CHARACTERS = 64
SMALL = 32  # bytes of a structure that is shown by its members
MAX_SIZE = 1 << 24


class Member(NamedTuple):
    """A member: offset in bits from the structure's start, bits if it is a field."""

    name: str
    offset: int
    type_at: int | None
    bits: int | None


class Types:
    """The types that a unit's variables have, by their places, whatever unit these are in."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._entries: dict[int, Entry] = {}
        self._members: dict[int, list[Member]] = {}

    def entry(self, at: int) -> Entry:
        """The type's entry, that of its own unit for one declared to be elsewhere."""
        if at not in self._entries:
            entry = self.unit.reach(at)
            place = entry.unit.place_of(*entry.values.get(AT_SIGNATURE, (0, None)))
            self._entries[at] = entry if place is None else self.unit.reach(place)
        return self._entries[at]

    def inner(self, entry: Entry) -> int | None:
        """What a pointer, array, typedef or qualified type is of; None for void."""
        return type_of(entry)

    def strip(self, at: int | None) -> Entry | None:
        """The type behind typedefs and qualifiers; None for void."""
        for _ in range(DEEPEST):
            if at is None:
                return None
            entry = self.entry(at)
            if entry.abbreviation.tag != TYPEDEF and entry.abbreviation.tag not in _QUALIFIERS:
                return entry
            at = self.inner(entry)
        return None

    def name(self, at: int | None, depth: int = 0) -> str:
        """As C has it: "struct mutex *", "const char [16]"."""
        if at is None:
            return "void"
        if depth > DEEPEST:
            return "..."
        entry = self.entry(at)
        tag = entry.abbreviation.tag
        name = entry.text(c.AT_NAME)
        if tag in _COMPOUND:
            return f"{_COMPOUND[tag]} {name}" if name else f"{_COMPOUND[tag]} {{...}}"
        if tag in _QUALIFIERS:
            inner = self.name(self.inner(entry), depth + 1)
            if inner.endswith(("*", "&")):
                return f"{inner} {_QUALIFIERS[tag]}"
            return f"{_QUALIFIERS[tag]} {inner}"
        if tag in _POINTERS:
            sign = {POINTER: "*", REFERENCE: "&", RVALUE_REFERENCE: "&&"}[tag]
            target = self.inner(entry)
            behind = self.entry(target).abbreviation.tag if target is not None else None
            inner = self.name(target, depth + 1)
            if behind == SUBROUTINE:
                return inner.replace("(", f"({sign})(", 1)
            return f"{inner}{sign}" if inner.endswith("*") else f"{inner} {sign}"
        if tag == ARRAY:
            counts = "".join(f"[{n}]" if n is not None else "[]" for n in self._counts(entry))
            return f"{self.name(self.inner(entry), depth + 1)} {counts}"
        if tag == SUBROUTINE:
            return f"{self.name(self.inner(entry), depth + 1)} (...)"
        return name or "?"

    def size(self, at: int | None, depth: int = 0) -> int | None:
        """Bytes; None where that is not known."""
        entry = self.strip(at)
        if entry is None or depth > DEEPEST:
            return None
        size = entry.number(AT_BYTE_SIZE)
        if size is not None:
            return size if size <= MAX_SIZE else None
        tag = entry.abbreviation.tag
        if tag in _POINTERS:
            return 8
        if tag == ARRAY:
            each = self.size(self.inner(entry), depth + 1)
            for count in self._counts(entry):
                each = each * count if each is not None and count is not None else None
            return each if each is not None and each <= MAX_SIZE else None
        if tag == ENUM:
            return self.size(self.inner(entry), depth + 1) or 4
        return None

    def _counts(self, entry: Entry) -> list[int | None]:
        counts: list[int | None] = []
        if entry.abbreviation.children:
            for child in children(entry.unit, entry.after):
                if child.abbreviation.tag == SUBRANGE and len(counts) < 8:
                    bound, count = _known(child, AT_UPPER_BOUND), _known(child, AT_COUNT)
                    if bound is not None:
                        count = bound + 1 if bound < MAX_SIZE else None
                    counts.append(count)
        return counts or [None]

    def base(self, at: int) -> BaseType | None:
        """What DWARF expressions need to know of a base type at a position in the unit; None for
        floats and the like."""
        entry = self.entry(self.unit.base + at)
        size = entry.number(AT_BYTE_SIZE)
        encoding = entry.number(AT_ENCODING)
        if entry.abbreviation.tag != BASE or size is None or encoding == FLOAT:
            return None
        return BaseType(size, encoding in (SIGNED, SIGNED_CHAR))

    def pointee(self, at: int | None) -> int | None:
        """What the pointer type points to; None for void and for what is no pointer."""
        entry = self.strip(at)
        if entry is None or entry.abbreviation.tag not in _POINTERS:
            return None
        return self.inner(entry)

    def is_pointer(self, at: int | None) -> bool:
        """Whether the type is a pointer or reference."""
        entry = self.strip(at)
        return entry is not None and entry.abbreviation.tag in _POINTERS

    def structure(self, at: int | None) -> str | None:
        """The name of the structure or union that the type is, behind typedefs."""
        entry = self.strip(at)
        if entry is None or entry.abbreviation.tag not in (STRUCT, CLASS, UNION):
            return None
        return entry.text(c.AT_NAME)

    def members(self, entry: Entry) -> list[Member]:
        """The members of a structure or union, in order."""
        place = entry.unit.base + entry.at
        if place in self._members:
            return self._members[place]
        self._members[place] = found = self._listed(entry)
        return found

    def _listed(self, entry: Entry) -> list[Member]:
        found: list[Member] = []
        if not entry.abbreviation.children:
            return found
        for child in children(entry.unit, entry.after):
            if child.abbreviation.tag not in (MEMBER, INHERITANCE):
                continue
            if AT_EXTERNAL in child.values or AT_DECLARATION in child.values:
                continue  # a static one, which lies elsewhere
            location = child.values.get(AT_MEMBER_LOCATION)
            start = location[1] if location is not None else 0
            if isinstance(start, bytes):  # DWARF 2's expressions: plus_uconst
                from faultkit.debuginfo.leb import uleb

                start = uleb(start, 1)[0] if start[:1] == b"\x23" else None
            if not isinstance(start, int):
                continue
            bits = child.number(AT_BIT_SIZE)
            offset = 8 * start
            if bits is not None:
                whole = child.number(AT_DATA_BIT_OFFSET)
                old = child.number(AT_BIT_OFFSET)
                if whole is not None:
                    offset += whole
                elif old is not None:  # DWARF 3: from the most significant bit
                    size = child.number(AT_BYTE_SIZE) or self.size(self.inner(child)) or 4
                    offset += 8 * size - old - bits
            found.append(Member(child.text(c.AT_NAME) or "", offset, self.inner(child), bits))
        return found

    def path(self, at: int | None, offset: int, width: int | None = None) -> str | None:
        """The member at `offset` bytes: "list.next", "pages[3]"; "" for the whole."""
        found = self.place(at, offset, width)
        return found[0] if found is not None else None

    def place(
        self, at: int | None, offset: int, width: int | None = None, depth: int = 0
    ) -> tuple[str, int | None] | None:
        """(path, type's position) of what lies `offset` bytes into a type, of `width` bytes if
        that is given; None if nothing does."""
        entry = self.strip(at)
        if entry is None or depth > DEEPEST or offset < 0:
            return None
        tag = entry.abbreviation.tag
        if tag == ARRAY:
            inner = self.inner(entry)
            size = self.size(inner)
            if not size:
                return None
            deeper = self.place(inner, offset % size, width, depth + 1)
            if deeper is None:
                return None
            return _join(f"[{offset // size}]", deeper[0]), deeper[1]
        if tag not in (STRUCT, UNION, CLASS):
            size = self.size(at)
            return ("", at) if offset == 0 or (size is not None and offset < size) else None
        if AT_DECLARATION in entry.values:
            return None
        best: tuple[str, int | None] | None = None
        for member in self.members(entry):
            start = member.offset // 8
            size = self.size(member.type_at)
            if member.bits is not None:
                size = max((member.offset % 8 + member.bits + 7) // 8, 1)
            flexible = size is None or (size == 0 and offset >= start)
            if not start <= offset or not (flexible or offset < start + (size or 0)):
                continue
            deeper = self.place(member.type_at, offset - start, width, depth + 1)
            if deeper is None:
                continue
            path = _join(member.name, deeper[0]) if member.name else deeper[0]
            fits = width is not None and self.size(deeper[1]) == width
            if best is None or (fits and self.size(best[1]) != width):
                best = path, deeper[1]
        return best

    def text(
        self,
        at: int | None,
        data: bytes,
        address: int | None = None,
        depth: int = 0,
        describe: Callable[[int], str | None] | None = None,
    ) -> str:
        """The value in words.  `describe` adds to a pointer inside what it points to."""
        entry = self.strip(at)
        if entry is None:
            return data[::-1].hex() or "?"
        tag = entry.abbreviation.tag
        number = int.from_bytes(data[:8], "little")
        if tag in _POINTERS:
            return f"{number:#x}" if number else "NULL"
        if tag == ENUM:
            return self._enumerator(entry, data)
        if tag == BASE:
            return _number(entry.number(AT_ENCODING), data, entry.text(c.AT_NAME) or "")
        if tag == ARRAY:
            known = data or self.size(at) is not None  # bounds that a variable has are not read
            return self._array(entry, data, depth) if known else "{...}"
        if tag in (STRUCT, UNION, CLASS):
            if depth > 2 or (len(data) > SMALL and depth) or AT_DECLARATION in entry.values:
                return "{...}"
            return self._structure(entry, data, depth)
        return f"{number:#x}"

    def _enumerator(self, entry: Entry, data: bytes) -> str:
        number = int.from_bytes(data, "little")
        signed = int.from_bytes(data, "little", signed=True)
        if entry.abbreviation.children:
            for child in children(entry.unit, entry.after):
                value = child.number(AT_CONST_VALUE)
                if value is not None and (
                    value in (number, signed) or value & (1 << 8 * len(data)) - 1 == number
                ):
                    return f"{child.text(c.AT_NAME)} ({number})"
        return str(signed)

    def _array(self, entry: Entry, data: bytes, depth: int) -> str:
        inner = self.strip(self.inner(entry))
        encoding = inner.number(AT_ENCODING) if inner is not None else None
        size = self.size(self.inner(entry)) or 1
        if encoding in (SIGNED_CHAR, UNSIGNED_CHAR) and size == 1:
            text = data.split(b"\0", 1)[0][:MOST_CHARACTERS]
            if all(32 <= byte < 127 for byte in text):
                return '"' + text.decode() + '"'
        rows = [count or 1 for count in self._counts(entry)[1:]]
        return self._elements(self.inner(entry), size, rows, data, depth)

    def _elements(
        self, at: int | None, size: int, rows: Sequence[int], data: bytes, depth: int
    ) -> str:
        """The first elements of an array; `rows` are the lengths of its inner dimensions."""
        each = size * math.prod(rows)
        pieces = [data[place : place + each] for place in range(0, min(len(data), 4 * each), each)]
        shown = [
            self._elements(at, size, rows[1:], piece, depth + 1) if rows
            else self.text(at, piece, None, depth + 1)
            for piece in pieces
        ]  # fmt: skip
        return "{" + ", ".join(shown) + (", ...}" if len(data) > 4 * each else "}")

    def _structure(self, entry: Entry, data: bytes, depth: int) -> str:
        shown = []
        members = self.members(entry)
        variant = self._variant(entry, data)
        if variant is not None:
            members = [*members, *variant]
        for member in members[:MOST_MEMBERS]:
            value = self._member(member, data)
            if value is None:
                continue
            text = self.text(member.type_at, value, None, depth + 1)
            shown.append(f"{member.name} = {text}" if member.name else text)
        if len(members) > MOST_MEMBERS or variant == []:
            shown.append("...")
        return "{" + ", ".join(shown) + "}"

    def _variant(self, entry: Entry, data: bytes) -> list[Member] | None:
        """The members of the variant that a value is, as of Rust's enums (DWARF 5, 5.7.10); []
        where that can't be told, None for a type without variants."""
        if not entry.abbreviation.children:
            return None
        for part in children(entry.unit, entry.after):
            if part.abbreviation.tag == VARIANT_PART and part.abbreviation.children:
                told = self._discriminant(part, data)
                chosen: Entry | None = None
                for variant in children(part.unit, part.after):
                    value = variant.number(AT_DISCR_VALUE)
                    if variant.abbreviation.tag != VARIANT:
                        continue
                    if value is None:  # any other value; the only one there is
                        chosen = chosen or variant
                    elif told is not None and not (value ^ told[0]) & (1 << told[1]) - 1:
                        chosen = variant
                        break
                return self._listed(chosen) if chosen is not None else []
        return None

    def _discriminant(self, part: Entry, data: bytes) -> tuple[int, int] | None:
        """(the value that tells the variant, its bits)."""
        place = part.unit.place_of(*part.values.get(AT_DISCR, (0, None)))
        if place is None:
            return None
        entry = self.unit.reach(place)
        size = self.size(self.inner(entry))
        start = entry.number(AT_MEMBER_LOCATION) or 0
        if not size or start + size > len(data):
            return None
        return int.from_bytes(data[start : start + size], "little"), 8 * size

    def _member(self, member: Member, data: bytes) -> bytes | None:
        size = self.size(member.type_at)
        if not size:
            return None
        if member.bits is None:
            start = member.offset // 8
            return data[start : start + size] if start + size <= len(data) else None
        value = int.from_bytes(data, "little") >> member.offset & (1 << member.bits) - 1
        entry = self.strip(member.type_at)
        encoding = entry.number(AT_ENCODING) if entry is not None else None
        if encoding in (SIGNED, SIGNED_CHAR) and value >> (member.bits - 1):
            value -= 1 << member.bits
        return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _join(outer: str, inner: str) -> str:
    if not inner:
        return outer
    return outer + inner if inner.startswith("[") else f"{outer}.{inner}"


def _number(encoding: int | None, data: bytes, name: str) -> str:
    if encoding == BOOLEAN:
        value = int.from_bytes(data, "little")
        return {0: "false", 1: "true"}.get(value, str(value))
    if encoding == FLOAT and len(data) in (4, 8):
        return repr(struct.unpack("<f" if len(data) == 4 else "<d", data)[0])
    if encoding == COMPLEX and len(data) in (8, 16, 32):
        half, part = len(data) // 2, name.replace("complex ", "")
        parts = [_number(FLOAT, data[at : at + half], part) for at in (0, half)]
        return " + ".join(parts) + "i"
    if encoding == FLOAT and len(data) == 16 and name == "long double":
        return _extended(data)
    if encoding in (SIGNED_CHAR, UNSIGNED_CHAR) and len(data) == 1 and name.endswith("char"):
        character = f" '{chr(data[0])}'" if 32 <= data[0] < 127 else ""
        return str(int.from_bytes(data, "little", signed=encoding == SIGNED_CHAR)) + character
    if encoding in (SIGNED, SIGNED_CHAR):
        return str(int.from_bytes(data, "little", signed=True))
    value = int.from_bytes(data, "little")
    return f"{value:#x}" if value > 0xFFFFFF else str(value)


def _known(entry: Entry, name: int) -> int | None:
    """A bound that is a constant."""
    return entry.number(name) if entry.values.get(name, (0,))[0] in _CONSTANTS else None


def _extended(data: bytes) -> str:
    """A number of the x87: 64 bits of fraction, the first of them explicit, 15 of exponent."""
    fraction = int.from_bytes(data[:8], "little")
    exponent = int.from_bytes(data[8:10], "little")
    sign = "-" if exponent >> 15 else ""
    exponent &= 0x7FFF
    if exponent == 0x7FFF:
        return f"{sign}inf" if fraction == 1 << 63 else "nan"
    try:
        return sign + repr(math.ldexp(fraction, max(exponent, 1) - 0x3FFF - 63))
    except OverflowError:
        return f"{sign}{fraction:#x} * 2**{exponent - 0x3FFF - 63}"
