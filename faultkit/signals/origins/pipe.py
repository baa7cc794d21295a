"""SIGPIPE: a write to a pipe or socket that nobody reads any more.

The kernel sends it as if the process had done so itself (send_sig(SIGPIPE, current, 0) in
fs/pipe.c, net/core/stream.c): it is the system call that tells it from a kill().
"""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import PIPE
from faultkit.signals.names import SI_USER, SIGPIPE
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls_made import Call, last_call

SIGNALS = frozenset((SIGPIPE,))
PRIORITY = 20
EPIPE = -32
# Where the descriptor that is written to is among the arguments.
WRITES = {
    "write": 0, "writev": 0, "sendto": 0, "sendmsg": 0, "sendmmsg": 0, "pwritev2": 0,
    "sendfile": 0, "splice": 2, "tee": 1, "vmsplice": 0, "copy_file_range": 2, "pwrite64": 0,
}  # fmt: skip


def explain(case: Case) -> Origin | None:
    """A SIGPIPE by the process itself, in a call that writes."""
    if case.info.code != SI_USER or not case.by_itself:
        return None
    call = last_call(case)
    if call is None:
        if case.registers:
            return None
        return Origin(
            PIPE,
            "pipe",
            "The kernel sent it for a write to a pipe or socket that nobody reads any more, or "
            "the process sent it to itself: without registers they look alike.",
            "write to a pipe or socket without a reader",
            confidence="inferred",
        )
    unknown = call.nr < 0 and call.result == EPIPE
    if not unknown and (call.name not in WRITES or call.result not in (EPIPE, None)):
        return None
    fd = call.arguments[WRITES.get(call.name, 0)] & 0xFFFFFFFF
    what, peer = _peer(case, fd)
    closed = "whose other side is closed"
    if "socket" in what or call.name.startswith("send"):
        closed += " (or which this side has shut down for writing)"
    place = case.own_place()
    where = f" by {place}" if place else ""
    return Origin(
        PIPE,
        "pipe",
        f"{call.name}() to descriptor {fd}{what}{where}, {closed}{peer}. The "
        "kernel sends SIGPIPE for it in the process's own name.",
        f"{call.name}() to descriptor {fd}{what} without a reader",
        _evidence(call),
        "look why the other side went away; to get EPIPE instead: signal(SIGPIPE, SIG_IGN) or "
        "MSG_NOSIGNAL",
    )


def _evidence(call: Call) -> tuple[str, ...]:
    result = "EPIPE" if call.result == EPIPE else "not recorded"
    return (f"the system call is {call.name}, its result {result}",
            "si_pid is the process's own")  # fmt: skip


def _peer(case: Case, fd: int) -> tuple[str, str]:
    """What the descriptor is, and who was at its other end: of a live process."""
    if not case.process.live:
        return "", "; a core does not keep which file or peer it was"
    from faultkit.procfs.fds import link

    name = link(case.process.pid, fd)
    if name is None:
        return " (closed meanwhile)", ""
    if name.startswith("socket:["):
        return f" ({name})", _socket_peer(case.process.pid, int(name[8:-1]))
    if name.startswith("pipe:["):
        return f" ({name})", ": no process has its reading end open"
    return f" ({name})", ""


def _socket_peer(pid: int, inode: int) -> str:
    from faultkit.procfs.sockets import endpoint_name, tcp_sockets, unix_sockets

    for tcp in tcp_sockets(pid):
        if tcp.inode == inode:
            return f": TCP {endpoint_name(tcp.local)} -> {endpoint_name(tcp.remote)}"
    try:
        unix = unix_sockets().get(inode)
    except OSError:
        unix = None
    if unix is None:
        return ""
    name = unix.name.decode("utf-8", "backslashreplace").rstrip("\0") if unix.name else ""
    return f": the unix socket {name}" if name else ": an unnamed unix socket"
