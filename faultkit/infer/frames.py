"""The live frames of one task: what their code has done so far, in real addresses.

Unknown values of a frame's code become numbers where the stopped task still keeps them: in a
callee-saved register, in a stack slot, or in an argument that the caller's code tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from faultkit.code.x86 import Instruction
from faultkit.infer.code import Code
from faultkit.infer.flow import Tracer
from faultkit.infer.path import PASSED_BYTES, PASSED_DEPTH, Event, Held, Path
from faultkit.infer.values import (
    ARGUMENTS,
    CFA,
    MASK,
    MAX_NESTING,
    PRESERVED,
    Load,
    Sum,
    Unknown,
    Value,
    in_frame,
)
from faultkit.infer.walk import Walk
from faultkit.model import Frame
from faultkit.record import NamedTuple
from faultkit.target import Process, ReadError

MAX_FRAMES = 32


class LiveFrame:
    """One frame with its code followed up to where it stands."""

    def __init__(
        self,
        process: Process,
        frame: Frame,
        walk: Walk,
        at: Path,
        caller: Frame | None,
        arguments: dict[str, int],
    ) -> None:
        self.process = process
        self.frame = frame
        self.walk = walk
        self.at = at
        self.caller = caller
        self.arguments = dict(arguments)
        self.entry = arguments
        self._resolving: set[Unknown] = set()
        if caller is not None and caller.registers:
            for name in PRESERVED:
                if name != "rsp" and name in caller.registers:
                    self.entry.setdefault(name, caller.registers[name])
        self.cfa = self._frame_address(caller)
        self.known: dict[Unknown, int] = {}
        registers = dict(frame.registers or {})
        if frame.sp is not None:
            registers["rsp"] = frame.sp
        for name, (base, offset, _) in at.registers.items():
            if name in registers and isinstance(base, (Unknown, Load, Sum)):
                self.known[base] = (registers[name] - offset) & MASK  # type: ignore[index]

    def _frame_address(self, caller: Frame | None) -> int | None:
        """The canonical frame address: the caller's stack pointer after the return."""
        if caller is not None and caller.sp is not None:
            return caller.sp
        base, offset, _ = self.at.registers["rsp"]
        if base == CFA and self.frame.sp is not None:
            return self.frame.sp - offset
        return None

    def resolve(self, value: Value | None, depth: int = 0) -> int | None:
        """The number that `value` stands for in this frame, None if it can't be told."""
        if value is None or depth > MAX_NESTING:
            return None
        base = self._base(value, depth)
        return None if base is None else (base + value.offset) & MASK

    def _base(self, value: Value, depth: int) -> int | None:
        base = value.base
        if base is None:
            return 0
        if base == CFA:
            return self.cfa
        kept = self.known.get(base)  # type: ignore[call-overload]
        if kept is not None:
            return int(kept)
        if isinstance(base, Unknown) and base.where == "entry" and base.register in self.entry:
            return self.entry[base.register]
        slot = self._slot(base, depth)
        if slot is not None:
            return slot
        if isinstance(base, Sum):
            left = self.resolve(base.left, depth + 1)
            right = self.resolve(base.right, depth + 1)
            return None if left is None or right is None else left + right * base.scale
        if isinstance(base, Load):
            address = self.resolve(base.address, depth + 1)
            return None if address is None else self._read(address, base.width)
        return None

    def _slot(self, base: object, depth: int) -> int | None:
        """The unknown's number from a stack slot that it was saved in."""
        for address, (value, width) in self.at.memory.items():
            if value.base == base and in_frame(address) and address.base == CFA:
                where = self.resolve(address, depth + 1)
                number = None if where is None else self._read(where, width)
                if number is not None:
                    return number - value.offset
        return None

    def _read(self, address: int, width: int) -> int | None:
        try:
            return int.from_bytes(self.process.read(address, width), "little")
        except ReadError:
            return None

    def argument(self, register: str) -> int | None:
        """What the live call was given in `register`."""
        if self.walk.live is None or self.walk.live.kind != "call":
            return None
        return self.resolve(self.at.registers[register])

    def held(self) -> Iterator[tuple[int | None, Held]]:
        """The locks that the code up to here took and did not give back: (address or None if
        it can't be told, how).  What may have been given back since is not sure."""
        for lock, held in self.at.held.items():
            address = self.resolve(lock)
            released = [(value, self.resolve(value)) for value in held.released]
            if address is not None and any(there == address for _, there in released):
                continue
            doubtful = any(
                there is None or _from_slot(value) or (not there and _is_forgotten(value))
                for value, there in released
            )
            doubtful = doubtful or self.leads(held.passed, address)
            yield address, held._replace(sure=held.sure and not doubtful)

    def leads(self, values: tuple[Value, ...], address: int | None) -> bool:
        """Whether any of the values is `address`, or in an object around it, or an object in this
        frame that leads there."""
        if address is None:
            return False
        fixed = [self.resolve(value) for value in values if value.base is None]
        if any(self._may_share_object(address, place, self.at.fixed_reach) for place in fixed):
            return True
        level = [self.resolve(value) for value in values if value.base is not None]
        for _ in range(PASSED_DEPTH + 1):
            if any(self._may_share_object(address, place, self.at.reach) for place in level):
                return True
            level = [
                self._read(place + offset, 8)
                for place in level
                if place is not None and self._is_here(place)
                for offset in range(0, PASSED_BYTES, 8)
            ]
        return False

    def _may_share_object(self, address: int, place: int | None, reach: int) -> bool:
        if place is None or self._is_here(address):
            return address == place
        return abs(address - place) < reach

    def _is_here(self, address: int) -> bool:
        low, high = self.frame.sp, self.cfa
        return low is not None and high is not None and low <= address < high

    def narrowed(self, tracer: Tracer) -> LiveFrame:
        """The same frame by those ways through its code only that its arguments allow; itself
        where these are not known, or contradict where it stands."""
        start = self.frame.function_start
        if not self.arguments or start is None:
            return self
        function = tracer.code.function(start, self.frame.address)
        walk = tracer.walk(function, self.frame.address, entry=self.arguments)
        if walk.at_stop is None:
            return self
        return LiveFrame(
            self.process, self.frame, walk, walk.at_stop, self.caller, dict(self.arguments)
        )

    def later(self) -> Iterator[tuple[int | None, Event]]:
        """The events in this frame's code that are still to come; without those on a lock that it
        would take first, as a semaphore."""
        taken = {self.resolve(lock): site for site, lock in self.walk.takes if self._ahead(site)}
        for event in self.walk.events:
            if self._ahead(event.site):
                address = self.resolve(event.lock)
                first = taken.get(address) if address is not None else None
                if first is None or not self.walk.graph.ahead(event.site, first):
                    yield address, event

    def may_change(self, value: Value) -> bool:
        """Whether the value may be another when the code gets there: it can't be told, or is read
        from what a loop, a callee or others fill, or leads nowhere yet."""
        address = self.resolve(value)
        if address is None or _is_varying(value):
            return True
        return isinstance(value.base, Load) and self._read(address, 4) is None

    @property
    def opaque_later(self) -> bool:
        """Whether the code still to come calls a function that can't be told."""
        return any(self._ahead(site) for site in self.walk.opaque)

    def _ahead(self, site: int) -> bool:
        return self.walk.graph.ahead(site, self.walk.site)


def _from_slot(value: Value) -> bool:
    """Whether the value is read from a stack slot that somebody else filled."""
    return isinstance(value.base, Load) and in_frame(value.base.address)


def _is_forgotten(value: Value) -> bool:
    """Whether a pointer that is null by now may have been another when the lock behind it was given
    back: in an object, say a guard.  Variables of the C library's, as malloc's list of free arenas,
    were null then, too."""
    return isinstance(value.base, Load) and value.base.address.base is not None


def _is_varying(value: Value) -> bool:
    """Whether the value comes out of a loop, out of a stack slot that others fill, or from the
    second link of a chain of pointers on."""
    base = value.base
    if isinstance(base, Unknown):
        return isinstance(base.where, tuple)
    if isinstance(base, Sum):
        return True
    if not isinstance(base, Load):
        return False
    address = base.address
    return in_frame(address) or isinstance(address.base, Load) or _is_varying(address)


class CallSite(NamedTuple):
    """Where a live frame's call goes: to `target`, with `first` in rdi."""

    frame: LiveFrame
    target: int | None
    name: str | None
    first: int | None


def live_frames(
    process: Process,
    code: Code,
    tracer: Tracer,
    frames: tuple[Frame, ...],
    wanted: Callable[[Frame], bool] = lambda frame: True,
) -> list[LiveFrame]:
    """The frames whose own code could be followed to where they stand, outermost first; those
    that are not `wanted` are left out."""
    result: list[LiveFrame] = []
    arguments: dict[str, int] = {}
    frames = frames[:MAX_FRAMES]
    for position in range(len(frames) - 1, -1, -1):
        frame = frames[position]
        start = code.start(frame)
        if start is None or code.is_system(start) or code.interprets(start) or not wanted(frame):
            arguments = {}
            continue
        walk = tracer.walk_to(start, frame.address)
        if walk.at_stop is None:
            arguments = {}
            continue
        caller = frames[position + 1] if position + 1 < len(frames) else None
        live = LiveFrame(process, frame, walk, walk.at_stop, caller, arguments)
        result.append(live)
        arguments = _passed(code, live, frames[position - 1] if position else None)
    return result


def _passed(code: Code, live: LiveFrame, callee: Frame | None) -> dict[str, int]:
    """The arguments that reached `callee`, if it is what the live call goes to."""
    if callee is None or live.walk.live is None or live.walk.live.kind != "call":
        return {}
    target, _ = code.callee(live.walk.live)
    if target not in (None, code.start(callee)) and not code.is_thunk(target):
        return {}  # it was reached by a tail call, with arguments of its own
    passed = {name: live.resolve(live.at.registers[name]) for name in ARGUMENTS}
    return {name: number for name, number in passed.items() if number is not None}


def call_sites(code: Code, frames: list[LiveFrame]) -> Iterator[CallSite]:
    """The live calls, outermost first."""
    for live in frames:
        instruction: Instruction | None = live.walk.live
        if instruction is not None and instruction.kind == "call":
            target, name = code.callee(instruction)
            yield CallSite(live, target, name, live.argument("rdi"))
