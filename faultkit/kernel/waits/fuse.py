"""Requests to a FUSE file system (fs/fuse/dev.c, request_wait_answer): its server has to answer,
which is whoever has the connection's /dev/fuse open."""

from __future__ import annotations

from faultkit.kernel.objects import UnknownLayout, is_kernel_pointer, need
from faultkit.kernel.programs import programs_of
from faultkit.kernel.queues import own_wait_queues
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.world import KernelWorld
from faultkit.model import EVENT, Lock, Wait
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, ReadError
from faultkit.waits._ipc import tasks_of_all

FUNCTIONS = frozenset(("request_wait_answer", "__fuse_request_send", "__fuse_simple_request"))
PRIORITY = 40

FLAGS = 7  # in the low bits of a file's pointer to its struct fuse_dev (6.16)
NO_TYPES = (
    "tasks wait for a FUSE server, and which one can't be told without the debug information of "
    "the module fuse: load it (in crash: mod -s fuse)"
)


class Connection(NamedTuple):
    """A fuse_conn, and what a server's struct fuse_dev points to in the member `member`: the
    same, or since 7.3 its struct fuse_chan."""

    address: int
    served: int
    member: str


def recognise(sleeper: Sleeper) -> Wait | None:
    """The wait for any task of the server; the server that is idle could answer, so that this is
    a deadlock only if all of its tasks are stuck."""
    lock = Lock("fuse", key=("fuse", sleeper.task.tid))
    unknown = Wait(sleeper.task, lock, needs=EVENT, any_of=True, missing=NO_TYPES)
    try:
        request_at = need(sleeper.kernel, "fuse_req", "waitq")
        for queue in own_wait_queues(sleeper):
            try:
                connection = _connection(sleeper, queue - request_at)
            except ReadError:
                continue
            if connection is not None:
                return _wait(sleeper, connection)
    except UnknownLayout:
        return unknown
    return None


def _connection(sleeper: Sleeper, request: int) -> Connection | None:
    """The connection of a fuse_req; None if that is none.  Raises ReadError, UnknownLayout."""
    kernel = sleeper.kernel
    channel_at = kernel.offset("fuse_req", "chan")
    if channel_at is not None:
        channel = kernel.u64(request + channel_at)
        if not is_kernel_pointer(channel):
            return None
        address = kernel.u64(channel + need(kernel, "fuse_chan", "conn"))
        return Connection(address, channel, "chan") if is_kernel_pointer(address) else None
    mount = kernel.u64(request + need(kernel, "fuse_req", "fm"))
    if not is_kernel_pointer(mount):
        return None
    address = kernel.u64(mount + need(kernel, "fuse_mount", "fc"))
    return Connection(address, address, "fc") if is_kernel_pointer(address) else None


def servers_of(world: KernelWorld, connection: Connection) -> set[int]:
    """The processes that have the connection's /dev/fuse open.  Raises UnknownLayout."""
    kernel = world.system.kernel
    at = kernel.offset("fuse_dev", connection.member)
    if at is None:
        raise UnknownLayout("fuse_dev", connection.member)
    servers = set()
    for pid, file in world.machine.descriptors().devices():
        device = file.private & ~FLAGS
        try:
            if is_kernel_pointer(device) and kernel.u64(device + at) == connection.served:
                servers.add(pid)
        except FaultkitError:
            continue
    return servers


def _wait(sleeper: Sleeper, connection: Connection) -> Wait:
    """Raises ReadError, UnknownLayout."""
    world = programs_of(sleeper.system).world
    kernel = sleeper.kernel
    minor = kernel.u32(connection.address + need(kernel, "fuse_conn", "dev")) & 0xFFFFF
    servers = servers_of(world, connection)
    lock = Lock("fuse", name=f"connection {minor}", key=("fuse", connection.address))
    wait = Wait(sleeper.task, lock, needs=EVENT, any_of=True)
    if not servers:
        return wait.but(missing=f"no process has the FUSE connection {minor} open")
    shown = ", ".join(map(str, sorted(servers)[:8]))
    return wait.but(
        holders=tasks_of_all(world, servers),
        evidence=(f"its server is process {shown}, which has the connection's /dev/fuse open",),
    )
