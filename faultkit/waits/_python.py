"""What the Python providers share: a process's thread states, and who is inside which `with`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from faultkit.layouts.cpython import (
    STATE_WORDS,
    PythonMemory,
    is_pointer,
    list_thread_states,
    read_thread_state,
)
from faultkit.layouts.pycode import FrameCalls
from faultkit.layouts.pydict import attribute_is
from faultkit.layouts.pyframes import (
    Place,
    PyFrame,
    exits,
    local_values,
    place,
    python_frames,
    uses_name,
)
from faultkit.layouts.pyreach import Reach
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import ReadError
from faultkit.waits._python_doubt import may_be_given_back, may_be_let_go
from faultkit.waits._stack import live_stack, words
from faultkit.world import Blocked

BY_HAND = ("acquire", "release")
WAITS = ("wait", "wait_for")  # of threading's Condition, which let go of its lock meanwhile
MOST_FRAMES = 1024  # of all threads, whose code is searched for calls of a lock's methods
SHOWN = 3  # frames of a waiter, told of as evidence
STACK = 16 << 10  # how far up a waiter's stack its thread state and its lock object are looked for


class Inside(NamedTuple):
    """A thread inside a `with` block: `manager` is the object after `with`; `frames` those from
    the innermost to the block's."""

    task: Task
    kind: str
    manager: int
    where: str
    frames: Sequence[PyFrame]


class Speaking(NamedTuple):
    """A frame whose code speaks of acquire or release; `frames` as of Inside; `let_go`:
    what a wait() that it called lets go of meanwhile."""

    task: Task
    code: FrameCalls
    where: str
    frames: Sequence[PyFrame]
    let_go: frozenset[int]


class Taken(NamedTuple):
    """A thread whose code took a lock by hand; `certain` as in Call, and nothing that it called
    since may have given it back; `returns` if the same code gives it back later on: then it is a
    lock, and no gate that another thread opens."""

    task: Task
    certain: bool
    returns: bool
    where: str


class Python:
    """What is known of the interpreter in one process."""

    def __init__(self, blocked: Blocked) -> None:
        self.process = blocked.process
        self.memory = PythonMemory(blocked.process)
        self.reach = Reach(self.memory)
        self.tasks = blocked.world.threads(blocked.process)
        self.states: dict[int, int] = {}
        self._tids = {task: tid for tid, task in self.tasks.items()}
        self._inside: list[Inside] | None = None
        self._inside_on: dict[int, tuple[list[Inside], bool]] = {}
        self._taken: dict[int, tuple[list[Taken], set[Task]]] = {}
        self._speaking: list[Speaking] | None = None
        self._released_on_exit: dict[int, Task] | None = None

    def pointers_on_stack(self, blocked: Blocked) -> list[int]:
        """The distinct addresses of what may be objects, on the waiter's stack near its sp."""
        stack = words(live_stack(self.process, blocked.call.sp, STACK))
        return [word for word in dict.fromkeys(stack) if is_pointer(word)]

    def state(self, blocked: Blocked) -> int | None:
        """The waiter's PyThreadState, or None.  Finding one finds its interpreter's others."""
        tid = self._tids.get(blocked.task, blocked.task.tid)
        if tid not in self.states:
            for pointer in self.pointers_on_stack(blocked):
                found = read_thread_state(self.process, pointer, self.tasks)
                if found is not None and found.tid == tid:
                    self.states.update(list_thread_states(self.process, found, self.tasks))
                    break
        return self.states.get(tid)

    def released_on_exit(self, lock: int) -> Task | None:
        """The thread whose exit releases the lock object at `lock`: its thread state's
        on_delete_data is a weak reference to it (Modules/_threadmodule.c,
        thread__set_sentinel, to 3.12)."""
        if self._released_on_exit is None:
            self._released_on_exit = {}
            for tid, state in self.states.items():
                for word in self._words(state)[16:32]:
                    if self.memory.type_name(word).startswith("weakref"):
                        referent = self._words(word, 3)[2:]
                        self._released_on_exit.update(dict.fromkeys(referent, self.tasks[tid]))
        return self._released_on_exit.get(lock)

    def _words(self, address: int, count: int = STATE_WORDS) -> tuple[int, ...]:
        try:
            return self.process.words(address, count)
        except ReadError:
            return ()

    def frames(self, state: int) -> list[PyFrame]:
        """The Python frames of the thread with that state, innermost first."""
        return python_frames(self.memory, state)

    def places(self, blocked: Blocked) -> list[Place]:
        """Where the waiter's innermost Python frames are, those that can be told."""
        state = self.state(blocked)
        frames = self.frames(state)[:SHOWN] if state is not None else []
        return [found for frame in frames if (found := place(self.memory, frame))]

    def inside(self) -> list[Inside]:
        """Every `with` block that a thread is inside of.

        Left out: blocks of functions that also release by hand, and those on what threading's
        wait() lets go of meanwhile.
        """
        if self._inside is None:
            self._inside = []
            for tid, state in self.states.items():
                self._inside += self._inside_of(self.tasks[tid], state)
        return self._inside

    def _inside_of(self, task: Task, state: int) -> list[Inside]:
        found = []
        frames = self.frames(state)
        for number, frame, where, let_go in self._outside_of_waits(state):
            if where is None or uses_name(self.memory, frame, "release"):
                continue
            for kind, manager in exits(self.memory, frame):
                made_of = self.reach.objects.attribute(manager, "_lock")
                if let_go and (manager in let_go or (kind == "Condition" and made_of in let_go)):
                    continue
                found.append(Inside(task, kind, manager, str(where), frames[: number + 1]))
        return found

    def _outside_of_waits(
        self, state: int
    ) -> Iterator[tuple[int, PyFrame, Place | None, frozenset[int]]]:
        """(number, frame, where it is or None if that can't be told, what threading's wait() has
        let go of further in) of a thread's frames, innermost first, but for those of wait(); up to
        one of which it can't be told what it lets go of."""
        let_go: frozenset[int] = frozenset()
        for number, frame in enumerate(self.frames(state)):
            where = place(self.memory, frame)
            if where is not None and where.is_threading and where.function in WAITS:
                lets_go = self._lets_go(frame)
                if not lets_go:
                    return
                let_go |= lets_go
            else:
                yield number, frame, where, let_go

    def _lets_go(self, frame: PyFrame) -> set[int]:
        """What a frame of threading's wait() lets go of: its `self`, and the lock that this is
        made of if it is a Condition (an Event's or a Barrier's is another frame's); none if it
        can't be told."""
        try:
            condition = self.reach.objects.cell(local_values(self.memory, frame)[0][0])
        except (ReadError, IndexError):
            return set()
        if not self.memory.type_name(condition):
            return set()
        lock = self.reach.objects.attribute(condition, "_lock")
        if self.memory.type_name(condition) == "Condition" and not lock:
            return set()
        return {condition, lock} if lock else {condition}

    def taken_by_hand(self, lock: int) -> tuple[list[Taken], set[Task]]:
        """The threads in whose frames `lock.acquire()` was called and `lock.release()` was not
        since, the call that a thread is in aside; and those whose frames only release it, as
        others take it."""
        if lock not in self._taken:
            self._taken[lock] = self._find_taken(lock)
        return self._taken[lock]

    def _find_taken(self, lock: int) -> tuple[list[Taken], set[Task]]:
        found: list[Taken] = []
        releasers: set[Task] = set()
        for one in self._by_hand():
            if lock in one.let_go:
                continue
            calls = one.code.on(lock)
            if {call.method for call in calls} == {"release"}:
                releasers.add(one.task)
            past = [call for call in calls if not call.pending and not call.ahead]
            if past and past[-1].method == "acquire":
                returns = any(call.method == "release" and call.ahead for call in calls)
                certain = past[-1].certain and not may_be_given_back(
                    self.reach, one.frames, past[-1].at, lock, self._wrapper(lock), returns
                )
                found.append(Taken(one.task, certain, returns, one.where))
        return found, releasers

    def _by_hand(self) -> list[Speaking]:
        """The frames whose code speaks of acquire or release."""
        if self._speaking is None:
            self._speaking = []
            for tid, state in self.states.items():
                frames = self.frames(state)
                for number, frame, where, let_go in self._outside_of_waits(state):
                    if where is None:
                        break
                    speaks = any(uses_name(self.memory, frame, name) for name in BY_HAND)
                    if speaks and len(self._speaking) < MOST_FRAMES:
                        code = FrameCalls(self.memory, frame, BY_HAND, number == 0)
                        self._speaking.append(
                            Speaking(
                                self.tasks[tid],
                                code,
                                str(where),
                                frames[: number + 1],
                                let_go,
                            )
                        )
        return self._speaking

    def inside_on(self, lock: int) -> tuple[list[Inside], bool]:
        """Those that are inside `with` on the lock, or on a Condition that is made of it; and
        whether one of them may have let go of it for a while, within its block."""
        if lock not in self._inside_on:
            found = [
                one
                for one in self.inside()
                if one.manager == lock
                or (one.kind == "Condition" and self.locks_with(one.manager, lock))
            ]
            doubted = any(
                may_be_let_go(self.reach, one.frames, one.manager, lock, self._wrapper(lock))
                for one in found
            )
            self._inside_on[lock] = found, doubted
        return self._inside_on[lock]

    def _wrapper(self, lock: int) -> Callable[[int], bool]:
        return lambda condition: self.locks_with(condition, lock)

    def locks_with(self, condition: int, lock: int) -> bool:
        """Whether the threading.Condition at `condition` is made of `lock` (Lib/threading.py,
        Condition.__init__)."""
        try:
            return attribute_is(self.memory, condition, "_lock", lock)
        except ReadError:
            return False


def python_of(blocked: Blocked) -> Python:
    """The interpreter in the waiter's process."""
    name = f"python {blocked.process.pid}"
    if name not in blocked.world.cache:
        blocked.world.cache[name] = Python(blocked)
    python: Python = blocked.world.cache[name]
    return python
