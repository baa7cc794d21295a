"""Which frames are the program's own: not the C library's, nor a language runtime's."""

import re
from collections.abc import Sequence

from faultkit.model import Frame
from faultkit.places import is_library_image

# Runtimes' functions, between a program and what it died of.
_RUNTIME = ("std::", "core::", "alloc::", "rust_", "__rust", "_ZN3std", "_ZN4core", "_ZN5alloc",
            "__cxa_", "__gxx_", "__cxxabiv1", "_Unwind_", "_ZSt", "_ZN10__cxxabiv1", "__gnu_cxx",
            "_ZN9__gnu_cxx")  # fmt: skip
# The C library's in static programs: names that are its alone, or whose variants are.
_C_LIBRARY = re.compile(
    r"(__GI_|__libc_|__pthread_|_IO_)\w+|(__)?(raise|gsignal|abort|kill|tgkill|tkill|pthread_kill|"
    r"assert_fail|assert_fail_base|assert_perror_fail|fortify_fail|stack_chk_fail|chk_fail|"
    r"restore_rt|syscall_cancel\w*|internal_syscall_cancel)(\.\w+)*|malloc_printerr|_int_\w+|"
    r"free|cfree|malloc|realloc|calloc|a_crash|"
    r"(__)?(mem|str|wcs|wmem|rawmem|stp)\w+_(avx2|evex|sse2|sse42|ssse3|erms|unaligned|avx512)\w*"
)


def is_own(frame: Frame) -> bool:
    """Whether the frame is of the program itself, or of a library that is not the language's."""
    name = (frame.symbol or "").split("@")[0]
    return not (
        is_library_image(frame.module or "")
        or name.startswith(_RUNTIME)
        or _C_LIBRARY.fullmatch(name) is not None
    )


def own_frames(frames: Sequence[Frame]) -> Sequence[Frame]:
    """The program's own frames, innermost first; all of them if none is known to be."""
    return [frame for frame in frames if is_own(frame)] or frames


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
            return name.lstrip("_")
    return ""
