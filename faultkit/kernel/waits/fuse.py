"""Requests to a FUSE file system (fs/fuse/dev.c, request_wait_answer): its server has to answer,
which is whoever has the connection's /dev/fuse open."""

from typing import Optional

from faultkit.kernel.objects import first_offset, is_kernel_pointer, need
from faultkit.kernel.programs import programs_of
from faultkit.kernel.queues import own_wait_queues
from faultkit.kernel.sleeper import Sleeper
from faultkit.model import EVENT, Lock, Wait
from faultkit.target import FaultkitError
from faultkit.waits._ipc import tasks_of_all

FUNCTIONS = frozenset(("request_wait_answer", "__fuse_request_send", "__fuse_simple_request"))
PRIORITY = 40

FLAGS = 7  # in the low bits of a file's pointer to its struct fuse_dev (6.16)
NO_TYPES = (
    "tasks wait for a FUSE server, and which one can't be told without the debug information of "
    "the module fuse: load it (in crash: mod -s fuse)"
)


def recognise(sleeper: Sleeper) -> Optional[Wait]:
    """The wait for any task of the server; the server that is idle could answer, so that this is
    a deadlock only if all of its tasks are stuck."""
    if first_offset(sleeper.kernel, ("fuse_req", "waitq")) is None:
        lock = Lock("fuse", key=("fuse", sleeper.task.tid))
        return Wait(sleeper.task, lock, needs=EVENT, any_of=True, missing=NO_TYPES)
    for queue in own_wait_queues(sleeper):
        try:
            connection = _connection(sleeper, queue - need(sleeper.kernel, "fuse_req", "waitq"))
        except FaultkitError:
            continue
        if connection:
            return _wait(sleeper, connection)
    return None


def _connection(sleeper: Sleeper, request: int) -> int:
    """The fuse_conn of a fuse_req; 0 if that is none."""
    kernel = sleeper.kernel
    mount = kernel.u64(request + need(kernel, "fuse_req", "fm"))
    if not is_kernel_pointer(mount):
        return 0
    connection = kernel.u64(mount + need(kernel, "fuse_mount", "fc"))
    return connection if is_kernel_pointer(connection) else 0


def _wait(sleeper: Sleeper, connection: int) -> Wait:
    world = programs_of(sleeper.system).world
    kernel = sleeper.kernel
    minor = kernel.u32(connection + need(kernel, "fuse_conn", "dev")) & 0xFFFFF
    at = need(kernel, "fuse_dev", "fc")
    servers = set()
    for pid, file in world.machine.descriptors().devices():
        device = file.private & ~FLAGS
        try:
            if is_kernel_pointer(device) and kernel.u64(device + at) == connection:
                servers.add(pid)
        except FaultkitError:
            continue
    lock = Lock("fuse", name=f"connection {minor}", key=("fuse", connection))
    wait = Wait(sleeper.task, lock, needs=EVENT, any_of=True)
    if not servers:
        return wait.but(missing=f"no process has the FUSE connection {minor} open")
    shown = ", ".join(map(str, sorted(servers)[:8]))
    return wait.but(
        holders=tasks_of_all(world, servers),
        evidence=(f"its server is process {shown}, which has the connection's /dev/fuse open",),
    )
