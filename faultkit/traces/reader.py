"""From text to traces: the kinds of text are asked line by line, what they say is put together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from faultkit.decode.model import Address, Trace
from faultkit.klog.lines import parse_line
from faultkit.traces import (
    addresses,
    bpf,
    debuggers,
    ftrace,
    kernel_log,
    perf,
    proc_stack,
    systemtap,
)  # fmt: skip
from faultkit.traces.architectures import of_release
from faultkit.traces.events import (
    Aside,
    Code,
    End,
    Event,
    Foreign,
    Head,
    Offset,
    Place,
    Registers,
)  # fmt: skip

# The first that knows a line is believed.
KINDS = (debuggers, perf, systemtap, ftrace, proc_stack, kernel_log, bpf, addresses)
MOST_FRAMES = 1 << 14  # of one trace
LONGEST_LINE = 2048
# Kinds of what happens, of which each is an event of its own.
EVENTS = frozenset(("oops", "warning", "lockup", "hung-task", "stall", "panic", "hardware",
                    "check"))  # fmt: skip
BESIDE = frozenset(("history", "locks"))  # kinds of what stands within other reports
_PART = re.compile(r"(?P<report>\w+#\d+) Part(?P<part>\d+)\s*$")  # fs/pstore/platform.c
PREEMPTION = "Preemption disabled at:"  # a place, and no stack, follows
ONE_LINE = frozenset(("warning", "lockup", "hung-task", "panic"))  # that one line begins
MOST_SAID = 4  # events without a back trace that are told of at one that has it
MIXED = (
    "lines of several CPUs are mixed here: which frame is whose, and what they are of, can't be "
    "told; boot with printk.caller, or read the dump's own log"
)
MOST_LEADING = 256  # lines within which an indented report has its title
_EXACT_FIRST = frozenset(("perf", "bpf", "systemtap"))  # whose first frame is where it happened


def read(text: str, exact: bool = False) -> list[Trace]:
    """The traces in a text, in its order.  `exact` takes plain addresses as instructions'."""
    lines = text.split("\n")
    if " Part" in text:
        lines = _in_order(lines)
    indent = _indent(lines)
    return read_lines((line[indent:] for line in lines) if indent else lines, exact)


def read_lines(lines: Iterable[str], exact: bool = False) -> list[Trace]:
    """The same of lines."""
    reader = _Reader(exact)
    for line in lines:
        if len(line) <= LONGEST_LINE:
            reader.take(line.rstrip("\r\n"))
    return reader.finish()


class _Reader:
    def __init__(self, exact: bool) -> None:
        self._exact = exact
        self._traces: list[Trace] = []
        self._open: Trace | None = None
        self._offset: int | None = None
        self._release: str | None = None
        self._build_id: str | None = None
        self._architecture: str | None = None
        self._exception: int | None = None  # the entry that registers are of
        self._user = False  # what comes is user space's
        self._mixed = False  # lines of several CPUs are mixed
        self._introduced: str | None = None  # a line like "Freed by task 12:", just read
        self._caller: str | None = None  # who printed the last line
        self._others: dict[str, tuple[Trace | None, int | None, bool]] = {}

    def take(self, line: str) -> None:
        """Take in one line."""
        frame = kernel_log.plain_frame(line)
        if frame is not None:
            self._place(Place(frame))
            return
        _, text, caller = parse_line(_unquoted(line))
        if caller is not None and caller != self._caller:
            self._switch(caller)
        known = _events(text)
        if known is None:
            self._introduced = text.strip() if text.rstrip().endswith(":") else None
            if self._open is not None and self._open.kind in ("stack", "addresses", "ftrace"):
                self._open = None  # such texts have no lines of other kinds
            return
        if text[:1] == " " and self._has_title() and all(map(_is_number, known)):
            return  # words of the stack, as kernels before 4.11 show them
        for event in known:
            self._handle(event)
        self._introduced = None

    def _switch(self, caller: str) -> None:
        """Go on with what another task or interrupt prints: their lines may be mixed."""
        if self._caller is not None:
            self._others[self._caller] = self._open, self._exception, self._user
            nothing = None, None, False
            self._open, self._exception, self._user = self._others.get(caller, nothing)
            self._introduced = None
        self._caller = caller

    def _has_title(self) -> bool:
        """Whether a report in a kernel log is open."""
        return self._open is not None and bool(self._open.title)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Head):
            self._head(event)
        elif isinstance(event, Place):
            self._place(event)
        elif isinstance(event, Registers):
            self._registers(event)
        elif isinstance(event, Code):
            self._code(event)
        elif isinstance(event, Offset):
            self._offset = event.offset
            for trace in self._traces:
                if trace.offset is None:
                    trace.offset = event.offset
        elif isinstance(event, Aside):
            self._aside(Trace(event.kind, event.title))
        elif isinstance(event, Foreign):
            self._architecture = event.architecture
            if self._open is not None:
                self._open.architecture = event.architecture
        elif isinstance(event, End):
            self._open, self._mixed = None, False

    def _aside(self, trace: Trace) -> None:
        """Keep what has no back trace, before the open report if that has none yet; of several
        of a kind, as all that one error makes the hardware say, the first."""
        traces = self._traces
        at = len(traces)
        if self._open is not None and not self._open.entries:
            at = next(i for i, each in enumerate(traces) if each is self._open)
        if not at or traces[at - 1].kind != trace.kind or traces[at - 1].entries:
            traces.insert(at, trace)

    def _head(self, head: Head) -> None:
        trace = self._open
        if trace is not None and _contradicts(trace, head):
            trace.task = trace.pid = trace.cpu = None
            self._mix(trace)
            return
        if trace is None or not head.joins or _settled(trace, head):
            trace = self._postponed(head) or self._begin(
                head.kind or (trace.kind if trace is not None else "stack")
            )
        if head.kind and (not trace.title or trace.kind in ("stack", "panic")):
            trace.kind = head.kind
        if "invoked oom-killer" in head.title:
            trace.happened.add("oom")
        trace.title = trace.title or head.title
        trace.task = trace.task or head.task
        if trace.pid is None:
            trace.pid = head.pid
        if trace.cpu is None:
            trace.cpu = head.cpu
        self._release = trace.release = trace.release or head.release or self._release
        self._build_id = trace.build_id = trace.build_id or head.build_id or self._build_id

    def _postponed(self, head: Head) -> Trace | None:
        """The report whose own stack a head without a title begins, behind the locks that were
        held and the past of an object; it is the open one from now on."""
        own = (each for each in reversed(self._traces) if each.kind not in BESIDE)
        report = next(own, None)
        if report is None or report is self._traces[-1] or report.entries or not report.title:
            return None
        if head.title or head.kind or head.pid is None:
            return None
        self._traces = [each for each in self._traces if each is not report] + [report]
        self._open, self._exception, self._user = report, None, False
        return report

    def _mix(self, trace: Trace) -> None:
        self._mixed = True
        if MIXED not in trace.notes:
            trace.notes.append(MIXED)

    def _begin(self, kind: str) -> Trace:
        self._open = trace = Trace(kind)
        trace.offset, trace.release, trace.build_id = self._offset, self._release, self._build_id
        trace.architecture = self._architecture
        self._traces.append(trace)
        self._exception, self._user = None, False
        if self._mixed:
            self._mix(trace)
        return trace

    def _place(self, place: Place) -> None:
        trace, address = self._open, place.address
        introduced = self._introduced if place.kind == "stack" else None
        if introduced == PREEMPTION:
            self._introduced = None
            return
        if trace is not None and introduced and not _exception_only(trace):
            trace = self._begin(trace.kind)  # another stack of the same report
            trace.title = introduced
        self._introduced = None
        if trace is None or (trace.kind == "addresses" and address.symbol is not None):
            trace = self._begin(place.kind if address.symbol is not None else "addresses")
        if self._exact and place.kind == "addresses":
            address = address._replace(exact=True)
        if trace.kind in _EXACT_FIRST and not trace.entries:
            address = address._replace(exact=True)
        if len(trace.entries) < MOST_FRAMES and not _repeated(trace, address):
            self._exception = len(trace.entries) if place.address.exact else None
            self._user = False
            trace.entries.append(address)

    def _registers(self, registers: Registers) -> None:
        trace, index = self._open, self._exception
        if registers.user:
            self._exception, self._user = None, True
        elif trace is not None and index is not None:
            known = trace.entries[index].registers or {}
            trace.entries[index] = trace.entries[index]._replace(
                registers={**registers.values, **known}
            )

    def _code(self, code: Code) -> None:
        trace = self._open
        if trace is None or self._user or not any(entry.exact for entry in trace.entries):
            return
        trace.code = trace.code or code.code

    def finish(self) -> list[Trace]:
        """The traces that have frames, with notes on what was said without any; if there are
        none, what was said."""
        traces: list[Trace] = []
        said: list[Trace] = []
        for trace in self._traces:
            trace.happened.add(trace.kind)
            if not trace.entries:
                if trace.title and trace.kind in EVENTS:
                    if trace.kind == "panic" and traces:  # what came of the one before
                        _tell(traces[-1], "then", [trace])
                    else:
                        said.append(trace)
            elif not any(_summary(trace, each) for each in traces[-2:]):
                _tell(trace, "before it", said[-MOST_SAID:])
                said.clear()
                traces.append(trace)
        if not traces:
            traces = [each for each in self._traces if each.title and each.kind in EVENTS]
        else:
            _tell(traces[-1], "after it", said[:MOST_SAID])
        for trace in traces:
            if trace.release is None:
                trace.release = self._release
            if trace.build_id is None:
                trace.build_id = self._build_id
            trace.architecture = trace.architecture or of_release(trace.release)
            exception = next((entry for entry in trace.entries if entry.exact), None)
            trace.registers = exception.registers or {} if exception is not None else {}
        return traces


def _tell(trace: Trace, when: str, said: list[Trace]) -> None:
    """Note at a trace what the text tells of without a back trace."""
    trace.notes += [f"{when}: {each.title}" for each in said]
    for each in said:
        trace.happened |= each.happened


def _events(text: str) -> list[Event] | None:
    for kind in KINDS:
        found: list[Event] | None = kind.events(text)
        if found is not None:
            return found
    return None


def _is_number(event: Event) -> bool:
    """Whether it is an address that stands alone."""
    return isinstance(event, Place) and event.kind == "addresses"


def _settled(trace: Trace, head: Head) -> bool:
    """Whether a head is of another trace than the one that is open."""
    if head.kind == "task" and trace.kind != "hung-task":
        return True  # a listing: the one before may have no frames
    if not trace.entries:
        again = head.kind in EVENTS and (trace.kind != head.kind or head.kind in ONE_LINE)
        return again and bool(trace.title) and bool(head.title)
    # An exception's frames follow its registers; who it was of stands before, or behind.
    return head.task is not None or bool(head.title) or not _exception_only(trace)


def _contradicts(trace: Trace, head: Head) -> bool:
    """Whether a head, which has no title of its own, says that a trace is of another task than
    one before it did."""
    return (
        not head.title and head.pid is not None and trace.pid not in (None, head.pid)
        and head.joins and _exception_only(trace)
    )  # fmt: skip


def _exception_only(trace: Trace) -> bool:
    """Whether of a trace only the exception's own place is known yet."""
    return len(trace.entries) <= 1 and all(entry.exact for entry in trace.entries)


def _summary(trace: Trace, before: Trace) -> bool:
    """Whether a trace is what the kernel says once more of one before, when an oops has ended:
    where it was (arch/x86/kernel/dumpstack.c, oops_end())."""
    alone = not trace.title and len(trace.entries) == 1 and trace.entries[0].exact
    return alone and _same_place(trace.entries[0], before.entries[0])


def _same_place(one: Address, other: Address) -> bool:
    return one._replace(registers=None) == other._replace(registers=None)


def _repeated(trace: Trace, address: Address) -> bool:
    """Old kernels say at an oops' end once more where it was."""
    return address.exact and len(trace.entries) > 1 and _same_place(address, trace.entries[0])


def _unquoted(line: str) -> str:
    """A line without the marks of a quotation in a mail."""
    while line.startswith(">"):
        line = line[2:] if line.startswith("> ") else line[1:]
    return line


def _in_order(lines: list[str]) -> list[str]:
    """The lines of a log of which pstore kept parts, the oldest first: its Part1 is the last."""
    parts: list[tuple[str, int, list[str]]] = [("", 0, [])]
    for line in lines:
        match = _PART.match(line)
        if match is not None:
            parts.append((match["report"], -int(match["part"]), []))
        parts[-1][2].append(line)
    first = {report: at for at, (report, _, _) in reversed(list(enumerate(parts)))}
    parts.sort(key=lambda part: (first[part[0]], part[1]))
    return [line for _, _, some in parts for line in some]


def _indent(lines: list[str]) -> int:
    """By how many characters a whole report was indented, as in a mail or a ticket; 0 where
    nothing but frames is, whose indentation is their own."""
    found = {line[: len(line) - len(line.lstrip())] for line in lines if line.strip()}
    blanks = min(found, key=len, default="")
    if not blanks or not all(each.startswith(blanks) for each in found):
        return 0
    known = (_events(line[len(blanks) :].rstrip()) for line in lines[:MOST_LEADING])
    heads = (event for some in known for event in some or () if isinstance(event, Head))
    return len(blanks) if any(head.title or head.task for head in heads) else 0


def distinct(traces: Iterable[Trace]) -> Iterator[Trace]:
    """Samples of the same stack as one trace, which tells how often it was there."""
    seen: dict[object, tuple[Trace, int]] = {}
    for trace in traces:
        key: object = id(trace)
        if trace.kind in ("perf", "ftrace"):
            key = (trace.kind, tuple(trace.entries))
        first, count = seen.get(key, (trace, 0))
        seen[key] = first, count + 1
    for trace, count in seen.values():
        if count > 1:
            trace.notes.append(f"{count} times in the text")
        yield trace
