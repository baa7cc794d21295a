"""CPython's frames and code objects, 3.9 to 3.14: which function, which line, and which `with`
blocks a frame is inside."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from faultkit.layouts.cpython import STATE_WORDS, TP_BASICSIZE, TYPE_AT, PythonMemory, is_pointer
from faultkit.record import NamedTuple
from faultkit.target import ReadError

DEEPEST = 200  # frames
DEEPEST_STACK = 1000  # values on one frame's stack
MOST_LOCALS = MOST_NAMES = 4096
NAME_AT = {"method_descriptor": 24, "function": 32}  # PyDescrObject.d_name, func_name

OBJECT, EARLY, LATE = "PyFrameObject", "_PyInterpreterFrame 3.11", "_PyInterpreterFrame 3.12"
TAGGED = "_PyInterpreterFrame 3.14"  # what it refers to are _PyStackRefs (pycore_stackref.h)
TAGS = 3  # low bits of a _PyStackRef, which is else an object's address
STACK_REFS = 208  # tp_basicsize of the code objects that go with such frames
OWNED_BY_C = 3  # FRAME_OWNED_BY_CSTACK, or _INTERPRETER: its own entry, no Python function
OWNER_AT = {LATE: 70, TAGGED: 74}
LINK_AT = {OBJECT: 24, EARLY: 48, LATE: 8, TAGGED: 8}
GLOBALS_AT = {OBJECT: 48, EARLY: 8, LATE: 24, TAGGED: 24}
VALUES_AT = {EARLY: 72, LATE: 72, TAGGED: 80}  # localsplus


class PyFrame(NamedTuple):
    """A Python frame; `shape` tells which structure it is."""

    address: int
    shape: str
    code: int


class Place(NamedTuple):
    """Where a frame is: `line` is the definition's where the current one can't be told."""

    function: str
    file: str
    line: int

    @property
    def is_threading(self) -> bool:
        """Whether this is code of the standard library's threading module."""
        return self.file.endswith("/threading.py")

    def __str__(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line} {self.function}()"


def _read_frame(memory: PythonMemory, address: int) -> PyFrame | None:
    """The frame at `address` by its code object: the first word (3.12; tagged since 3.14), the
    fifth (3.11, and in the PyFrameObject before it)."""
    if not is_pointer(address):
        return None
    try:
        words = memory.process.words(address, 9)
    except ReadError:
        return None
    if memory.type_name(words[0] & ~TAGS) == "code":
        return frame_of_code(memory, address, words[0])
    if memory.type_name(words[4]) == "code":
        shape = OBJECT if memory.type_name(address) == "frame" else EARLY
        return PyFrame(address, shape, words[4])
    return None


def frame_of_code(memory: PythonMemory, address: int, executable: int) -> PyFrame | None:
    """The frame that begins with its code object, which may be tagged; None if it is no such
    one.  Raises ReadError."""
    code = executable & ~TAGS
    kind = memory.process.u64(code + TYPE_AT)
    shape = TAGGED if memory.process.u64(kind + TP_BASICSIZE) >= STACK_REFS else LATE
    return PyFrame(address, shape, code) if shape == TAGGED or code == executable else None


def python_frames(memory: PythonMemory, state: int) -> list[PyFrame]:
    """The Python frames of the thread with the PyThreadState at `state`, innermost first."""
    frames: list[PyFrame] = []
    address = _innermost(memory, state)
    seen = set()
    while address and address not in seen and len(frames) < DEEPEST:
        seen.add(address)
        frame = _read_frame(memory, address)
        try:
            if frame is None:  # an entry from C in 3.13: no code, but a caller
                address = memory.process.u64(address + 8)
                continue
            owner_at = OWNER_AT.get(frame.shape)
            if not owner_at or memory.process.read(address + owner_at, 1)[0] < OWNED_BY_C:
                frames.append(frame)
            address = memory.process.u64(address + LINK_AT[frame.shape])
        except ReadError:
            break
        if not is_pointer(address):
            break
    return frames


def _innermost(memory: PythonMemory, state: int) -> int:
    """PyThreadState.frame (to 3.10), .cframe->current_frame (3.11, 3.12), .current_frame."""
    try:
        words = memory.process.words(state, STATE_WORDS)[3:25]
    except ReadError:
        return 0
    for word in words:
        if not is_pointer(word):
            continue
        if _is_frame(memory, word):
            return word
        try:
            inner = memory.process.words(word, 2)
        except ReadError:
            continue
        # the second first: 3.11 has a byte in the other, and whatever was there in the rest of it
        for candidate in reversed(inner):
            if _is_frame(memory, candidate):
                return candidate
    return 0


def _is_frame(memory: PythonMemory, address: int) -> bool:
    """Whether there is a frame of the kind that goes with its code object."""
    frame = _read_frame(memory, address)
    return frame is not None and _code_layout(memory, frame) is not None


class _Code(NamedTuple):
    """Offsets in PyCodeObject; `start` is where the instructions are, 0 if in another object."""

    first_line: int
    locals: int
    filename: int
    name: int
    lines: int
    start: int


def _code_layout(memory: PythonMemory, frame: PyFrame) -> _Code | None:
    """By where the code's type says that the instructions start (tp_basicsize, 3.11)."""
    if frame.shape == OBJECT:
        return _Code(40, 28, 104, 112, 120, 0)
    try:
        kind = memory.process.u64(frame.code + TYPE_AT)
        start = memory.process.u64(kind + TP_BASICSIZE)
    except ReadError:
        return None
    if start == 184 and frame.shape == EARLY:
        return _Code(72, 76, 112, 120, 136, start)
    if frame.shape in (LATE, TAGGED) and 184 < start < 300:
        return _Code(68, 72, 112, 120, 136, start)
    return None


def place(memory: PythonMemory, frame: PyFrame) -> Place | None:
    """Where the frame is, or None where its code object is not understood."""
    layout = _code_layout(memory, frame)
    if layout is None:
        return None
    try:
        file = memory.text(memory.process.u64(frame.code + layout.filename))
        function = memory.text(memory.process.u64(frame.code + layout.name))
        first = memory.process.u32(frame.code + layout.first_line)
        if file is None or function is None or first > 1 << 24:
            return None
        table = memory.bytes_of(memory.process.u64(frame.code + layout.lines))
        index, units = _instruction(memory, frame, layout)
    except ReadError:
        return None
    if index < 0:
        return Place(function, file, first)
    if frame.shape != OBJECT:
        line = line_of_locations(table, first, index)
    elif units:
        line = line_of_table(table, first, 2 * index)
    else:
        line = line_of_lnotab(table, first, index)
    return Place(function, file, first if line is None else line)


def _instruction(memory: PythonMemory, frame: PyFrame, layout: _Code) -> tuple[int, bool]:
    """(index of the current instruction, whether that counts code units of 2 bytes)."""
    process = memory.process
    if frame.shape == OBJECT:
        locals_at = _locals_at(memory, frame)
        if locals_at == 360:  # 3.9
            return struct.unpack("<i", process.read(frame.address + 104, 4))[0], False
        if locals_at == 352:  # 3.10
            return struct.unpack("<i", process.read(frame.address + 96, 4))[0], True
        return -1, False
    units = process.u64(frame.code + 16)  # ob_size
    index = (process.u64(frame.address + 56) - frame.code - layout.start) // 2
    return (index if 0 <= index < units else -1), True


def _locals_at(memory: PythonMemory, frame: PyFrame) -> int:
    """The offset of f_localsplus in a PyFrameObject: what lies before f_valuestack are the
    locals, cells and free variables."""
    process = memory.process
    stack = process.u64(frame.address + 64)
    count = process.u32(frame.code + 28)
    for names in (80, 88):  # co_freevars, co_cellvars
        count += process.u64(process.u64(frame.code + names) + 16)
    return stack - frame.address - 8 * count


def line_of_locations(table: bytes, line: int, index: int) -> int | None:
    """The line of the instruction `index` code units in, by a 3.11 co_linetable whose function
    starts at `line` (Objects/locations.md); None where it has none."""
    at = end = 0

    def varint() -> int:
        nonlocal at
        value, shift = table[at] & 63, 6
        while table[at] & 64:
            at += 1
            value |= (table[at] & 63) << shift
            shift += 6
        at += 1
        return value

    try:
        while at < len(table):
            kind, end = table[at] >> 3 & 15, end + (table[at] & 7) + 1
            at += 1
            if kind in (13, 14):
                delta = varint()
                line += -(delta >> 1) if delta & 1 else delta >> 1
                for _ in range(3 if kind == 14 else 0):
                    varint()
            elif kind >= 10 and kind != 15:
                line, at = line + kind - 10, at + 2
            elif kind < 10:
                at += 1
            if index < end:
                return None if kind == 15 else line
    except IndexError:
        pass
    return None


def line_of_table(table: bytes, line: int, offset: int) -> int | None:
    """The same `offset` bytes in, by a 3.10 co_linetable (Objects/lnotab_notes.txt)."""
    end = 0
    for step, delta in zip(table[::2], table[1::2]):
        signed = delta - 256 if delta > 127 else delta
        end += step
        if signed != -128:
            line += signed
        if offset < end:
            return None if signed == -128 else line
    return None


def line_of_lnotab(table: bytes, line: int, offset: int) -> int | None:
    """The same `offset` bytes in, by a 3.9 co_lnotab (PyCode_Addr2Line)."""
    at = 0
    for step, delta in zip(table[::2], table[1::2]):
        at += step
        if at > offset:
            break
        line += delta - 256 if delta > 127 else delta
    return line


def protected_depth(table: bytes, index: int) -> int:
    """How many values of the frame's stack the exception handler around instruction `index`
    keeps, by a 3.11 co_exceptiontable (Objects/exception_handling_notes.txt); 0 without one."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = table[at] & 63
        while table[at] & 64:
            at += 1
            value = value << 6 | (table[at] & 63)
        at += 1
        return value

    try:
        while at < len(table):
            start, length, _, depth = varint(), varint(), varint(), varint()
            if start <= index < start + length:
                return min(depth >> 1, DEEPEST_STACK)
    except IndexError:
        pass
    return 0


def exits(memory: PythonMemory, frame: PyFrame) -> Iterator[tuple[str, int]]:
    """For each `with` block that the frame is inside of: (type name, address) of the object
    whose __exit__ waits on the frame's stack, bound, or since 3.14 followed by the object.  Only
    values that the interpreter is sure to use again are looked at: what lies above is stale."""
    read = memory.process.u64
    try:
        values = _kept_values(memory, frame)
        for value, following in zip(values, (*values[1:], 0)):
            kind = memory.type_name(value)
            if kind in NAME_AT:
                if memory.text(read(value + NAME_AT[kind])) == "__exit__" and following:
                    yield memory.type_name(following), following
                continue
            if kind == "builtin_function_or_method":
                if memory.c_string(read(read(value + 16))) != "__exit__":
                    continue
            elif kind != "method":
                continue
            owner = read(value + 24)
            yield memory.type_name(owner), owner
    except ReadError:
        return


def _values(memory: PythonMemory, frame: PyFrame, first: int, count: int) -> tuple[int, ...]:
    """Objects that a frame refers to: variables, then what is on its stack; 0 for none."""
    address = frame.address + VALUES_AT[frame.shape] + 8 * first
    words = memory.process.words(address, count)
    return tuple(word & ~TAGS for word in words) if frame.shape == TAGGED else words


def _kept_values(memory: PythonMemory, frame: PyFrame) -> tuple[int, ...]:
    layout = _code_layout(memory, frame)
    if layout is None:
        return ()
    process = memory.process
    if frame.shape == OBJECT:
        return _block_values(memory, frame)
    index, _ = _instruction(memory, frame, layout)
    table = memory.bytes_of(process.u64(frame.code + 40))
    depth = protected_depth(table, index) if index >= 0 else 0
    locals_count = process.u32(frame.code + layout.locals)
    if not depth or locals_count > 1 << 16:
        return ()
    return _values(memory, frame, locals_count, depth)


def _block_values(memory: PythonMemory, frame: PyFrame) -> tuple[int, ...]:
    """To 3.10: the value below each block's level on f_blockstack."""
    process = memory.process
    locals_at = _locals_at(memory, frame)
    blocks_at, count_at = {360: (120, 112), 352: (112, 104)}.get(locals_at, (0, 0))
    if not blocks_at:
        return ()
    count = process.u32(frame.address + count_at)
    stack = process.u64(frame.address + 64)
    values = []
    for block in range(min(count, 20)):  # CO_MAXBLOCKS
        level = process.u32(frame.address + blocks_at + 12 * block + 8)
        if 0 < level <= DEEPEST_STACK:
            values.append(process.u64(stack + 8 * (level - 1)))
    return tuple(values)


def instruction_index(memory: PythonMemory, frame: PyFrame) -> int:
    """The frame's current instruction, in units of 2 bytes; negative where it can't be told."""
    layout = _code_layout(memory, frame)
    if layout is None:
        return -1
    index, units = _instruction(memory, frame, layout)
    return index if units else index // 2


def local_values(memory: PythonMemory, frame: PyFrame) -> tuple[tuple[int, ...], int]:
    """(the frame's local, cell and free variables, where among them LOAD_DEREF counts from)."""
    process = memory.process
    layout = _code_layout(memory, frame)
    if layout is None:
        return (), 0
    if frame.shape != OBJECT:
        count = process.u32(frame.code + layout.locals)
        return _values(memory, frame, 0, count) if count <= MOST_LOCALS else (), 0
    start = frame.address + _locals_at(memory, frame)
    count = (process.u64(frame.address + 64) - start) // 8
    values = process.words(start, count) if 0 <= count <= MOST_LOCALS else ()
    return values, process.u32(frame.code + 28)


def uses_name(memory: PythonMemory, frame: PyFrame, name: str) -> bool:
    """Whether the frame's code mentions `name` as an attribute or global (co_names)."""
    try:
        names = memory.process.u64(frame.code + (64 if frame.shape == OBJECT else 32))
        items = memory.items_of(names, MOST_NAMES)
        if not items and memory.process.u64(names + 16):
            return True
    except ReadError:
        return True
    return any(memory.text(item) == name for item in items)
