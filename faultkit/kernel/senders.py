"""Who a signal's pid and uid are, by the tasks of a kernel's dump."""

from __future__ import annotations

from functools import cached_property

from faultkit.kernel.ages import started
from faultkit.kernel.kinship import Kinship
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.signals.model import Sender
from faultkit.signals.senders import Senders
from faultkit.signals.siginfo import Siginfo
from faultkit.target import FaultkitError, Process


class DumpSenders(Senders):
    """Looks senders up as the receiver's pid namespace names them.

    Nothing records when a signal was sent, so a task that has the pid may be another one, which
    got it since: only a task that is older than the receiver is the sender beyond doubt.
    """

    def __init__(self, process: Process, receiver: Task, system: System, kinship: Kinship) -> None:
        super().__init__(process)
        self._receiver = receiver
        self._system = system
        self._kinship = kinship

    def of(self, info: Siginfo) -> Sender | None:
        """The sender of a signal that a program sent, else None."""
        if not info.by_program or info.pid is None:
            return None
        sender = Sender(info.pid, info.uid)
        if info.pid == 0:
            return sender._replace(
                fate="not visible from the receiver's pid namespace: a process outside of its "
                "container, or the kernel"
            )
        found = self._kinship.task_of(info.pid, self._receiver)
        if found is None:
            return sender._replace(alive=False, fate="is gone")
        if found.pid == self._receiver.pid:
            return sender._replace(itself=True, name=found.name, fate="the process itself")
        here = found.tid if found.tid != info.pid else None
        outside = f", {here} outside of its container" if here is not None else ""
        older = self._started(found) <= self._started(self._receiver)
        doubt = "" if older else ", if it is not another one that got the pid since"
        if self._pids_are_new and not self._kinship.out_of_turn(found):
            older, doubt = True, ""
        return sender._replace(
            name=found.name,
            alive=True,
            reused=False if older else None,
            fate=f"still runs in this dump{outside}{doubt}",
            here=here,
        )

    @cached_property
    def _pids_are_new(self) -> bool:
        """Whether so few tasks have been made since boot that no pid can have been given twice:
        they are given in turn up to pid_max (kernel/pid.c, alloc_pid()); some forks fail later."""
        kernel = self._system.kernel
        try:
            forks = kernel.u64(kernel.symbol("total_forks") or 0)
            # in pid_namespace since 7863dcc72d0f ("pid: allow pid_max to be set per pid
            # namespace", 6.14)
            at, offset = kernel.symbol("pid_max"), kernel.offset("pid_namespace", "pid_max")
            if offset is not None:
                at = (kernel.symbol("init_pid_ns") or 0) + offset
            return bool(at) and forks * 4 < kernel.u32(at or 0)
        except FaultkitError:
            return False

    def _started(self, task: Task) -> int:
        try:
            return started(self._system, task)
        except FaultkitError:
            return 0
