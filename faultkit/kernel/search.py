"""The search for who has a lock that records no holder, in the tasks' stacks and code.

Candidates are the tasks that are on a CPU or sleep for more than time; those in whose functions
nothing is done to such locks drop out before anything is unwound.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property

from faultkit.infer.flow import Tracer
from faultkit.infer.frames import live_frames
from faultkit.infer.functions import CONDITION, SEMAPHORE
from faultkit.infer.holders import Case, Findings, conclude, judge_by_code, on_stack, weigh
from faultkit.infer.lock import Target
from faultkit.infer.path import OBJECT_BYTES
from faultkit.infer.trace import Trace
from faultkit.kernel.code import SLEEP_ONLY, KernelCode
from faultkit.kernel.completers import Completers
from faultkit.kernel.deferred import INTERRUPT, ahead_of
from faultkit.kernel.functions import FAMILIES, SPIN
from faultkit.kernel.kthreads import kthread_workers
from faultkit.kernel.reach import Reached
from faultkit.kernel.sleep import timers_beside
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.space import KernelSpace
from faultkit.kernel.stacks import Stacks
from faultkit.kernel.states import PF_WQ_WORKER, is_idle
from faultkit.model import EVENT, INFERRED, OUTSIDE, Frame, Task, Wait
from faultkit.places import is_lock_function
from faultkit.target import FaultkitError

MOST_CANDIDATES = 256  # that are unwound for one lock
MOST_ASKED = 20_000  # whose stacks are searched for functions
OUTWARD = 2  # frames outside of one that works with locks, for what they pass to it
# Where an idle CPU halts (arch/x86/kernel/process.c, drivers/acpi, drivers/idle/intel_idle.c): it
# has let go of every lock, and an interrupt's handler would be elsewhere.
_IDLE = frozenset(
    ("native_safe_halt", "pv_native_safe_halt", "default_idle", "mwait_idle", "acpi_safe_halt")
    + ("acpi_idle_do_entry", "intel_idle", "intel_idle_irq", "intel_idle_ibrs", "intel_idle_xstate")
    + ("mwait_idle_with_hints", "cpu_idle_poll", "tdx_safe_halt", "tdx_halt")
)
# What runs a task's functions, and what sleeps for it.
_NOT_ITS_OWN = frozenset(
    ("kthread", "worker_thread", "process_one_work", "ret_from_fork", "ret_from_fork_asm")
    + ("rescuer_thread", "smpboot_thread_fn", "kthreadd")
    + ("entry_SYSCALL_64_after_hwframe", "do_syscall_64", "x64_sys_call")
    + ("syscall_exit_to_user_mode", "exit_to_user_mode_prepare", "exit_to_user_mode_loop")
    + ("schedule_timeout_uninterruptible", "schedule_timeout_interruptible", "msleep")
    + ("schedule_timeout_idle", "schedule_timeout_killable", "msleep_interruptible")
    + ("usleep_range_state", "schedule_hrtimeout_range", "schedule_hrtimeout_range_clock")
)
MOST_RANGES = 4  # that words_of_each() takes
MOST_NEAR = 64  # tasks with a pointer into one object that are looked at
MOST_STACK = 1 << 15  # bytes


class Judged:
    """Functions, by their starts, of which each is asked once whether it is of some kind."""

    def __init__(self, is_one: Callable[[int], bool]) -> None:
        self._is_one = is_one
        self._asked: set[int] = set()
        self._ones: set[int] = set()

    def any_of(self, starts: frozenset[int]) -> bool:
        """Whether any of them is."""
        for start in starts - self._asked:
            self._asked.add(start)
            if self._is_one(start):
                self._ones.add(start)
        return not self._ones.isdisjoint(starts)


class Search:
    """Looks for holders among one snapshot's tasks; what it learns of code and stacks serves
    every lock."""

    def __init__(self, snapshot: KernelSnapshot) -> None:
        self.snapshot = snapshot
        self.system = snapshot.system
        self.space = KernelSpace(self.system)
        self.code = KernelCode(self.space)
        self.code.begin()
        self._completers = Completers(self.space, self.code)
        self._tracers: dict[str, Tracer] = {}
        self._traces: dict[tuple[Task, str], Trace | None] = {}
        self._stacks = Stacks(snapshot)
        self._working: dict[str, Judged] = {}
        self._near_to: dict[int, list[Task]] = {}
        self._reach_of: dict[tuple[Task, str], tuple[Reached, Reached]] = {}
        self._own_traces: dict[tuple[Task, str], Trace | None] = {}

    def resolve(self, wait: Wait, waiters: set[Task]) -> Wait:
        """`wait` with the holders that the signs suffice for; else `missing` says whom they point
        to, and why that is not enough."""
        family = FAMILIES[wait.lock.kind]
        found = self._investigate(wait, family, waiters)
        resolved = conclude(wait, family, found, "task")
        if wait.needs == EVENT and not resolved.holders:
            resolved = wait  # a completion that nothing is known of is no lock without a holder
        if family not in (CONDITION, SEMAPHORE):
            return self._unless_last_has_it(wait, resolved, family)
        if resolved.holders:
            may_act = self._who_may_act(wait, family, {*waiters, *resolved.holders})
            others = (*resolved.others, *may_act)
            resolved = resolved.but(others=others, any_of=resolved.any_of or bool(others))
        if resolved.holders or self._runs_items(wait.task) or wait.task in self._awaited:
            return self._with_what_is_due(wait, resolved, family)
        return resolved

    def _unless_last_has_it(self, wait: Wait, resolved: Wait, family: str) -> Wait:
        """`resolved`, unless a lock of one reader records another task as the last one to get it,
        whose code may have taken it, and is not seen to have given it back."""
        last = wait.suspects[0] if wait.suspects else None
        if not resolved.holders or last is None or last in resolved.holders:
            return resolved
        if wait.holder_count != 1:
            return resolved
        target = Target(frozenset((wait.lock.address or 0,)), 0, 0)
        trace = self._trace(last, family)
        if trace is not None and trace.gave_back(target):
            return resolved
        trace = self._read(last, family, self._is_its_own)
        if trace is not None and not trace.may_take:
            return resolved
        return wait.but(missing=f"{wait.missing}; task {last.tid} may still have it")

    def _who_may_act(self, wait: Wait, family: str, but: set[Task]) -> tuple[Task, ...]:
        """The tasks with a pointer into the object of what is waited for whose code to come calls
        nobody knows what, or brings about events of nobody knows what."""
        found = []
        for task in self._near(wait.lock.address or 0):
            if task not in but:
                trace = self._own(task, family)
                if trace is None:  # of what rests, only what others made is on the stack then
                    acts = task not in self._idle
                else:
                    acts = trace.opaque or trace.acts_unseen
                if acts:
                    found.append(task)
        return (*found, *self._who_may_find(wait, family, {*but, *found}))

    def _who_may_find(self, wait: Wait, family: str, but: set[Task]) -> list[Task]:
        """The tasks whose code to come brings about events of what it will look up, and which get
        at the object of what is waited for by pointers, from what they have or know."""
        address = wait.lock.address or 0
        found = []
        target = Target(frozenset((address,)), address, address + 8)
        for task in (*self._choose(address, family)[0], *self._idle_workers(family)):
            trace = self._own(task, family) if task.tid and task not in but else None
            if trace is None:
                continue
            will = task in self._idle and any(trace.coming(target))
            if will or (trace.acts_unseen and self._may_find(task, family, address)):
                found.append(task)
        return found

    def _may_find(self, task: Task, family: str, address: int) -> bool:
        ways = self._reached(task, family)
        return any(self._completers.is_among(reached, address) for reached in ways)

    def _own(self, task: Task, family: str) -> Trace | None:
        """The task's frames of its own functions, and their code."""
        key = task, family
        if key not in self._own_traces:
            if self.code.exhausted:
                return None
            self._own_traces[key] = self._read(task, family, self._is_its_own)
        return self._own_traces[key]

    def _reached(self, task: Task, family: str) -> tuple[Reached, Reached]:
        """What the task gets at by its code, and by what is on its stack."""
        key = task, family
        if key not in self._reach_of:
            reach = self._completers.reach
            frames = self.space.frames(task)
            own = [frame for frame in frames if self._is_own(frame)]
            starts = frozenset(frame.function_start or 0 for frame in own)
            outer = frames[own[-1].index + 1 :] if own else ()  # what only runs its own ones
            kept = {value for frame in outer for value in (frame.registers or {}).values()}
            pointers = self._pointers(task, self._stack_within(task, outer)) - kept
            self._reach_of[key] = reach.by_code(starts, family), reach.by_objects(pointers)
        return self._reach_of[key]

    def _is_own(self, frame: Frame) -> bool:
        return frame.function_start is not None and self._is_its_own(frame.function_start)

    def _stack_within(self, task: Task, outer: Sequence[Frame]) -> bytes:
        """The task's stack, up to these frames."""
        stack = self._stacks.of(task)
        if not outer or outer[0].sp is None:
            return stack.data
        return stack.data[: max(0, outer[0].sp - stack.sp)]

    def _near(self, address: int) -> list[Task]:
        """The tasks on whose stacks there is a pointer into the object around `address`, or into
        one with a list that it is on; and those whose code mentions such a list."""
        if address not in self._near_to:
            tasks = [task for task in self._candidates[:MOST_ASKED] if not self.system.on_cpu(task)]
            tasks += self._idle
            stacks = [self._stacks.of(task) for task in tasks]
            variables = self._completers.variables_of(address)
            objects = self._completers.lists_of(address).objects
            places = address, *(*objects, *variables)[: MOST_RANGES - 1]
            reach = [(max(0, at - OBJECT_BYTES), at + OBJECT_BYTES) for at in places]
            kept = [stack.data for stack in stacks]
            words = self.system.kernel.words_of_each(kept, MOST_STACK, *reach)
            share = self._completers.may_share_object
            mentioning = Judged(
                lambda start: (
                    self._is_its_own(start)
                    and any(self.code.mentions(start, at) for at in variables)
                )
            )
            self._near_to[address] = [
                task
                for task, stack, data in zip(tasks, stacks, words)
                if any(share(at, word) for word in self._pointers(task, data) for at in places)
                or (variables and mentioning.any_of(stack.starts))
            ][:MOST_NEAR]
        return self._near_to[address]

    def _pointers(self, task: Task, data: bytes) -> set[int]:
        """Those of the words that the task may make use of."""
        found = {word for (word,) in struct.iter_unpack("<Q", data)}
        sleeper = self.snapshot.sleepers.get(task) if found else None
        return found - timers_beside(sleeper) if sleeper is not None else found

    def _runs_items(self, task: Task) -> bool:
        """Whether others' items are in line behind what the task does."""
        if self.system.flags(task) & PF_WQ_WORKER:
            return True
        return any(worker.task == task for worker in kthread_workers(self.system))

    @cached_property
    def _awaited(self) -> set[Task]:
        """The tasks that others wait for, as far as locks record it."""
        return {holder for wait in self.snapshot.waits.values() for holder in wait.holders}

    def _with_what_is_due(self, wait: Wait, resolved: Wait, family: str) -> Wait:
        """`resolved`, unless a timer, an interrupt or a work item ends the wait whatever tasks do;
        a work item that is in line behind others does so when their kworkers get on."""
        if resolved.holders and resolved.needs == EVENT and self._completers.unseen:
            return wait.but(missing=self._completers.unseen)
        found = self._completers.of(wait.lock.address or 0, self._tracer(family))
        ahead: list[Task] = []
        signs = []
        for call, sure in found:
            name = self.system.function(call.function)
            tasks = ahead_of(self.system, call)
            if not tasks or not sure:
                what = call.kind if call.kind == INTERRUPT else f"{call.kind} that is due"
                ends = "ends" if sure else "may end"
                sign = f"{what} calls {name}(), which {ends} this wait"
                return wait.but(needs=OUTSIDE, evidence=(*wait.evidence, sign), missing=None)
            ahead += tasks
            tids = ", ".join(str(task.tid) for task in tasks[:4])
            what = f"{call.kind}, {name}(), which ends it,"
            signs.append(f"{what} is in line behind what {tids} runs")
        if not ahead:
            return resolved
        holders = resolved.holders if resolved.needs == EVENT else ()
        return resolved.but(
            holders=tuple(dict.fromkeys((*holders, *ahead))),
            any_of=True,
            needs=EVENT,
            confidence=INFERRED,
            evidence=(*resolved.evidence, *signs),
            missing=None,
        )

    def _investigate(self, wait: Wait, family: str, waiters: set[Task]) -> Findings:
        address = wait.lock.address or 0
        target = Target(frozenset((address,)), address, address + 8)
        chosen, certain, unseen = self._choose(address, family)
        cases: list[Case] = []
        doubtful = []
        blind = 0
        for number, task in enumerate(chosen):
            if family == SPIN and number >= certain and any(case.strong for case in cases):
                unseen = 0  # it has one holder, and a task that sleeps is none, but for a bug
                break
            if family == CONDITION and task in waiters:
                continue
            trace = self._trace(task, family)
            if trace is None:
                blind += 1
                continue
            case = Case(task)
            if family == SEMAPHORE and task in waiters:
                sure = [holding.text for holding in trace.holding(target) if holding.sure]
                case.taken = sure[-1] if sure else None
            else:
                judge_by_code(case, trace, target, family)
                word = on_stack(self.space, trace, target)
                if task not in waiters and not case.given_back:
                    case.on_stack = word
                if word is not None and trace.opaque and not case.strong:
                    doubtful.append(task)
            cases.append(case)
        return weigh(wait, cases, unseen, blind, tuple(doubtful))

    def _trace(self, task: Task, family: str) -> Trace | None:
        """The task's frames that work with locks of the family, read together with their code;
        None if there are none."""
        key = task, family
        if key not in self._traces:
            if self.code.exhausted:
                return None
            self._traces[key] = self._read(
                task, family, lambda start: self._works(start, family), OUTWARD
            )
        return self._traces[key]

    def _read(
        self, task: Task, family: str, counts: Callable[[int], bool], outward: int = 0
    ) -> Trace | None:
        """The task's frames of functions that count, by their starts, and so many frames outside
        of each."""
        frames = self.space.frames(task)
        works = [
            number
            for number, frame in enumerate(frames)
            if frame.function_start is not None and counts(frame.function_start)
        ]
        if not works:
            return None
        indices = {number + more for number in works for more in range(outward + 1)}
        wanted = {frames[number].index for number in indices if number < len(frames)}
        tracer = self._tracer(family)

        def is_wanted(frame: Frame) -> bool:
            return frame.index in wanted

        live = live_frames(self.space, self.code, tracer, frames, is_wanted)
        return Trace(tracer, frames, live) if live else None

    def _is_its_own(self, start: int) -> bool:
        """Whether the function neither only sleeps nor only runs what others made."""
        name = self.system.function(start)
        return not (name in SLEEP_ONLY or name in _NOT_ITS_OWN or is_lock_function(name))

    def _tracer(self, family: str) -> Tracer:
        if family not in self._tracers:
            self._tracers[family] = Tracer(self.code, family)
        return self._tracers[family]

    def _works(self, start: int, family: str) -> bool:
        """Whether the function works with locks of the family as their user: neither only to
        sleep, nor to run what others made, nor as the lock's own slow path, which tries again and
        again to get what it waits for (but does take spinlocks)."""
        name = self.system.function(start)
        if family == SPIN:
            skipped = name in SLEEP_ONLY
        else:
            skipped = name in _NOT_ITS_OWN or is_lock_function(name)
        return not skipped and self.code.touches(start, family)

    def _choose(self, address: int, family: str) -> tuple[list[Task], int, int]:
        """The tasks to look at, those with a trace of the lock first; how many these are; and how
        many were left out."""
        marked: list[Task] = []
        others: list[Task] = []
        working = self._working.setdefault(family, Judged(lambda start: self._works(start, family)))
        mentioning = Judged(lambda start: self.code.mentions(start, address))
        for task in self._candidates[:MOST_ASKED]:
            stack = self._stacks.of(task)
            on_cpu = self.system.on_cpu(task)
            if not on_cpu and not working.any_of(stack.starts):
                continue
            near = on_cpu or stack.has(address) or mentioning.any_of(stack.starts)
            (marked if near else others).append(task)
        chosen = marked + others
        left_out = max(0, len(chosen) - MOST_CANDIDATES)
        return chosen[:MOST_CANDIDATES], len(marked), left_out

    @cached_property
    def _idle(self) -> dict[Task, None]:
        """The kernel threads that rest until there is something to do: they wait for nobody, but
        may well do something for others then."""
        found = [task for task in self.snapshot.tasks if self._rests(task)]
        return dict.fromkeys(found[:MOST_ASKED])

    def _rests(self, task: Task) -> bool:
        try:
            return not self.system.on_cpu(task) and is_idle(self.system.state(task))
        except FaultkitError:
            return False

    def _idle_workers(self, family: str) -> list[Task]:
        """Those of them in whose functions something is done to such locks."""
        working = self._working.setdefault(family, Judged(lambda start: self._works(start, family)))
        found = [task for task in self._idle if working.any_of(self._stacks.of(task).starts)]
        return found[:MOST_CANDIDATES]

    @cached_property
    def _candidates(self) -> Sequence[Task]:
        """Tasks that may hold a lock: on a CPU, about to run, or asleep for more than time."""
        snapshot = self.snapshot
        on_cpu = [task for task in self.system.running.values() if not self._is_idle(task)]
        rest = [
            task
            for task in snapshot.tasks
            if not self.system.on_cpu(task)
            and (task in snapshot.sleepers or task in snapshot.running)
        ]
        return on_cpu + rest

    def _is_idle(self, task: Task) -> bool:
        """Whether it is a CPU's idle task and the CPU halts: the back trace need not be asked."""
        if task.tid or task.cpu is None:
            return False
        pc = self.system.kernel.registers(task.cpu).get("rip", 0)
        return self.system.function(pc) in _IDLE
