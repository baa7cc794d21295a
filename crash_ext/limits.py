"""What a session of crash can't show, as far as that can be told: what would make "nothing found"
a lie."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.code.elf import build_id, open_elf, parse_notes
from faultkit.kernel.objects import BrokenList, entries
from faultkit.target import ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from crash_ext.kernel import CrashKernel

IN_BETWEEN = 2  # tasks that are counted and not yet, or no longer, listed
LARGEST_NOTES = 1 << 16


def limits(kernel: CrashKernel) -> list[str]:
    """Each in one line, with its remedy."""
    return [*_vmlinux(kernel), *_tasks(kernel), *_dump(kernel)]


def _vmlinux(kernel: CrashKernel) -> Iterator[str]:
    """Whether the vmlinux is the dump's: both have the kernel's build-id among their notes
    (include/asm-generic/vmlinux.lds.h, NOTES)."""
    files = kernel.bridge.debug_files()
    elf = open_elf(files[0]) if files else None
    expected = elf.build_id if elf else None
    found = _build_id(kernel)
    if expected is not None and found != expected:
        yield (
            f"the vmlinux does not belong to this kernel: its build-id is {expected}, "
            f"the kernel's {found or 'not where it should be'}; start crash with the vmlinux "
            f"of the debug package of {kernel.release or 'exactly this kernel'}"
        )


def _build_id(kernel: CrashKernel) -> str | None:
    start, stop = kernel.symbol("__start_notes"), kernel.symbol("__stop_notes")
    if start is None or stop is None or not 0 < stop - start <= LARGEST_NOTES:
        return None
    try:
        return build_id(parse_notes(kernel.read(start, stop - start)))
    except ReadError:
        return None


def _tasks(kernel: CrashKernel) -> Iterator[str]:
    """Whether crash lists as many tasks as the kernel counts (kernel/fork.c, nr_threads, which
    leaves the idle tasks out)."""
    counter = kernel.symbol("nr_threads")
    if counter is None or kernel.live:
        return
    try:
        counted = kernel.u32(counter)
    except ReadError:
        return
    listed = sum(1 for task in kernel.tasks() if task.tid)
    if listed + IN_BETWEEN >= counted:
        return
    remedy = _why(kernel, counted)
    yield f"crash {kernel.bridge.version} lists {listed} of {counted} tasks; {remedy}"


def _why(kernel: CrashKernel, counted: int) -> str:
    """Why it lists too few, with the remedy: by the kernel's own list of processes, which crash
    does not use."""
    links, first = kernel.offset("task_struct", "tasks"), kernel.symbol("init_task")
    known = {task.address for task in kernel.tasks()}
    try:
        if links is not None and first is not None:
            leaders = set(entries(kernel, first + links, links, counted + IN_BETWEEN))
            if leaders - known:
                # struct pid ends in a flexible array since Linux 6.1.x and 6.5
                return "crash before 8.0.4 can't list this kernel's tasks: use a newer one"
    except ReadError:
        return "the dump lacks the memory of some: take a fuller one"
    except BrokenList:
        pass
    return "the list of tasks may be damaged: see what crash says at its start"


def _dump(kernel: CrashKernel) -> Iterator[str]:
    dump = kernel.dump
    if dump.incomplete:
        yield (
            "the dump's end is missing: what lies there can't be read; "
            "give the disk that dumps are written to more space"
        )
    if dump.zero_excluded:
        yield "pages that the dump leaves out read as zeros; set zero_excluded off"
    if dump.running:
        yield (
            "the dump was taken while the kernel ran: its pages are of different moments; "
            "take one of a stopped or crashed kernel"
        )
