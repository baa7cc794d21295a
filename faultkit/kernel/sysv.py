"""System V semaphores and message queues of a dump."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from faultkit.kernel.kinship import Kinship
from faultkit.kernel.objects import (
    BrokenList,
    is_kernel_pointer,
    need,
    pointer,
    ring,
    signed,
    unsigned,
)
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.target import Kernel
from faultkit.kernel.trees import xarray_load
from faultkit.procfs.sysvipc import MessageQueue, Semaphore
from faultkit.target import FaultkitError

SEMAPHORES, QUEUES = 0, 1  # ipc/util.h: IPC_SEM_IDS, IPC_MSG_IDS
SHIFT = 15  # IPCMNI_SHIFT; ipcmni_extend on the command line makes it 24
SEMBUF = struct.Struct("<Hhh")  # sem_num, sem_op, sem_flg
MOST_OPERATIONS = 1024
MOST_WAITERS = 4096


class SystemV:
    """The objects of IPC namespaces, by the namespace's address and the object's id."""

    def __init__(self, kernel: Kernel, kinship: Kinship) -> None:
        self.kernel = kernel
        self.kinship = kinship

    def _find(self, space: int, which: int, number: int) -> int:
        """The address of a kern_ipc_perm, 0 if there is none with that id (ipc/util.c,
        ipc_obtain_object_idr).  Raises FaultkitError."""
        kernel = self.kernel
        size = kernel.size("ipc_ids")
        if not space or not size:
            return 0
        ids = space + need(kernel, "ipc_namespace", "ids") + which * size
        idr = ids + need(kernel, "ipc_ids", "ipcs_idr") + need(kernel, "idr", "idr_rt")
        perm = xarray_load(kernel, idr, number & ((1 << self._shift()) - 1))
        if not is_kernel_pointer(perm):
            return 0
        return perm if unsigned(kernel, perm, "kern_ipc_perm", "id") == number else 0

    def _shift(self) -> int:
        address = self.kernel.symbol("ipc_mni_shift")
        shift = self.kernel.u32(address) if address else SHIFT
        return shift if SHIFT <= shift <= 24 else SHIFT

    def _semaphores(self, space: int, semid: int) -> int:
        """The address of a struct sem_array, 0 for none."""
        perm = self._find(space, SEMAPHORES, semid)
        return perm - need(self.kernel, "sem_array", "sem_perm") if perm else 0

    def semaphore(self, space: int, semid: int, number: int) -> Semaphore | None:
        """One semaphore of a set."""
        kernel = self.kernel
        try:
            array = self._semaphores(space, semid)
            size = kernel.size("sem")
            if not array or not size:
                return None
            if not 0 <= number < unsigned(kernel, array, "sem_array", "sem_nsems"):
                return None
            sem = array + need(kernel, "sem_array", "sems") + number * size
            value = signed(unsigned(kernel, sem, "sem", "semval"), 32)
            last = self.kinship.number(pointer(kernel, sem, "sem", "sempid"))
            waiters = self._count(sem, "pending_alter")
            return Semaphore(value, last, waiters, self._count(sem, "pending_const"))
        except FaultkitError:
            return None

    def _count(self, sem: int, member: str) -> int:
        try:
            head = sem + need(self.kernel, "sem", member)
            return sum(1 for _ in ring(self.kernel, head, MOST_WAITERS))
        except (BrokenList, FaultkitError):
            return 0

    def key(self, space: int, semid: int) -> int:
        """The key of a semaphore set, 0 if it has none."""
        try:
            perm = self._find(space, SEMAPHORES, semid)
            return unsigned(self.kernel, perm, "kern_ipc_perm", "key") if perm else 0
        except FaultkitError:
            return 0

    def operations(self, sleeper: Sleeper) -> Sequence[tuple[int, int]] | None:
        """What the semop() that a task sleeps in wants to do: struct sem_queue is on its stack
        (ipc/sem.c, do_semtimedop), queued, and has as many operations as the call was given."""
        kernel, call = self.kernel, sleeper.call
        given = call.args[2] & 0xFFFFFFFF if call is not None else 0
        if not 0 < given <= MOST_OPERATIONS:
            return None
        links = need(kernel, "sem_queue", "list")
        layout = sleeper.system.layout("sem_queue", "nsops", "sops")
        for queue in sleeper.waiter_structs("sem_queue", "sleeper"):
            node = queue + links
            try:
                count, address = layout.read(queue, sleeper.peek)
                if count != given or not is_kernel_pointer(address):
                    continue
                following, previous = kernel.words(node, 2)
                if kernel.u64(following + 8) != node or kernel.u64(previous) != node:
                    continue
                data = kernel.read(address, SEMBUF.size * count)
            except FaultkitError:
                continue
            return [(number, operation) for number, operation, _ in SEMBUF.iter_unpack(data)]
        return None

    def queue(self, space: int, msqid: int) -> MessageQueue | None:
        """A message queue."""
        kernel = self.kernel
        try:
            perm = self._find(space, QUEUES, msqid)
            if not perm:
                return None
            queue = perm - need(kernel, "msg_queue", "q_perm")
            return MessageQueue(
                unsigned(kernel, perm, "kern_ipc_perm", "key"),
                unsigned(kernel, queue, "msg_queue", "q_qnum"),
                self.kinship.number(pointer(kernel, queue, "msg_queue", "q_lspid")),
                self.kinship.number(pointer(kernel, queue, "msg_queue", "q_lrpid")),
            )
        except FaultkitError:
            return None
