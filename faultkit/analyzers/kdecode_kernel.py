"""`kdecode` in a session on a kernel, dumped or live: tasks' frames, and places in its code."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from faultkit.debuginfo.find import Places
from faultkit.debuginfo.kernel import Kernel as DebugFiles
from faultkit.debuginfo.lookup import AROUND
from faultkit.decode.kernel import KernelSubject
from faultkit.decode.model import DecodedTrace, Trace
from faultkit.decode.source import Sources
from faultkit.decode.view import Shown, Wanted, dress
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.model import FOUND, INCONCLUSIVE, Report, Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MASK = (1 << 64) - 1
MOST_TASKS = 1024
MOST_LINES = 2000  # of a dump's log, its last ones
MOST_EVENTS = 3
_SYMBOL = re.compile(
    r"([A-Za-z_.$][\w.$]*)(?:\+(0x[0-9a-fA-F]+|\d+))?(?:/0x[0-9a-fA-F]+)?(?:\s*\[(\w+)\])?$"
)


class Options(NamedTuple):
    """What is to be decoded: the task or places that `words` name, or with `every_cpu` the tasks
    on all CPUs, else `current`.  `frames` is how many of each."""

    words: tuple[str, ...] = ()
    every_cpu: bool = False
    exact: bool = False
    frames: int | None = None
    current: Task | None = None
    wanted: Wanted = Wanted()
    sources: tuple[str, ...] = ()


def analyze_kernel(
    kernel: Kernel, places: Places, host: dict[str, str | None], options: Options
) -> Report:
    """The frames asked for.  Raises FaultkitError for a word that names nothing."""
    began = time.perf_counter()
    system = System(kernel)
    sources = Sources(options.sources, kernel.release)
    around = AROUND if options.wanted.disassembly else 0
    files = DebugFiles(places, kernel.release, around=around)
    subject = KernelSubject(system, files, sources)
    traces = _traces(subject, options)
    shown = [frame for _, frames in traces for frame in frames]
    limits = [*kernel.limits(), *dress(shown, subject, options.wanted), *_missing(subject.files)]
    report = Report(
        "kdecode",
        host,
        {"kind": kernel.kind, "name": kernel.name, "release": kernel.release},
        INCONCLUSIVE,
        limits=list(dict.fromkeys(limits)),
    )
    report.traces = [DecodedTrace(trace, [f.decoded for f in frames]) for trace, frames in traces]
    report.verdict, report.summary, report.counts = conclude(report.traces)
    if not options.words and kernel.kind == "vmcore":
        report.notes += _logged(kernel)
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _logged(kernel: Kernel) -> list[str]:
    """What the end of a dump's log says has happened, and which command knows more of it."""
    from faultkit.analyzers.kdecode import NEXT
    from faultkit.kernel.printk import lines
    from faultkit.traces.reader import EVENTS, read_lines

    traces = read_lines(line.text for line in lines(kernel)[-MOST_LINES:])
    events = [each for each in traces if each.kind in EVENTS][-MOST_EVENTS:]
    said = ["; ".join((each.title, *each.notes)) for each in events]
    kinds = dict.fromkeys(kind for each in events for kind in sorted(each.happened))
    return [
        *(f"the end of the log: {text}" for text in said if text),
        *dict.fromkeys(NEXT[kind].replace(" in crash on the dump", "") for kind in kinds
                       if kind in NEXT),
    ]  # fmt: skip


def conclude(traces: Sequence[DecodedTrace]) -> tuple[str, str, dict[str, int]]:
    """(verdict, summary, counts) of decoded traces."""
    frames = [frame for trace in traces for frame in trace.frames]
    lined = [frame for frame in frames if any(inline.line for inline in frame.inlines)]
    counts = {"traces": len(traces), "frames": len(frames), "with_lines": len(lined)}
    summary = f"{len(lined)} of {len(frames)} frames with lines"
    if lined:
        first = next((f for f in lined if any("fault" in n or "ud2" in n for n in f.notes)), None)
        frame = first or lined[0]
        inner = next(inline for inline in frame.inlines if inline.line)
        file = "/".join((inner.file or "?").split("/")[-3:])
        summary += f": {frame.symbol} at {file}:{inner.line}"
    return FOUND if lined else INCONCLUSIVE, summary, counts


def _missing(files: DebugFiles) -> list[str]:
    return [
        f"{said}: its frames have no lines and values; load it (mod -s), or give --module FILE or "
        "--debug-dir DIR" if name != "vmlinux" else f"{said}; give --vmlinux FILE"
        for name, said in files.missing.items()
    ]  # fmt: skip


def _traces(subject: KernelSubject, options: Options) -> list[tuple[Trace, list[Shown]]]:
    system = subject.system
    if options.every_cpu:
        tasks = [task for _, task in sorted(system.running.items())]
        return [_task(subject, task, options.frames) for task in tasks[:MOST_TASKS]]
    if not options.words:
        if options.current is None:
            raise FaultkitError("there is no current task", "name one: kdecode PID")
        return [_task(subject, options.current, options.frames)]
    found: list[tuple[Trace, list[Shown]]] = []
    code: list[tuple[int, bool]] = []
    for word in options.words:
        task = task_named(system, word)
        if task is not None:
            found.append(_task(subject, task, options.frames))
        else:
            code.append(place_named(system, word, options.exact))
    if code:
        found.append((Trace("addresses"), subject.place_frames(code)))
    return found


def _task(subject: KernelSubject, task: Task, most: int | None) -> tuple[Trace, list[Shown]]:
    trace = Trace("task")
    described = subject.system.described(task)
    trace.task, trace.pid, trace.cpu = task.name, task.tid, task.cpu
    trace.release = subject.system.kernel.release
    running = subject.system.on_cpu(task)
    trace.title = "running" if running else f"state {described.state}" if described.state else ""
    frames = subject.task_frames(task, most)
    if not frames:
        trace.notes.append("no kernel frames can be told: it runs in user space, or its stack is "
                           "not in the dump")  # fmt: skip
    return trace, frames


def task_named(system: System, word: str) -> Task | None:
    """The task of a process id, in decimal, or of a task_struct's address; None if it is neither.
    Raises FaultkitError for an id that no task has."""
    if word.isascii() and word.isdigit() and len(word) < 8:
        task = system.by_tid.get(int(word))
        if task is None and int(word) == 0:
            task = next(iter(system.running.values()), None)
        if task is None:
            raise FaultkitError(f"no task has the id {word}", "`ps` lists them")
        return task
    return system.by_address.get(_hexadecimal(word) or 0)


def place_named(system: System, word: str, exact: bool) -> tuple[int, bool]:
    """(address, whether it is an instruction's) of an address or SYMBOL+OFFSET.  A symbol's start
    is an instruction, whatever else is given is a return address.  Raises FaultkitError."""
    address = _hexadecimal(word)
    if address is not None and address >> 32:
        if not system.is_code(address):
            raise FaultkitError(
                f"{word} is neither a task nor in the kernel's code", "`ps` and `sym` tell"
            )
        return address, exact
    match = _SYMBOL.match(word)
    start = system.kernel.symbol(match[1]) if match else None
    if match is None or start is None:
        raise FaultkitError(
            f"{word} is no task, address or symbol", "kdecode [PID|TASK|ADDRESS|SYMBOL+OFFSET]..."
        )
    offset = int(match[2], 0) if match[2] else 0
    return start + offset & MASK, exact or offset == 0


def _hexadecimal(word: str) -> int | None:
    text = word[2:] if word.startswith(("0x", "0X")) else word
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", text):
        return None
    return int(text, 16)
