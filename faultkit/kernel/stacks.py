"""What lies on sleeping tasks' stacks, seen without unwinding: return addresses and pointers."""

from __future__ import annotations

import struct
from functools import lru_cache

from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError


class Stack(NamedTuple):
    """`starts` are those of the functions that have return addresses on the stack; `data` is the
    stack from its pointer `sp` up."""

    starts: frozenset[int]
    data: bytes
    sp: int = 0

    def has(self, word: int) -> bool:
        """Whether the stack has that word."""
        pattern = struct.pack("<Q", word)
        at = self.data.find(pattern)
        while at >= 0:
            if not at & 7:
                return True
            at = self.data.find(pattern, at + 1)
        return False


class Stacks:
    """The stacks of a snapshot's tasks, each read when it is first asked for."""

    def __init__(self, snapshot: KernelSnapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[Task, Stack] = {}
        # thousands of tasks sleep alike: one set for all of them, whose hash is known, too
        self._starts = lru_cache(maxsize=None)(self._find_starts)

    def of(self, task: Task) -> Stack:
        """An empty one for a task that is on a CPU, or whose stack can't be read."""
        known = self._known.get(task)
        if known is None:
            known = self._known[task] = self._read(task)
        return known

    def _read(self, task: Task) -> Stack:
        system = self._snapshot.system
        sleeper = self._snapshot.sleepers.get(task) or Sleeper(system, task, 0)
        try:
            start, end = sleeper.stack
            sp = sleeper.sp
            if not start <= sp < end or sp & 7:
                return Stack(frozenset(), b"")
            window = sleeper.window
            if len(window) < end - sp:
                window = system.kernel.read(sp, end - sp)
        except FaultkitError:
            return Stack(frozenset(), b"")
        (code,) = system.kernel.words_of_each([window], len(window), *system.code_ranges)
        return Stack(self._starts(code), window, sp)

    def _find_starts(self, code: bytes) -> frozenset[int]:
        system: System = self._snapshot.system
        starts = set()
        for word in set(struct.unpack(f"<{len(code) // 8}Q", code)):
            symbol = system.symbol_at(word)
            if symbol is not None:
                starts.add(word - symbol.offset)
        return frozenset(starts)
