"""`kdecode`: from back traces in text to functions, files and lines."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence

from faultkit.debuginfo.find import Places
from faultkit.debuginfo.kernel import Kernel
from faultkit.debuginfo.lookup import Lookup, build_id_of_notes
from faultkit.decode.model import NO_CODE, Address, Decoded, DecodedTrace, Trace
from faultkit.model import FOUND, INCONCLUSIVE, NOT_FOUND, Report
from faultkit.record import NamedTuple
from faultkit.traces.events import KERNEL_HALF

ALIGN = 1 << 21  # bytes by multiples of which KASLR moves a kernel: CONFIG_PHYSICAL_ALIGN
PAGE = 1 << 12  # and modules lie at those of a page
USER_END = 1 << 47


# By what a trace is of: where to look further.
NEXT = {
    "hardware": "hardware reported errors: corrected ones do no harm, others may be the cause; "
    "look at `ras-mc-ctl --errors`, `mcelog --ascii`, the machine's own event log",
    "hung-task": "why tasks are blocked, and who would wake them: `faultkit dstate --from FILE`, "
    "or `dstate` in crash on the dump",
    "lockup": "who has the lock that a CPU spins on, if it does: `deadlock` in crash on the dump",
    "stall": "who has the lock that a CPU spins on, if it does: `deadlock` in crash on the dump",
    "oom": "whom the OOM killer chose, and why: `faultkit sigsrc --log FILE`",
}


class Options(NamedTuple):
    """What the user may ask for: `frames` is how many of each trace; `offset` what KASLR added,
    where the text does not tell."""

    frames: int | None = None
    offset: int | None = None
    command: str = "kdecode"
    around: int = 0  # bytes of code around each place whose lines will be asked for


def analyze(
    traces: Sequence[Trace],
    places: Places,
    host: dict[str, str | None],
    name: str,
    options: Options | None = None,
) -> Report:
    """Decode the traces of a text.  Raises FaultkitError for files that the user names but that
    can't be used."""
    began = time.perf_counter()
    options = options or Options()
    decoded: list[DecodedTrace | None] = [None] * len(traces)
    limits: list[str] = []
    notes: list[str] = []
    for index, trace in enumerate(traces):
        if trace.architecture is not None or not trace.entries:
            decoded[index] = DecodedTrace(trace, _undecoded(trace.entries[: options.frames]))
        if trace.architecture is not None:
            limits.append(
                f"the text is of a kernel for {trace.architecture}: only those for x86_64 are "
                "decoded; use scripts/decode_stacktrace.sh of that kernel's source"
            )
    for (release, build_id), indices in _by_kernel(traces).items():
        kernel, said = _kernel(places, release, build_id)
        kernel.around = options.around
        notes += said
        some = [traces[index] for index in indices]
        for index, frames in zip(indices, _decode(kernel, some, options)):
            decoded[index] = DecodedTrace(traces[index], frames)
        limits += _limits(kernel)
    report = Report(
        options.command,
        host,
        {"kind": "text", "name": name, "release": _only({t.release for t in traces})},
        NOT_FOUND,
        limits=list(dict.fromkeys(limits)),
    )
    report.traces = [each for each in decoded if each is not None]
    kinds = dict.fromkeys(kind for trace in traces for kind in trace.happened)
    notes += [NEXT[kind] for kind in kinds if kind in NEXT]
    report.notes = list(dict.fromkeys(notes))
    frames = [frame for each in report.traces for frame in each.frames]
    lined = sum(1 for frame in frames if _has_line(frame))
    report.counts = {"traces": len(report.traces), "frames": len(frames), "with_lines": lined}
    report.verdict = FOUND if lined else INCONCLUSIVE
    report.summary = _summarise(report, lined, len(frames))
    if not frames and traces:
        report.limits.append("there is no back trace: give the whole log, or the dump to crash")
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _by_kernel(traces: Sequence[Trace]) -> dict[tuple[str | None, str | None], list[int]]:
    """The numbers of the traces of each kernel that can be decoded."""
    found: dict[tuple[str | None, str | None], list[int]] = {}
    for index, trace in enumerate(traces):
        if trace.architecture is not None or not trace.entries:
            continue
        found.setdefault((trace.release, trace.build_id), []).append(index)
    return found


def _kernel(places: Places, release: str | None, build_id: str | None) -> tuple[Kernel, list[str]]:
    """The kernel of a text that names this release and build; what has to be said of it."""
    if release is not None or build_id is not None or places.vmlinux is not None:
        return Kernel(places, release, build_id), []
    if places.directories:
        kernel = Kernel(places)
        if kernel.file(None) is not None:
            return kernel, []
    release = os.uname().release
    kernel = Kernel(places, release, _running_build_id())
    return kernel, [f"the text names no kernel: taken to be of this machine's, {release}"]


def _running_build_id() -> str | None:
    try:
        with open("/sys/kernel/notes", "rb") as file:
            return build_id_of_notes(file.read(1 << 16))
    except OSError:
        return None


def _decode(kernel: Kernel, traces: Sequence[Trace], options: Options) -> list[list[Decoded]]:
    """The frames of each trace; all are looked up at once."""
    entries = [trace.entries[: options.frames] for trace in traces]
    whole = [entry for trace in traces for entry in trace.entries]
    told = next((trace.offset for trace in traces if trace.offset is not None), options.offset)
    kernel.offset = told if told is not None else _shift(kernel, whole)
    for module in {e.module for e in whole if e.module and e.offset is None and e.address}:
        base = _module_base(kernel, module, whole)
        if base is not None:
            kernel.loaded = {**kernel.loaded, module: {".text": base}}
    asked = [entry for some in entries for entry in some]
    frames = kernel.decode(asked)
    _doubt(kernel, frames, asked)
    found = []
    at = 0
    for trace, some in zip(traces, entries):
        mine = frames[at : at + len(some)]
        at += len(some)
        for index, (frame, entry) in enumerate(zip(mine, some)):
            frame.index = index
            _explain(kernel, frame, entry)
        if trace.kind != "addresses":
            kernel.note_tail_calls(mine)
        found.append(mine)
    return found


def _undecoded(entries: Sequence[Address]) -> list[Decoded]:
    """Frames as the text has them."""
    frames = []
    for index, entry in enumerate(entries):
        frame = Decoded(
            index, entry.address or 0, entry.exact, entry.symbol, entry.offset, entry.size,
            entry.module,
        )  # fmt: skip
        frame.unreliable, frame.placed = entry.unreliable, entry.address is not None
        frames.append(frame)
    return frames


def _doubt(kernel: Kernel, frames: Sequence[Decoded], entries: Sequence[Address]) -> None:
    """Take the lines from all frames of a file that is of another build: functions whose size
    fits may have changed all the same."""
    for file, misfits in kernel.misfits.items():
        if misfits < kernel.fitting[file] and not _other_release(kernel, file):
            continue
        for frame, entry in zip(frames, entries):
            if frame.debug_file == file.path and entry.symbol is not None:
                frame.inlines, frame.place, frame.debug_file = [], None, None
                name = os.path.basename(file.path)
                frame.notes.append(f"{name} is of another build than the trace")


def _other_release(kernel: Kernel, file: Lookup) -> bool:
    """Whether a vmlinux says to be of another kernel than the text."""
    release = file.release() if kernel.release is not None else None
    return release is not None and release != kernel.release


def _shift(kernel: Kernel, entries: Sequence[Address]) -> int | None:
    """What KASLR added: the multiple of ALIGN by which the addresses of the entries that have
    both lie behind their symbols; None if they don't agree on one."""
    both = [e for e in entries if e.address and e.symbol and e.module is None]
    both = [e for e in both if (e.address or 0) >= KERNEL_HALF][:256]
    file = kernel.file(None) if both else None
    if file is None:
        return None
    table = file.symbols_named({e.symbol for e in both if e.symbol})
    votes: Counter[int] = Counter()
    for entry in both:
        shifts = set()
        for symbol in table[entry.symbol or ""]:
            distance = (entry.address or 0) - symbol.address
            if entry.offset is not None:
                distance -= entry.offset
            inside = distance % ALIGN
            if inside == 0 or (entry.offset is None and inside <= symbol.size):
                shifts.add(distance - inside)
        votes.update(shifts)
    best = votes.most_common(2)
    if not best or (len(best) > 1 and best[0][1] == best[1][1]):
        return None
    return best[0][0] if 2 * best[0][1] > len(both) else None


def _module_base(kernel: Kernel, module: str, entries: Sequence[Address]) -> int | None:
    """Where a module's .text lies, by entries with address and symbol; None if they leave a
    choice."""
    file = kernel.file(module)
    if file is None or not file.relocatable or ".text" not in file.file.sections:
        return None
    mine = [e for e in entries if e.module == module and e.address and e.symbol]
    table = file.symbols_named({e.symbol for e in mine if e.symbol})
    start = file.section_start(".text")
    choice: set[int] | None = None
    for entry in mine:
        bases = set()
        for symbol in table[entry.symbol or ""]:
            if not start <= symbol.address < start + file.file.sections[".text"].size:
                continue
            lowest = (entry.address or 0) - (symbol.address - start) - symbol.size
            highest = lowest + symbol.size
            bases |= set(range(-(-lowest // PAGE) * PAGE, highest + 1, PAGE))
        choice = bases if choice is None else choice & bases
    return choice.pop() if choice is not None and len(choice) == 1 else None


def _explain(kernel: Kernel, frame: Decoded, entry: Address) -> None:
    """Say of a frame without lines why there are none."""
    if frame.inlines or frame.notes:
        return
    address = entry.address
    if address is not None and entry.module is None and address < USER_END:
        null = address < PAGE and entry.exact
        frame.notes.append(
            NO_CODE if null
            else "an address of user space"
        )  # fmt: skip
        return
    file = kernel.file(entry.module)
    if file is None:
        return  # a limit says so once
    if frame.place is not None and frame.symbol is not None:
        frame.notes.append("no line is known: assembly, or built without debug information")
    elif entry.module is not None and entry.address is not None:
        frame.notes.append(f"where {entry.module} was loaded is not known")
    elif entry.symbol is None:
        frame.symbol = None
        frame.notes.append(
            "not in this kernel: in a module, in code made at run time, or moved by KASLR "
            "(--kaslr OFFSET)"
        )


def _limits(kernel: Kernel) -> list[str]:
    """What was not found, with the remedy; a vmlinux of another kernel."""
    found = []
    release = kernel.release
    for name, problem in kernel.missing.items():
        if name == "vmlinux":
            of = f" of {release}" if release else ""
            found.append(f"{problem}{of}: {_remedy(release)}, or give --vmlinux FILE")
        elif not name.startswith("/"):  # of user space, of which little is expected
            found.append(f"{problem}: give --module FILE or --debug-dir DIR")
    vmlinux = kernel.known(None)
    if vmlinux is not None and _other_release(kernel, vmlinux):
        found.append(
            f"the text is of {release}, {vmlinux.path} of {vmlinux.release()}: lines may be wrong; "
            "give the vmlinux of that build"
        )
    return found


def _remedy(release: str | None) -> str:
    """How the distribution of a release calls its package."""
    if release is None:
        return "install the kernel's debug package"
    if ".el" in release or ".fc" in release or ".amzn" in release:
        return f"debuginfo-install kernel-{release}"
    if release.endswith(("-generic", "-lowlatency", "-aws", "-azure", "-gcp")):
        return f"apt-get install linux-image-{release}-dbgsym"
    if release.endswith(("-amd64", "-686", "-arm64")):
        return f"apt-get install linux-image-{release}-dbg"
    if release.endswith("-default"):
        return "zypper install kernel-default-debuginfo"
    return "install the kernel's debug package"


def _has_line(frame: Decoded) -> bool:
    return any(inline.line for inline in frame.inlines)


def _only(values: set[str | None]) -> str | None:
    return values.pop() if len(values) == 1 else None


def _summarise(report: Report, lined: int, frames: int) -> str:
    """One line to find with grep, and to put in a ticket's title."""
    first = report.traces[0] if report.traces else None
    where = ""
    if first is not None:
        frame = next((f for f in first.frames if not f.unreliable and _has_line(f)), None)
        if frame is not None:
            inner = next(inline for inline in frame.inlines if inline.line)
            where = f": {frame.symbol} at {inner.file}:{inner.line}"
    count = f"{lined} of {frames} frames with lines"
    return f"{count}{where}"
