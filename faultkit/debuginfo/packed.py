"""Files that are packed as a whole, as /lib/modules has them: NAME.ko.xz, .gz or .zst."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable

from faultkit.code import FormatError
from faultkit.code.elf import ElfFile, FileBytes, open_elf
from faultkit.debuginfo.inflate import zstd_decompressor

ENDINGS = (".xz", ".gz", ".zst")
LARGEST = 8 << 30  # bytes of what is in it
PIECE = 1 << 20

_unpacked: dict[tuple[int, ...], ElfFile | None] = {}


def open_file(path: str) -> ElfFile | None:
    """The ELF file at `path`, also if it is packed; None if it can't be opened or isn't one."""
    if not path.endswith(ENDINGS):
        return open_elf(path)
    try:
        data = FileBytes(path)
        if data.identity not in _unpacked:
            _unpacked[data.identity] = _unpack(data, path)
        return _unpacked[data.identity]
    except (OSError, ValueError, FormatError, EOFError, zlib.error):
        return None


def _unpack(data: FileBytes, path: str) -> ElfFile:
    expand = _decompressor(path)
    # Under a name for a moment only: FileBytes opens by name, and keeps it open.
    handle, name = tempfile.mkstemp(prefix="faultkit-")
    try:
        with os.fdopen(handle, "wb") as file:
            for at in range(0, data.size, PIECE):
                file.write(expand(data[at : at + PIECE]))
                if file.tell() > LARGEST:
                    raise ValueError("too much in it")
        found = ElfFile(FileBytes(name))
        if not found.sections:  # whose headers come last
            raise ValueError("cut short")
        return found
    finally:
        os.unlink(name)


def _decompressor(path: str) -> Callable[[bytes], bytes]:
    if path.endswith(".gz"):
        return zlib.decompressobj(wbits=31).decompress
    if path.endswith(".zst"):
        return zstd_decompressor()
    import lzma

    expand = lzma.LZMADecompressor()

    def decompress(piece: bytes) -> bytes:
        try:
            return expand.decompress(piece)
        except lzma.LZMAError as error:
            raise ValueError(str(error)) from error

    return decompress
