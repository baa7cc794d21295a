"""From the functions that queue signals back to the places that choose them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from faultkit.record import NamedTuple
from faultkit.senders.body import Body
from faultkit.senders.calls import calls_to
from faultkit.senders.functions import (
    INFO_CODES,
    PRIMITIVES,
    PRIVILEGE,
    SI_CODE,
    SIGKILL,
    is_interface,
)
from faultkit.senders.marks import marks_of_kill
from faultkit.senders.places import Place, Slot
from faultkit.senders.text import Function, KernelText
from faultkit.senders.values import Given, Untold, Value, Values, place_values

MOST_SINKS = 400
MOST_CALLS = 20_000
LONGEST_WAY = 8  # wrappers between a place and what queues the signal
SIGNALS = range(1, 65)


class Sink(NamedTuple):
    """A function that sends a signal for its callers: where it takes the number from, or which
    ones it sends; the same of the si_code."""

    start: int
    name: str
    signal: Place | None
    signals: frozenset[int] = frozenset()
    code: Place | None = None
    codes: frozenset[int] = frozenset()
    info: Place | None = None
    way: tuple[str, ...] = ()  # what it calls itself, down to what queues the signal


class Site(NamedTuple):
    """A call, at `address` in `function`, that sends one of `signals`; none are told where the
    code leaves them open, for the reasons in `open`.  `codes` are si_codes; `way` the functions
    from the called one on, () where the function itself marks SIGKILL as pending."""

    address: int
    function: str
    signals: tuple[int, ...]
    codes: tuple[int, ...]
    open: tuple[str, ...]
    way: tuple[str, ...]


class Trace:
    """All sites of one kernel's code."""

    def __init__(self, text: KernelText, known: Iterable[Sink] = ()) -> None:
        """`known` are functions of others that send signals, found before: a kernel's, for its
        modules."""
        self.text = text
        self.sinks: list[Sink] = []
        self.sites: dict[int, Site] = {}
        self._bodies: dict[int, Body] = {}
        self._told: dict[int, set[int]] = {}  # si_codes that sites give themselves
        self._known: set[Sink] = set()
        self._sinks: deque[Sink] = deque()
        for sink in known:
            self._add(sink)
        for primitive in PRIMITIVES if not self._known else ():
            for function in text.named.get(primitive.name, ()):
                fixed = frozenset(() if primitive.fixed is None else (primitive.fixed,))
                self._add(
                    Sink(
                        function.start,
                        function.base,
                        primitive.signal,
                        fixed,
                        primitive.code,
                        frozenset(),
                        primitive.info,
                        (function.base,),
                    )
                )

    @property
    def found_primitives(self) -> bool:
        """Whether this kernel has any of the functions that all others end in."""
        return bool(self._known)

    def run(self) -> Trace:
        """Follow all of them; returns self."""
        while self._sinks:
            level = [self._sinks.popleft() for _ in range(len(self._sinks))]
            by_start: dict[int, list[Sink]] = {}
            for sink in level:
                by_start.setdefault(sink.start, []).append(sink)
            calls = calls_to(self.text.code(), set(by_start))
            for count, (address, target) in enumerate(calls):
                if count > MOST_CALLS:
                    break
                for sink in by_start[target]:
                    self._look(address, sink)
        for address in marks_of_kill(self.text):
            self._mark(address)
        for address, told in self._told.items():
            site = self.sites.get(address)
            if site is not None:
                self.sites[address] = site._replace(codes=_own_codes(site.codes, told))
        return self

    def _mark(self, address: int) -> None:
        """A SIGKILL that is put into a task's pending mask without more."""
        body = self._home(address)
        if body is None or body.function.base in _MARKING or address in self.sites:
            return
        self.sites[address] = Site(address, body.function.base, (SIGKILL,), (), (), ())

    def _add(self, sink: Sink) -> None:
        key = sink._replace(way=())
        if key not in self._known and len(self._known) < MOST_SINKS:
            self._known.add(key)
            self.sinks.append(sink)
            self._sinks.append(sink)

    def _body(self, function: Function) -> Body:
        if function.start not in self._bodies:
            self._bodies[function.start] = Body(self.text, function)
        return self._bodies[function.start]

    def _home(self, address: int) -> Body | None:
        """The function that has an instruction at `address`, in its cold part or not."""
        function = self.text.at(address)
        if function is None:
            return None
        if function.is_part:
            for whole in self.text.named.get(function.name.rpartition(".cold")[0], ()):
                body = self._body(whole)
                if address in body.sites and body.sites[address][0].leads:
                    return body
        body = self._body(function)
        return body if address in body.sites else None

    def _look(self, address: int, sink: Sink) -> None:
        body = self._home(address)
        if body is None:
            return
        instruction = body.sites[address][0].body[body.sites[address][1]]
        if instruction.kind not in ("call", "jmp", "jcc") or instruction.target != sink.start:
            return
        if body.function.start == sink.start:
            return  # it calls itself
        signals: Values = sink.signals
        if sink.signal is not None:
            signals = place_values(body, address, sink.signal)
        codes, info = self._codes(body, address, sink)
        constants = frozenset(v for v in signals if isinstance(v, int) and v in SIGNALS)
        given = [v for v in signals if isinstance(v, Given)]
        function = body.function
        name = function.base
        if name in PRIVILEGE:
            info, codes = PRIVILEGE[name], frozenset()
        numbers = frozenset(v for v in codes if isinstance(v, int))
        passed = [v for v in codes if isinstance(v, Given)]
        code = passed[0].place if len(passed) == 1 else None
        way = (name, *sink.way)
        if sink.code is not None and constants:
            self._told.setdefault(address, set()).update(numbers)
        wraps = [v for v in given if _passes_on(v)] if len(sink.way) < LONGEST_WAY else []
        for value in wraps:
            chosen = Sink(function.start, name, value.place, frozenset(), code, numbers, info, way)
            self._add(chosen)
        if constants and is_interface(name):
            self._add(Sink(function.start, name, None, constants, code, numbers, info, way))
            constants = frozenset()
        reasons = tuple(sorted({_why(v) for v in signals if v not in wraps and _is_open(v)}))
        if constants or (reasons and not is_interface(name)):
            self._note(address, name, constants, numbers, reasons, sink.way)

    def _codes(self, body: Body, address: int, sink: Sink) -> tuple[Values, Place | None]:
        """The si_codes that the call gives; and which argument of the function decides, where the
        call passes on a siginfo that may be SEND_SIG_NOINFO or SEND_SIG_PRIV."""
        codes: set[Value] = set(sink.codes)
        passed: Place | None = None
        places = [] if sink.code is None else [sink.code]
        if isinstance(sink.info, str):
            infos = place_values(body, address, sink.info)
            for value in infos:
                if isinstance(value, int) and value in INFO_CODES:
                    codes.add(INFO_CODES[value])
                elif isinstance(value, Given):
                    passed = value.place
            if all(isinstance(value, int) for value in infos):
                places = []
            elif passed is None and not places:
                places = [Slot(sink.info, SI_CODE)]
        for place in places:
            found = place_values(body, address, place)
            codes.update(value for value in found if not isinstance(value, Untold))
        return frozenset(codes), passed

    def _note(
        self,
        address: int,
        name: str,
        constants: frozenset[int],
        codes: frozenset[int],
        reasons: tuple[str, ...],
        way: tuple[str, ...],
    ) -> None:
        before = self.sites.get(address)
        if before is not None:
            constants |= frozenset(before.signals)
            codes |= frozenset(before.codes)
            reasons = tuple(sorted({*reasons, *before.open}))
            way = min(before.way, way, key=len)
        self.sites[address] = Site(
            address, name, tuple(sorted(constants)), tuple(sorted(codes)), reasons, way
        )


_MARKING = frozenset(primitive.name for primitive in PRIMITIVES if primitive.fixed)


def _own_codes(codes: tuple[int, ...], told: set[int]) -> tuple[int, ...]:
    """do_trap() and the like: where a si_code is given, that counts, 0 meaning none."""
    given = tuple(sorted(told - {0}))
    return given or tuple(code for code in codes if code or not told)


def _passes_on(value: Given) -> bool:
    """Whether a function's callers may tell the value: it is an argument, or the first member of
    an object that an argument points to, as a siginfo's number is."""
    place = value.place
    if isinstance(place, Slot):
        return place.offset == 0
    return place in ("rdi", "rsi", "rdx", "rcx", "r8", "r9")


def _is_open(value: Value) -> bool:
    return not isinstance(value, int)


def _why(value: Value) -> str:
    if isinstance(value, Untold):
        return value.why
    if isinstance(value, Given) and isinstance(value.place, Slot):
        return f"read from an object ({value.place.offset:#x} bytes into it)"
    return "given by its caller"


def trace(text: KernelText) -> list[Site]:
    """All sites, in order of addresses."""
    return [site for _, site in sorted(Trace(text).run().sites.items())]
