"""What a function has done to locks by the time it reaches a point, or when it returns.

Code is followed once, in address order: paths meet where jumps lead to, a way back of a loop is
not taken (what the loop changes is unknown from its start on).  That is an approximation, good
enough for an inference with evidence; it is never called proof.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from faultkit.code.x86 import REGISTERS, Instruction, Memory
from faultkit.infer.code import MAX_DEPTH, Code, Function
from faultkit.infer.functions import (
    ACQUIRE,
    EVENT,
    FILE,
    RELEASE,
    RUST,
    SEMAPHORE,
    TRY,
    WAIT,
    Role,
    plain_name,
    role_of,
)
from faultkit.infer.values import (
    CLOBBERED,
    State,
    Unknown,
    Value,
    in_frame,
    substitute,
    unknown,
)

LOCK_UN = 8  # include/uapi/asm-generic/fcntl.h
F_SETLKS = frozenset((6, 7, 37, 38))  # F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW


class Held(NamedTuple):
    """A lock that a path took by calling `function` at `site`.  `sure` if every way here took
    it; `released` are later releases of what may or may not be the same lock."""

    sure: bool
    site: int
    function: str
    released: tuple[Value, ...] = ()


class Event(NamedTuple):
    """A call that ends somebody's wait: a post, a signal, an arrival."""

    site: int
    lock: Value
    function: str


class Summary(NamedTuple):
    """What calling a function amounts to, in terms of its arguments."""

    held: tuple[tuple[Value, Held], ...] = ()
    released: tuple[Value, ...] = ()
    events: tuple[Event, ...] = ()
    stores: tuple[tuple[Value, Value, int], ...] = ()
    returns: Optional[Value] = None
    opaque: bool = False


OPAQUE = Summary(opaque=True)


class Path(State):
    """A state, and the locks that the way to it took and gave back."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Value, Held] = {}
        self.released: tuple[Value, ...] = ()
        self.tried: Optional[Value] = None  # by the last call, whose result is to be tested

    def copy(self) -> "Path":
        """An independent copy."""
        other = Path()
        other.copy_values(self)
        other.held = dict(self.held)
        other.released = self.released
        other.tried = self.tried
        return other

    def merge(self, other: "Path", address: int) -> None:
        """This path joined by `other` at `address`."""
        self.merge_values(other, address)
        merged = {}
        for lock in {**self.held, **other.held}:
            mine, theirs = self.held.get(lock), other.held.get(lock)
            either = mine or theirs
            assert either is not None
            sure = mine is not None and theirs is not None and mine.sure and theirs.sure
            released = (mine.released if mine else ()) + (theirs.released if theirs else ())
            merged[lock] = either._replace(sure=sure, released=tuple(dict.fromkeys(released)))
        self.held = merged
        self.released = tuple(dict.fromkeys(self.released + other.released))
        self.tried = None

    def doubt(self) -> None:
        """Nothing that was taken is sure any more."""
        self.held = {lock: held._replace(sure=False) for lock, held in self.held.items()}

    def acquire(self, lock: Value, site: int, function: str, sure: bool = True) -> None:
        """A call took `lock`."""
        before = self.held.get(lock)
        if before is not None and before.sure:
            return
        self.held[lock] = Held(sure, site, function)

    def release(self, lock: Optional[Value]) -> None:
        """A call gave `lock` back; None if it can't be told which."""
        if lock is None:
            self.doubt()
            return
        if self.held.pop(lock, None) is None:
            self.released = tuple(dict.fromkeys((*self.released, lock)))
        for other, held in self.held.items():
            if len(held.released) < 32:
                self.held[other] = held._replace(released=(*held.released, lock))


@dataclass
class Walk:
    """What following one function gave."""

    at_stop: Optional[Path] = None
    live: Optional[Instruction] = None  # the call or system call that it is stopped in
    at_return: Optional[Path] = None
    events: list[Event] = field(default_factory=list)
    atomics: list[Value] = field(default_factory=list)
    loops: list[tuple[int, int]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # of the functions called
    opaque: list[int] = field(default_factory=list)  # sites of calls to nobody knows what


class Tracer:
    """Follows functions of one process, with eyes for one family of locks.

    `waiting` are the starts of the functions in which the waiter sleeps: where library functions
    have no names, one that changes its argument atomically and can get there takes a lock.
    """

    def __init__(
        self, code: Code, family: str, waiting: frozenset[int] = frozenset(), named: bool = True
    ) -> None:
        self.code = code
        self.family = family
        self.waiting = waiting
        self.named = named
        self._summaries: dict[int, Summary] = {}
        self._primitives: dict[int, Optional[Role]] = {}

    def walk(self, function: Function, stop: Optional[int] = None, depth: int = 0) -> Walk:
        """Follow `function`; `stop` is a pc in it, or the return address of the live call."""
        walk = Walk()
        heads = _loops(function, walk)
        arriving: dict[int, Path] = {}
        current: Optional[Path] = Path()
        last = Path()
        for instruction in function.body:
            joining = arriving.pop(instruction.address, None)
            if current is None:
                current = joining or last.copy()
            elif joining is not None:
                current.merge(joining, instruction.address)
            if instruction.address in heads:
                _forget(current, heads[instruction.address], instruction.address)
            live = instruction.end == stop and instruction.kind in ("call", "syscall")
            if live or (instruction.address == stop and walk.at_stop is None):
                walk.at_stop = current.copy()
                walk.live = instruction if live else None
            last = current
            current = self._step(function, instruction, current, arriving, walk, depth)
        return walk

    def _step(
        self,
        function: Function,
        instruction: Instruction,
        path: Path,
        arriving: dict[int, Path],
        walk: Walk,
        depth: int,
    ) -> Optional[Path]:
        """Execute one instruction; None if the next one is not reached from here."""
        kind = instruction.kind
        inside = function.contains(instruction.target)
        if kind == "call":
            self._call(instruction, path, walk, depth)
            return path
        if kind == "jcc":
            taken = path.copy()
            self._branch(instruction, path, taken)
            if inside:
                _arrive(arriving, instruction.target, taken)
            return path
        if kind == "jmp":
            if inside:
                _arrive(arriving, instruction.target, path)
            elif instruction.target is not None or self.code.callee(instruction)[1]:
                self._call(instruction, path, walk, depth)  # a tail call
                _return(walk, path)
            return None
        if kind in ("ret", "trap"):
            if kind == "ret":
                _return(walk, path.copy())
            path.doubt()
            return None
        if instruction.lock or kind == "xchg":
            self._atomic(instruction, path, walk)
        path.step(instruction)
        return path

    def _branch(self, instruction: Instruction, falling: Path, taken: Path) -> None:
        """The branch after an attempt tells which way succeeded: zero (je) is success."""
        lock = falling.tried
        falling.tried = taken.tried = None
        if lock is None or lock not in falling.held:
            return
        code = self.code.process.read(instruction.address, min(instruction.size, 2))
        condition = code[1] & 15 if code[0] == 0x0F else code[0] & 15
        if condition not in (4, 5):
            return
        success, failure = (taken, falling) if condition == 4 else (falling, taken)
        success.held[lock] = success.held[lock]._replace(sure=True)
        del failure.held[lock]

    def _atomic(self, instruction: Instruction, path: Path, walk: Walk) -> None:
        """Rust's locks are taken and given back inline; library functions do the same inside."""
        if not isinstance(instruction.destination, Memory):
            return
        lock = path.address(instruction.destination)
        if lock is None or in_frame(lock):
            return
        walk.atomics.append(lock)
        if self.family != RUST:
            return
        if instruction.kind == "cmpxchg":
            if lock not in path.held:
                path.acquire(lock, instruction.address, "lock cmpxchg", sure=False)
                path.tried = lock
        else:
            path.release(lock)

    def _call(self, instruction: Instruction, path: Path, walk: Walk, depth: int) -> None:
        target, name = self.code.callee(instruction)
        if name is not None and len(walk.names) < 256:
            walk.names.add(name)
        path.tried = None
        role = role_of(name, self.family) if name else None
        if role is None and target is not None and name is None and not self.named:
            role = self._primitive(target, depth)
        site = instruction.address
        if role is not None and self.family == FILE:
            role = _file_role(role, name or "", path)
        if role is not None:
            lock = path.registers[role.argument]
            label = name or f"the function at {target:#x}"
            self._apply(role, lock, site, label, path, walk)
            path.call(instruction)
            return
        summary = self._summary(target, name, depth)
        if summary.opaque:
            walk.opaque.append(site)
        held, stores, returns = [], [], None
        for value, detail in summary.held:
            there = substitute(value, path)
            if there is not None:
                held.append((there, detail))
        for address, value, width in summary.stores:
            where, what = substitute(address, path), substitute(value, path)
            if where is not None:
                stores.append((where, what or unknown(site, "memory"), width))
        if summary.returns is not None:
            returns = substitute(summary.returns, path)
        label = name or (f"the function at {target:#x}" if target else "a function")
        for value in summary.released:
            path.release(substitute(value, path))
        for event in summary.events:
            there = substitute(event.lock, path)
            if there is not None:
                walk.events.append(Event(site, there, f"{event.function} (in {label})"))
        path.call(instruction)
        for where, what, width in stores:
            path.store(where, what, width)
        if returns is not None:
            path.registers["rax"] = returns
        for there, detail in held:
            path.acquire(there, site, f"{detail.function} (in {label})", detail.sure)

    def _apply(
        self, role: Role, lock: Value, site: int, label: str, path: Path, walk: Walk
    ) -> None:
        if role.what == ACQUIRE:
            path.acquire(lock, site, label)
        elif role.what == TRY:
            path.acquire(lock, site, label, sure=False)
            path.tried = lock
        elif role.what == RELEASE:
            path.release(lock)
            if self.family == SEMAPHORE:
                walk.events.append(Event(site, lock, label))
        elif role.what == EVENT:
            walk.events.append(Event(site, lock, label))
        elif role.what == WAIT:
            pass  # given back and taken again

    def _primitive(self, target: int, depth: int) -> Optional[Role]:
        """What a nameless library function does to the lock in its first argument."""
        if depth >= MAX_DEPTH or self.code.exhausted:
            return None
        if target not in self._primitives:
            self._primitives[target] = None  # while it is looked at: it may call itself
            probe = Tracer(self.code, self.family, named=True)
            walk = probe.walk(self.code.function(target), depth=MAX_DEPTH)
            first = Unknown("entry", "rdi")
            if any(lock.base == first and 0 <= lock.offset < 64 for lock in walk.atomics):
                takes = self.code.reaches(target, self.waiting)
                self._primitives[target] = Role(ACQUIRE if takes else RELEASE)
        return self._primitives[target]

    def _summary(self, target: Optional[int], name: Optional[str], depth: int) -> Summary:
        if target is None or depth >= MAX_DEPTH or self.code.exhausted:
            return OPAQUE
        if self.code.is_system(target) and (name is not None or self.named):
            return Summary()
        if target not in self._summaries:
            self._summaries[target] = OPAQUE  # while it is looked at: it may call itself
            walk = self.walk(self.code.function(target), depth=depth + 1)
            self._summaries[target] = _summarise(walk)
        return self._summaries[target]


def _file_role(role: Role, name: str, path: Path) -> Optional[Role]:
    """flock's and fcntl's second argument says what they do.  A second fcntl for a descriptor
    that is locked already is taken to unlock it: its struct flock can't be read any more."""
    name = plain_name(name)
    operation = path.registers["rsi"]
    if operation.base is not None or name == "close":
        return role if name in ("flock", "close") else None
    if name == "flock":
        return Role(RELEASE if operation.offset & LOCK_UN else ACQUIRE)
    if name.startswith("lockf"):
        return Role(RELEASE if operation.offset == 0 else ACQUIRE)
    if operation.offset not in F_SETLKS:
        return None
    return Role(RELEASE if path.registers["rdi"] in path.held else ACQUIRE)


def _summarise(walk: Walk) -> Summary:
    path = walk.at_return
    events = tuple(walk.events[:16])
    if path is None:
        return Summary(events=events)
    stores = tuple(
        (address, value, width)
        for address, (value, width) in path.memory.items()
        if not in_frame(address)
    )
    return Summary(
        tuple(path.held.items()), path.released, events, stores[:16], path.registers["rax"]
    )


def _arrive(arriving: dict[int, Path], target: Optional[int], path: Path) -> None:
    if target is None:
        return
    waiting = arriving.get(target)
    if waiting is None:
        arriving[target] = path.copy()
    else:
        waiting.merge(path, target)


def _return(walk: Walk, path: Path) -> None:
    if walk.at_return is None:
        walk.at_return = path.copy()
    else:
        walk.at_return.merge(path, -1)


class _Changes(NamedTuple):
    """What a loop may change: registers as in Instruction.writes, and stores."""

    writes: int
    stores: tuple[Memory, ...]


def _loops(function: Function, walk: Walk) -> dict[int, _Changes]:
    """What the loops that start at an address may change; fills `walk.loops`."""
    changes: dict[int, _Changes] = {}
    scratch = sum(1 << REGISTERS.index(name) for name in CLOBBERED)
    for index, instruction in enumerate(function.body):
        head = instruction.target
        if instruction.kind not in ("jcc", "jmp") or head is None:
            continue
        if not function.start <= head <= instruction.address:
            continue
        walk.loops.append((head, instruction.end))
        if len(walk.loops) > 64:
            continue
        writes, stores = 0, []
        for inner in _backwards(function.body, index, head):
            writes |= scratch if inner.kind == "call" else inner.writes
            if isinstance(inner.destination, Memory) and inner.destination.base in ("rsp", "rbp"):
                stores.append(inner.destination)
        before = changes.get(head, _Changes(0, ()))
        changes[head] = _Changes(before.writes | writes, (*before.stores, *stores))
    return changes


def _backwards(body: list[Instruction], index: int, head: int) -> Iterable[Instruction]:
    while index >= 0 and body[index].address >= head:
        yield body[index]
        index -= 1


def _forget(path: Path, changes: _Changes, address: int) -> None:
    """At a loop's start: what it changes is not known, it may have gone round before."""
    for memory in changes.stores:
        where = path.address(memory)
        if where is not None:
            path.store(where, unknown(address, "memory"), 8)
            path.memory.pop(where, None)
    for index, name in enumerate(REGISTERS):
        if changes.writes >> index & 1 and name != "rsp":
            path.registers[name] = unknown(("loop", address), name)
