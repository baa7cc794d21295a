"""What one way through a function's code knows: values, and locks taken and given back."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.infer.conditions import Compared
from faultkit.infer.values import ARGUMENTS, State, Value, in_frame
from faultkit.record import NamedTuple

MOST_PASSED = 32
PASSED_DEPTH = 2  # a closure that refers to a variable that has a guard
PASSED_BYTES = 16  # of an object in the frame: a guard is its lock's address and a flag, say
OBJECT_BYTES = 4096  # of an object that has a lock in it: who gets the one gets to the other


class Held(NamedTuple):
    """A lock that a path took by calling `function` at `site`.  `sure` if every way here took
    it; `released` are later releases of what may or may not be the same lock; `insisted` if an
    attempt was followed by a call that waits, as in a fast path with its slow path; `passed` is
    what functions got since then that may have given it back unseen."""

    sure: bool
    site: int
    function: str
    released: tuple[Value, ...] = ()
    insisted: bool = False
    passed: tuple[Value, ...] = ()


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
    returns: Value | None = None
    opaque: bool = False
    unknown: bool = False  # it, or what it calls, calls nobody knows what
    passed: tuple[Value, ...] = ()  # to functions that nobody can look into
    kept: tuple[tuple[Value | None, Value], ...] = ()  # (address, what was stored there)
    took: bool = False  # it took locks, so that what it gave back may well be its own
    cut: bool = False  # calls further down were not looked into: called from less far down, more is


OPAQUE = Summary(opaque=True)
CUT = Summary(opaque=True, cut=True)


class Path(State):
    """A state, and the locks that the way to it took and gave back."""

    def __init__(self, reach: int = OBJECT_BYTES, fixed_reach: int = 1) -> None:
        """How near to a lock those point who get to it, 1 if only exactly there; `fixed_reach` for
        what has a fixed address."""
        super().__init__()
        self.reach, self.fixed_reach = reach, fixed_reach
        self.given: frozenset[int] = frozenset()  # known arguments: they may point to objects
        self.held: dict[Value, Held] = {}
        self.released: tuple[Value, ...] = ()
        self.given_back: frozenset[Value] = frozenset()  # taken here, and released here
        self.passed: tuple[Value, ...] = ()  # to functions that nobody can look into
        self.kept: dict[tuple[Value | None, Value], None] = {}  # stored where others may find it
        self.tried: Value | None = None  # by the last call, whose result is to be tested
        self.tried_nonzero = False  # that result is not zero if it succeeded
        self.failed: frozenset[Value] = frozenset()  # locks that an attempt here did not get
        self.flags: Compared | None = None
        self.ended = False  # by a jump that is always taken

    def copy(self) -> Path:
        """An independent copy."""
        other = Path.__new__(Path)
        other.copy_values(self)
        other.reach, other.fixed_reach = self.reach, self.fixed_reach
        other.given = self.given
        other.held = dict(self.held)
        other.released = self.released
        other.passed = self.passed
        other.kept = dict(self.kept)
        other.tried = self.tried
        other.tried_nonzero = self.tried_nonzero
        other.failed = self.failed
        other.given_back = self.given_back
        other.flags = self.flags
        other.ended = False
        return other

    def merge(self, other: Path, address: int) -> None:
        """This path joined by `other` at `address`."""
        self.merge_values(other, address)
        merged = {}
        for lock in {**self.held, **other.held}:
            mine, theirs = self.held.get(lock), other.held.get(lock)
            either = mine or theirs
            assert either is not None
            sure = (
                mine is not None
                and theirs is not None
                and (
                    (mine.sure and theirs.sure)
                    or (mine.sure and mine.insisted)
                    or (theirs.sure and theirs.insisted)
                )
            )
            released = (mine.released if mine else ()) + (theirs.released if theirs else ())
            passed = (mine.passed if mine else ()) + (theirs.passed if theirs else ())
            merged[lock] = either._replace(
                sure=sure, released=_distinct(*released), passed=_distinct(*passed)[:MOST_PASSED]
            )
        self.held = merged
        self.released = _distinct(*self.released, *other.released)
        self.passed = _distinct(*self.passed, *other.passed)[:MOST_PASSED]
        self.kept.update(other.kept)
        self.tried = None
        self.failed |= other.failed
        self.given_back |= other.given_back
        self.flags = None

    def doubt(self) -> None:
        """Nothing that was taken is sure any more."""
        self.held = {lock: held._replace(sure=False) for lock, held in self.held.items()}

    def store(self, address: Value | None, value: Value, width: int) -> None:
        super().store(address, value, width)
        if width == 8:
            self.keep(address, value)

    def keep(self, address: Value | None, value: Value) -> None:
        """Pointers outside of the frame are there for functions that nobody can look into: a list
        of what is to be cleaned up, or a guard on the heap.  `address` is None if unknown."""
        if in_frame(value) or (address is not None and in_frame(address)):
            return
        if value.base is not None or value.offset > OBJECT_BYTES:
            self.kept[address, value] = None
        if len(self.kept) > MOST_PASSED:
            del self.kept[next(iter(self.kept))]

    def pass_kept(self) -> None:
        """A function that nobody can look into may give back the locks whose addresses are kept."""
        for _, value in self.kept:
            held = self.held.get(value)
            if held is not None:
                self.held[value] = held._replace(sure=False)

    def pass_arguments(self) -> None:
        """A function that nobody can look into gets what is in the argument registers."""
        self.pass_on([self.registers[name] for name in ARGUMENTS])

    def pass_on(self, values: Sequence[Value]) -> None:
        """A function that nobody can look into gets `values`, and may give back any lock that it
        gets to by them."""
        reached = self._reached(values)
        for lock, held in self.held.items():
            reach = self.fixed_reach if self._is_fixed(lock) else self.reach
            if any(_may_share_object(lock, value, reach) for value in reached):
                self.held[lock] = held._replace(sure=False)
            else:
                passed = _distinct(*held.passed, *reached)[:MOST_PASSED]
                self.held[lock] = held._replace(passed=passed)
        self.passed = _distinct(*self.passed, *reached)[:MOST_PASSED]

    def _is_fixed(self, lock: Value) -> bool:
        """Whether the lock has an address of its own, and is no member of what an argument that is
        known points to."""
        near = any(abs(lock.offset - start) < self.reach for start in self.given)
        return lock.base is None and not near

    def _reached(self, values: Sequence[Value]) -> tuple[Value, ...]:
        """`values`, and what the objects in the frame hold that they point to."""
        found = dict.fromkeys(value for value in values if value.base is not None or value.offset)
        level = list(found)
        for _ in range(PASSED_DEPTH):
            level = [
                value
                for place in level
                if in_frame(place)
                for where, (value, width) in self.memory.items()
                if width == 8
                and where.base == place.base
                and 0 <= where.offset - place.offset < PASSED_BYTES
                and value not in found
            ]
            found.update(dict.fromkeys(level))
        return tuple(found)

    def acquire(self, lock: Value, site: int, function: str, sure: bool = True) -> None:
        """A call took `lock`."""
        before = self.held.get(lock)
        if before is not None and before.sure:
            return
        insisted = sure and before is not None
        self.held[lock] = Held(sure, site, function, insisted=insisted)

    def released_since(self, lock: Value, others: Sequence[Value]) -> None:
        """What may or may not be `lock`, which was taken by the last call, was given back there."""
        held = self.held.get(lock)
        if held is not None and others:
            released = _distinct(*held.released, *others)[:32]
            self.held[lock] = held._replace(released=released)

    def release(self, lock: Value | None) -> None:
        """A call gave `lock` back; None if it can't be told which."""
        if lock is None:
            self.doubt()
            return
        taken = self.held.pop(lock, None)
        if taken is None:
            self.released = _distinct(*self.released, lock)
        else:
            self.given_back |= {lock}
            if taken.sure:
                return  # a pair of its own
        for other, held in self.held.items():
            if len(held.released) < 32:
                self.held[other] = held._replace(released=(*held.released, lock))


def _may_share_object(lock: Value, value: Value, reach: int) -> bool:
    """Whether the value may point to the object that the lock is a member of."""
    if lock.base != value.base or in_frame(lock):
        return lock == value
    return abs(lock.offset - value.offset) < reach


def _distinct(*values: Value) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))
