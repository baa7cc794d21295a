"""A sleeping task as the wait providers see it: its stack, and the functions on it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property

from faultkit.kernel.objects import BrokenList, is_kernel_pointer, need, ring
from faultkit.kernel.system import System, UserRegisters, base_name
from faultkit.kernel.target import Kernel
from faultkit.model import Frame, Task
from faultkit.target import FaultkitError, ReadError

WINDOW = 4096  # bytes above the stack pointer that are read at once
NEAR = 1536  # bytes above the stack pointer in which the functions that sleep keep their frames
CALLERS = 12  # frames from the scheduler up to the function that waits, at most
# Where the return address of the switch lies above the stack pointer (arch/x86/include/asm/
# switch_to.h, struct inactive_task_frame): above the six registers that are kept.
SWITCHED = 48
# What a system call is entered by: nothing that sleeps lies outside.
ENTRIES = frozenset(("do_syscall_64", "__do_fast_syscall_32", "do_int80_syscall_32"))


class Sleeper:
    """One task that sleeps in the kernel.

    What is cheap comes first: `window` and `functions` cost one read; `frames` unwinds, and is
    for what is reported.
    """

    def __init__(self, system: System, task: Task, state: int) -> None:
        self.system = system
        self.kernel: Kernel = system.kernel
        self.task = task
        self.state = state

    @cached_property
    def sp(self) -> int:
        """The kernel stack pointer that the task was switched out with.  Raises ReadError."""
        return self.kernel.u64((self.task.address or 0) + self.system.stack_pointer_offset)

    @cached_property
    def stack(self) -> tuple[int, int]:
        """[start, end) of the task's kernel stack.  Raises ReadError."""
        base = self.system.stack_base(self.task)
        return base, base + self.system.thread_size

    @cached_property
    def window(self) -> bytes:
        """The stack from the stack pointer up, to its end if that is near; b"" where the pointer
        is garbage.  Raises ReadError."""
        return self.kernel.read(*self.place())

    def let_go(self) -> None:
        """Forget the window of a dump, which stays as it is: 4 KiB for each of thousands."""
        if not self.kernel.live:
            self.__dict__.pop("window", None)

    def place(self) -> tuple[int, int]:
        """(address, size) of the window.  Raises ReadError."""
        start, end = self.stack
        sp = self.sp
        if not start <= sp < end or sp & 7:
            return start, 0
        return sp, min(WINDOW, end - sp)

    @cached_property
    def words(self) -> tuple[int, ...]:
        """The stack from the stack pointer up, as far as sleeping functions reach: words[i] is
        at sp + 8 * i.  () where the pointer is garbage.  Raises ReadError."""
        count = min(NEAR, len(self.window)) // 8
        return struct.unpack_from(f"<{count}Q", self.window)

    def peek(self, address: int, size: int) -> bytes:
        """As Kernel.read, without asking the host again for what is in the window."""
        at = address - self.sp
        if at >= 0 and at + size <= len(self.window):
            return self.window[at : at + size]
        return self.kernel.read(address, size)

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The functions that have return addresses near the top of the stack, innermost first,
        without clone suffixes.  What lies on the stack is not always part of the call chain:
        a hint whom to ask, never a proof.  Raises ReadError."""
        system = self.system
        code = self.code
        known = system.functions
        found = known.get(code)
        if found is None:
            names = map(system.names.__getitem__, struct.unpack(f"<{len(code) // 8}Q", code))
            found = known[code] = tuple(filter(None, dict.fromkeys(names)))
        return found

    @cached_property
    def code(self) -> bytes:
        """The words near the top of the stack that may be return addresses.  Raises ReadError."""
        ranges = self.system.code_ranges
        return self.kernel.words_of_each([self.window], NEAR, *ranges)[0]

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """The back trace, innermost first."""
        return self.system.frames(self.task)

    @cached_property
    def callers(self) -> tuple[str, ...]:
        """The functions of the back trace's innermost frames, without clone suffixes: as `frames`
        has them, without unwinding whatever was unwound before."""
        walked = self._walk()
        if walked is None:
            self.learn()
            walked = [base_name(frame.symbol or "") for frame in self.frames[:CALLERS]]
        return tuple(walked)

    def _walk(self) -> list[str] | None:
        """By the calls that were met on other stacks; None where this one leaves their paths.

        A frame's size alone does not tell: that of a function which aligns its frame differs by
        its caller's.
        """
        known = self.system.calls
        names: list[str] = []
        try:
            window, at = self.window, SWITCHED
        except FaultkitError:
            return None
        while len(names) < CALLERS:
            pc = int.from_bytes(window[at : at + 8], "little")
            name, steps = known.get(pc, ("", ()))
            if name in ENTRIES:
                break
            sizes = [
                size
                for size, outer in steps
                if not size or int.from_bytes(window[at + size : at + size + 8], "little") == outer
            ]
            if len(sizes) != 1:
                return None
            names.append(name)
            if not sizes[0]:
                break  # the outermost
            at += sizes[0]
        return names

    def learn(self) -> None:
        """Unwind, and remember by whom each function is called, and how far outside that call's
        return address lies.  Where there is none, an interrupt or exception came."""
        known, frames = self.system.calls, self.frames
        for frame, outer in zip(frames, (*frames[1:], None)):
            if not self._is_called(frame) or (outer is not None and not self._is_called(outer)):
                return
            step = ((outer.sp or 0) - (frame.sp or 0), outer.address) if outer else (0, 0)
            if outer is not None and step[0] <= 0:
                return
            name = base_name(frame.symbol or "")
            steps = known.setdefault(frame.address, (name, []))[1]
            if step not in steps:
                steps.append(step)

    def _is_called(self, frame: Frame) -> bool:
        try:
            word = self.peek((frame.sp or 0) - 8, 8)
        except FaultkitError:
            return False
        return int.from_bytes(word, "little") == frame.address

    @cached_property
    def call(self) -> UserRegisters | None:
        """The system call that the task is in; None for kernel threads."""
        try:
            return self.system.user_registers(self.stack[0], self.peek)
        except FaultkitError:
            return None

    def on_stack(self, value: int) -> Iterator[int]:
        """The stack's addresses at which this word lies, nearest to the top first."""
        near, word = self.window[:NEAR], struct.pack("<Q", value)
        at = near.find(word)
        while at >= 0:
            if not at & 7:
                yield self.sp + at
            at = near.find(word, at + 1)

    def pointers(self) -> Iterator[int]:
        """The distinct kernel pointers on the stack that are neither code nor the stack itself:
        what the sleeping functions work on is among them."""
        start, end = self.stack
        code, code_end = self.system.code_ranges[0]
        for word in dict.fromkeys(self.words):
            if (
                is_kernel_pointer(word)
                and not word & 7
                and not start <= word < end
                and not code <= word < code_end
            ):
                yield word

    def waiter_structs(self, type_name: str, task_member: str = "task") -> Iterator[int]:
        """Addresses on the stack where such a waiter struct may lie: its task member is this
        task, its `list` links to kernel addresses.  Raises UnknownLayout."""
        offset = need(self.kernel, type_name, task_member)
        for at in self.on_stack(self.task.address or 0):
            yield at - offset


def read_ahead(system: System, sleepers: Sequence[Sleeper]) -> None:
    """Read the stack pointers, and then the windows and what is code in them, of many sleepers in
    one go."""
    try:
        offset = system.stack_pointer_offset
    except FaultkitError:
        return
    pointers = system.kernel.read_each(
        [((sleeper.task.address or 0) + offset, 8) for sleeper in sleepers]
    )
    for sleeper, pointer in zip(sleepers, pointers):
        if pointer is not None:
            sleeper.sp = int.from_bytes(pointer, "little")
    places = []
    for sleeper in sleepers:
        try:
            places.append((sleeper, sleeper.place()))
        except FaultkitError:
            continue
    windows = system.kernel.read_each([place for _, place in places])
    read = [sleeper for (sleeper, _), window in zip(places, windows) if window is not None]
    found = [window for window in windows if window is not None]
    codes = system.kernel.words_of_each(found, NEAR, *system.code_ranges)
    for sleeper, window, code in zip(read, found, codes):
        sleeper.window, sleeper.code = window, code


def list_head_of(sleeper: Sleeper, waiter: int, type_name: str, links: str) -> int | None:
    """The head of the list that a waiter struct on the sleeper's stack is queued on: the one
    node in the ring that is no waiter on some task's stack.  None if the list is broken or has
    no such node, or several: then it is not the list that we think.

    Everything that a lock's slow path queues lives on the stack of the task that waits.
    """
    system = sleeper.system
    node = waiter + need(sleeper.kernel, type_name, links)
    known: dict[int, int | None] = system.cache.setdefault("list heads", {})
    if node not in known:  # thousands may queue on one lock: the ring is walked once
        try:
            nodes = [node, *ring(sleeper.kernel, node)]
        except (BrokenList, ReadError):
            nodes = [node]
        heads = [other for other in nodes if system.stack_owner(other) is None]
        head = heads[0] if len(heads) == 1 else None
        known.update(dict.fromkeys(nodes, head))
    return known[node]
