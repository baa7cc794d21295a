"""Types by BTF, the compact debug information in a kernel's own image.

The format is that of Documentation/bpf/btf.rst: a header, then types as 32-bit words, numbered from
1 in the order in which they lie there, then strings.  A type begins with the offset of its name,
its kind and number of elements, and its size or another type's number.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

from faultkit.code import FormatError
from faultkit.record import NamedTuple

MAGIC = 0xEB9F
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)

# Words of each kind: all alike, and besides for each element.
_WORDS = {INT: 4, ARRAY: 6, VAR: 4, DECL_TAG: 4}
_EACH = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}
_ALIASES = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
_SIZED = (INT, STRUCT, UNION, ENUM, ENUM64, FLOAT)
_DEEPEST = 32  # of unnamed structures in each other, and of aliases


class Member(NamedTuple):
    """A member of a struct or union: offset in bits, the number of its type, bits if a field."""

    offset: int
    type: int
    bits: int


def index(types: bytes) -> tuple[bytes, bytes]:
    """Where each type begins, counted in words, and the offset of its name: 32-bit numbers in the
    order of the types' own ones.  Number 0 is void, and both are 0."""
    fixed = [_WORDS.get(kind, 3) for kind in range(32)]
    each = [_EACH.get(kind, 0) for kind in range(32)]
    words = array("I", types)
    starts, names = array("I", [0]), array("I", [0])
    position, end = 0, len(words) - 2
    while position < end:
        starts.append(position)
        names.append(words[position])
        info = words[position + 1]
        position += fixed[info >> 24 & 31] + each[info >> 24 & 31] * (info & 0xFFFF)
    return starts.tobytes(), names.tobytes()


class Btf:
    """The types of one image; of a module's, which come after the kernel's own, `base` has those:
    numbers of types and offsets of names go on where the base's end."""

    def __init__(
        self,
        data: bytes,
        make_index: Callable[[bytes], tuple[bytes, bytes]] = index,
        base: Btf | None = None,
    ) -> None:
        """`make_index` may be a faster `index`.  Raises FormatError for what is no BTF."""
        if len(data) < 24:
            raise FormatError("no BTF header")
        magic, version, _, header, types, types_size, strings, strings_size = struct.unpack_from(
            "<HBBIIIII", data
        )
        if magic != MAGIC or version != 1 or types_size % 4:
            raise FormatError("no BTF of version 1")
        self._raw = data[header + types : header + types + types_size]
        self._strings = data[header + strings : header + strings + strings_size]
        if len(self._raw) < types_size or len(self._strings) < strings_size:
            raise FormatError("BTF is cut short")
        self._words = array("I", self._raw)
        starts, self._names = make_index(self._raw)
        self._starts = array("I", starts)
        if base is not None:
            self._stack_on(base)
        self._numbers: dict[str, int | None] = {}

    def _stack_on(self, base: Btf) -> None:
        """Put the base's words, types and strings before the own ones."""
        shift = len(base._words)
        own = array("I", [start + shift for start in self._starts[1:]])
        self._starts = base._starts + own
        self._names = base._names + self._names[4:]
        self._words = base._words + self._words
        self._raw = base._raw + self._raw
        self._strings = base._strings + self._strings

    def name_at(self, name: str) -> int | None:
        """The offset of a name among the strings; None if they lack it."""
        return self._name(name)

    def defines(self, name: str, base: Btf, at: int | None) -> bool:
        """Whether one of these types, which were not put on `base` but belong there, has that
        name: `at` is where the base has the string; if it has none, the own ones may."""
        if at is None:
            wanted = name.encode() + b"\0"
            own = 0 if self._strings.startswith(wanted) else self._name(name)
            at = None if own is None else len(base._strings) + own
        return any(number > 0 for number in _places(self._names, at))

    def type(self, name: str) -> int | None:
        """The number of the struct or union of that name, else of whatever else has it."""
        if name not in self._numbers:
            self._numbers[name] = self._type(name)
        return self._numbers[name]

    def _type(self, name: str) -> int | None:
        other = None
        for number in _places(self._names, self._name(name)):
            kind = self._kind(number)
            if kind in (STRUCT, UNION):
                return number
            if kind in (TYPEDEF, INT, ENUM, ENUM64, FLOAT) and other is None:
                other = number
        return other

    def size(self, number: int) -> int | None:
        """The size in bytes of a type; None for functions and for what is only declared."""
        count = 1
        for _ in range(_DEEPEST):
            number = self._behind_aliases(number)
            if not 0 < number < len(self._starts):
                return None
            kind = self._kind(number)
            start = self._starts[number]
            if kind == ARRAY:
                element, _, elements = self._words[start + 3 : start + 6]
                count, number = count * elements, element
            elif kind == PTR:
                return count * 8
            else:
                return count * self._words[start + 2] if kind in _SIZED else None
        return None

    def member(self, number: int, path: str) -> Member | None:
        """The member at a path like "wait_list.next", its offset from the beginning of the type;
        members of unnamed structures are members of the outer one."""
        offset, bits = 0, 0
        for name in path.split("."):
            found = self._member(self._behind_aliases(number), name.encode() + b"\0", 0)
            if found is None:
                return None
            offset, number, bits = offset + found.offset, found.type, found.bits
        return Member(offset, number, bits)

    def enumerator(self, name: str) -> int | None:
        """The value of an enumeration constant."""
        for position in _places(self._raw, self._name(name)):
            number = bisect_right(self._starts, position, 1) - 1
            start = self._starts[number] if number > 0 else position
            kind, inside = self._kind(number), position - start - 3
            if kind not in (ENUM, ENUM64) or inside < 0 or inside % _EACH[kind]:
                continue
            value = self._words[position + 1]
            if kind == ENUM64:
                value |= self._words[position + 2] << 32
            width = 32 if kind == ENUM else 64
            signed = self._words[start + 1] >> 31
            return value - (1 << width) if signed and value >> width - 1 else value
        return None

    def _kind(self, number: int) -> int:
        return self._words[self._starts[number] + 1] >> 24 & 31

    def _name(self, name: str) -> int | None:
        """The offset of a name among the strings, where each is once."""
        at = self._strings.find(b"\0" + name.encode() + b"\0") if name else -1
        return at + 1 if at >= 0 else None

    def _behind_aliases(self, number: int) -> int:
        for _ in range(_DEEPEST):
            if not 0 < number < len(self._starts) or self._kind(number) not in _ALIASES:
                break
            number = self._words[self._starts[number] + 2]
        return number

    def _member(self, number: int, name: bytes, depth: int) -> Member | None:
        if not 0 < number < len(self._starts) or depth > _DEEPEST:
            return None
        start = self._starts[number]
        info = self._words[start + 1]
        if info >> 24 & 31 not in (STRUCT, UNION):
            return None
        fields = self._words[start + 3 : start + 3 + 3 * (info & 0xFFFF)]
        for index in range(0, len(fields) - 2, 3):
            at, type_number, offset = fields[index : index + 3]
            bits, offset = (offset >> 24, offset & 0xFFFFFF) if info >> 31 else (0, offset)
            if at and self._strings[at : at + len(name)] == name:
                return Member(offset, type_number, bits)
            if not self._strings[at : at + 1].strip(b"\0"):
                inner = self._member(self._behind_aliases(type_number), name, depth + 1)
                if inner is not None:
                    return inner._replace(offset=inner.offset + offset)
        return None


def _places(words: bytes, wanted: int | None) -> Iterator[int]:
    """The indices at which a 32-bit number occurs."""
    if wanted is None:
        return
    packed = struct.pack("<I", wanted)
    found = words.find(packed)
    while found >= 0:
        if found % 4 == 0:
            yield found // 4
        found = words.find(packed, found + 1)
