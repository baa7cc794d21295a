"""The words on threads' stacks: where code that records no owner still leaves its traces."""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress

from faultkit.model import Task
from faultkit.target import FaultkitError, Mapping, Process, ReadError
from faultkit.world import Blocked

MAX_STACK = 1 << 20  # how far up from a thread's stack pointer we look, in bytes
PAGE = 1 << 12


def stack_pointer(process: Process, task: Task) -> int:
    """The task's user-space stack pointer, 0 where it can't be told."""
    call = process.syscall(task)
    if call is not None and call.sp:
        return call.sp
    return process.registers(task).get("rsp", 0)


def live_stack(process: Process, sp: int, limit: int = MAX_STACK) -> bytes:
    """The stack from `sp` up to the end of its mapping, at most `limit` bytes; what comes
    before an unreadable page where there is one."""
    mapping = process.mapping(sp)
    if not sp or sp & 7 or mapping is None:
        return b""
    size = min(mapping.end - sp, limit) & ~7
    try:
        return process.read(sp, size)
    except ReadError:
        pass
    chunks = []
    while size > 0:
        step = min(size, PAGE - sp % PAGE)
        try:
            chunks.append(process.read(sp, step))
        except ReadError:
            break
        sp, size = sp + step, size - step
    return b"".join(chunks)


def words(data: bytes) -> tuple[int, ...]:
    """`data` as unsigned 64-bit words."""
    return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & ~7])


def find_word(data: bytes, value: int) -> Iterator[int]:
    """The offsets, multiples of 8, at which the 64-bit word `value` stands in `data`."""
    pattern = value.to_bytes(8, "little")
    at = data.find(pattern)
    while at >= 0:
        if at % 8 == 0:
            yield at
        at = data.find(pattern, at + 1)


def threads_with_word(blocked: Blocked, value: int) -> Iterator[tuple[Task, bytes, int]]:
    """For each place on the live stacks of the process's threads, the waiter's too, that holds
    `value`: the thread, its stack's bytes and the offset in them."""
    process = blocked.process
    pointers: dict[Task, int] = {}
    for task in process.tasks():
        with suppress(FaultkitError):
            pointers[task] = stack_pointer(process, task)
    ordered = sorted(pointers.values())
    for task, sp in pointers.items():
        try:
            stack = live_stack(process, sp)
        except FaultkitError:
            continue
        following = ordered[bisect_right(ordered, sp) :][:1]
        if following and following[0] < sp + len(stack):
            stack = _up_to_its_end(stack[: following[0] - sp], sp)
        for at in find_word(stack, value):
            yield task, stack, at


def _up_to_its_end(stack: bytes, sp: int) -> bytes:
    """Without what lies behind in the same mapping: other threads' stacks, where no guard page
    parts them, or where it is but marked (glibc 2.42, allocatestack.c: MADV_GUARD_INSTALL), which
    a core does not show.

    On top of a thread's stack is its struct pthread, which begins with tcbhead_t: a pointer to
    itself, one to the dtv, and itself again (glibc sysdeps/x86_64/nptl/tls.h)."""
    found = words(stack)
    for index, (first, third) in enumerate(zip(found, found[2:])):
        if first == third == sp + 8 * index:
            return stack[: 8 * index]
    return stack


def is_code(process: Process, address: int) -> bool:
    """Whether `address` is in an executable mapping (True where permissions are unknown and the
    mapping is a file's)."""
    mapping = process.mapping(address)
    return mapping is not None and _executable(mapping)


def _executable(mapping: Mapping) -> bool:
    return mapping.perms[2:3] == "x" if mapping.perms else bool(mapping.path)


def call_before(process: Process, address: int, size: int = 64) -> bytes:
    """The `size` bytes of code that end at `address` if that is a return address, b"" if no
    call instruction (E8 rel32, FF /2) ends there."""
    if not is_code(process, address):
        return b""
    try:
        code = process.read(address - size, size)
    except ReadError:
        return b""
    if code[-5:-4] == b"\xe8":
        return code
    for length in (2, 3, 6, 7):  # FF /2 with a register, with disp8, with disp32 (and a prefix)
        at = len(code) - length
        if code[at] in (0x40, 0x41, 0x42, 0x43):
            at += 1
        if code[at] == 0xFF and at + 1 < len(code) and code[at + 1] >> 3 & 7 == 2:
            return code
    return b""


def callers(blocked: Blocked, depth: int = 48) -> Iterator[tuple[int, bytes]]:
    """Each return address among the `depth` innermost words of the waiter's stack, with the
    code before it: first the call of the library's system call wrapper.  What follows may be a
    leftover of an earlier call: see `calls_into`."""
    for word in words(live_stack(blocked.process, blocked.call.sp, 8 * depth)):
        code = call_before(blocked.process, word)
        if code:
            yield word, code


def calls_into(caller: int, code: bytes, callee: int, size: int = 512) -> bool:
    """Whether the direct call that returns to `caller` goes to a function that starts at most
    `size` bytes before `callee`, the return address in the next inner frame."""
    if code[-5:-4] != b"\xe8":
        return False
    target = caller + int.from_bytes(code[-4:], "little", signed=True)
    return 0 < callee - target <= size
