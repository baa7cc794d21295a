"""Logs from where they are: files, compressed or not, standard input, /dev/kmsg, a journal's
export."""

import sys

from faultkit.klog.journal import is_journal, journal_lines
from faultkit.klog.lines import Line, kernel_messages, parse_lines
from faultkit.target import FaultkitError

LARGEST = 256 << 20  # bytes of a log that are read
KMSG = "/dev/kmsg"


def read_bytes(path: str) -> bytes:
    """The file's bytes, inflated if it is a gzip; "-" is standard input.  Raises FaultkitError."""
    try:
        if path == "-":
            data = bytes(sys.__stdin__.buffer.read(LARGEST)) if sys.__stdin__ is not None else b""
        else:
            with open(path, "rb") as file:
                data = file.read(LARGEST)
    except OSError as error:
        raise FaultkitError(
            f"cannot read {path}: {error.strerror}", "name a file with a kernel log"
        ) from None
    if data[:2] == b"\x1f\x8b":
        import zlib

        try:
            data = zlib.decompressobj(31).decompress(data, LARGEST)
        except zlib.error as error:
            raise FaultkitError(f"cannot unpack {path}: {error}", "zcat tells more") from None
    return data


def read_log(path: str) -> list[Line]:
    """The lines of a log in any form that is known.  Raises FaultkitError."""
    if path == KMSG:
        lines = kernel_messages()
        if not lines:
            raise FaultkitError(
                f"cannot read {KMSG}", "as root; or save the output of dmesg or journalctl -k"
            )
        return lines
    return lines_of(read_bytes(path))


def lines_of(data: bytes) -> list[Line]:
    """The lines of a log's bytes."""
    if is_journal(data):
        return journal_lines(data)
    return list(parse_lines(data.decode("utf-8", "replace")))
