"""NFS clients: their server's address, and the RPC calls that it has not answered
(include/linux/nfs_fs_sb.h, include/linux/sunrpc/)."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel.ages import seconds_since
from faultkit.kernel.objects import (
    BrokenList,
    entries,
    is_kernel_pointer,
    need,
    pointer,
    text,
    unsigned,
)
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.kernel.waits._bit_wait import entries as bit_waits
from faultkit.target import FaultkitError

SLEEPS = frozenset(("rpc_wait_bit_killable",))
MOST_CALLS = 64  # that are told of one client
XPRT_CONNECTED, XPRT_CONNECTING = 1, 2  # include/linux/sunrpc/xprt.h, bits of rpc_xprt.state
ADDRESS, PORT = 0, 1  # enum rpc_display_format_t
NO_TYPES = (
    "NFS servers and their calls can't be told without the types of sunrpc and nfs: load the debug "
    "information of modules first (in crash: mod -S)"
)


def mount_options(system: System, block: int) -> tuple[str, ...]:
    """addr=ADDRESS and port=PORT of an NFS super block; () where they can't be told."""
    kernel = system.kernel
    try:
        client = client_of(kernel, block)
        transport = pointer(kernel, client, "rpc_clnt", "cl_xprt")
        options = [f"addr={_address(kernel, transport, ADDRESS)}"]
        port = _address(kernel, transport, PORT)
        if port:
            options.append(f"port={port}")
        return tuple(options)
    except FaultkitError:
        system.limit(NO_TYPES)
        return ()


def client_of(kernel: Kernel, block: int) -> int:
    """The rpc_clnt of an NFS super block.  Raises FaultkitError."""
    server = pointer(kernel, block, "super_block", "s_fs_info")
    return pointer(kernel, server, "nfs_server", "client")


def _address(kernel: Kernel, transport: int, form: int) -> str:
    at = transport + need(kernel, "rpc_xprt", "address_strings") + 8 * form
    place = kernel.u64(at)
    return text(kernel, place, 64) if is_kernel_pointer(place) else ""


def calls(system: System, block: int) -> tuple[str, ...]:
    """The calls without a reply of an NFS mount, in words, the longest waiting first in line."""
    kernel = system.kernel
    try:
        return tuple(_calls(kernel, client_of(kernel, block)))
    except (BrokenList, FaultkitError):
        return ()


def _calls(kernel: Kernel, client: int) -> Iterator[str]:
    head = client + need(kernel, "rpc_clnt", "cl_tasks")
    number = 0
    for task in entries(kernel, head, need(kernel, "rpc_task", "tk_task")):
        words = _call(kernel, task)
        if words:
            yield words
            number += 1
        if number >= MOST_CALLS:
            return


def _call(kernel: Kernel, task: int) -> str:
    message = task + need(kernel, "rpc_task", "tk_msg")
    procedure = pointer(kernel, message, "rpc_message", "rpc_proc")
    name = pointer(kernel, procedure, "rpc_procinfo", "p_name") if procedure else 0
    parts = [f"call {text(kernel, name, 32)}" if is_kernel_pointer(name) else "call"]
    request = pointer(kernel, task, "rpc_task", "tk_rqstp")
    if request:
        xid = int.from_bytes(kernel.read(request + need(kernel, "rpc_rqst", "rq_xid"), 4), "big")
        sent = unsigned(kernel, request, "rpc_rqst", "rq_ntrans")
        parts.append(f"xid {xid:#x}")
        parts.append(f"sent {sent} times" if sent != 1 else "sent once")
    else:
        parts.append("not sent yet")
    queue = pointer(kernel, task, "rpc_task", "tk_waitqueue")
    waits = pointer(kernel, queue, "rpc_wait_queue", "name") if queue else 0
    if is_kernel_pointer(waits):
        parts.append(f"queued on {text(kernel, waits, 32)}")
    return " ".join(parts[:2]) + "".join(f", {part}" for part in parts[2:])


def task_on(sleeper: Sleeper) -> int:
    """The rpc_task for whose end a task sleeps (net/sunrpc/sched.c, rpc_wait_bit_killable(): a bit
    of its tk_runstate); 0 if it does not.  Raises FaultkitError."""
    kernel = sleeper.kernel
    if SLEEPS.isdisjoint(sleeper.functions):
        return 0
    key_at = need(kernel, "wait_bit_queue_entry", "key") + need(kernel, "wait_bit_key", "flags")
    state_at = need(kernel, "rpc_task", "tk_runstate")
    for queue in bit_waits(sleeper, "wait_bit_queue_entry", "wq_entry", "wake_bit_function"):
        return kernel.u64(queue + key_at) - state_at
    return 0


def seconds_pending(sleeper: Sleeper) -> float | None:
    """For how long the call has been without an answer that a task waits for.  The task itself
    runs each time that the call is sent again."""
    system = sleeper.system
    try:
        task = task_on(sleeper)
        began = pointer(system.kernel, task, "rpc_task", "tk_start") if task else 0
    except FaultkitError:
        return None
    return seconds_since(system, began) if began else None


def connection(system: System, block: int) -> str | None:
    """The state of the connection to an NFS mount's server, in words."""
    kernel = system.kernel
    try:
        transport = pointer(kernel, client_of(kernel, block), "rpc_clnt", "cl_xprt")
        state = pointer(kernel, transport, "rpc_xprt", "state")
    except FaultkitError:
        return None
    if state >> XPRT_CONNECTED & 1:
        return "connected"
    return "trying to connect" if state >> XPRT_CONNECTING & 1 else "not connected"
