"""What the tracers of `sigsrc --arm` have written: events, and the findings that they make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from faultkit.model import INFERRED, Task
from faultkit.record import NamedTuple
from faultkit.senders.functions import is_interface
from faultkit.senders.words import system_call, when
from faultkit.signals.model import (
    CHILD,
    DELIVERED,
    FATAL,
    FAULT,
    KERNEL,
    KILL,
    PARENT_DEATH,
    PIPE,
    RLIMIT,
    SIGQUEUE,
    TGKILL,
    TIMER,
    UNKNOWN,
    Sender,
    SignalFinding,
)
from faultkit.signals.names import (
    IGNORED,
    SI_KERNEL,
    SI_QUEUE,
    SI_SIGIO,
    SI_TIMER,
    SI_TKILL,
    SI_USER,
    SIGBUS,
    SIGCHLD,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGPIPE,
    SIGRTMAX,
    SIGSEGV,
    SIGTRAP,
    SIGXFSZ,
    STOPPING,
    code_name,
    code_words,
    signal_name,
)

MOST_EVENTS = 1_000_000
MOST_STACK = 32
SOON = 1.0  # seconds in which a fatal signal ends a task
_LEAVING = frozenset(("exit_group", "exit"))
_TRACEFS = re.compile(
    r"\s*(?P<name>.{1,16}?)-(?P<tid>\d+)\s+(?:\([\s\d-]+\)\s+)?\[\d+\]\s+(?:\S{4,6}\s+)?"
    r"(?P<time>\d+\.\d+): (?P<rest>.*)$"
)
_GENERATED = re.compile(
    r"signal_generate: sig=(?P<sig>\d+) errno=-?\d+ code=(?P<code>-?\d+) comm=(?P<to_name>.*) "
    r"pid=(?P<to>\d+) grp=(?P<group>\d+) res=(?P<result>\d+)"
)
_CALL = re.compile(r"sys_(?P<call>\w+)\((?P<arguments>.*)\)")
_EXIT = re.compile(r"sched_process_exit: comm=(?P<to_name>.*?) pid=(?P<to>\d+) prio=")
_PROBE = re.compile(r"faultkit_\d+_\d+_(?P<call>\w+): ")
_OWN = re.compile(r"faultkit (?P<kind>signal|call|exit) (?P<fields>.*)$")
_FIELD = re.compile(r"(\w+)=(.*?)(?= \w+=|$)")
_STACK = re.compile(r"\s*(?:=>\s*)?(?P<place>\S.*)$")
_ARMED = re.compile(r"faultkit: armed (\d+)")
_RESULTS = {  # include/trace/events/signal.h
    1: "it was ignored",
    2: "the same signal was pending already",
    3: "it was lost: the queue was full",
    4: "its siginfo was lost: the queue was full",
}
_TRACING = ("trace_event_raw_event_", "__traceiter_", "bpf_", "__bpf_", "perf_trace_")
_BY_CODE = {SI_USER: KILL, SI_TKILL: TGKILL, SI_QUEUE: SIGQUEUE}
_BY_PROGRAMS = frozenset((KILL, TGKILL, SIGQUEUE, UNKNOWN))
_SENDS = frozenset(("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
                    "pidfd_send_signal"))  # fmt: skip
_FAULTS = frozenset((SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP))
_TIMERS = frozenset(("it_real_fn", "check_cpu_itimer"))
_LAST_WORDS = frozenset(("do_exit", "forget_original_parent", "reparent_leader"))
_ENTRIES = frozenset(("do_syscall_64", "__do_fast_syscall_32", "do_int80_emulation",
                      "fred_int80_emulation", "ret_from_fork"))  # fmt: skip
_CODES = {"SI_USER": SI_USER, "SI_KERNEL": SI_KERNEL, "SI_QUEUE": SI_QUEUE, "SI_TKILL": SI_TKILL}


class Event(NamedTuple):
    """`kind` is signal, call or exit.  `tid` and `name` are the task's in whose context it was,
    `pid` its process if the tracer tells.  `to` is the receiver, or who exits."""

    kind: str
    time: float | None
    tid: int
    name: str
    pid: int | None = None
    uid: int | None = None
    number: int = 0
    code: int = 0
    to: int = 0
    to_name: str | None = None
    group: bool = False
    result: int = 0
    call: str = ""


class Traced(NamedTuple):
    """An event with the functions of the kernel's and the program's stack, innermost first."""

    event: Event
    kernel: list[str]
    user: list[str]


class Trace(NamedTuple):
    """All events, and the process that was watched, if the text tells."""

    armed: int | None
    events: list[Traced]


def parse_trace(lines: Iterable[str]) -> Trace:
    """The events of tracefs, bpftrace or SystemTap."""
    armed: int | None = None
    events: list[Traced] = []
    stack: list[str] | None = None
    for line in lines:
        found = _ARMED.search(line)
        if found is not None:
            armed = int(found[1][:10])
            continue
        event, user = _event(line)
        if event is not None and len(events) < MOST_EVENTS:
            events.append(Traced(event, [], []))
            stack = events[-1].kernel if event.kind == "signal" else events[-1].user
        elif user is not None:  # a stack of tracefs: the last event's in that context
            stack = None
            for traced in reversed(events[-8:]):
                if traced.event.tid == user[0]:
                    stack = traced.user if user[1] else traced.kernel
                    break
        elif not line.strip() and events and stack is events[-1].kernel and stack:
            stack = events[-1].user  # bpftrace prints them one after the other
        elif stack is not None and len(stack) < MOST_STACK:
            place = _STACK.match(line)
            if place is not None and not _TRACEFS.match(line):
                stack.append(place["place"].split("+")[0].strip() if "/" not in line else
                             place["place"].strip())  # fmt: skip
    for traced in events:
        traced.kernel[:] = [name for name in traced.kernel if not name.startswith(_TRACING)]
    return Trace(armed, events)


def _event(line: str) -> tuple[Event | None, tuple[int, bool] | None]:
    """(the line's event, None) or (None, (task, whether it is a program's stack that follows))."""
    own = _OWN.search(line)
    if own is not None:
        return _own_event(own["kind"], dict(_FIELD.findall(own["fields"]))), None
    match = _TRACEFS.match(line)
    if match is None:
        return None, None
    tid, time, rest = int(match["tid"][:10]), float(match["time"][:30]), match["rest"]
    if "stack trace>" in rest:
        return None, (tid, "user" in rest)
    base = Event("call", time, tid, match["name"].strip())
    found = _GENERATED.search(rest)
    if found is not None:
        return base._replace(
            kind="signal",
            number=int(found["sig"][:6]),
            code=int(found["code"][:11]),
            to=int(found["to"][:10]),
            to_name=found["to_name"],
            group=found["group"] == "1",
            result=int(found["result"][:6]),
        ), None
    found = _EXIT.search(rest)
    if found is not None:
        return base._replace(kind="exit", to=tid, to_name=match["name"].strip()), None
    found = _CALL.search(rest) or _PROBE.search(rest)
    if found is None:
        return None, None
    arguments = dict(
        part.strip().split(": ", 1)
        for part in found.groupdict().get("arguments", "").split(",")
        if ": " in part
    )
    number = arguments.get("sig") or arguments.get("error_code") or "0"
    return base._replace(call=found["call"], number=_int(number)), None


def _own_event(kind: str, fields: dict[str, str]) -> Event:
    code = fields.get("code", "0")
    time = fields.get("time", "")
    return Event(
        kind,
        int(time) / 1e9 if time.isdecimal() and len(time) < 20 else None,
        _int(fields.get("tid", "0")),
        fields.get("name", "?"),
        _int(fields.get("by", "0")) or None,
        _int(fields["uid"]) if "uid" in fields else None,
        _int(fields.get("sig", "0")),
        _CODES.get(code, _int(code)),
        _int(fields.get("to", fields.get("tid", "0"))),
        None,
        fields.get("group") == "1",
        _int(fields.get("result", "0")),
        fields.get("call", ""),
    )


def _int(text: str) -> int:
    try:
        return int(text[:20], 0)
    except ValueError:
        return 0


def traced_signals(trace: Trace, pid: int | None = None) -> list[SignalFinding]:
    """A finding for each signal, in the order of sending; those to `pid` only, if given."""
    watched = pid if pid is not None else trace.armed
    ended = {one.event.to: one.event.time for one in trace.events if one.event.kind == "exit"}
    left = {one.event.pid or one.event.tid for one in trace.events if one.event.call in _LEAVING}
    found = [
        _finding(one, watched)
        for one in trace.events
        if one.event.kind == "signal" and 1 <= one.event.number <= SIGRTMAX
        and (pid is None or one.event.to == pid)
    ]  # fmt: skip
    last: dict[int, int] = {}
    for number, one in enumerate(found):
        if one.state == DELIVERED and "ignored" not in one.explanation:
            last[one.task.tid] = number
    for tid, number in last.items():
        one = found[number]
        if one.number == SIGKILL:
            found[number] = one._replace(state=FATAL)
        elif tid in ended and tid not in left and one.number not in IGNORED | STOPPING:
            seconds = (ended[tid] or 0.0) - (one.when or 0.0)
            if 0 <= seconds < SOON:
                how = f"task {tid} exited {seconds * 1000:.1f} ms later, and had not called exit()"
                found[number] = one._replace(
                    state=FATAL, confidence=INFERRED, evidence=(*one.evidence, how)
                )
    return found


def _finding(one: Traced, watched: int | None) -> SignalFinding:
    event = one.event
    name = signal_name(event.number)
    function = _reason(one.kernel)
    reason = when(function) if function is not None else ""
    by = f'task {event.tid} "{event.name}"'
    if event.pid is not None and event.pid != event.tid:
        by += f" of process {event.pid}"
    itself = watched is not None and watched in (event.tid, event.pid)
    sender: Sender | None = None
    origin = _origin(event, function)
    if origin in _BY_PROGRAMS:
        sender = Sender(event.pid or event.tid, event.uid, event.name, itself=itself)
        why = f"{name} was sent by {'the process itself, ' * itself}{by}"
        why += f", by {reason}" if reason else f": {code_words(event.number, event.code)}"
    else:
        why = f"The kernel sent {name} ({code_name(event.number, event.code)})"
        if origin == PARENT_DEATH:
            reason = "its parent has ended: prctl(PR_SET_PDEATHSIG) asked for it"
        elif origin == FAULT:
            reason = reason or "an instruction of its own has failed: its core tells which"
        if event.code == SI_USER:
            why += f" in the name of {'the process itself, ' * itself}{by}"
            why += f": {reason}" if reason else ""
        else:
            why += f": {reason}" if reason else ""
            why += f"; {by} ran at that moment"
    if event.result in _RESULTS:
        why += f"; {_RESULTS[event.result]}"
    evidence = []
    if one.kernel:
        evidence.append("kernel: " + " < ".join(one.kernel[:12]))
    if one.user:
        evidence.append("its program: " + " < ".join(one.user[:12]))
    return SignalFinding(
        Task(event.to, event.to, event.to_name),
        event.number,
        origin,
        why + ".",
        code=event.code,
        cause=function,
        sender=sender,
        state=DELIVERED,
        evidence=tuple(evidence),
        shared=event.group,
        when=event.time,
    )


def _reason(kernel: Sequence[str]) -> str | None:
    """The function of the kernel's stack that tells why.  The entry into the kernel does only where
    nothing is known to be between: it is below whatever else a system call has done."""
    choosing = [function for function in kernel if not is_interface(function)]
    for number, function in enumerate(choosing):
        if when(function) and (not number or function not in _ENTRIES):
            return function
    return None


def _origin(event: Event, function: str | None) -> str:
    """Who sent a signal: a program only by a call that sends, as many are sent while some task or
    another runs, or in the name of the one that runs (SI_USER of send_sig() and others)."""
    number, code = event.number, event.code
    by_call = function is None or system_call(function) in _SENDS
    if code == SI_TIMER or function in _TIMERS:
        return TIMER
    if number == SIGCHLD and code > 0:
        return CHILD
    if code > 0 or code == SI_SIGIO or not by_call:
        if function in _LAST_WORDS and code == SI_USER:
            return PARENT_DEATH
        if code > 0 and code != SI_KERNEL and number in _FAULTS:
            return FAULT
        if code == SI_USER:
            return {SIGPIPE: PIPE, SIGXFSZ: RLIMIT}.get(number, KERNEL)
        return KERNEL
    return _BY_CODE.get(code, UNKNOWN)


def unseen_end(trace: Trace, found: Sequence[SignalFinding], pid: int) -> bool:
    """Whether the process has ended, and nothing of the trace says why."""
    ended = any(one.event.kind == "exit" and one.event.to == pid for one in trace.events)
    left = any(
        one.event.call in _LEAVING and pid in (one.event.pid, one.event.tid) for one in trace.events
    )
    return ended and not left and not any(one.state == FATAL for one in found)


def exits(trace: Trace) -> Sequence[str]:
    """How the process ended, in sentences: what it called itself, and when it was gone."""
    notes = []
    for one in trace.events:
        event = one.event
        where = f", in {' < '.join(one.user[:6])}" if one.user else ""
        if event.kind == "call" and event.call in ("exit_group", "exit", "abort"):
            status = f"({event.number})" if event.call != "abort" else "()"
            notes.append(f'task {event.tid} "{event.name}" called {event.call}{status}{where}')
        elif event.kind == "exit":
            notes.append(f'task {event.to} "{event.to_name or event.name}" exited')
    return notes[-12:]
