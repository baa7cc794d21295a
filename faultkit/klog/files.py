"""Logs from where they are: files, compressed or not, standard input, /dev/kmsg, a journal's
export."""

from faultkit.klog.journal import is_journal, journal_lines
from faultkit.klog.lines import Line, kernel_messages, parse_lines
from faultkit.target import FaultkitError
from faultkit.textfile import read_bytes

KMSG = "/dev/kmsg"


def read_log(path: str) -> list[Line]:
    """The lines of a log in any form that is known.  Raises FaultkitError."""
    if path == KMSG:
        lines = kernel_messages()
        if not lines:
            raise FaultkitError(
                f"cannot read {KMSG}", "as root; or save the output of dmesg or journalctl -k"
            )
        return lines
    return lines_of(read_bytes(path, "name a file with a kernel log"))


def lines_of(data: bytes) -> list[Line]:
    """The lines of a log's bytes."""
    if is_journal(data):
        return journal_lines(data)
    return list(parse_lines(data.decode("utf-8", "replace")))
