"""Which values a register or a place in the frame can have at an instruction: backwards along all
ways that lead there, to constants, to what the function was given, or to what can't be told."""

from __future__ import annotations

from faultkit.code.encoding import REGISTERS, Memory
from faultkit.code.x86 import Instruction
from faultkit.infer.values import CLOBBERED
from faultkit.record import NamedTuple
from faultkit.senders.arithmetic import MASK, apply, computed
from faultkit.senders.body import Block, Body
from faultkit.senders.places import Place, Slot, slot_of, through_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MOST_STEPS = 20_000  # blocks and places looked at for one value
MOST_VALUES = 32
DEEPEST = 5  # of computations inside computations

# Called in the middle of functions, with all registers kept but those that they answer in
_KEEPING = ("__fentry__", "__get_user_", "__put_user_", "__SCT__preempt_schedule",
            "preempt_schedule_thunk", "preempt_schedule_notrace_thunk", "__sw_hweight",
            "__sanitizer_cov_trace_pc")  # fmt: skip
_ANSWERS = ("rax", "rcx", "rdx")


class Given(NamedTuple):
    """What the function was given: in a register, or in memory that a register points to."""

    place: Place


class Untold(NamedTuple):
    """Something that the code does not tell; `why` in words."""

    why: str


Value: TypeAlias = "int | Given | Untold"
Values = frozenset[Value]
_Step: TypeAlias = "Values | list[Place] | None"  # known; to be followed further up; unaffected


def place_values(body: Body, address: int, place: Place) -> Values:
    """The values of `place` right before the instruction at `address` of the body."""
    block, index = body.sites[address]
    if isinstance(place, Slot):
        place = through_frame(block, index, place)
    return _Search(body).reach(block, index, place, 0)


class _Search:
    def __init__(self, body: Body) -> None:
        self.body = body
        self._open: set[int] = set()  # computations that are being looked at
        self._steps = 0

    def reach(self, block: Block, index: int, place: Place, depth: int) -> Values:
        """The values of `place` before the instruction number `index` of the block."""
        found: set[Value] = set()
        pending = [(block, index, place)]
        seen: set[tuple[int, Place]] = set()
        while pending:
            block, index, place = pending.pop()
            self._steps += 1
            if self._steps > MOST_STEPS or len(found) > MOST_VALUES:
                return frozenset((Untold("the code is too long to be followed"),))
            self._up(block, index, place, depth, found, pending, seen)
        return frozenset(found)

    def _up(
        self,
        block: Block,
        index: int,
        place: Place,
        depth: int,
        found: set[Value],
        pending: list[tuple[Block, int, Place]],
        seen: set[tuple[int, Place]],
    ) -> None:
        while index > 0:
            index -= 1
            step = self._step(block, index, place, depth)
            if step is None:
                continue
            if isinstance(step, frozenset):
                found.update(step)
                return
            for other in step[1:]:
                pending.append((block, index, other))
            place = step[0]
        if block.start == self.body.function.start:
            found.add(_at_entry(place))
        elif not block.leads:
            found.add(Untold("nothing tells how this code is come to"))
        for lead in block.leads:
            if (lead.start, place) not in seen:
                seen.add((lead.start, place))
                pending.append((lead, len(lead.body), place))

    def _step(self, block: Block, index: int, place: Place, depth: int) -> _Step:
        instruction = block.body[index]
        if instruction.kind == "call":
            return self._over_call(instruction, place)
        if isinstance(place, Slot):
            return self._memory(block, index, instruction, place, depth)
        if not instruction.may_write(place):
            return None
        return self._register(block, index, instruction, place, depth)

    def _over_call(self, instruction: Instruction, place: Place) -> _Step:
        name = self.body.callee(instruction)
        register = place.register if isinstance(place, Slot) else place
        keeps = name is not None and name.startswith(_KEEPING)
        if keeps and (name == "__fentry__" or register not in _ANSWERS):
            return None
        if register not in CLOBBERED:
            return None
        if place == "rax":
            return _untold(f"what {name}() returns" if name else "what an indirect call returns")
        return _untold("lost over a call")

    def _register(
        self, block: Block, index: int, instruction: Instruction, place: str, depth: int
    ) -> _Step:
        kind, source = instruction.kind, instruction.source
        if instruction.destination != place and kind != "other":
            return [Slot("rsp", 0)] if kind == "leave" and place == "rbp" else _untold("computed")
        if kind == "mov" and instruction.width >= 4:
            if isinstance(source, int):
                return frozenset((source & MASK,))
            return [source] if isinstance(source, str) else _loaded(source)
        if kind == "pop":
            return [Slot("rsp", 0)]
        if kind in ("xor", "sub") and source == place:
            return frozenset((0,))
        if instruction.width < 4 and kind != "other":
            return _untold("computed")
        key = instruction.address
        if depth >= DEEPEST or key in self._open:
            return _untold("computed in a loop")
        self._open.add(key)
        try:
            return self._compute(block, index, instruction, place, depth + 1)
        finally:
            self._open.discard(key)

    def _compute(
        self, block: Block, index: int, instruction: Instruction, place: str, depth: int
    ) -> _Step:
        kind, source = instruction.kind, instruction.source
        if kind == "lea" and isinstance(source, Memory):
            return self._address(block, index, source, depth)
        if kind in ("add", "sub", "and", "xor") and isinstance(source, int):
            return self._applied(block, index, kind, place, source, depth)
        done = computed(self.body.text.read(instruction.address, instruction.size))
        if done is None or done.register != place:
            from_memory = isinstance(source, Memory) and instruction.destination == place
            if from_memory and kind in ("other", "movsxd", "imul"):
                return _untold("computed from memory")
            return self._with_carry(block, index, instruction, place, depth)
        if done.operation == "either":
            return [place, done.source or place]
        if done.operation == "bit":
            return frozenset((0, 1))
        if done.operation == "borrow":
            return frozenset((0, MASK))
        return self._applied(block, index, done.operation, done.source or place, done.number, depth)

    def _with_carry(
        self, block: Block, index: int, instruction: Instruction, place: str, depth: int
    ) -> Values:
        """or, adc and sbb with an immediate, which x86.py counts among the others."""
        code = self.body.text.read(instruction.address, instruction.size).lstrip(b"\x41\x48\x49")
        number = instruction.source
        if instruction.destination != place or code[:1] not in (b"\x83", b"\x81"):
            return _untold("computed")
        operation = {0b11001: "or", 0b11010: "add", 0b11011: "sub"}.get(code[1] >> 3)
        if operation is None or not isinstance(number, int):
            return _untold("computed")
        found = self._applied(block, index, operation, place, number, depth)
        if operation == "or":
            return found
        return found | self._applied(block, index, operation, place, number + 1, depth)

    def _applied(
        self, block: Block, index: int, operation: str, place: str, number: int, depth: int
    ) -> Values:
        values = self.reach(block, index, place, depth)
        return frozenset(
            apply(operation, value, number) if isinstance(value, int) else Untold("computed")
            for value in values
        )

    def _address(self, block: Block, index: int, source: Memory, depth: int) -> Values:
        """lea as arithmetic: base + scaled * scale + displacement."""
        totals: set[int] = {source.displacement}
        for register, scale in ((source.base, 1), (source.scaled, source.scale)):
            if register is None:
                continue
            if register not in REGISTERS:
                return _untold("computed")
            values = self.reach(block, index, register, depth)
            numbers = [value for value in values if isinstance(value, int)]
            if len(numbers) != len(values) or len(numbers) * len(totals) > MOST_VALUES:
                return _untold("computed")
            totals = {total + number * scale for total in totals for number in numbers}
        return frozenset(total & MASK for total in totals)

    def _memory(
        self, block: Block, index: int, instruction: Instruction, place: Slot, depth: int
    ) -> _Step:
        kind, destination, source = instruction.kind, instruction.destination, instruction.source
        if place.register == "rsp":
            if kind == "push":
                return _pushed(source, place)
            if kind == "pop":
                return [Slot("rsp", place.offset + 8)]
        if isinstance(destination, Memory) and kind not in ("cmp", "test", "nop", "jmp"):
            return self._store(block, index, instruction, destination, place, depth)
        if not instruction.may_write(place.register):
            return None
        if destination != place.register:
            return _untold("a pointer that is computed")
        if kind == "mov" and isinstance(source, str) and instruction.width == 8:
            return [Slot(source, place.offset)]
        slot = slot_of(source) if kind == "lea" else None
        if slot is not None:
            return [Slot(slot.register, place.offset + slot.offset)]
        if kind in ("add", "sub") and isinstance(source, int) and instruction.width == 8:
            change = source if kind == "add" else -source
            return [Slot(place.register, place.offset + change)]
        return _untold("read through a pointer that was itself read from memory")

    def _store(
        self,
        block: Block,
        index: int,
        instruction: Instruction,
        destination: Memory,
        place: Slot,
        depth: int,
    ) -> _Step:
        if destination.base != place.register or destination.segment is not None:
            return None
        if destination.scaled is not None:
            return None  # an array beside it
        into = place.offset - destination.displacement
        if into >= instruction.width or into + 4 <= 0:
            return None
        source = instruction.source
        if instruction.kind != "mov" or into < 0 or into + 4 > instruction.width:
            return _untold("put together in memory")
        if isinstance(source, int):
            return frozenset((source >> 8 * into & MASK,))
        if isinstance(source, str):
            if into == 0:
                return [source]
            return self._upper_half(block, index, source)
        return _untold("put together in memory")

    def _upper_half(self, block: Block, index: int, register: str) -> Values:
        """Bits 32 to 63 of a register that got a 64-bit constant right here."""
        for before in reversed(block.body[:index]):
            if before.may_write(register) or before.kind == "call":
                if before.kind == "mov" and isinstance(before.source, int):
                    wide = before.source & ((1 << 64) - 1) if before.width == 8 else 0
                    return frozenset((wide >> 32,))
                if before.kind == "xor" and before.source == before.destination:
                    return frozenset((0,))
                break
        return _untold("put together in memory")


def _pushed(source: object, place: Slot) -> _Step:
    if place.offset >= 8:
        return [Slot("rsp", place.offset - 8)]
    if place.offset == 0 and isinstance(source, str):
        return [source]
    if place.offset == 0 and isinstance(source, int):
        return frozenset((source & MASK,))
    return _untold("put together in memory")


def _loaded(source: object) -> _Step:
    slot = slot_of(source)
    if slot is not None:
        return [slot]
    if isinstance(source, Memory) and source.base is source.scaled is source.segment is None:
        return _untold("read from a variable of the kernel")
    return _untold("read from memory")


def _at_entry(place: Place) -> Value:
    if isinstance(place, Slot) and place.register == "rsp":
        return Untold("an argument on the stack" if place.offset > 0 else "never set")
    return Given(place)


def _untold(why: str) -> Values:
    return frozenset((Untold(why),))
