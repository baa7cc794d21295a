"""What Python code loads: the objects that its names lead to, instruction by instruction, 3.8 to
3.14.

Names are followed as the interpreter would follow them, in a frame or in a function that may be
called, without running anything.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from faultkit.layouts.pycode import Dialect
from faultkit.layouts.pyobjects import PythonObjects
from faultkit.record import NamedTuple

MOST_ATTRIBUTES = 4  # a.b.c.d


class Code(NamedTuple):
    """A code object's instructions and names; `library`: of the standard library."""

    address: int
    dialect: Dialect
    units: bytes
    names: list[str | None]
    constants: tuple[int, ...]
    starts: list[int]
    library: bool


class Load(NamedTuple):
    """Something that unit `at` loads: an object (0: not known), of `receiver` if it is the
    attribute `name`; `kept`: it is not used up at once, by a load of its attribute, a store to
    one or a `with`, but goes on; `called`: to be called next."""

    at: int
    value: int
    receiver: int
    name: str | None
    kept: bool
    called: bool


class Scope:
    """What names mean in a frame, or in a function that may run."""

    def __init__(
        self, objects: PythonObjects, code: Code, values: Sequence[int], cells: int, names: int
    ) -> None:
        self.objects, self.code = objects, code
        self._values = [objects.cell(value) for value in values]
        self._cells_at, self.globals = cells, names

    def holds(self, value: int) -> bool:
        """Whether a variable is the object."""
        return value in self._values

    def loads(self, first: int, end: int) -> Iterator[Load]:
        """What the units from `first` to `end` load, the end excluded."""
        code, dialect = self.code, self.code.dialect
        for at in code.starts:
            if not first <= at < end:
                continue
            op = code.units[2 * at]
            if op in dialect.parent:
                yield Load(at, 0, 0, self._name(self._argument(at) >> 2), True, True)
            elif op in dialect.method or op in dialect.attribute:
                name = self._name(self._argument(at) >> dialect.method_shift)
                receiver = self.before(at)
                value = self.objects.attribute(receiver, name) if receiver and name else 0
                if op not in dialect.method:
                    cache, called = dialect.attribute_cache, False
                elif dialect.method_shift:
                    cache, called = dialect.attribute_cache, bool(self._argument(at) & 1)
                else:
                    cache, called = 0, True
                kept = not self._used_up(at + 1 + cache)
                yield Load(at, value, receiver, name, kept, called)
            elif op in dialect.packed:
                argument = self._argument(at)
                yield Load(at, self._variable(argument & 15), 0, None, self._ends(at), False)
                if op not in dialect.storing:
                    yield Load(at, self._variable(argument >> 4), 0, None, True, False)
            elif op in dialect.glob:
                kept = not self._used_up(at + 1 + dialect.global_cache)
                yield Load(at, self._last(at), 0, None, kept, False)
            elif op in dialect.constant:
                yield Load(at, self._constant(self._argument(at)), 0, None, False, False)
            elif self._is_plain(op) or op in dialect.closure:
                yield Load(at, self._last(at), 0, None, self._ends(at), False)

    def _is_plain(self, op: int) -> bool:
        dialect = self.code.dialect
        return op in dialect.fast or op in dialect.deref or op in dialect.named

    def _ends(self, at: int) -> bool:
        return not self._used_up(at + 1)

    def _used_up(self, at: int) -> bool:
        units, dialect = self.code.units, self.code.dialect
        while 2 * at < len(units) and units[2 * at] in (dialect.extended, dialect.copy):
            at += 1
        if 2 * at >= len(units):
            return False
        op = units[2 * at]
        return any(op in ops for ops in (dialect.attribute, dialect.method, dialect.enter)) or (
            op in dialect.store
        )

    def entered_at(self, manager: int, end: int) -> int:
        """Behind the last `with` on that object before unit `end`; 0 if there is none."""
        units, enter = self.code.units, self.code.dialect.enter
        for at in reversed(self.code.starts):
            if at < end and units[2 * at] in enter and self.before(at) == manager:
                return at + 1
        return 0

    def before(self, at: int, deep: int = MOST_ATTRIBUTES) -> int:
        """The object that is loaded just before unit `at`; 0 if it is not known."""
        units, dialect, starts = self.code.units, self.code.dialect, self.code.starts
        index = bisect_left(starts, at) - 1
        # 3.14 begins a `with` by a copy of the manager
        if index > 0 and units[2 * starts[index] : 2 * starts[index] + 2] == bytes(
            (dialect.copy, 1)
        ):
            index -= 1
        if index > 0 and units[2 * starts[index]] == dialect.extended:
            index -= 1
        if index < 0:
            return 0
        start = starts[index]
        op = units[2 * start]
        if self._is_plain(op) or op in dialect.packed or op in dialect.glob:
            return self._last(start)
        if deep and op in dialect.attribute:
            name = self._name(self._argument(start) >> dialect.method_shift)
            owner = self.before(start, deep - 1)
            return self.objects.attribute(owner, name) if owner and name else 0
        return 0

    def _last(self, at: int) -> int:
        """What unit `at`, which loads a variable or a global, has on the stack's top then."""
        op, dialect = self.code.units[2 * at], self.code.dialect
        argument = self._argument(at)
        if op in dialect.packed:
            return self._variable(argument & 15)
        if op in dialect.fast:
            return self._variable(argument)
        if op in dialect.deref or op in dialect.closure:
            return self._variable(argument + self._cells_at)
        shift = dialect.global_shift if op in dialect.glob else 0
        name = self._name(argument >> shift)
        return self.objects.entries(self.globals).get(name, 0) if name else 0

    def _argument(self, at: int) -> int:
        units = self.code.units
        extended = at >= 1 and units[2 * at - 2] == self.code.dialect.extended
        return units[2 * at + 1] | (units[2 * at - 1] << 8 if extended else 0)

    def _name(self, index: int) -> str | None:
        return self.code.names[index] if index < len(self.code.names) else None

    def _constant(self, index: int) -> int:
        """The code object of a function that is made here; other constants don't matter."""
        value = self.code.constants[index] if index < len(self.code.constants) else 0
        return value if self.objects.memory.type_name(value) == "code" else 0

    def _variable(self, index: int) -> int:
        return self._values[index] if 0 <= index < len(self._values) else 0

    def end_of_loops(self, first: int, current: int) -> int:
        """The last unit that may have run since `first` ran last: `current`, or where a loop
        around it jumps back to behind `first`."""
        units, dialect = self.code.units, self.code.dialect
        end = current
        for at in self.code.starts:
            if at <= current:
                continue
            op, argument = units[2 * at], self._argument(at)
            if op in dialect.absolute or (dialect.absolute and op in dialect.backward):
                targets = (argument, argument // 2)  # in bytes before 3.10
            elif op in dialect.backward:
                targets = (at + 1 - argument, at + 2 - argument)
            else:
                continue
            if any(first < target <= current for target in targets):
                end = at
        return end
