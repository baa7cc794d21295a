"""One task's call trace, read together with the code of its frames."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from faultkit.infer.code import Code
from faultkit.infer.flow import Tracer
from faultkit.infer.frames import LiveFrame, call_sites, live_frames
from faultkit.infer.functions import RUST, WAIT, role_of
from faultkit.infer.lock import Target
from faultkit.model import Frame, Task, Wait
from faultkit.target import FaultkitError, Process, ReadError
from faultkit.world import World

MAX_STACK = 256 << 10  # bytes of stack that are searched
_MOVES = re.compile(r"mem.{0,3}drop|mem.{0,3}forget|Condvar.*wait")


class Holding(NamedTuple):
    """A sign that the task took the lock; `sure` if every way to where it is takes it."""

    sure: bool
    text: str


class Tracing:
    """Reads call traces for one wait; each task's at most once."""

    def __init__(self, world: World, wait: Wait, family: str) -> None:
        self.world = world
        self.wait = wait
        self.family = family
        self._tracers: dict[int, Tracer] = {}
        self._traces: dict[tuple[int, int], Optional[Trace]] = {}

    def trace(self, process: Process, task: Task) -> "Optional[Trace]":
        """The task's trace; None if its stack or code can't be read."""
        key = (process.pid, task.tid)
        if key not in self._traces:
            frames = _frames(process, task)
            self._traces[key] = None
            if frames:
                tracer = self._tracer(process)
                live = live_frames(process, tracer.code, tracer, frames)
                if live and not tracer.code.exhausted:
                    self._traces[key] = Trace(tracer, frames, live)
        return self._traces[key]

    def _tracer(self, process: Process) -> Tracer:
        tracer = self._tracers.get(process.pid)
        if tracer is None:
            code = Code(process)
            frames = _frames(process, self.wait.task) if process.pid == self.wait.task.pid else ()
            start = code.start(frames[0]) if frames else None
            waiting = frozenset((start,)) if start is not None else frozenset()
            tracer = Tracer(code, self.family, waiting, start is None or bool(code.name(start)))
            self._tracers[process.pid] = tracer
        return tracer


def _frames(process: Process, task: Task) -> tuple[Frame, ...]:
    try:
        return process.frames(task)
    except FaultkitError:
        return ()


class Trace:
    """One task's frames, as far as their code could be followed."""

    def __init__(self, tracer: Tracer, frames: tuple[Frame, ...], live: list[LiveFrame]) -> None:
        self.tracer = tracer
        self.frames = frames
        self.live = live

    @property
    def opaque(self) -> bool:
        """Whether the code still to come calls what can't be known."""
        return any(frame.opaque_later for frame in self.live)

    def _taken(self, target: Target) -> tuple[list[Holding], bool]:
        taken: list[Holding] = []
        gave_back = False
        for live in self.live:  # outermost first: what an inner frame gave back is gone
            back = any(live.resolve(lock) in target.addresses for lock in live.at.released)
            if back or self._waits_with(live, target):
                gave_back = bool(taken) or gave_back
                taken = []
            for address, held in live.held():
                if address is None or address not in target.addresses:
                    continue
                verb = f"calls {held.function}" if " " not in held.function else held.function
                sure = "no release between" if held.sure else "though maybe not on every path"
                taken.append(
                    Holding(
                        held.sure,
                        f"{_describe(live.frame)} {verb} on it at {held.site:#x}, before "
                        f"{_position(live.frame)}, {sure}",
                    )
                )
                gave_back = False
        return taken, gave_back

    def holding(self, target: Target) -> list[Holding]:
        """The lock's acquisitions by the frames' code that nothing gave back since."""
        return self._taken(target)[0]

    def gave_back(self, target: Target) -> bool:
        """Whether it was taken and then given back, for good or while it waits."""
        return self._taken(target)[1]

    def _waits_with(self, live: LiveFrame, target: Target) -> bool:
        """Whether the live call gives the lock back while it waits (pthread_cond_wait)."""
        instruction = live.walk.live
        if instruction is None or instruction.kind != "call":
            return False
        name = self.tracer.code.callee(instruction)[1]
        role = role_of(name, self.tracer.family) if name else None
        if role is None or role.what != WAIT:
            return False
        passed = live.argument(role.argument)
        return passed is None or passed in target.addresses

    def coming(self, target: Target) -> Iterator[str]:
        """The events on the lock that the frames' code would still bring about."""
        for live in self.live:
            for address, event in live.later():
                if address is not None and address in target.addresses:
                    yield (
                        f"{_describe(live.frame)} would call {event.function} on it at "
                        f"{event.site:#x}, behind {_position(live.frame)}"
                    )
                    break

    def inside(self, names: "re.Pattern[str]") -> Iterator[tuple[Frame, Optional[int]]]:
        """The frames whose live call goes to a function of such a name, and its first argument."""
        for site in call_sites(self.tracer.code, self.live):
            if site.name is not None and names.search(site.name):
                yield site.frame.frame, site.first

    def may_have_moved(self, index: int) -> bool:
        """Whether the frame's code may have moved a guard out of its variable (Rust)."""
        if self.tracer.family != RUST:
            return True
        for live in self.live:
            if live.frame.index == index:
                return any(_MOVES.search(name) for name in live.walk.names)
        return True

    def find_word(self, process: Process, words: frozenset[int]) -> Optional[str]:
        """Where in the live stack or the callee-saved registers one of `words` is."""
        for frame in self.frames:
            for name, value in (frame.registers or {}).items():
                if value in words and name not in ("rsp", "rip"):
                    return f"in {name} of {_describe(frame)}"
        pointers = [frame.sp for frame in self.frames if frame.sp is not None]
        if not pointers:
            return None
        low, high = min(pointers) & ~7, min(max(pointers), min(pointers) + MAX_STACK)
        try:
            stack = process.read(low, max(0, high - low) & ~7)
        except ReadError:
            return None
        for position, (word,) in enumerate(struct.iter_unpack("<Q", stack)):
            if word in words:
                address = low + 8 * position
                inside = [f for f in self.frames if f.sp is not None and f.sp <= address]
                return f"in the stack of {_describe(inside[-1])}" if inside else None
        return None


def _describe(frame: Frame) -> str:
    return f"frame #{frame.index} {frame.symbol or hex(frame.address)}()"


def _position(frame: Frame) -> str:
    if frame.inlines and frame.inlines[-1].file and frame.inlines[-1].line:
        place = frame.inlines[-1]
        return f"{str(place.file).rpartition('/')[2]}:{place.line}"
    return f"its pc {frame.address:#x}"
