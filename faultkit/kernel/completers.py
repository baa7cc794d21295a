"""Who ends a wait besides tasks: timers and work items that are due, and interrupts, by what their
functions do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice

from faultkit.infer.flow import Tracer
from faultkit.infer.frames import LiveFrame
from faultkit.infer.path import OBJECT_BYTES, Path
from faultkit.kernel.code import KernelCode
from faultkit.kernel.deferred import (
    MOST,
    Deferred,
    interrupts,
    kthread_items,
    lacks_timers,
    timers,
    work_items,
)
from faultkit.kernel.linked import Nodes, nodes_beside
from faultkit.kernel.reach import Reach, Reached
from faultkit.kernel.space import KernelSpace
from faultkit.model import Frame
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

UNKNOWN_BYTES = 256  # of an object, where hosts can't tell the cache
MOST_FOLLOWED = 256  # whose code is followed for one family of locks


class Effect(NamedTuple):
    """The addresses of what a call completes, and of what it hands on to nobody knows what, if
    it does; `unseen` if it completes what only a look-up will tell it."""

    ends: frozenset[int]
    opaque: bool
    passed: frozenset[int] = frozenset()
    unseen: bool = False


class Completer(NamedTuple):
    """A call that is due and ends the wait; `sure` unless it calls nobody knows what."""

    call: Deferred
    sure: bool


class Completers:
    """Looks through all that is due of one kernel, once for each family."""

    def __init__(self, space: KernelSpace, code: KernelCode) -> None:
        self._space = space
        self._code = code
        self._known: dict[tuple[Deferred, str], Effect] = {}
        self._lists: dict[int, Nodes] = {}
        self.reach = Reach(space.system, code)

    def of(self, address: int, tracer: Tracer) -> list[Completer]:
        """What is due to complete (or to post) what is at `address`, or may do so: it calls nobody
        knows what, or ends what it will find on a list that the object is on."""
        found = []
        for call in islice(self._concerned(address, tracer.family), MOST_FOLLOWED):
            key = call, tracer.family
            if key not in self._known:
                self._known[key] = self._effect(call, tracer)
            effect = self._known[key]
            sure = address in effect.ends
            reached = (call.argument, *effect.passed) if effect.opaque else ()
            listed = effect.opaque and self._gets_at_a_list(call, address)
            listed = listed or (effect.unseen and self._finds(call, tracer.family, address))
            if sure or listed or any(self.may_share_object(address, other) for other in reached):
                found.append(Completer(call, sure))
        return found

    def _gets_at_a_list(self, call: Deferred, address: int) -> bool:
        lists = self.lists_of(address)
        if any(self._code.mentions(call.function, node) for node in self.variables_of(address)):
            return True
        nodes = (*lists.variables, *lists.objects)
        return any(self.may_share_object(node, call.argument) for node in nodes)

    def lists_of(self, address: int) -> Nodes:
        """The list_heads that lead to the object around `address`."""
        if address not in self._lists:

            def is_inside(other: int) -> bool:
                return self.may_share_object(address, other)

            self._lists[address] = nodes_beside(self._space.system, address, is_inside)
        return self._lists[address]

    def variables_of(self, address: int) -> tuple[int, ...]:
        """Those of them that are in variables, and where these begin: a hash table's first list."""
        found = []
        for node in self.lists_of(address).variables:
            symbol = self._space.system.symbol_at(node)
            found += [node, node - symbol.offset] if symbol is not None else [node]
        return tuple(dict.fromkeys(found))

    def _finds(self, call: Deferred, family: str, address: int) -> bool:
        found = (
            self.reach.by_code(frozenset((call.function,)), family),
            self.reach.by_objects((call.argument,)),
        )
        return any(self.is_among(reached, address) for reached in found)

    def is_among(self, reached: Reached, address: int) -> bool:
        """Whether any of the pointers leads into the object around `address`, or to what leads to
        it in a list, a hash table or a tree."""
        lists = self.lists_of(address)
        nodes = {*lists.variables, *lists.objects}

        def is_goal(word: int) -> bool:
            if word in nodes:
                return True
            return abs(word - address) < OBJECT_BYTES and self.may_share_object(address, word)

        return reached.leads_to(is_goal, self.may_share_object)

    @cached_property
    def unseen(self) -> str | None:
        """What keeps us from seeing what is due; None if nothing does."""
        if self._due is None or not lacks_timers(self._space.system):  # looks through them first
            return None
        return "timers may end waits for completions, and the dump lacks which ones are due"

    @cached_property
    def _due(self) -> list[Deferred]:
        found: list[Deferred] = []
        for source in (timers, work_items, kthread_items, interrupts):
            try:
                found += islice(source(self._space.system), MOST)
            except FaultkitError:
                continue  # this kernel's are laid out otherwise
        return found

    def _concerned(self, address: int, family: str) -> Iterator[Deferred]:
        """Those first that work with such locks, or lie beside this one."""
        rest = []
        for call in self._due:
            if self._code.touches(call.function, family) or _is_near(address, call):
                yield call
            else:
                rest.append(call)
        yield from rest

    def _effect(self, call: Deferred, tracer: Tracer) -> Effect:
        if self._code.exhausted:
            return Effect(frozenset(), True)
        entry = {call.register: call.argument}
        walk = tracer.walk(self._code.function(call.function), entry=entry)
        at = walk.at_return or Path()
        frame = Frame(0, call.function, function_start=call.function)
        live = LiveFrame(self._space, frame, walk, at, None, entry)
        taken = {live.resolve(lock): site for site, lock in walk.takes}
        ends = set()
        unseen = False
        for event in walk.events:
            address = live.resolve(event.lock)
            unseen = unseen or address is None
            first = taken.get(address)  # as a lock, then
            if address is not None and (first is None or not walk.graph.ahead(event.site, first)):
                ends.add(address)
        passed = {live.resolve(value) for value in at.passed}
        opaque = unseen or bool(walk.opaque)
        return Effect(frozenset(ends), opaque, frozenset(filter(None, passed)), unseen)

    def may_share_object(self, one: int, other: int) -> bool:
        """Whether both may lie in one object: one variable, one stack, or one of a slab cache."""
        distance = abs(one - other)
        if distance >= OBJECT_BYTES:
            return False
        places = {self._place(one), self._place(other)}
        if None in places:
            return distance < UNKNOWN_BYTES
        return len(places) == 1

    def _place(self, address: int) -> str | None:
        """What the address lies in."""
        system = self._space.system
        symbol = system.symbol_at(address)
        if symbol is not None:
            return f"variable at {address - symbol.offset:#x}"
        owner = system.stack_owner(address)
        if owner is not None:
            return f"stack of {owner.tid}"
        slab = system.kernel.slab(address)
        return f"object at {slab.start:#x}" if slab is not None else None


def _is_near(address: int, call: Deferred) -> bool:
    """Whether the timer or work item may be in the same object."""
    return abs(address - call.argument) < OBJECT_BYTES
