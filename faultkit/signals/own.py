"""Which frames are the program's own: not the C library's, nor a language runtime's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faultkit.model import Frame
from faultkit.places import Place, is_library_image, waiting_call

# Runtimes' functions, between a program and what it died of.
_RUNTIME = ("std::", "core::", "alloc::", "rust_", "__rust", "_ZN3std", "_ZN4core", "_ZN5alloc",
            "__cxa_", "__gxx_", "__cxxabiv1", "_Unwind_", "_ZSt", "_ZN10__cxxabiv1", "__gnu_cxx",
            "_ZN9__gnu_cxx", "__sanitizer", "__asan", "__ubsan", "__tsan", "__msan", "__lsan",
            "__hwasan", "__interceptor_")  # fmt: skip
# The C library's in static programs: names that are its alone, or whose variants are.
_C_LIBRARY = re.compile(
    r"(__GI_|__libc_|__pthread_|_IO_)\w+|(__)?(raise|gsignal|abort|kill|tgkill|tkill|pthread_kill|"
    r"assert_fail|assert_fail_base|assert_perror_fail|fortify_fail|stack_chk_fail|chk_fail|"
    r"restore_rt|syscall_cancel\w*|internal_syscall_cancel)(\.\w+)*|malloc_printerr|_int_\w+|"
    r"free|cfree|malloc|realloc|calloc|a_crash|libc_\w+|__(restore|block_(all|app))_sigs|"
    r"(__)?(mem|str|wcs|wmem|rawmem|stp)\w+_(avx2|evex|sse2|sse42|ssse3|erms|unaligned|avx512)\w*"
)


# What keeps the heap: functions of glibc's malloc and of musl's.
_HEAP = re.compile(
    r"(__)?(GI_)?(__)?(libc_)?(_int_)?(malloc|free|realloc|calloc|memalign|cfree)(\.\w+)*|"
    r"malloc_consolidate|unlink_chunk(\.\w+)*|tcache_\w+|sysmalloc\w*|systrim\w*|"
    r"alloc_(slot|group)|get_meta|nontrivial_free|try_avail"
)
SIGNAL_FRAMES = frozenset(("<signal handler called>", "__restore_rt", "runtime.sigreturn"))


def is_own(frame: Frame) -> bool:
    """Whether the frame is of the program itself, or of a library that is not the language's."""
    return not (_is_c_library(frame) or (frame.symbol or "").startswith(_RUNTIME))


def _is_c_library(frame: Frame) -> bool:
    """Whether the frame is in a library that every program has, or of the C library's."""
    name = (frame.symbol or "").split("@")[0]
    return is_library_image(frame.module or "") or _C_LIBRARY.fullmatch(name) is not None


def own_frames(frames: Sequence[Frame]) -> Sequence[Frame]:
    """The program's own frames, innermost first, up to what a signal has interrupted; if none is
    known to be, those of its language's runtime, else all."""
    handler: list[Frame] = []
    for frame in frames:
        if (frame.symbol or "").split("@")[0] in SIGNAL_FRAMES:
            break
        handler.append(frame)
    own = [frame for frame in handler if is_own(frame)]
    return own or [frame for frame in handler if not _is_c_library(frame)] or handler or frames


def in_heap(frames: Sequence[Frame]) -> bool:
    """Whether the innermost functions, up to the program's own, are those that keep the heap."""
    for frame in frames:
        names = [source.function or "" for source in frame.inlines]
        names.append((frame.symbol or "").split("@")[0])
        if any(_HEAP.fullmatch(name) for name in names):
            return True
        if is_own(frame):
            break
    return False


def library_call(frames: Sequence[Frame]) -> str:
    """The library's function, as documented, that the program was in ("strlen"), "" if none."""
    for inner, outer in zip(frames, frames[1:]):
        if is_own(inner):
            return ""
        if is_own(outer):
            name = re.sub(
                r"(_(avx2|evex|evex512|sse2|sse42|ssse3|erms|unaligned|rtm|avx|avx512))+$",
                "",
                (inner.symbol or "").split("@")[0].replace("__GI_", ""),
            )
            name = re.sub(r"^_*(IO_)?(new_)?_*(libc_)?|_internal$", "", name)
            return re.sub(r"(?<!operator)\(.*", "", name) or name  # without C++'s parameters
    return ""


def own_place(frames: Sequence[Frame]) -> Place | None:
    """The innermost place in the program's own code; None if there are no frames.  Of a function
    that only a library's header has a line for, the function."""
    for frame in own_frames(frames)[:1]:
        found = waiting_call([frame])
        if found is not None and found.file is None:
            names = [source.function for source in frame.inlines if source.function]
            return found._replace(function=names[-1] if names else frame.symbol)
        return found
    return None


def place_words(place: Place) -> str:
    """ "parse at parse.c:12", "parse+0x1c"; "" if it has no name."""
    if not place.function:
        return ""
    if place.file:
        return f"{place.function} at {place.file.rpartition('/')[2]}:{place.line}"
    offset = place.frame.offset if place.function == place.frame.symbol else None
    return place.function + (f"+{offset:#x}" if offset else "")
