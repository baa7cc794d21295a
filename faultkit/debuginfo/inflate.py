"""Compressed debug sections: zlib and zstd (System V gABI, chapter 4, Elf64_Chdr)."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator

from faultkit.code import FormatError
from faultkit.code.elf import Buffer, FileBytes

ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD = 1, 2
HEADER = 24  # bytes of an Elf64_Chdr
IN_MEMORY = 8 << 20  # bytes; what is larger goes to a file without a name
LARGEST = 8 << 30
PIECE = 1 << 20


def inflate(data: Buffer, start: int, size: int, name: str) -> bytes | FileBytes:
    """What the compressed section at [start, start + size) of a file holds.

    Raises FormatError for what is not compressed by zlib or zstd, is broken, or needs libzstd
    where there is none.
    """
    header = data[start : start + HEADER]
    if len(header) < HEADER:
        raise FormatError(f"section {name} is cut short")
    kind, _, whole, _ = struct.unpack("<IIQQ", header)
    if kind not in (ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD) or whole > LARGEST:
        raise FormatError(
            f"section {name} is compressed in a way that is not known ({kind})",
            "give a file unpacked by objcopy --decompress-debug-sections",
        )
    expand = zlib.decompressobj().decompress if kind == ELFCOMPRESS_ZLIB else zstd_decompressor()
    packed = (
        data[at : min(at + PIECE, start + size)]
        for at in range(start + HEADER, start + size, PIECE)
    )
    try:
        return _collect(expand, packed, whole)
    except (zlib.error, ValueError) as error:
        raise FormatError(f"section {name} does not inflate: {error}") from error


def _collect(
    expand: Callable[[bytes], bytes], packed: Iterator[bytes], whole: int
) -> bytes | FileBytes:
    if whole <= IN_MEMORY:
        return b"".join(map(expand, packed))
    import tempfile  # which the Python inside some debuggers lacks

    # Under a name for a moment only: FileBytes opens by name, and keeps it open.
    handle, path = tempfile.mkstemp(prefix="faultkit-")
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in packed:
                file.write(expand(piece))
                if file.tell() > whole:
                    raise ValueError("it is longer than it says")
        return FileBytes(path)
    finally:
        os.unlink(path)


def zstd_decompressor() -> Callable[[bytes], bytes]:
    """A decompressor for one zstd stream, given piece by piece: by libzstd, which whatever
    unpacks packages or modules brings along.  Python's own comes with 3.14 only.

    It raises ValueError for what is no such stream; this, FormatError without libzstd."""
    import ctypes

    class Buffer(ctypes.Structure):  # ZSTD_inBuffer and ZSTD_outBuffer of zstd.h
        _fields_ = (
            ("memory", ctypes.c_void_p),
            ("size", ctypes.c_size_t),
            ("position", ctypes.c_size_t),
        )

    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError:
        raise FormatError(
            "debug sections are compressed with zstd, and libzstd.so.1 is not here",
            "install libzstd, or give a file unpacked by objcopy --decompress-debug-sections",
        ) from None
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = (ctypes.c_void_p,)
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_decompressStream.argtypes = (
        ctypes.c_void_p, ctypes.POINTER(Buffer), ctypes.POINTER(Buffer),
    )  # fmt: skip
    library.ZSTD_isError.argtypes = (ctypes.c_size_t,)

    class Stream:
        def __init__(self) -> None:
            self.handle = library.ZSTD_createDStream()

        def __del__(self) -> None:
            library.ZSTD_freeDStream(self.handle)

        def decompress(self, data: bytes) -> bytes:
            source = ctypes.create_string_buffer(data, len(data))
            given = Buffer(ctypes.cast(source, ctypes.c_void_p), len(data), 0)
            room = ctypes.create_string_buffer(PIECE)
            found = []
            full = True
            while given.position < given.size or full:
                taken = Buffer(ctypes.cast(room, ctypes.c_void_p), PIECE, 0)
                result = library.ZSTD_decompressStream(
                    self.handle, ctypes.byref(taken), ctypes.byref(given)
                )
                if library.ZSTD_isError(result):
                    raise ValueError("no zstd stream")
                found.append(room.raw[: taken.position])
                full = taken.position == PIECE
            return b"".join(found)

    return Stream().decompress
