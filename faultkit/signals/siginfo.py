"""siginfo_t: what the kernel tells of one signal (include/uapi/asm-generic/siginfo.h, x86_64)."""

from __future__ import annotations

import struct

from faultkit.record import NamedTuple
from faultkit.signals.names import (
    SI_KERNEL,
    SI_SIGIO,
    SI_TIMER,
    SI_TKILL,
    SI_USER,
    SIGBUS,
    SIGCHLD,
    SIGFPE,
    SIGILL,
    SIGIO,
    SIGRTMAX,
    SIGSEGV,
    SIGSYS,
    SIGTRAP,
)

SIZE = 128  # bytes
USED = 48  # of these that the kernel fills
# The layouts of the union, as siginfo_layout() in kernel/signal.c tells them apart.
SENT, QUEUED, TIMED, CHILD_ENDED, FAULTED, POLLED, SYSTEM_CALL = (
    "sent", "queued", "timed", "child", "fault", "poll", "system-call",
)  # fmt: skip
NUMBER_ONLY = "number"  # nothing else is known of it
_OWN_LAYOUT = {  # of positive codes: the layout and the number of codes
    SIGILL: (FAULTED, 11),
    SIGFPE: (FAULTED, 15),
    SIGSEGV: (FAULTED, 10),
    SIGBUS: (FAULTED, 5),
    SIGTRAP: (FAULTED, 6),
    SIGCHLD: (CHILD_ENDED, 6),
    SIGIO: (POLLED, 6),
    SIGSYS: (SYSTEM_CALL, 2),
}
BNDERR, PKUERR, MCEERR_AR, MCEERR_AO, TRAP_PERF = 3, 4, 4, 5, 6


class Siginfo(NamedTuple):
    """One siginfo_t; only the fields of its `layout` are not None.

    `pid` and `uid` are the sender's (a child's in "child"), as the receiver's namespaces call
    them; `value` is sigqueue's or a timer's, 64 bits.  `address` is si_addr; `lsb` the least
    significant bit of a poisoned address; `lower` and `upper` failed bounds; `pkey` the
    protection key.  `status` is a child's exit status or signal.  `call_address`, `nr` and
    `arch` are a refused system call's, and `errno` then the filter's own number.
    """

    number: int
    code: int
    errno: int
    layout: str
    pid: int | None = None
    uid: int | None = None
    value: int | None = None
    timer: int | None = None
    overrun: int | None = None
    status: int | None = None
    address: int | None = None
    lsb: int | None = None
    lower: int | None = None
    upper: int | None = None
    pkey: int | None = None
    band: int | None = None
    fd: int | None = None
    call_address: int | None = None
    nr: int | None = None
    arch: int | None = None

    @property
    def number_sent(self) -> int | None:
        """`value` as an int, which is what most programs send; as it is where it fits into none."""
        if self.value is None or self.value >> 32 not in (0, 0xFFFFFFFF):
            return self.value
        low = self.value & 0xFFFFFFFF
        return low - (1 << 32) if low >> 31 else low

    @property
    def by_program(self) -> bool:
        """Whether a program sent it by kill, tgkill or sigqueue, or the kernel says so."""
        return self.layout in (SENT, QUEUED) and self.code <= SI_USER


def layout_of(number: int, code: int) -> str:
    """Which fields a signal of that number and code has: siginfo_layout() in kernel/signal.c."""
    if SI_USER < code < SI_KERNEL or (number == SIGTRAP and code & 0xFF == SIGTRAP and code > 0):
        own = _OWN_LAYOUT.get(number)
        if own is not None and code <= own[1]:
            return own[0]
        return POLLED if code <= 6 else SENT
    if code == SI_TIMER:
        return TIMED
    if code == SI_SIGIO:
        return POLLED
    return QUEUED if code < 0 else SENT


def parse_siginfo(data: bytes) -> Siginfo | None:
    """The first bytes of a siginfo_t, 48 or more; None where they are cut off or hold no signal.

    Of an SI_TKILL no value is given, as tgkill() has none."""
    if len(data) < USED:
        return None
    number, errno, code = struct.unpack_from("<3i", data)
    if not 1 <= number <= SIGRTMAX:
        return None
    layout = layout_of(number, code)
    info = Siginfo(number, code, errno, layout)
    first, second = struct.unpack_from("<iI", data, 16)
    (pointer,) = struct.unpack_from("<Q", data, 16)
    (value,) = struct.unpack_from("<Q", data, 24)
    if layout == SENT:
        return info._replace(pid=first, uid=second)
    if layout == QUEUED:
        return info._replace(pid=first, uid=second, value=None if code == SI_TKILL else value)
    if layout == TIMED:
        return info._replace(timer=first, overrun=second, value=value)
    if layout == CHILD_ENDED:
        return info._replace(pid=first, uid=second, status=struct.unpack_from("<i", data, 24)[0])
    if layout == POLLED:
        band, fd = struct.unpack_from("<qi", data, 16)
        return info._replace(band=band, fd=fd)
    if layout == SYSTEM_CALL:
        nr, arch = struct.unpack_from("<iI", data, 24)
        return info._replace(call_address=pointer, nr=nr, arch=arch)
    info = info._replace(address=pointer)
    if number == SIGBUS and code in (MCEERR_AR, MCEERR_AO):
        return info._replace(lsb=struct.unpack_from("<h", data, 24)[0])
    if number == SIGSEGV and code == BNDERR:
        lower, upper = struct.unpack_from("<2Q", data, 32)
        return info._replace(lower=lower, upper=upper)
    if number == SIGSEGV and code == PKUERR:
        return info._replace(pkey=struct.unpack_from("<I", data, 32)[0])
    return info
