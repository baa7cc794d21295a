"""Text that the user gives: a file, packed or not, or the standard input."""

import codecs
import sys

from faultkit.target import FaultkitError

LARGEST = 1 << 28  # bytes that are read
_DUMPS = (b"\x7fELF", b"KDUMP   ", b"DISKDUMP", b"makedumpfile\0")


def read_text(path: str, remedy: str) -> str:
    """As `read_bytes`, decoded."""
    data = read_bytes(path, remedy)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8", "replace")


def read_bytes(path: str, remedy: str) -> bytes:
    """A text file's bytes; "-" is the standard input, .gz and .xz are unpacked.  Raises
    FaultkitError, with the remedy, for what can't be read, and for a dump."""
    try:
        if path == "-":
            data = bytes(sys.__stdin__.buffer.read(LARGEST)) if sys.__stdin__ is not None else b""
        else:
            with open(path, "rb") as file:
                data = file.read(LARGEST)
    except OSError as error:
        raise FaultkitError(f"cannot read {path}: {error.strerror}", remedy) from None
    if data[:2] == b"\x1f\x8b":
        import gzip

        try:
            data = bytes(gzip.decompress(data)[:LARGEST])
        except (OSError, EOFError) as error:
            raise FaultkitError(f"cannot unpack {path}: {error}", "zcat tells more") from None
    elif data[:6] == b"\xfd7zXZ\0":
        import lzma

        try:
            data = lzma.LZMADecompressor().decompress(data, LARGEST)
        except lzma.LZMAError as error:
            raise FaultkitError(f"cannot unpack {path}: {error}", "xzcat tells more") from None
    if data.startswith(_DUMPS):
        raise FaultkitError(
            f"{path} is a dump or a program, no text", "open it in crash (a vmcore) or gdb"
        )
    return data
