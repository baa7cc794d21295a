"""Whether Python code may have given a lock back, by what its calls lead to, 3.8 to 3.14.

A frame is read from one instruction to another: is the lock itself handed to anything, or is
anything called whose code, or the code that this calls, releases what may be the lock?  What is
not known counts as the lock.  The standard library releases only locks of its own and those that
it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faultkit.layouts.cpython import LOCK_TYPES, PythonMemory
from faultkit.layouts.pycode import code_names, code_units, instructions
from faultkit.layouts.pyframes import (
    EARLY,
    GLOBALS_AT,
    OBJECT,
    TAGS,
    PyFrame,
    frame_of_code,
    instruction_index,
    local_values,
)
from faultkit.layouts.pyobjects import PythonObjects
from faultkit.layouts.pyscope import Code, Load, Scope
from faultkit.target import ReadError

RELEASES = ("release", "release_lock", "__exit__")
ACQUIRES = ("acquire", "acquire_lock", "__enter__")
MOST_FUNCTIONS = 200  # followed for one question
DEEPEST_CALL = 24
SEMAPHORES = ("Semaphore", "BoundedSemaphore", "SemLock")
GENERATOR_AT = range(16, 256, 8)  # where in a generator its frame is


class Reach:
    """Answers for one process whether what ran may have given a lock back."""

    def __init__(self, memory: PythonMemory) -> None:
        self.memory = memory
        self.objects = PythonObjects(memory)
        self._codes: dict[int, Code | None] = {}
        self._classic = False

    def code(self, address: int) -> Code | None:
        """The code object at `address`; None if it is not understood."""
        if address not in self._codes:
            try:
                self._codes[address] = self._read_code(address)
            except ReadError:
                self._codes[address] = None
        return self._codes[address]

    def _read_code(self, address: int) -> Code | None:
        memory, classic = self.memory, self._classic
        dialect, units = code_units(memory, address, classic)
        if dialect is None:
            return None
        read = memory.process.u64
        file = memory.text(read(address + (104 if classic else 112))) or ""
        constants = memory.items_of(read(address + (56 if classic else 24)))
        names = code_names(memory, address, classic)
        starts = instructions(dialect, units)
        return Code(address, dialect, units, names, constants, starts, _library(file))

    def scope(self, frame: PyFrame) -> tuple[Scope, int] | None:
        """(what names mean in the frame, its current instruction), or None."""
        self._classic = frame.shape == OBJECT
        code, current = self.code(frame.code), instruction_index(self.memory, frame)
        if code is None or current < 0:
            return None
        try:
            values, cells_at = local_values(self.memory, frame)
            names = self.memory.process.u64(frame.address + GLOBALS_AT[frame.shape])
        except ReadError:
            return None
        return Scope(self.objects, code, values, cells_at, names), current

    def generator_frame(self, manager: int) -> PyFrame | None:
        """The frame of the generator that a contextlib manager resumes; None if it is none."""
        generator = self.objects.attribute(manager, "gen")
        if self.memory.type_name(generator) != "generator":
            return None
        try:
            for offset in GENERATOR_AT:
                word = self.memory.process.u64(generator + offset)
                if self._classic:
                    if self.memory.type_name(word) == "frame":
                        return PyFrame(word, OBJECT, self.memory.process.u64(word + 32))
                elif self.memory.type_name(word & ~TAGS) == "code":
                    # 3.11 has the code twice: on its own, then fifth in the frame
                    address = generator + offset
                    again = self.memory.process.words(address, 16)[1:]
                    if word not in again:
                        return frame_of_code(self.memory, address, word)
                    return PyFrame(address + 8 * (again.index(word) - 3), EARLY, word)
        except ReadError:
            pass
        return None


def _library(file: str) -> bool:
    """Whether a file is the standard library's: lib/python3.11/threading.py, not what is
    installed beside it; "<frozen ...>"."""
    if file.startswith("<frozen"):
        return True
    return "/lib/python3" in file and "-packages/" not in file


def _is_balanced(loads: Sequence[Load]) -> bool:
    """Whether a function's code takes a lock before it gives one back, and gives it back last."""
    order = [load.name in ACQUIRES for load in loads if load.name in (*ACQUIRES, *RELEASES)]
    return bool(order) and order[0] and not order[-1]


class Search:
    """One question: may code have done one of `verbs` to `lock`?  `wraps` tells whether an object
    is made of the lock, as a Condition is; `by_owners`: whether an object that has the lock as an
    attribute, once it is handed to anything, may be asked for any of its methods; `strict`: what
    is too much to look at may have done it, and so may a function that both takes and gives back
    a lock that isn't known."""

    def __init__(
        self,
        reach: Reach,
        lock: int,
        verbs: tuple[str, ...],
        wraps: Callable[[int], bool],
        by_owners: bool = False,
        strict: bool = False,
    ) -> None:
        self._reach, self._objects = reach, reach.objects
        self._memory = reach.memory
        self._lock, self._verbs, self._wraps = lock, verbs, wraps
        self._by_owners, self._strict = by_owners, strict
        self._depth = 0
        self._classes: set[tuple[int, int]] = set()
        self._names: set[tuple[int, str]] = set()
        self._seen: dict[tuple[int, int], bool] = {}

    def in_frame(
        self, scope: Scope, first: int, end: int, inner: Sequence[tuple[int, Scope]], own: bool
    ) -> bool:
        """Whether units `first` to `end` of a frame may have.  What they call that runs still,
        the frames `inner` of (code, scope), is asked about on its own.  `own`: what the code does
        to the lock by name is known already."""
        loads = list(scope.loads(first, end))
        going: list[tuple[int, Scope]] = []  # calls that run still, and what they run
        codes = [self._codes_of(load.value) if inner else () for load in loads]
        for code, callee in inner:
            sites = [at for at, called in enumerate(codes) if code in called]
            if sites:
                going.append((sites[-1], callee))
        for at, load in enumerate(loads):
            runs_still = any(site == at for site, _ in going)
            is_argument = load.kept and any(
                at > site and callee.holds(load.value) for site, callee in going
            )
            if not runs_still and not is_argument and self._does(scope, load, own):
                return True
        return False

    def _does(self, scope: Scope, load: Load, own: bool = False, balanced: bool = False) -> bool:
        if load.value == self._lock and load.kept:
            return True
        if load.kept and self._by_owners and self._by_any_method(load.value):
            return True
        if load.name in self._verbs:
            if load.receiver == self._lock:
                return not (own and load.called)
            kind = self._memory.type_name(load.receiver)
            if not kind:
                return not balanced
            if kind in LOCK_TYPES or kind in SEMAPHORES:
                return False
            if self._wraps(load.receiver):
                return True
        if load.name is not None and not load.value and not self._memory.type_name(load.receiver):
            return self._any_class(scope, load.name)
        return self._follow(scope, load.value, load.receiver)

    def _by_any_method(self, owner: int) -> bool:
        """Whether the object has the lock as an attribute, and a method that may do it."""
        return self._lock in self._objects.own(owner).values() and any(
            self.by_function(found, owner)
            for found in self._objects.methods(self._objects.type_of(owner))
        )

    def _any_class(self, scope: Scope, name: str) -> bool:
        """An object that isn't known is asked for `name`: it may be of any class of the module."""
        key = scope.globals, name
        if key in self._names:
            return False
        self._names.add(key)
        found = (self._objects.defined(kind, name) for kind in self._objects.classes(key[0]))
        return any(self._follow(scope, value, 0) for value in found if value)

    def _follow(self, scope: Scope, value: int, receiver: int) -> bool:
        """Whether a call of the object may do it."""
        kind = self._memory.type_name(value)
        if kind == "code":  # a function that is made here, and may be called by anybody
            return self.by_function(value, scope.globals)
        if kind == "function":
            bound = 0 if self._memory.type_name(receiver) == "module" else receiver
            return self.by_function(value, 0 if self._objects.is_class(bound) else bound)
        if kind in ("method", "builtin_function_or_method"):
            try:
                function, owner = self._memory.process.words(value + 16, 2)
                if kind == "method":
                    return self.by_function(function, owner)
                name = self._memory.c_string(self._memory.process.u64(function))
            except ReadError:
                return False
            return owner == self._lock and name in self._verbs
        if self._objects.is_class(value):
            if (value, scope.code.address) in self._classes:
                return False
            self._classes.add((value, scope.code.address))
            names = {"__init__", "__new__", "__enter__", "__call__"}.union(
                name for name in scope.code.names if name
            )
            return any(
                self._follow(scope, found, 0)
                for name in names
                if (found := self._objects.defined(value, name))
            )
        if any(self._follow(scope, found, receiver) for found in self._objects.wrapped(value)):
            return True
        call = self._objects.defined(self._objects.type_of(value), "__call__") if kind else 0
        return bool(call) and self.by_function(call, value)

    def by_function(self, function: int, bound: int) -> bool:
        """Whether the function, called with `bound` as its first argument, may do it."""
        key = function, bound
        if key not in self._seen:
            self._seen[key] = False
            if len(self._seen) > MOST_FUNCTIONS or self._depth >= DEEPEST_CALL:
                self._seen[key] = self._strict
            else:
                self._depth += 1
                self._seen[key] = self._by_code(function, bound)
                self._depth -= 1
        return self._seen[key]

    def _by_code(self, function: int, bound: int) -> bool:
        address, names, closure = self._objects.function(function)
        if self._memory.type_name(function) == "code":
            address, names = function, bound
        code = self._reach.code(address) if address else None
        if code is None:
            return False
        if code.library:  # as contextlib.contextmanager's wrapper of a function
            return any(self.by_function(item, 0) for item in closure)
        scope = self._function_scope(code, names, closure, 0 if address == function else bound)
        loads = list(scope.loads(0, len(code.units)))
        balanced = not self._strict and _is_balanced(loads)
        return any(self._does(scope, load, balanced=balanced) for load in loads)

    def _function_scope(
        self, code: Code, names: int, closure: tuple[int, ...], bound: int
    ) -> Scope:
        """Its variables but for the first argument are not known, its closure is."""
        read = self._memory.process.u32
        try:
            if code.dialect.absolute:
                cells_at = read(code.address + 28)
                cells = len(self._memory.items_of(self._memory.process.u64(code.address + 88)))
                before = cells_at + cells
            else:
                count = read(code.address + (76 if code.dialect.method_shift == 0 else 72))
                cells_at, before = 0, count - len(closure)
        except ReadError:
            cells_at = before = 0
        values = [0] * max(0, min(before, 4096))
        if bound and values:
            values[0] = bound
        return Scope(self._objects, code, [*values, *closure], cells_at, names)

    def by_manager(self, manager: int, method: str) -> bool:
        """Whether a context manager's `__enter__`, or `__exit__`, may do it."""
        frame = self._reach.generator_frame(manager)
        if frame is not None:
            known = self._reach.scope(frame)
            if known is None:
                return True
            scope, current = known
            first, end = (0, current + 1) if method == "__enter__" else (current, 1 << 20)
            return any(self._does(scope, load) for load in scope.loads(first, end))
        found = self._objects.attribute(manager, method)
        if self._memory.type_name(found) != "function":
            return False
        return self.by_function(found, manager)

    def _codes_of(self, value: int) -> tuple[int, ...]:
        """The code that a call of the object runs, as far as that is told by looking."""
        if self._objects.is_class(value):
            value = self._objects.defined(value, "__init__")
        found = (value, *self._objects.wrapped(value), self._objects.unbound(value))
        return tuple(self._objects.function(item)[0] for item in found if item)
