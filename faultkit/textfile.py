"""Text that the user gives: a file, packed or not, or the standard input."""

import sys

from faultkit.target import FaultkitError

LARGEST = 1 << 28  # bytes that are read


def read_text(path: str, remedy: str) -> str:
    """As `read_bytes`, decoded."""
    return read_bytes(path, remedy).decode("utf-8", "replace")


def read_bytes(path: str, remedy: str) -> bytes:
    """A file's bytes; "-" is the standard input, .gz is unpacked.  Raises FaultkitError, with the
    remedy, for what can't be read."""
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
    return data
