"""From a back trace to the one place a person wants to read: where their own code waits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faultkit.model import Frame
from faultkit.record import NamedTuple

# Sources and libraries that lie between a program and its wait.
_LIBRARY_SOURCES = (
    "./nptl/", "../nptl/", "../sysdeps/", "./sysdeps/", "/usr/include/", "/rustc/", "./libio/",
    "./misc/", "./io/", "./socket/", "./time/", "./posix/", "./sysvipc/", "/build/glibc",
    "./malloc/", "./stdlib/", "../sysv/", "library/std/", "library/core/", "library/alloc/",
)  # fmt: skip
_LIBRARY_FILES = frozenset((
    "lowlevellock.c", "futex-internal.c", "futex-internal.h", "clone.S", "clone3.S",
    "pthread_mutex_lock.c", "pthread_mutex_timedlock.c", "pthread_cond_wait.c",
))  # fmt: skip
_LIBRARIES = (
    "libc.so", "libc-", "libpthread", "libstdc++", "libgcc_s", "ld-linux", "ld-2", "libc++",
    "libm.",
)  # fmt: skip

# What lies in the kernel between the code that wants a lock and the scheduler: by source file, and
# by function where there are no lines.
_KERNEL_SOURCES = r"(^|/)(kernel/(sched|locking|rcu|time)|include|arch/x86/(include|entry))/"
_KERNEL_FUNCTIONS = (
    r"_*(schedule(_\w+)?|preempt_schedule\w*|io_schedule\w*|switch_to\w*|cond_resched\w*|"
    r"(ww_|rt_)?mutex_(slow)?(try)?lock\w*|rwsem_(down|mark|wake)\w*|rwbase_\w+|"
    r"down(_(read|write|interruptible|killable|timeout|trylock|common|nested))*|"
    r"percpu_(down_\w+|rwsem_\w+)|(do_)?wait_for_comm?on|wait_for_completion\w*|"
    r"(raw_)?(spin|read|write)_lock\w*|(native_|pv_)?queued_\w+lock\w*)(\.\w+)*$"
)
_SPINS = re.compile(r"_*(native_|pv_)?queued_(spin|read|write)_lock_slowpath")


class Place(NamedTuple):
    """A source line, or without debug information a function."""

    function: str | None
    file: str | None
    line: int | None
    frame: Frame


def waiting_call(frames: Sequence[Frame]) -> Place | None:
    """The innermost place in the program's own code, inlined functions included; None if the
    back trace is empty."""
    if frames and frames[0].address >> 63:
        return _waiting_kernel_call(frames)
    own = [frame for frame in frames if not _is_library(frame)]
    for frame in own:
        for source in frame.inlines:
            if source.file and source.line and not _is_library_source(source.file):
                return Place(source.function, source.file, source.line, frame)
        named = frame.symbol and not frame.symbol.startswith("_")
        if named and not any(source.file for source in frame.inlines):
            return Place(frame.symbol, None, None, frame)
    if own:
        return Place(own[0].symbol, None, None, own[0])
    return Place(frames[0].symbol, None, None, frames[0]) if frames else None


def _waiting_kernel_call(frames: Sequence[Frame]) -> Place:
    """The innermost place outside of the scheduler and the locks' own code; what interrupts a CPU
    that spins for a lock is not it."""
    spins = [frame.index for frame in frames if _SPINS.match(frame.symbol or "")]
    for frame in frames[spins[0] :] if spins else frames:
        lines = [source for source in frame.inlines if source.file and source.line]
        for source in lines:
            if not re.search(_KERNEL_SOURCES, source.file or "") and not is_lock_function(
                source.function or ""
            ):
                return Place(source.function, source.file, source.line, frame)
        inlined = all((source.file or "").endswith(".h") for source in lines)  # of it or of no line
        if inlined and frame.symbol and not is_lock_function(frame.symbol):
            return Place(frame.symbol, None, None, frame)
    return Place(frames[0].symbol, None, None, frames[0])


def is_lock_function(name: str) -> bool:
    """Whether the kernel function belongs to the scheduler, or to a lock's own code."""
    return re.match(_KERNEL_FUNCTIONS, name) is not None


def _is_library_source(file: str) -> bool:
    """Also bare names: a static program's C library, whose sources nobody has."""
    return file.startswith(_LIBRARY_SOURCES) or file in _LIBRARY_FILES


def _is_library(frame: Frame) -> bool:
    return is_library_image(frame.module or "")


def is_library_image(path: str) -> bool:
    """Whether the image is one of the C and C++ libraries: nobody has their sources at hand."""
    return path.rpartition("/")[2].startswith(_LIBRARIES)
