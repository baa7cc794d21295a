"""What code gets at by pointers: from the variables that it names, and from what it was given.

A task that will complete what it finds then has no pointer to that while it sleeps: it looks it
up, in an array, a hash table, a tree, an xarray.  Whether it can find an object there is told by
following pointers as they are, a few objects far, whatever they are for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from faultkit.kernel.code import KernelCode
from faultkit.kernel.linked import links_of_deferred
from faultkit.kernel.objects import is_kernel_pointer
from faultkit.kernel.system import System
from faultkit.target import FaultkitError

IMAGE = 0xFFFF_FFFF_8000_0000  # where the kernel and its modules lie, and their variables
# Objects on the way from a variable: one that it points to, and two levels of an xarray's nodes.
FROM_VARIABLES, FROM_OBJECTS = 3, 2
BEFORE, BEHIND = 256, 768  # bytes around where a pointer leads that are looked through
MOST_VARIABLES = 64
MOST_BYTES = 4096  # of one variable
MOST_OBJECTS = 256  # that are looked through
MOST_WAYS = 4  # to one place that are remembered
TAGS = 7  # low bits of a pointer that mean something else: a colour, a node of an xarray

SameObject = Callable[[int, int], bool]


class Reached:
    """Pointers that were found, and on which ways.  Who looks around a pointer sees its neighbours
    in the slab, too: whether a way keeps to objects is asked only of those that matter."""

    def __init__(self, first: Iterable[int]) -> None:
        self.level = {word & ~TAGS for word in first if is_kernel_pointer(word)}
        self._ways: dict[int, list[tuple[int, int]]] = {word: [] for word in self.level}

    def add(self, place: int, found: Iterable[tuple[int, int]]) -> set[int]:
        """Add what was found around `place`: (where, what); the new ones."""
        fresh = set()
        for at, word in found:
            word &= ~TAGS
            ways = self._ways.get(word)
            if ways is None:
                fresh.add(word)
                self._ways[word] = [(place, at)]
            elif 0 < len(ways) < MOST_WAYS:
                ways.append((place, at))
        return fresh

    def leads_to(self, is_goal: Callable[[int], bool], share: SameObject) -> bool:
        """Whether any of the pointers is a goal's, and on its way there is nothing but objects."""
        return any(
            self._keeps_to_objects(word, share, FROM_VARIABLES)
            for word in self._ways
            if is_goal(word)
        )

    def _keeps_to_objects(self, word: int, share: SameObject, depth: int) -> bool:
        ways = self._ways[word]
        return not ways or any(
            depth > 0 and share(place, at) and self._keeps_to_objects(place, share, depth - 1)
            for place, at in ways
        )


class Reach:
    """Looks through one kernel; what is found from one place on is found once."""

    def __init__(self, system: System, code: KernelCode) -> None:
        self._system = system
        self._code = code
        self._from_code: dict[tuple[frozenset[int], str], Reached] = {}

    def by_code(self, starts: frozenset[int], family: str) -> Reached:
        """What functions, by their starts, get at from variables which they name: they, what they
        call nearby, and what they call to work with locks of the family."""
        key = starts, family
        if key not in self._from_code:
            found: set[int] = set()
            for variable in self._variables(starts, family):
                found.update(self._words_of(variable))
            self._from_code[key] = self._follow(found, FROM_VARIABLES)
        return self._from_code[key]

    def by_objects(self, pointers: Iterable[int]) -> Reached:
        """What one gets at from these pointers."""
        return self._follow(pointers, FROM_OBJECTS)

    def _variables(self, starts: frozenset[int], family: str) -> set[int]:
        found: set[int] = set()
        for start in self._code.with_helpers(starts, family):
            found.update(self._code.names_data(start))
            if len(found) >= MOST_VARIABLES:
                break
        return found

    def _words_of(self, place: int) -> Iterator[int]:
        """The pointers in the variable that `place` is in; in each CPU's, if it is a per-CPU
        variable, which code names by what segment gs is added to."""
        system, kernel = self._system, self._system.kernel
        symbol = system.symbol_at(place) if place >= IMAGE else None
        if symbol is None:
            for cpu in system.running:
                try:
                    yield kernel.u64(kernel.per_cpu(place, cpu))
                except FaultkitError:
                    continue
            return
        start = place - symbol.offset
        for at, word in _pointers(system, start, MOST_BYTES):
            other = system.symbol_at(at)
            if other is None or at - other.offset != start:
                return
            yield word

    def _follow(self, first: Iterable[int], depth: int) -> Reached:
        """These pointers and those in what they lead to, so many objects far."""
        reached = Reached(first)
        level = reached.level
        looked = 0
        for _ in range(depth):
            following: set[int] = set()
            for place in level:
                if looked >= MOST_OBJECTS:
                    return reached
                if not self._is_elsewhere(place):
                    looked += 1
                    around = _pointers(self._system, place - BEFORE, BEFORE + BEHIND)
                    following |= reached.add(place, around)
            level = following
        return reached

    def _is_elsewhere(self, place: int) -> bool:
        """Whether nothing is to be followed from there: the image, tasks and their stacks."""
        system = self._system
        return (
            place >= IMAGE or place in system.by_address or system.stack_owner(place) is not None
        )


def _pointers(system: System, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Where there are kernel pointers in memory, and which ones; as far as that can be read.
    Without those that only say which timers and work items others have."""
    start &= ~7
    end = start + size
    while start < end:
        length = min(end, (start | 0xFFF) + 1) - start
        try:
            data = system.kernel.read(start, length)
        except FaultkitError:
            data = b""
        words = struct.unpack(f"<{len(data) // 8}Q", data)
        skipped = 0
        for number, word in enumerate(words):
            if skipped:
                skipped -= 1
            elif is_kernel_pointer(word):
                at = start + 8 * number
                skipped = links_of_deferred(system, at, words[number : number + 6])
                if skipped:
                    skipped -= 1
                else:
                    yield at, word
        start += length
