"""The kernel's code as inference reads it: the running kernel's own, with alternatives, static
calls and jump labels as they were patched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from faultkit.code.encoding import Memory
from faultkit.code.thunks import is_thunk
from faultkit.code.x86 import Instruction
from faultkit.infer.code import MAX_FUNCTION, Code, Inlined
from faultkit.infer.functions import ACQUIRE, CONDITION, RELEASE, RWLOCK, Role
from faultkit.infer.path import OBJECT_BYTES
from faultkit.infer.values import MASK, Load, State
from faultkit.kernel.functions import FAMILIES, PERCPU, SPIN, kernel_role_of, names_of
from faultkit.kernel.space import KernelSpace
from faultkit.kernel.system import base_name
from faultkit.model import Frame
from faultkit.target import FaultkitError

SMALL = 512  # bytes of a function that may only wrap others
WRAPPERS = 8  # of each other
HELPERS, MOST_HELPERS = 3, 64  # one calls the other; of one task
SAME_FILE = 1 << 13  # bytes between two functions of one source file, mostly
# What others do meanwhile, and the scheduler for itself, is not what their callers do.
SLEEP_ONLY = frozenset(
    ("__schedule", "schedule", "schedule_timeout", "schedule_preempt_disabled", "__cond_resched")
    + ("preempt_schedule", "preempt_schedule_common", "preempt_schedule_irq")
    + ("schedule_hrtimeout_range", "schedule_hrtimeout_range_clock", "io_schedule")
    + ("io_schedule_timeout",)
)
# What these complete is waited for in flush_workqueue() and stop_machine() only: providers know.
_PRIVATE = frozenset(("pwq_dec_nr_in_flight", "cpu_stop_queue_work", "cpu_stop_signal_done"))
# `ret` since 5.19 (15e67227c49a, "x86: Undo return-thunk damage"), and the thunks that later
# mitigations patch in
_RETURNS = ("__x86_return_thunk", "srso_", "zen_untrain_ret", "its_return_thunk", "retbleed_")
# What calls at a function's start go to while it is traced
_TRACES = ("__fentry__", "ftrace_caller", "ftrace_regs_caller", "ftrace_stub")
_CALL, _JUMP, _SHORT_JUMP, _INDIRECT = b"\xe8", b"\xe9", b"\xeb", b"\xff"
_LEA = b"\x48\x8d", b"\x4c\x8d"
_RIP_RELATIVE = frozenset(bytes((register << 3 | 5,)) for register in range(8))  # as ModRM


class KernelCode(Code):
    """The code of a kernel and its modules, decoded once."""

    seconds = 10.0  # with the back traces that crash unwinds meanwhile: 9.0.2 takes long for one
    fixed_reach = OBJECT_BYTES  # its modules hand on what has their locks, operations and all
    throws = False
    pairs_locks = True  # most of its functions have short critical sections of their own

    def __init__(self, space: KernelSpace) -> None:
        super().__init__(space)
        self.space = space
        self.kernel = space.kernel
        self._addresses: dict[str, frozenset[int]] = {}
        self._touching: dict[tuple[int, str], bool] = {}
        self._targets: dict[int, tuple[int, ...]] = {}
        self._dispatching: dict[int, bool] = {}
        self._mentions: dict[tuple[int, int], bool] = {}
        self._data: dict[int, frozenset[int]] = {}
        self._read_count = self.kernel.offset("percpu_rw_semaphore", "read_count")

    @cached_property
    def _sought(self) -> dict[int, str]:
        """The functions that this is about, by address.  What the linker calls the place between
        two sections is another name of the first function there, and hosts know one name only:
        `__indirect_thunk_start`, `__softirqentry_text_end`."""
        families = dict.fromkeys(FAMILIES.values())
        names = ["__x86_indirect_thunk_array", *(name for of in families for name in names_of(of))]
        found = ((self.kernel.symbol(name), name) for name in names)
        return {address: name for address, name in found if address}

    def _name(self, address: int) -> str | None:
        if address in self._sought:
            return self._sought[address]
        symbol = self.space.system.symbol_at(address)
        return base_name(symbol.name) if symbol is not None and symbol.offset == 0 else None

    def is_thunk(self, address: int) -> bool:
        """Whether it is a retpoline, through which an indirect call goes."""
        name = self.name(address)
        return name is not None and is_thunk(name)

    def is_system(self, address: int) -> bool:
        """Never: the kernel has no libraries."""
        return False

    def role_of(self, name: str, family: str) -> Role | None:
        """As in the kernel's own table."""
        return kernel_role_of(name, family)

    def passes_over(self, address: int, family: str) -> bool:
        """Whether the function calls nothing that does anything to locks of the family, itself or
        through others that only wrap it; nor is one that hands its arguments on to whatever a
        pointer says, as kref_put() does."""
        if family == CONDITION and self.name(address) in _PRIVATE:
            return True
        return not self.touches(address, family) and not self._dispatches(address)

    def _callee(self, instruction: Instruction) -> tuple[int | None, str | None]:
        target = instruction.target
        if target is None:
            return None, None
        if target not in self._stubs:
            known = not self.is_thunk(target)
            self._stubs[target] = (target, self.name(target)) if known else (None, None)
        return self._stubs[target]

    def _size(self, start: int) -> int | None:
        bounds = self.space.system.function_bounds(start)
        return bounds[1] - start if bounds is not None and bounds[1] > start else None

    def start(self, frame: Frame) -> int | None:
        """Where the code of the frame's function starts."""
        return frame.function_start

    def _decode(self, start: int, reach: int) -> list[Instruction]:
        body = super()._decode(start, reach)
        if body and body[0].kind == "call" and self._is_trace(body[0]):
            body[0] = Instruction(body[0].address, body[0].size, "nop")
        return [self._as_return(instruction) for instruction in body]

    def _is_trace(self, instruction: Instruction) -> bool:
        _, name = self.callee(instruction)
        return name is None or name in _TRACES  # a trampoline made for one function has no name

    def _as_return(self, instruction: Instruction) -> Instruction:
        if instruction.kind == "jmp" and instruction.target is not None:
            _, name = self.callee(instruction)
            if name is not None and name.startswith(_RETURNS):
                return Instruction(instruction.address, instruction.size, "ret", writes=1 << 4)
        return instruction

    def inline_role(self, instruction: Instruction, state: State, family: str) -> Inlined | None:
        """What is inlined: the release of a spinlock, of a rwlock_t, and percpu_down_read()."""
        place = instruction.destination
        if not isinstance(place, Memory):
            return None
        if family == PERCPU:
            return self._per_cpu_role(instruction, place, state)
        if family not in (SPIN, RWLOCK):
            return None
        releases = (
            # queued_spin_unlock(), queued_write_unlock(): smp_store_release(&lock->locked, 0)
            instruction.kind == "mov" and instruction.width == 1 and instruction.source == 0
        ) or (
            # queued_read_unlock(): atomic_sub_return_release(_QR_BIAS, &lock->cnts)
            family == RWLOCK
            and instruction.lock
            and (instruction.kind, instruction.source) in (("sub", 0x200), ("add", -0x200))
        )
        lock = state.address(place) if releases else None
        return Inlined(Role(RELEASE), lock, "an inlined unlock") if lock is not None else None

    def _per_cpu_role(
        self, instruction: Instruction, place: Memory, state: State
    ) -> Inlined | None:
        """this_cpu_inc(*sem->read_count), this_cpu_dec() (include/linux/percpu-rwsem.h): the
        semaphore is where the per-CPU pointer was loaded from."""
        if place.segment != "gs" or place.base is None or self._read_count is None:
            return None
        pointer = state.registers.get(place.base)
        if pointer is None or not isinstance(pointer.base, Load) or pointer.offset:
            return None
        step = (instruction.kind, instruction.source)
        lock = pointer.base.address.plus(-self._read_count)
        if step == ("add", 1):
            return Inlined(Role(ACQUIRE), lock, "percpu_down_read (inlined)")
        if step in (("add", -1), ("sub", 1)):
            return Inlined(Role(RELEASE), lock, "percpu_up_read (inlined)")
        return None

    def touches(self, start: int, family: str) -> bool:
        """Whether the function calls one that does something to locks of this family, itself or
        through small ones that do.  Reads bytes, decodes nothing."""
        key = start, family
        if key not in self._touching:
            self._touching[key] = False  # while it is looked at
            self._touching[key] = self._touches(start, family)
        return self._touching[key]

    def _touches(self, start: int, family: str) -> bool:
        goals = self._goals(family)
        level = [start]
        seen = {start}
        # what large ones call may be all there is; and nearly all take a spinlock down below
        depth = WRAPPERS if self._is_small(start) and family != SPIN else 1
        sleeps = frozenset() if family == SPIN else self._sleeps
        if family == CONDITION:
            sleeps |= self._privates
        for _ in range(depth + 1):
            targets = {target for caller in level for target in self._calls(caller)} - sleeps
            if not goals.isdisjoint(targets):
                return True
            level = [target for target in targets - seen if self._is_small(target)]
            seen.update(level)
        return False

    @cached_property
    def _sleeps(self) -> frozenset[int]:
        return self._addresses_of(SLEEP_ONLY)

    @cached_property
    def _privates(self) -> frozenset[int]:
        return self._addresses_of(_PRIVATE)

    def _addresses_of(self, names: frozenset[str]) -> frozenset[int]:
        return frozenset(filter(None, map(self.kernel.symbol, names)))

    def _is_small(self, start: int) -> bool:
        size = self._size(start)
        return size is not None and size <= SMALL

    def _dispatches(self, start: int) -> bool:
        """Whether it is small, and calls (or jumps to) what a register or memory tells: `ff` with
        2 or 4 in the ModRM's middle, or a retpoline."""
        if start not in self._dispatching:
            code = self._bytes(start) if self._is_small(start) else b""
            self._dispatching[start] = any(
                code[position + 1] >> 3 & 7 in (2, 4) for position in _positions(code, 1, _INDIRECT)
            ) or (bool(code) and any(map(self.is_thunk, self._calls(start))))
        return self._dispatching[start]

    def _goals(self, family: str) -> frozenset[int]:
        if family not in self._addresses:
            found = (self.kernel.symbol(name) for name in names_of(family))
            self._addresses[family] = frozenset(address for address in found if address)
        return self._addresses[family]

    def _calls(self, start: int) -> tuple[int, ...]:
        """Where its direct calls and jumps out of it may lead; bytes that look like calls are among
        them."""
        known = self._targets.get(start)
        if known is None:
            code = self._bytes(start)
            ends = [
                *((at + 5, _signed(code, at + 1, 4)) for at in _positions(code, 4, _CALL, _JUMP)),
                *((at + 2, _signed(code, at + 1, 1)) for at in _positions(code, 1, _SHORT_JUMP)),
            ]
            known = self._targets[start] = tuple(
                dict.fromkeys(
                    target
                    for end, distance in ends
                    if not 0 < end + distance < len(code)
                    and self.space.system.is_code(target := start + end + distance)
                )
            )
        return known

    def mentions(self, start: int, address: int) -> bool:
        """Whether the function works with a static object at `address`: it has the address as a
        32-bit immediate, or computes it relative to rip."""
        key = start, address
        if key not in self._mentions:
            code = self._bytes(start)
            immediate = (address & 0xFFFFFFFF).to_bytes(4, "little")
            self._mentions[key] = immediate in code or any(
                start + position + 7 + _signed(code, position + 3, 4) == address
                for position in _positions(code, 4, *_LEA)
                if code[position + 2 : position + 3] in _RIP_RELATIVE
            )
        return self._mentions[key]

    def names_data(self, start: int) -> frozenset[int]:
        """The addresses of variables that the function has: as immediates, or in operands; those
        of per-CPU variables as what segment gs is added to."""
        if start not in self._data:
            self._data[start] = frozenset(self._find_data(start))
        return self._data[start]

    def _find_data(self, start: int) -> Iterator[int]:
        for instruction in self.function(start).body:
            # with an array's end, where the next variable is; or a place in code
            if instruction.kind == "cmp" or instruction.target is not None:
                continue
            for operand in (instruction.destination, instruction.source):
                if isinstance(operand, Memory) and operand.segment is not None:
                    if operand.base is None:
                        yield operand.displacement & MASK
                    continue
                place = operand.displacement if isinstance(operand, Memory) else operand
                if isinstance(place, int) and self._is_data(place & MASK):
                    yield place & MASK

    def _is_data(self, address: int) -> bool:
        if address < self.space.system.code_ranges[0][0]:
            return False
        return self.space.system.symbol_at(address) is not None

    def with_helpers(self, starts: frozenset[int], family: str) -> frozenset[int]:
        """The functions with those that they call in the same file, or what is as near, and those
        that they call to work with locks of the family."""
        found = set(starts)
        level = set(starts)
        for _ in range(HELPERS):
            level = {
                target
                for caller in level
                for target in self._calls(caller)
                if target not in found
                and (abs(target - caller) < SAME_FILE or self.touches(target, family))
                and target not in self._goals(family)
                and target not in self._sleeps
            }
            found |= level
            if len(found) > MOST_HELPERS:
                break
        return frozenset(found)

    def _bytes(self, start: int) -> bytes:
        size = min(self._size(start) or 0, MAX_FUNCTION)
        try:
            return self.kernel.read(start, size) if size else b""
        except FaultkitError:
            return b""


def _positions(code: bytes, room: int, *opcodes: bytes) -> Iterator[int]:
    """Where the opcodes are, or bytes that look like them, with `room` bytes behind the first."""
    for opcode in opcodes:
        place = code.find(opcode, 0, len(code) - room)
        while place >= 0:
            yield place
            place = code.find(opcode, place + 1, len(code) - room)


def _signed(code: bytes, position: int, size: int) -> int:
    return int.from_bytes(code[position : position + size], "little", signed=True)
