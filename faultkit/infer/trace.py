"""One task's call trace, read together with the code of its frames."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator

from faultkit.infer.code import MAX_DEPTH, Code, code_of
from faultkit.infer.flow import CHANGED, LOCKED, Tracer
from faultkit.infer.frames import MAX_FRAMES, CallSite, LiveFrame, call_sites, live_frames
from faultkit.infer.functions import (
    ACQUIRE,
    BARRIER,
    CONDITION,
    GUARD,
    MUTEX,
    RUST,
    TRY,
    WAIT,
    Role,
    returns_twice,
    role_of,
)
from faultkit.infer.lock import Target
from faultkit.infer.path import Held
from faultkit.infer.values import Unknown, Value
from faultkit.model import Frame, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, Process, ReadError
from faultkit.world import World

FUTEX = 202  # the system call's number
# For all locks and processes of an analysis: one that gdb is attached to stands still meanwhile.
TOTAL_SECONDS = 5.0
WAITING_FRAMES = 3  # of a library's wait, and of what it is called from
MAX_STACK = 256 << 10  # bytes of stack that are searched
_CONDITION = r"pthread_cond_|cnd_(timed)?wait|condition_variable|Condvar"
_MOVES = r"mem.{0,3}drop|mem.{0,3}forget|Condvar.*wait"


class Holding(NamedTuple):
    """A sign that the task took the lock; `sure` if every way to where it is takes it."""

    sure: bool
    how: str

    @property
    def text(self) -> str:
        """The sign in words."""
        sure = "no release between" if self.sure else "though maybe not on every path"
        return f"{self.how}, {sure}"


class Tracing:
    """Reads call traces for one wait; each task's at most once."""

    def __init__(self, world: World, wait: Wait, family: str) -> None:
        self.world = world
        self.wait = wait
        self.family = family
        self._waiting: dict[int, Tracer] = {}

    def trace(self, process: Process, task: Task) -> Trace | None:
        """The task's trace; None if its stack or code can't be read."""
        tracer = self._tracer(process)
        traces = self.world.cache.setdefault(f"traces {process.pid} {tracer.key}", {})
        if task.tid not in traces:
            frames = _frames(process, task)
            live = live_frames(process, tracer.code, tracer, frames) if frames else []
            if tracer.code.exhausted:
                return None
            traces[task.tid] = Trace(tracer, frames, live) if live else None
        found: Trace | None = traces[task.tid]
        return found

    def _tracer(self, process: Process) -> Tracer:
        """The tracer for the process; the world keeps it for the waits to come."""
        tracer = self._waiting.get(process.pid)
        if tracer is not None:
            return tracer
        cache = self.world.cache
        code = code_of(self.world, process)
        code.begin(cache.setdefault("inference ends", time.thread_time() + TOTAL_SECONDS))
        frames = _frames(process, self.wait.task) if process.pid == self.wait.task.pid else ()
        named = not frames or _has_names(code, frames, self.family)
        # Rust's lock functions and libstdc++'s guards call libc's syscall()
        level = 1 if self.family in (RUST, GUARD) else 0 if named else _futex_level(code, frames)
        start = code.start(frames[level]) if len(frames) > level else None
        named = named or start is None
        # who calls what the waiter is in, with the same object, gets to the same place
        depth = WAITING_FRAMES if self.family in (BARRIER, CONDITION) else 1
        starts = [code.start(frame) for frame in frames[level : level + depth]]
        waiting = frozenset(address for address in starts if address is not None)
        key = f"tracer {process.pid} {self.family} {start} {named}"
        tracer = cache.get(key)
        if tracer is None:
            tracer = cache[key] = Tracer(code, self.family, waiting, named)
        self._waiting[process.pid] = tracer
        return tracer


def _futex_level(code: Code, frames: tuple[Frame, ...]) -> int:
    """The innermost frame whose code holds the system call's number: what lies below it serves
    all system calls that can be cancelled (musl's __syscall_cp, glibc's since 2.41)."""
    for level, frame in enumerate(frames[:WAITING_FRAMES]):
        start = code.start(frame)
        body = code.function(start).body if start is not None else ()
        if any(i.kind == "mov" and i.source == FUTEX for i in body):
            return level
    return 0


def _has_names(code: Code, frames: tuple[Frame, ...], family: str) -> bool:
    """Whether lock functions have names, as those that the waiter is inside show; Rust's are
    the program's own, not a library's."""
    starts = [code.start(frame) for frame in frames[: 4 if family == RUST else 1]]
    names = [code.name(start) for start in starts if start is not None]
    if family == RUST:
        return any(name is not None and role_of(name, family) for name in names)
    return any(names)


def _frames(process: Process, task: Task) -> tuple[Frame, ...]:
    try:
        return process.bare_frames(task)
    except FaultkitError:
        return ()


class Trace:
    """One task's frames, as far as their code could be followed."""

    def __init__(self, tracer: Tracer, frames: tuple[Frame, ...], live: list[LiveFrame]) -> None:
        self.tracer = tracer
        self.frames = frames
        self.live = live
        starts = (tracer.code.start(frame) for frame in frames[:MAX_FRAMES])
        self._interprets = any(tracer.code.interprets(start) for start in starts if start)

    @property
    def opaque(self) -> bool:
        """Whether the code still to come calls what can't be known."""
        return self._interprets or any(
            frame.opaque_later for frame in self.live[self._runtime_frames() :]
        )

    @property
    def acts_unseen(self) -> bool:
        """Whether the code still to come brings about events of which nothing tells, for now, what
        they are about: what a list or a queue will give it; or whether a longjmp() could have it
        go on elsewhere."""
        frames = self.live[self._runtime_frames() :]
        if any(returns_twice(name) for live in frames for name in live.walk.names):
            return True
        if self.tracer.code.throws and any(map(self._acts_if_thrown, frames)):
            return True
        return any(live.may_change(event.lock) for live in frames for _, event in live.later())

    def _acts_if_thrown(self, live: LiveFrame) -> bool:
        """Whether the frame's function brings about an event where nothing in it leads to: in what
        catches an exception, that is."""
        return any(
            instruction.kind == "call" and self.tracer.brings_about(instruction)
            for block in live.walk.graph.unreached()
            for instruction in block.body
        )

    def _runtime_frames(self) -> int:
        """How many of the outermost frames are the runtime's: clone and start_thread, or what
        calls main; the program's own begin behind an indirect call."""
        if self.live[0].frame is not self.frames[-1]:
            return 0  # they are in a library that is known by name
        indirect = [
            live.walk.live is not None and live.walk.live.target is None for live in self.live[:3]
        ]
        if indirect[0]:  # clone; or _start, where a library comes before main
            inner = self.live[1].frame.index if len(self.live) > 1 else None
            return 2 if inner == self.live[0].frame.index - 1 else 1
        return indirect.index(True) + 1 if True in indirect else 0

    def _taken(self, target: Target) -> tuple[list[Holding], bool]:
        taken: list[Holding] = []
        gave_back = False
        if self._waits_unseen():
            return [], True
        for live in self.live:  # outermost first: what an inner frame gave back is gone
            back = any(live.resolve(lock) in target.addresses for lock in live.at.released)
            if back:
                gave_back = bool(taken) or gave_back
                taken = []
            if taken and self._may_have_passed(live, target):
                taken = [holding._replace(sure=False) for holding in taken]
            if any(live.resolve(lock) in target.addresses for lock in live.at.given_back):
                gave_back = True
            for held in self._held(live, target):
                verb = "does a" if held.function == LOCKED else "calls"
                taken.append(
                    Holding(
                        held.sure,
                        f"{_describe(live.frame)} {verb} {held.function} on it at "
                        f"{self._place(live, held.site)}, before "
                        f"{_position(live)}",
                    )
                )
                gave_back = False
            if self._waits_with(live, target):
                return [], True
            if self._enters_lock_function(live):
                break  # what lies inside is the lock's own code
        return taken, gave_back

    def _may_have_passed(self, live: LiveFrame, target: Target) -> bool:
        """Whether the frame's code gave an outer frame's lock to a function that nobody can look
        into.  In Rust, who gets a mutex can't give it back: that takes its guard."""
        return self.tracer.family != RUST and any(
            live.leads(live.at.passed, address) for address in target.addresses
        )

    def _held(self, live: LiveFrame, target: Target) -> list[Held]:
        """How the frame's code took the lock; where that depends on its arguments, and these are
        known, by the ways that they allow."""
        held = [how for address, how in live.held() if address in target.addresses]
        if all(how.sure for how in held):
            return held
        narrowed = live.narrowed(self.tracer)
        return [how for address, how in narrowed.held() if address in target.addresses]

    def holding(self, target: Target) -> list[Holding]:
        """The lock's acquisitions by the frames' code that nothing gave back since."""
        return self._taken(target)[0]

    @property
    def may_take(self) -> bool:
        """Whether any of the frames' code takes locks of this family, itself or in what it calls,
        or calls what nobody can look into."""
        if self._interprets:
            return True
        return any(live.walk.took or live.walk.opaque for live in self.live)

    def holding_unnamed(self) -> list[str]:
        """In words, where the frames' code took locks that it did not give back, and of which
        nothing tells any more which ones they are."""
        return [
            f"{_describe(live.frame)} calls {held.function} at {self._place(live, held.site)}"
            for live in self.live
            for address, held in live.held()
            if address is None and held.sure
        ]

    def gave_back(self, target: Target) -> bool:
        """Whether it was taken and then given back, for good or while it waits."""
        return self._taken(target)[1]

    def _enters_lock_function(self, live: LiveFrame) -> bool:
        """Whether the live call goes to a function that takes locks of this family."""
        role = self._live_role(live)
        return role is not None and role.what in (ACQUIRE, TRY)

    def _waits_unseen(self) -> bool:
        """Whether it sleeps on a condition variable inside code that is not followed: that gives
        some mutex back, and nobody can tell which."""
        if self.tracer.family not in (MUTEX, RUST):
            return False
        inside = any(frame.symbol and re.search(_CONDITION, frame.symbol) for frame in self.frames)
        return inside and not any(
            role is not None and role.what == WAIT and live.argument(role.argument) is not None
            for live, role in ((live, self._live_role(live)) for live in self.live)
        )

    def _live_role(self, live: LiveFrame) -> Role | None:
        """What the live call does to locks."""
        instruction = live.walk.live
        if instruction is None or instruction.kind != "call":
            return None
        return self.tracer.role(instruction)

    def _waits_with(self, live: LiveFrame, target: Target) -> bool:
        """Whether the live call gives the lock back while it waits (pthread_cond_wait)."""
        role = self._live_role(live)
        if role is None or role.what != WAIT:
            return False
        passed = live.argument(role.argument)
        return passed is None or passed in target.addresses

    def coming(self, target: Target) -> Iterator[str]:
        """The events on the lock that the frames' code would still bring about."""
        for live in self.live:
            for address, event in live.later():
                if address is not None and address in target.addresses:
                    verb = "do a" if event.function == CHANGED else "call"
                    yield (
                        f"{_describe(live.frame)} would {verb} {event.function} on it at "
                        f"{self._place(live, event.site)}, behind {_position(live)}"
                    )
                    break

    def _place(self, live: LiveFrame, address: int) -> str:
        line = live.process.line(address)
        if line is not None and line.file and line.line:
            return f"{line.file.rpartition('/')[2]}:{line.line}"
        start = self.tracer.code.start(live.frame)
        if live.frame.symbol is None or start is None:
            return hex(address)
        return f"{live.frame.symbol}+{address - start:#x}"

    def inside(self, target: Target, waits: bool) -> Iterator[CallSite]:
        """The live calls that got the lock as first argument, outermost first; without the
        innermost ones, through which the task waits for it, if it does."""
        sites = [
            site
            for site in call_sites(self.tracer.code, self.live)
            if site.first is not None and site.first in target.addresses
        ]
        if waits:
            innermost = sites[-1].frame.frame.index if sites else 0
            while sites and sites[-1].frame.frame.index == innermost:
                sites.pop()
                innermost += 1
        yield from sites

    def entered(self, site: CallSite) -> frozenset[int | None]:
        """Where the functions start that the live call entered: the one called, and the next
        inner frame's, which a tail call may have led to."""
        inner = site.frame.frame.index - 1
        start = self.tracer.code.start(self.frames[inner]) if inner >= 0 else None
        return frozenset((site.target, start)) - {None}

    def waits_inside(self, target: Target) -> frozenset[int | None]:
        """The functions through which the task waits for the lock, which was passed to them and
        which change it atomically: a condition variable's wait, for one, does not."""
        code = self.tracer.code
        found: set[int | None] = set()
        for site in call_sites(code, self.live):
            if site.first is not None and site.first in target.addresses:
                found |= {*self.entered(site), code.start(site.frame.frame)}
        first = Unknown("entry", "rdi")
        return frozenset(
            start
            for start in found
            if start is not None
            and Value(first) in self.tracer.walk(code.function(start), depth=MAX_DEPTH).atomics
        )

    def may_have_moved(self, index: int) -> bool:
        """Whether the frame's code may have moved a guard out of its variable (Rust)."""
        if self.tracer.family != RUST:
            return True
        for live in self.live:
            if live.frame.index == index:
                return any(re.search(_MOVES, name) for name in live.walk.names)
        return True

    def find_word(self, process: Process, words: frozenset[int]) -> str | None:
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


def _position(live: LiveFrame) -> str:
    frame = live.frame
    place = frame.inlines[-1] if frame.inlines else live.process.line(frame.address - 1)
    if place is not None and place.file and place.line:
        return f"{str(place.file).rpartition('/')[2]}:{place.line}"
    if frame.symbol and frame.offset is not None:
        return f"{frame.symbol}+{frame.offset:#x}"
    return f"its pc {frame.address:#x}"
