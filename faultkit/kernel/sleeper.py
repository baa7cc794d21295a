"""A sleeping task as the wait providers see it: its stack, and the functions on it."""

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Optional

from faultkit.kernel.objects import BrokenList, is_kernel_pointer, need, ring
from faultkit.kernel.system import System, UserRegisters
from faultkit.kernel.target import Kernel
from faultkit.model import Frame, Task
from faultkit.target import FaultkitError, ReadError

WINDOW = 4096  # bytes above the stack pointer that are read at once
NEAR = 1536  # bytes above the stack pointer in which the functions that sleep keep their frames


class Sleeper:
    """One task that sleeps in the kernel.

    What is cheap comes first: `words` and `functions` cost one read; `frames` unwinds, and is
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
        offset = need(self.kernel, "task_struct", "thread") + need(
            self.kernel, "thread_struct", "sp"
        )
        return self.kernel.u64((self.task.address or 0) + offset)

    @cached_property
    def stack(self) -> tuple[int, int]:
        """[start, end) of the task's kernel stack.  Raises ReadError."""
        base = self.system.stack_base(self.task)
        return base, base + self.system.thread_size

    @cached_property
    def window(self) -> bytes:
        """The stack from the stack pointer up, to its end if that is near; b"" where the pointer
        is garbage.  Raises ReadError."""
        start, end = self.stack
        if not start <= self.sp < end or self.sp & 7:
            return b""
        return self.kernel.read(self.sp, min(WINDOW, end - self.sp))

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
        a hint whom to ask, never a proof."""
        (start, end), (modules, top) = self.system.code_ranges
        function = self.system.function
        names = [
            function(word)
            for word in self.words
            if word >= start and (word < end or modules <= word < top)
        ]
        return tuple(dict.fromkeys(filter(None, names)))

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """The back trace, innermost first."""
        try:
            return self.kernel.frames(self.task)
        except FaultkitError:
            return ()

    @cached_property
    def call(self) -> Optional[UserRegisters]:
        """The system call that the task is in; None for kernel threads."""
        try:
            return self.system.user_registers(self.stack[0], self.peek)
        except FaultkitError:
            return None

    def on_stack(self, value: int) -> Iterator[int]:
        """The stack's addresses at which this word lies, nearest to the top first."""
        for index, word in enumerate(self.words):
            if word == value:
                yield self.sp + 8 * index

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


def list_head_of(sleeper: Sleeper, waiter: int, type_name: str, links: str) -> Optional[int]:
    """The head of the list that a waiter struct on the sleeper's stack is queued on: the one
    node in the ring that is no waiter on some task's stack.  None if the list is broken or has
    no such node, or several: then it is not the list that we think.

    Everything that a lock's slow path queues lives on the stack of the task that waits.
    """
    system = sleeper.system
    node = waiter + need(sleeper.kernel, type_name, links)
    known: dict[int, Optional[int]] = system.cache.setdefault("list heads", {})
    if node not in known:  # thousands may queue on one lock: the ring is walked once
        try:
            nodes = [node, *ring(sleeper.kernel, node)]
        except (BrokenList, ReadError):
            nodes = [node]
        heads = [other for other in nodes if system.stack_owner(other) is None]
        head = heads[0] if len(heads) == 1 else None
        known.update(dict.fromkeys(nodes, head))
    return known[node]
