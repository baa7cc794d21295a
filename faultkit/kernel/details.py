"""What a report tells of a kernel's finding beyond the finding: names, states, back traces."""

from __future__ import annotations

import re

from faultkit.details import name_address as name_in_process
from faultkit.findings import UNNAMED
from faultkit.kernel.objects import is_kernel_pointer
from faultkit.kernel.programs import programs_of
from faultkit.kernel.system import System
from faultkit.model import Finding, Frame, Lock, Task, Wait
from faultkit.target import FaultkitError

MOST_LINES = 24  # frames of one back trace whose source lines are looked up
FRAMES_OF = 64  # members of one finding whose back traces are shown


def with_details(system: System, finding: Finding, stacks: str) -> Finding:
    """The finding with names of locks, states of tasks, and (unless `stacks` is "none") the
    members' back traces with source lines."""
    shown = stacks != "none"
    members = tuple(
        _detailed(system, wait, shown and number < FRAMES_OF)
        for number, wait in enumerate(finding.members)
    )
    root_waits_for = finding.root_waits_for
    return finding._replace(
        members=members,
        victims=tuple(map(system.described, finding.victims)),
        lock=members[0].lock if finding.lock and members else finding.lock,
        root=system.described(finding.root) if finding.root else None,
        root_waits_for=_detailed(system, root_waits_for, shown) if root_waits_for else None,
    )


def _detailed(system: System, wait: Wait, frames: bool) -> Wait:
    return wait.but(
        task=system.described(wait.task),
        lock=_named(system, wait.lock, wait.task),
        holders=tuple(map(system.described, wait.holders[:64])),
        frames=back_trace(system, wait.task) if frames else (),
    )


def back_trace(system: System, task: Task) -> tuple[Frame, ...]:
    """The task's frames, the first of them with their source lines; () if it has none."""
    try:
        frames = system.frames(task)
        if system.modules.answered:  # then the host may have left out modules' frames
            from faultkit.kernel.registers import frames_with_registers

            frames = frames_with_registers(system, task) or frames
    except FaultkitError:
        frames = ()
    own = [frame for frame in frames if is_kernel_pointer(frame.address)]
    return (
        *(
            _with_line(system, frame) if number < MOST_LINES else frame
            for number, frame in enumerate(own)
        ),
        *(frame._replace(index=len(own) + frame.index) for frame in _program_frames(system, task)),
    )


def _program_frames(system: System, task: Task) -> tuple[Frame, ...]:
    """The task's frames in its program, if any of them has a name: addresses alone say nothing."""
    process = programs_of(system).process_of(task)
    try:
        frames = process.frames(task) if process is not None else ()
    except FaultkitError:
        return ()
    return frames if any(frame.symbol for frame in frames) else ()


def _with_line(system: System, frame: Frame) -> Frame:
    if frame.inlines:
        return frame
    try:
        # a return address belongs to the call before it
        line = system.kernel.line(frame.address - 1)
    except FaultkitError:
        line = None
    return frame if line is None else frame._replace(inlines=(line,))


def _named(system: System, lock: Lock, waiter: Task) -> Lock:
    if lock.name is not None or lock.address is None:
        return lock
    if is_kernel_pointer(lock.address):
        name = name_address(system, lock.address)
    else:
        process = programs_of(system).process_of(waiter)
        name = name_in_process(process, lock.address) if process is not None else None
    return lock._replace(key=lock.identity, name=name)


# A struct lock_class_key has no size without CONFIG_LOCKDEP: what follows has the same address.
_KEY = re.compile(r"(^_|_)key(\.\d+)?$")


def name_address(system: System, address: int) -> str | None:
    """ "rtnl_mutex", "accounts+40 [faultlab]", "kmalloc-64 object", "stack of 4711 rmmod": what a
    person would call a data address; None if nothing is known of it."""
    kernel = system.kernel
    try:
        symbol = system.symbol_at(address)
        if symbol is not None and symbol.module and _KEY.search(symbol.name):
            found = system.modules.find(address)
            symbol = found[0] if found is not None else symbol
        if symbol is not None:
            place = f"{symbol.name}+{symbol.offset}" if symbol.offset else symbol.name
            return f"{place} [{symbol.module}]" if symbol.module else place
        owner = system.stack_owner(address)
        if owner is not None:
            return f"stack of {owner.tid} {owner.name}"
        slab = kernel.slab(address)
    except FaultkitError:
        return None
    return slab.cache + UNNAMED if slab else None
