"""Which methods of an object a Python frame has called so far, by its bytecode, 3.8 to 3.14.

A call of a method begins with a load of the object and then one of the method by its name.  Only
these pairs are looked for, each checked against what the frame's variables hold, so that the rest
of the instructions need not be understood.
"""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.layouts.cpython import TYPE_AT, PythonMemory
from faultkit.layouts.pydict import attribute_is, dict_has
from faultkit.layouts.pyframes import (
    GLOBALS_AT,
    OBJECT,
    PyFrame,
    instruction_index,
    local_values,
)
from faultkit.record import NamedTuple
from faultkit.target import ReadError

TP_BASICSIZE = 32
MOST_UNITS = 1 << 14  # of one function's code
MOST_CALLS = 32
CELL_AT = 16  # PyCellObject.ob_ref


class Dialect(NamedTuple):
    """Opcodes, and how many units of cache follow them (Lib/opcode.py, Include/opcode.h)."""

    fast: frozenset[int]
    packed: frozenset[int]  # two variables in one argument, the last in its low half
    storing: frozenset[int]  # of these, those that store into the first
    deref: frozenset[int]
    glob: frozenset[int]
    attribute: frozenset[int]
    method: frozenset[int]
    method_shift: int
    global_shift: int
    global_cache: int
    attribute_cache: int
    call: int  # units from the method's load to its call, if that has no arguments
    last: int  # the same with a few arguments
    jumps: frozenset[int]  # forward
    absolute: frozenset[int]
    backward: frozenset[int]
    named: frozenset[int]  # a name of a module's or class's body
    closure: frozenset[int]  # the cell of a variable, for a function that is being made
    parent: frozenset[int]  # an attribute of super(), its name two bits up
    enter: frozenset[int]  # `with`
    store: frozenset[int]  # of an attribute
    constant: frozenset[int]
    copy: int
    extended: int
    caches: dict[int, frozenset[int]]  # opcodes by how many units of cache follow


def _set(*parts: object) -> frozenset[int]:
    return frozenset(n for p in parts for n in ((p,) if isinstance(p, int) else p))  # type: ignore


_NONE: frozenset[int] = frozenset()
_CACHES = {
    184: {  # 3.11
        1: _set(range(3, 9), 13, 14, 16, 60, range(64, 68), 72, 73, range(76, 82), 92, 113, 121,
            122, 127, 141, 143, 166, range(168, 171), range(177, 181)),
        2: _set(range(26, 30), 107),
        4: _set(range(17, 26), range(39, 44), 95, 106, 153, 154, 158, 159, 171),
        5: _set(47, 48, 55, 116),
        10: _set(range(56, 60), 62, 63, 160),
    },
    192: {  # 3.12
        1: _set(range(6, 9), 10, 13, 14, 16, range(18, 23), 25, range(57, 61), range(62, 68),
            92, 93, 107, 122, 123, 141, range(159, 162), range(166, 169)),
        3: _set(23, 24, 28, 29, 34, range(38, 49), 56, 171),
        4: _set(95, range(111, 114), 116, 148, 153),
        9: _set(70, 72, 73, range(76, 83), 106),
    },
    200: {  # 3.13
        1: _set(3, 5, 39, 45, 58, 59, 72, 77, 93, range(97, 101), 104, 117, range(150, 162),
            range(182, 191), 205, 206, 208, 212, 213, range(220, 223)),
        3: _set(40, 53, range(162, 182), range(214, 220)),
        4: _set(91, 108, 203, 204, range(209, 212)),
        9: _set(82, range(191, 203)),
    },
    208: {  # 3.14
        1: _set(38, 56, 57, 70, 75, 96, range(100, 104), 106, 119, range(166, 177), 194, 195, 197,
            201, 202, range(209, 212)),
        3: _set(39, 52, 55, range(143, 166), range(203, 209)),
        4: _set(92, 110, 192, 193, range(198, 201)),
        5: _set(3, 44, range(129, 143)),
        9: _set(80, range(177, 190)),
    },
}  # fmt: skip
_CLASSIC = Dialect(
    _set(124), _NONE, _NONE, _set(136), _set(116), _set(106), _set(160), 0, 0, 0, 0, 1, 3,
    _set(93, 110), _set(111, 112, 114, 115, 121), _set(113), _set(101), _set(135), _NONE,
    _set(143), _set(95), _set(100), 4, 144, {},
)  # fmt: skip
# by tp_basicsize of the code type, which is where the instructions begin
_DIALECTS = {
    184: Dialect(  # 3.11
        _set(124, 45, 46), _NONE, _NONE, _set(137), _set(116, 47, 48, 55), _set(106, range(39, 44)),
        _set(160, range(56, 60), 62, 63), 0, 1, 5, 4, 11, 17,
        _set(93, 110, 111, 112, 114, 115, 128, 129), _NONE, _set(38, 134, 140, range(173, 177)),
        _set(101), _set(136), _NONE, _set(53), _set(95, 153, 154, 158, 159), _set(100), 120, 144,
        _CACHES[184],
    ),
    192: Dialect(  # 3.12
        _set(124, 127, 86, 88), _NONE, _NONE, _set(137), _set(116, 111, 112),
        _set(106, 70, 72, 73, range(76, 83)), _set(106, 70, 72, 73, range(76, 83)),
        1, 1, 4, 9, 10, 14, _set(93, range(62, 66), 110, 114, 115, 128, 129), _NONE,
        _set(134, 140), _set(101), _set(136), _set(66, 67, 141), _set(53),
        _set(95, 113, 148, 153), _set(100), 120, 144,
        _CACHES[192],
    ),
    200: Dialect(  # 3.13
        _set(85, 87), _set(88, 111), _set(111), _set(84), _set(91, 203, 204),
        _set(82, range(191, 203)), _set(82, range(191, 203)),
        1, 1, 4, 9, 10, 14, _set(72, range(187, 191), 79, range(97, 101)), _NONE,
        _set(77, 78), _set(92), _NONE, _set(93, 205, 206), _set(2),
        _set(108, 209, 210, 211), _set(83), 61, 71,
        _CACHES[200],
    ),
    208: Dialect(  # 3.14
        _set(84, 86, 88), _set(87, 89, 113), _set(113), _set(83), _set(92, 192, 193),
        _set(80, range(177, 190)), _set(80, range(177, 190)),
        1, 1, 4, 9, 10, 14, _set(70, range(171, 175), 77, range(100, 104)), _NONE,
        _set(75, 76, 175, 176), _set(93), _NONE, _set(96, 194, 195), _set(95),
        _set(110, 198, 199, 200), _set(82, 190, 191), 59, 69,
        _CACHES[208],
    ),
}  # fmt: skip


class Call(NamedTuple):
    """A call of a method of the object: `certain` if every way to where the frame is comes by
    and it has no arguments; `pending` if the frame may be in it just now; `ahead` if it is still
    to come; `at` is where it is, in units of 2 bytes."""

    method: str
    certain: bool
    pending: bool
    ahead: bool
    at: int


class FrameCalls:
    """The calls of some methods in one frame's code, read once; `on` asks of which object."""

    def __init__(
        self, memory: PythonMemory, frame: PyFrame, methods: tuple[str, ...], innermost: bool
    ) -> None:
        self._sites: list[tuple[int, Call]] = []
        self._code = b""
        try:
            self._read(memory, frame, methods, innermost)
        except ReadError:
            self._sites = []

    def _read(
        self, memory: PythonMemory, frame: PyFrame, methods: tuple[str, ...], innermost: bool
    ) -> None:
        classic = frame.shape == OBJECT
        names = code_names(memory, frame.code, classic)
        wanted = {index: name for index, name in enumerate(names) if name in methods}
        dialect, code = code_units(memory, frame.code, classic) if wanted else (None, b"")
        current = instruction_index(memory, frame)
        if dialect is None or current < 0:
            return
        self._dialect, self._code = dialect, code
        self._scope = _Scope(memory, frame, names)
        starts = instructions(dialect, code)
        for at in starts:
            op, argument = code[2 * at], code[2 * at + 1]
            if op not in dialect.method or (dialect.method_shift and not argument & 1):
                continue
            method = wanted.get(argument >> dialect.method_shift)
            if method is None or len(self._sites) >= MOST_CALLS:
                continue
            call = at + dialect.call
            plain = 2 * call + 1 < len(code) and code[2 * call + 1] == 0
            skipped = any(at < target <= current for target in _jumps(dialect, code, at, starts))
            pending = innermost and at <= current <= at + dialect.last
            self._sites.append((at, Call(method, plain and not skipped, pending, at > current, at)))

    def on(self, target: int) -> list[Call]:
        """The calls on the object at `target`, in the order of the code."""
        try:
            return [
                call
                for at, call in self._sites
                if _loads(self._scope, self._dialect, self._code, at, target)
            ]
        except ReadError:
            return []


def instructions(dialect: Dialect, code: bytes) -> list[int]:
    """The units that begin an instruction; the others are its cache, and may have any value."""
    sizes = {op: count for count, ops in dialect.caches.items() for op in ops}
    found, at = [], 0
    while 2 * at < len(code):
        found.append(at)
        at += 1 + sizes.get(code[2 * at], 0)
    return found


def code_units(memory: PythonMemory, code: int, classic: bool) -> tuple[Dialect | None, bytes]:
    """The instructions of a code object, which to 3.10 (`classic`) are in a bytes object."""
    process = memory.process
    if classic:
        return _CLASSIC, memory.bytes_of(process.u64(code + 48))[: 2 * MOST_UNITS]
    start = process.u64(process.u64(code + TYPE_AT) + TP_BASICSIZE)
    units = min(process.u64(code + 16), MOST_UNITS)
    return _DIALECTS.get(start), process.read(code + start, 2 * units)


def code_names(memory: PythonMemory, code: int, classic: bool) -> list[str | None]:
    """co_names."""
    names = memory.process.u64(code + (64 if classic else 32))
    return [memory.text(word) for word in memory.items_of(names)]


class _Scope:
    """What the frame's names mean."""

    def __init__(self, memory: PythonMemory, frame: PyFrame, names: list[str | None]) -> None:
        self.memory = memory
        self.names = names
        values, self.cells_at = local_values(memory, frame)
        self.values = [self._content(value) for value in values]
        self.globals = memory.process.u64(frame.address + GLOBALS_AT[frame.shape])

    def _content(self, value: int) -> int:
        """The object, or what is in it if it is a cell."""
        if self.memory.type_name(value) == "cell":
            return self.memory.process.u64(value + CELL_AT)
        return value

    def variable(self, index: int) -> int:
        """The object in a variable; 0 for none."""
        return self.values[index] if 0 <= index < len(self.values) else 0

    def is_global(self, index: int, value: int) -> bool:
        """Whether the global of that name is the object."""
        name = self.names[index] if index < len(self.names) else None
        return name is not None and dict_has(self.memory, self.globals, name, value)


def _loads(scope: _Scope, dialect: Dialect, code: bytes, at: int, target: int) -> bool:
    """Whether what is loaded just before unit `at` is the target."""
    if _variable(scope, dialect, code, at) == target:
        return True
    before = at - 1 - dialect.global_cache
    if before >= 0 and code[2 * before] in dialect.glob:
        index = code[2 * before + 1] >> dialect.global_shift
        if scope.is_global(index, target):
            return True
    before = at - 1 - dialect.attribute_cache
    if before > 0 and code[2 * before] in dialect.attribute:
        index = code[2 * before + 1] >> dialect.method_shift
        owner = _variable(scope, dialect, code, before)
        name = scope.names[index] if index < len(scope.names) else None
        if owner and name is not None:
            return attribute_is(scope.memory, owner, name, target)
    return False


def _variable(scope: _Scope, dialect: Dialect, code: bytes, at: int) -> int:
    """The object in the variable that the unit before `at` loads; 0 if it loads none."""
    if at < 1:
        return 0
    op, argument = code[2 * at - 2], code[2 * at - 1]
    if op in dialect.packed:
        return scope.variable(argument & 15)
    if op in dialect.fast:
        return scope.variable(argument)
    if op in dialect.deref:
        return scope.variable(argument + scope.cells_at)
    return 0


def _jumps(dialect: Dialect, code: bytes, end: int, starts: list[int]) -> Iterator[int]:
    """Where the jumps before unit `end` may go to, in units."""
    for at in starts:
        if at >= end:
            break
        op, argument = code[2 * at], code[2 * at + 1]
        if at and code[2 * at - 2] == dialect.extended:
            argument |= code[2 * at - 1] << 8
        if op in dialect.jumps:
            # in bytes before 3.10; caches behind the jump make it one more at most
            yield from (at + 1 + argument, at + 1 + argument // 2, at + 2 + argument)
        elif op in dialect.absolute:
            yield from (argument, argument // 2)
