"""Calls that go on as restart_syscall once a stop has interrupted them, with their arguments: those
with a timeout, and poll even without one (fs/select.c, do_restart_poll)."""

from faultkit.target import ReadError
from faultkit.world import Blocked

RESTART_SYSCALL = 219

MOST_FDS = 1024
MOST_OPEN = 1 << 20  # the largest descriptor, as fs.nr_open has it by default


def polls(blocked: Blocked) -> bool:
    """Whether a restarted call is a poll: its first two arguments are an array of struct pollfd
    (int fd; short events, revents).  A futex's word is the value slept on."""
    if len(blocked.call.args) < 3:
        return False
    address, count, third = blocked.call.args[:3]
    count &= 0xFFFFFFFF
    if not 0 < count <= MOST_FDS:
        return False
    try:
        words = blocked.process.read(address, 8 * count)
    except ReadError:
        return False
    if words[:4] == (third & 0xFFFFFFFF).to_bytes(4, "little"):
        return False
    return all(
        int.from_bytes(words[at : at + 4], "little", signed=True) in range(-1, MOST_OPEN)
        and any(words[at + 4 : at + 6])
        for at in range(0, len(words), 8)
    )
