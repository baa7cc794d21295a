"""Which methods of an object a Python frame has called so far, by its bytecode, 3.8 to 3.13.

A call of a method begins with a load of the object and then one of the method by its name.  Only
these pairs are looked for, each checked against what the frame's variables hold, so that the rest
of the instructions need not be understood.
"""

from collections.abc import Iterator
from typing import NamedTuple, Optional

from faultkit.layouts.cpython import TYPE_AT, PythonMemory
from faultkit.layouts.pydict import attribute_is, dict_has
from faultkit.layouts.pyframes import EARLY, OBJECT, PyFrame, instruction_index, local_values
from faultkit.target import ReadError

TP_BASICSIZE = 32
MOST_UNITS = 1 << 14  # of one function's code
MOST_CALLS = 32
CELL_AT = 16  # PyCellObject.ob_ref


class _Dialect(NamedTuple):
    """Opcodes, and how many units of cache follow them (Lib/opcode.py, Include/opcode.h)."""

    fast: frozenset[int]
    packed: frozenset[int]  # two variables in one argument, the last in its low half
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


def _set(*parts: object) -> frozenset[int]:
    return frozenset(n for p in parts for n in ((p,) if isinstance(p, int) else p))  # type: ignore


_NONE: frozenset[int] = frozenset()
_CLASSIC = _Dialect(
    _set(124), _NONE, _set(136), _set(116), _set(106), _set(160), 0, 0, 0, 0, 1, 3,
    _set(93, 110), _set(111, 112, 114, 115, 121),
)  # fmt: skip
# by tp_basicsize of the code type, which is where the instructions begin
_DIALECTS = {
    184: _Dialect(  # 3.11
        _set(124), _NONE, _set(137), _set(116, 47, 48, 55), _set(106, range(39, 44)),
        _set(160, range(56, 60), 62, 63), 0, 1, 5, 4, 11, 17,
        _set(93, 110, 111, 112, 114, 115, 128, 129), _NONE,
    ),
    192: _Dialect(  # 3.12
        _set(124, 127), _NONE, _set(137), _set(116, 111, 112),
        _set(106, 70, 72, 73, range(76, 83)), _set(106, 70, 72, 73, range(76, 83)),
        1, 1, 4, 9, 10, 14, _set(93, range(62, 66), 110, 114, 115, 128, 129), _NONE,
    ),
    200: _Dialect(  # 3.13
        _set(85, 87), _set(88, 111), _set(84), _set(91, 203, 204),
        _set(82, range(191, 203)), _set(82, range(191, 203)),
        1, 1, 4, 9, 10, 14, _set(72, range(187, 191), 79, range(97, 101)), _NONE,
    ),
}  # fmt: skip


class Call(NamedTuple):
    """A call of a method of the object: `certain` if every way to where the frame is comes by
    and it has no arguments; `pending` if the frame may be in it just now; `ahead` if it is still
    to come."""

    method: str
    certain: bool
    pending: bool
    ahead: bool


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
        names = _names(memory, frame)
        wanted = {index: name for index, name in enumerate(names) if name in methods}
        dialect, code = _code(memory, frame) if wanted else (None, b"")
        current = instruction_index(memory, frame)
        if dialect is None or current < 0:
            return
        self._dialect, self._code = dialect, code
        self._scope = _Scope(memory, frame, names)
        for at in range(len(code) // 2):
            op, argument = code[2 * at], code[2 * at + 1]
            if op not in dialect.method or (dialect.method_shift and not argument & 1):
                continue
            method = wanted.get(argument >> dialect.method_shift)
            if method is None or len(self._sites) >= MOST_CALLS:
                continue
            call = at + dialect.call
            plain = 2 * call + 1 < len(code) and code[2 * call + 1] == 0
            skipped = any(at < target <= current for target in _jumps(dialect, code, at))
            pending = innermost and at <= current <= at + dialect.last
            self._sites.append((at, Call(method, plain and not skipped, pending, at > current)))

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


def _code(memory: PythonMemory, frame: PyFrame) -> tuple[Optional[_Dialect], bytes]:
    process = memory.process
    if frame.shape == OBJECT:
        return _CLASSIC, memory.bytes_of(process.u64(frame.code + 48))[: 2 * MOST_UNITS]
    start = process.u64(process.u64(frame.code + TYPE_AT) + TP_BASICSIZE)
    units = min(process.u64(frame.code + 16), MOST_UNITS)
    return _DIALECTS.get(start), process.read(frame.code + start, 2 * units)


def _names(memory: PythonMemory, frame: PyFrame) -> list[Optional[str]]:
    """co_names."""
    names = memory.process.u64(frame.code + (64 if frame.shape == OBJECT else 32))
    if memory.type_name(names) != "tuple":
        return []
    count = min(memory.process.u64(names + 16), 256)
    return [memory.text(word) for word in memory.process.words(names + 24, count)]


class _Scope:
    """What the frame's names mean."""

    def __init__(
        self, memory: PythonMemory, frame: PyFrame, names: list[Optional[str]]
    ) -> None:
        self.memory = memory
        self.names = names
        values, self.cells_at = local_values(memory, frame)
        self.values = [self._content(value) for value in values]
        at = {OBJECT: 48, EARLY: 8}.get(frame.shape, 24)
        self.globals = memory.process.u64(frame.address + at)

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


def _loads(scope: _Scope, dialect: _Dialect, code: bytes, at: int, target: int) -> bool:
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


def _variable(scope: _Scope, dialect: _Dialect, code: bytes, at: int) -> int:
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


def _jumps(dialect: _Dialect, code: bytes, end: int) -> Iterator[int]:
    """Where the jumps before unit `end` may go to, in units; caches that look like jumps only
    make a call less certain."""
    for at in range(end):
        op, argument = code[2 * at], code[2 * at + 1]
        if at and code[2 * at - 2] in (71, 144):  # EXTENDED_ARG
            argument |= code[2 * at - 1] << 8
        if op in dialect.jumps:
            # in bytes before 3.10; caches behind the jump make it one more at most
            yield from (at + 1 + argument, at + 1 + argument // 2, at + 2 + argument)
        elif op in dialect.absolute:
            yield from (argument, argument // 2)
