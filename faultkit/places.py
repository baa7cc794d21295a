"""From a back trace to the one place a person wants to read: where their own code waits."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

from faultkit.model import Frame

# Sources and libraries that lie between a program and its wait.
_LIBRARY_SOURCES = (
    "./nptl/", "../nptl/", "../sysdeps/", "./sysdeps/", "/usr/include/", "/rustc/", "./libio/",
    "./misc/", "./io/", "./socket/", "./time/", "./posix/", "./sysvipc/", "/build/glibc",
    "./malloc/", "./stdlib/", "../sysv/",
)  # fmt: skip
_LIBRARIES = ("libc.so", "libc-", "libpthread", "libstdc++", "libgcc_s", "ld-linux", "libc++", "libm.")


class Place(NamedTuple):
    """A source line, or without debug information a function."""

    function: Optional[str]
    file: Optional[str]
    line: Optional[int]
    frame: Frame


def waiting_call(frames: Sequence[Frame]) -> Optional[Place]:
    """The innermost place in the program's own code, inlined functions included; None if the
    back trace is empty."""
    for frame in frames:
        for source in frame.inlines:
            if source.file and source.line and not source.file.startswith(_LIBRARY_SOURCES):
                return Place(source.function, source.file, source.line, frame)
        if not any(source.file for source in frame.inlines) and not _is_library(frame):
            if frame.symbol and not frame.symbol.startswith("_"):
                return Place(frame.symbol, None, None, frame)
    for frame in frames:
        if not _is_library(frame):
            return Place(frame.symbol, None, None, frame)
    return Place(frames[0].symbol, None, None, frames[0]) if frames else None


def _is_library(frame: Frame) -> bool:
    name = (frame.module or "").rpartition("/")[2]
    return name.startswith(_LIBRARIES)
