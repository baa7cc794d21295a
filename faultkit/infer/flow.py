"""What a function has done to locks by the time it reaches a point, or when it returns.

Code is followed once, blocks after those that lead to them: paths meet, the way back of a loop
is not taken (what the loop changes is unknown from its start on).  That is an approximation, good
enough for an inference with evidence; it is never called proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from faultkit.code.encoding import REGISTERS, Memory
from faultkit.code.x86 import Instruction
from faultkit.infer.blocks import graph_of
from faultkit.infer.code import MAX_DEPTH, Code, Function
from faultkit.infer.conditions import compared, is_taken
from faultkit.infer.functions import (
    ACQUIRE,
    BARRIER,
    CONDITION,
    COUNTER,
    EVENT,
    EVENTS,
    FILE,
    GUARD,
    RELEASE,
    RUST,
    SEMAPHORE,
    TRY,
    WAIT,
    Role,
    plain_name,
    starts_another,
)
from faultkit.infer.path import CUT, OBJECT_BYTES, OPAQUE, Event, Held, Path, Summary
from faultkit.infer.values import (
    Load,
    Unknown,
    Value,
    in_frame,
    number,
    substitute,
    unknown,
)
from faultkit.infer.walk import Walk, arrive, forget, jump, leave, summarise
from faultkit.target import FaultkitError

LOCKED, CHANGED = "lock cmpxchg", "locked change"  # in place of a function's name
# __g1_orig_size, whose low bits are the lock (nptl/pthread_cond_common.c), before and since 2.41
CONDVAR_LOCKS = (32, 24)
CONDVAR_USERS = (36, 28)  # __wrefs, which waits count up as they do __wseq, the first word
LOCK_UN = 8  # include/uapi/asm-generic/fcntl.h
F_SETLKS = frozenset((6, 7, 37, 38))  # F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW


class Tracer:
    """Follows functions of one process, with eyes for one family of locks.

    `waiting` are the starts of the functions in which the waiter sleeps: where library functions
    have no names, one that changes its argument atomically and can get there takes a lock.  In
    Rust programs it is the lock's own function, as its fast path is inline everywhere.
    """

    def __init__(
        self, code: Code, family: str, waiting: frozenset[int] = frozenset(), named: bool = True
    ) -> None:
        self.code = code
        self.family = family
        self.waiting = waiting
        self.named = named
        self.key = f"{family} {sorted(waiting)} {named}"
        self._summaries: dict[tuple[int, int | None], Summary] = {}
        self._walks: dict[tuple[int, int], Walk] = {}
        self._primitives: dict[int, Role | None] = {}

    def walk_to(self, start: int, stop: int) -> Walk:
        """The walk through the function at `start` for frames that stand at `stop`."""
        walk = self._walks.get((start, stop))
        if walk is None:
            walk = self.walk(self.code.function(start, stop), stop)
            if not self.code.exhausted:
                self._walks[start, stop] = walk
        return walk

    def walk(
        self,
        function: Function,
        stop: int | None = None,
        depth: int = 0,
        entry: Mapping[str, int] | None = None,
    ) -> Walk:
        """Follow `function`; `stop` is a pc in it, or the return address of the live call.  With
        `entry`, the registers that are known on entry, only the ways that these allow."""
        walk = Walk(graph_of(function), entry is not None)
        arriving: dict[int, Path] = {}
        for block in walk.graph.ordered:
            path = arriving.pop(block.start, None)
            if path is None:
                if block.position and (walk.narrow or block.start in walk.unreached):
                    walk.unreached.update(target.start for target in block.follows)
                    continue  # no way leads here
                # in Rust it takes a lock's guard to give it back
                path = Path(1) if self.family == RUST else Path(OBJECT_BYTES, self.code.fixed_reach)
                for name, known in (entry or {}).items():
                    path.registers[name] = number(known)
                path.given = frozenset((entry or {}).values())
                if block.position:
                    path.registers = {name: unknown(block.start, name) for name in REGISTERS}
            if block.loop is not None:
                forget(path, block.loop, block.start)
            for instruction in block.body:
                live = instruction.end == stop and instruction.kind in ("call", "syscall")
                if live or (instruction.address == stop and walk.at_stop is None):
                    walk.at_stop = path.copy()
                    walk.live = instruction if live else None
                    walk.site = instruction.address
                self._step(function, instruction, path, arriving, walk, depth)
            last = block.body[-1]
            for target in block.follows:
                # jumps to a known target have delivered their state already
                if path.ended:
                    break
                if target.start == last.end or (last.kind == "jmp" and last.target is None):
                    arrive(arriving, target, path, block)
        return walk

    def _step(
        self,
        function: Function,
        instruction: Instruction,
        path: Path,
        arriving: dict[int, Path],
        walk: Walk,
        depth: int,
    ) -> None:
        """Execute one instruction; jumps deliver the state to where they lead."""
        kind = instruction.kind
        inside = function.contains(instruction.target)
        graph = walk.graph
        if kind == "call":
            self._call(instruction, path, walk, depth)
        elif kind == "jcc":
            certain = self._certain(instruction, path, walk.narrow)
            taken = path.copy()
            self._branch(instruction, path, taken)
            if inside and instruction.target != instruction.end:
                if certain is False:
                    walk.unreached.add(instruction.target or 0)
                else:
                    jump(arriving, graph, instruction, taken)
                    path.ended = certain is True
                    if path.ended:
                        walk.unreached.add(instruction.end)
        elif kind == "jmp":
            if inside:
                if instruction.target != instruction.end:
                    jump(arriving, graph, instruction, path)
            elif not graph.is_switch(instruction) or self.code.callee(instruction)[1]:
                self._call(instruction, path, walk, depth)  # a tail call
                leave(walk, path)
        elif kind == "ret":
            leave(walk, path)
        else:
            if instruction.lock or kind == "xchg":
                self._atomic(instruction, path, walk)
            inline = self.code.inline_role(instruction, path, self.family)
            if inline is not None:
                self._apply(inline.role, inline.lock, instruction.address, inline.name, path, walk)
            if kind in ("cmp", "test"):
                left = path.value(instruction.destination, instruction.width)
                path.flags = compared(
                    instruction, left, path.value(instruction.source, instruction.width)
                )
            elif kind not in ("mov", "lea", "push", "pop", "nop", "leave"):
                path.flags = None
            path.step(instruction)

    def _certain(self, instruction: Instruction, path: Path, narrow: bool) -> bool | None:
        """Whether a conditional jump is taken for sure, or for sure not: by what lies in memory
        that nobody may write to; if `narrow`, by other numbers, too.

        Programs for glibc before 2.34 ask such memory whether they have threads (libstdc++'s
        gthr-posix.h, __gthread_active_p).
        """
        if path.flags is None:
            return None
        left, right = map(self._constant, (path.flags.left, path.flags.right))
        known = path.flags._replace(left=left, right=right)
        if left.base is not None or right.base is not None or (known == path.flags and not narrow):
            return None
        condition = self._condition(instruction)
        return None if condition is None else is_taken(known, condition)

    def _constant(self, value: Value) -> Value:
        base = value.base
        if isinstance(base, Load) and base.address.base is None:
            found = self.code.constant(base.address.offset, base.width)
            if found is not None:
                return number(found + value.offset)
        return value

    def _condition(self, instruction: Instruction) -> int | None:
        """The condition of a jump, None for those that depend on rcx."""
        try:
            code = self.code.process.read(instruction.address, min(instruction.size, 2))
        except FaultkitError:  # what was read before may not be there again
            return None
        if code[0] == 0x0F:
            return code[1] & 15
        return code[0] & 15 if code[0] & 0xF0 == 0x70 else None

    def _branch(self, instruction: Instruction, falling: Path, taken: Path) -> None:
        """The branch after an attempt tells which way succeeded, as a rule zero (je)."""
        lock = falling.tried
        falling.tried = taken.tried = None
        if lock is None or lock not in falling.held:
            return
        condition = self._condition(instruction)
        if condition not in (4, 5):
            return
        zero, other = (taken, falling) if condition == 4 else (falling, taken)
        success, failure = (other, zero) if falling.tried_nonzero else (zero, other)
        success.held[lock] = success.held[lock]._replace(sure=True)
        del failure.held[lock]
        failure.failed |= {lock}

    def _atomic(self, instruction: Instruction, path: Path, walk: Walk) -> None:
        """Rust's locks are taken and given back inline; library functions do the same inside."""
        if not isinstance(instruction.destination, Memory):
            return
        lock = path.address(instruction.destination)
        if lock is None or in_frame(lock):
            return
        walk.atomics.append(lock)
        if self.family not in (RUST, COUNTER) or instruction.width != 4:
            return  # a futex has 32 bits, a count 64
        if self.family == COUNTER and instruction.kind != "cmpxchg":
            path.release(lock)
            walk.events.append(Event(instruction.address, lock, CHANGED))
            return
        if instruction.kind == "cmpxchg":
            if lock not in path.held:
                path.acquire(lock, instruction.address, LOCKED, sure=False)
                path.tried, path.tried_nonzero = lock, False
        elif self._unlocks(instruction, path):
            path.release(lock)

    def _unlocks(self, instruction: Instruction, path: Path) -> bool:
        """Whether a 32-bit atomic change gives a lock back: one that stores zero, or counts
        down (library/std/src/sys/sync: Mutex::unlock swaps 0 in, RwLock subtracts)."""
        if instruction.kind == "xchg":
            return path.value(instruction.source, 4) in (None, number(0))
        if instruction.kind == "xadd":
            change = path.value(instruction.source, 4)
            return change is None or change.base is not None or change.offset >> 31 & 1 == 1
        return True

    def role(self, call: Instruction, depth: int = 0) -> Role | None:
        """What the called function does to locks of this family; None if nothing is known."""
        target, name = self.code.callee(call)
        if name is not None:
            return self.code.role_of(name, self.family)
        if target is None or self.named:
            return None
        if self.family in (RUST, COUNTER):
            return Role(ACQUIRE) if target in self.waiting and self.family == RUST else None
        if self.family == GUARD and target in self.waiting:
            return Role(TRY, nonzero=True)
        if self.family == BARRIER:
            return Role(EVENT) if target in self.waiting else None
        if self.family == CONDITION:
            return self._signal(target)
        return self._primitive(target, depth)

    def _call(self, instruction: Instruction, path: Path, walk: Walk, depth: int) -> None:
        target, name = self.code.callee(instruction)
        if name is not None and len(walk.names) < 256:
            walk.names.add(name)
        path.tried = None
        path.flags = None
        role = self.role(instruction, depth)
        site = instruction.address
        if name is not None and self.family in EVENTS and starts_another(name):
            walk.opaque.append(site)
        failed = self.family == RUST and path.registers["rdi"] in path.failed
        if role is None and failed and target is not None:
            role = Role(ACQUIRE)  # the slow path behind an inline attempt
            path.failed -= {path.registers["rdi"]}
        if role is not None and self.family == FILE:
            role = _file_role(role, name or "", path)
        label = name or (f"the function at {target:#x}" if target else "a function")
        if role is not None:
            lock = path.registers[role.argument]
            self._apply(role, lock, site, label, path, walk)
            path.call(instruction)
            return
        self._do_as_summed_up(self._summary(target, name, depth), instruction, label, path, walk)

    def _do_as_summed_up(
        self, summary: Summary, instruction: Instruction, label: str, path: Path, walk: Walk
    ) -> None:
        """Apply what a called function does, in the caller's terms: these are of before the call,
        which changes registers."""
        site = instruction.address
        if summary.opaque or summary.unknown:
            walk.opaque.append(site)
        if summary.opaque:
            path.pass_arguments()
        given = [substitute(value, path) for value in summary.passed]
        path.pass_on([value for value in given if value is not None])
        for place, pointer in summary.kept:
            kept = substitute(pointer, path)
            if kept is not None:
                path.keep(None if place is None else substitute(place, path), kept)
        if summary.opaque or summary.unknown:
            path.pass_kept()
        walk.took = walk.took or summary.took
        walk.cut = walk.cut or summary.cut
        held = list(self._held_by_caller(summary, site, path))
        stores = []
        for address, value, width in summary.stores:
            where, what = substitute(address, path), substitute(value, path)
            if where is not None:
                stores.append((where, what or unknown(site, "memory"), width))
        returns = substitute(summary.returns, path) if summary.returns is not None else None
        self._release(summary, path)
        for event in summary.events:
            there = substitute(event.lock, path) or unknown(site, "event")
            verb = "does a" if event.function == CHANGED else "calls"
            walk.events.append(Event(site, there, f"{label}, which {verb} {event.function}"))
        path.call(instruction)
        for where, what, width in stores:
            path.store(where, what, width)
        if returns is not None:
            path.registers["rax"] = returns
        for there, detail, later in held:
            verb = "does a" if detail.function == LOCKED else "calls"
            how = f"{label}, which {verb} {detail.function}"
            path.acquire(there, site, how, detail.sure and None not in later)
            path.released_since(there, [value for value in later if value is not None])

    def _held_by_caller(
        self, summary: Summary, site: int, path: Path
    ) -> Iterator[tuple[Value, Held, list[Value | None]]]:
        """The locks that the function returns with, how it took each, and what it gave back since
        by other names: read anew from memory, say, that may be the same."""
        for value, detail in summary.held:
            there = substitute(value, path)
            if there is None and (value == summary.returns or self.family == FILE):
                there = unknown(site, "rax" if value == summary.returns else "file")
            if there is not None:
                yield there, detail, [substitute(other, path) for other in detail.released]

    def _release(self, summary: Summary, path: Path) -> None:
        for value in summary.released:
            there = substitute(value, path)
            if there is None and (summary.took and self.code.pairs_locks):
                continue
            if there is not None or self.family != RUST or _passes_held(path):
                path.release(there)
            else:
                path.pass_arguments()

    def _apply(
        self, role: Role, lock: Value, site: int, label: str, path: Path, walk: Walk
    ) -> None:
        if role.what in (ACQUIRE, TRY):
            walk.takes.append((site, lock))
            walk.took = True
        if role.what == ACQUIRE:
            path.acquire(lock, site, label)
        elif role.what == TRY:
            path.acquire(lock, site, label, sure=False)
            path.tried, path.tried_nonzero = lock, role.nonzero
        elif role.what == RELEASE:
            path.release(lock)
            if self.family in (SEMAPHORE, COUNTER, FILE):
                walk.events.append(Event(site, lock, label))
        elif role.what == EVENT:
            walk.events.append(Event(site, lock, label))
        elif role.what == WAIT:
            pass  # given back and taken again

    def _primitive(self, target: int, depth: int) -> Role | None:
        """What a nameless library function does to the lock in its first argument."""
        if depth >= MAX_DEPTH or self.code.exhausted:
            return None
        if target not in self._primitives:
            self._primitives[target] = None  # while it is looked at: it may call itself
            probe = Tracer(self.code, self.family, named=True)
            walk = probe.walk(self.code.function(target), depth=MAX_DEPTH)
            first = Unknown("entry", "rdi")
            if any(lock.base == first and 0 <= lock.offset < 64 for lock in walk.atomics):
                takes = self.code.reaches(target, self.waiting) or self.code.sleeps(target)
                self._primitives[target] = Role(ACQUIRE if takes else RELEASE)
        return self._primitives[target]

    def _signal(self, target: int) -> Role | None:
        """Whether a nameless library function waits on the condition variable in its first
        argument, or signals it: then it takes its internal lock, which destroying one does not."""
        if self.code.exhausted:
            return None
        if target not in self._primitives:
            self._primitives[target] = self._condition_role(target)
        return self._primitives[target]

    def _condition_role(self, target: int) -> Role | None:
        """A wait's own code is not looked into any further: a wait that is cancelled takes the
        lock, too (nptl/pthread_cond_wait.c, __condvar_cancel_waiting), to hand on what it got."""
        function = self.code.function(target)
        probe = Tracer(self.code, self.family, named=True)
        atomics = {*probe.walk(function, depth=MAX_DEPTH).atomics}
        variable = Value(Unknown("entry", "rdi"))
        joins = variable in atomics and any(variable.plus(o) in atomics for o in CONDVAR_USERS)
        if joins and (function.calls_system or self.code.reaches(target, self.waiting, depth=2)):
            return Role(WAIT)
        signals = any(variable.plus(offset) in atomics for offset in CONDVAR_LOCKS)
        return Role(EVENT) if signals and target not in self.waiting else None

    def brings_about(self, call: Instruction) -> bool:
        """Whether a call brings about events of this family, wherever it stands."""
        role = self.role(call)
        if role is not None:
            return role.what in (EVENT, RELEASE)
        return bool(self._summary(*self.code.callee(call), 0).events)

    def _summary(self, target: int | None, name: str | None, depth: int) -> Summary:
        if target is None or self.code.interprets(target):
            return OPAQUE
        if depth >= MAX_DEPTH or self.code.exhausted:
            return CUT
        if self.code.passes_over(target, self.family) and (name is not None or self.named):
            return Summary()
        # from less far down, it saw at least as much
        for seen_from in (None, *range(depth + 1)):
            known = self._summaries.get((target, seen_from))
            if known is not None:
                return known
        self._summaries[target, depth] = CUT  # while it is looked at: it may call itself
        summary = summarise(self.walk(self.code.function(target), depth=depth + 1))
        del self._summaries[target, depth]
        if not self.code.exhausted:  # else it knows less than there is to know
            self._summaries[target, depth if summary.cut else None] = summary
        return summary


def _passes_held(path: Path) -> bool:
    """Whether an argument of a call is a lock that is held: any other atomic change inside is
    most likely not an unlock, as all kinds of things are counted that way."""
    return any(path.registers[name] in path.held for name in ("rdi", "rsi", "rdx", "rcx", "r8"))


def _file_role(role: Role, name: str, path: Path) -> Role | None:
    """flock's and fcntl's second argument says what they do.  A second fcntl for a descriptor
    that is locked already is taken to unlock it: its struct flock can't be read any more."""
    name = plain_name(name)
    operation = path.registers["rsi"]
    if operation.base is not None or name == "close":
        return role if name in ("flock", "close") else None
    if name == "flock":
        return Role(RELEASE if operation.offset & LOCK_UN else ACQUIRE)
    if name.startswith("lockf"):
        return Role(RELEASE if operation.offset == 0 else ACQUIRE)
    if operation.offset not in F_SETLKS:
        return None
    return Role(RELEASE if path.registers["rdi"] in path.held else ACQUIRE)
