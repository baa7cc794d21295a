"""What the lab plays: faults, and the boots that play several of them at once."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from scenarios.model import Expect

__all__ = ["Boot", "Expect", "Fault", "Stuck", "cycle", "pair", "quiet"]


@dataclass(frozen=True)
class Stuck:
    """A group of blocked tasks that `dstate` has to report: `cause` is one word, or several with
    "|" between; `tasks` are the names of those in it, all of them; `behind` parts of the chain's
    links in this order, each as "kind name detail"; `words` a part of the explanation, or of the
    resource; `calls` a part of a system call."""

    cause: str
    tasks: tuple[str, ...]
    behind: tuple[str, ...] = ()
    words: str = ""
    calls: str = ""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong (or only looks so), and what `deadlock` has to say about it.

    `kernel` are faults of module/faults.h, `guest` those of guest/guests.h; `threads` are
    patterns of the names of its tasks, kworkers left out: a finding that has one of them is about
    this fault.  Of these there are exactly `findings`, and any of `allowed`.  In members a kworker
    is "kworker".  `unsure`: it is as right to find nothing, if the verdict is not "not-found".
    `kernels`: those that it can be played on; all if empty.  `stuck`: what `dstate` has to say.
    """

    name: str
    threads: tuple[str, ...]
    findings: tuple[Expect, ...] = ()
    kernel: tuple[str, ...] = ()
    guest: tuple[str, ...] = ()
    allowed: tuple[Expect, ...] = ()
    unsure: bool = False
    kernels: tuple[str, ...] = ()
    notes: str = ""
    stuck: tuple[Stuck, ...] = ()

    def owns(self, names: Iterable[str]) -> bool:
        """Whether one of the task names is one of this fault's."""
        names = tuple(names)
        return any(fnmatch.filter(names, pattern) for pattern in self.threads)


@dataclass(frozen=True)
class Boot:
    """A machine that is booted, plays its faults, and is dumped.

    `program` is the folder of guests/ whose program plays the faults of user tasks, that of guest/
    if empty.  `count` is the module's parameter; `crowd` how many user tasks rest besides; `cpu`
    what is added to QEMU's -cpu; `append` to the kernel's command line.  `panics`: it is
    dumped when it has panicked by itself.  `form` is what becomes of the dump: "whole"; "filtered",
    as makedumpfile -d 31 does; "truncated", that without its end; "lzo", with user pages and
    another compression.  `kernels` are those that it is for, all if empty.
    """

    name: str
    faults: tuple[Fault, ...]
    cpus: int = 2
    memory: int = 256
    count: int = 20
    crowd: int = 0
    cpu: str = ""
    append: str = ""
    panics: bool = False
    form: str = "whole"
    program: str = ""
    kernels: tuple[str, ...] = ()

    def on(self, kernel: str) -> tuple[Fault, ...]:
        """The faults that can be played on a kernel."""
        if kernel not in (self.kernels or (kernel,)):
            return ()
        return tuple(fault for fault in self.faults if kernel in (fault.kernels or (kernel,)))

    def command_line(self, kernel: str) -> str:
        """What the guest's init and the kernel are told."""
        faults = [name for fault in self.on(kernel) for name in fault.kernel]
        guests = [name for fault in self.on(kernel) for name in fault.guest]
        if self.crowd:
            guests.append(f"crowd:{self.crowd}")
        words = [f"lab.parameter=count={self.count}"]
        if faults:
            words.append("lab.faults=" + ",".join(faults))
        if guests:
            words.append("lab.guests=" + ",".join(guests))
        return " ".join([*words, self.append])


def cycle(members: Iterable[str], *kinds: str, victims: int = 0, **more: object) -> Expect:
    """A cycle of these tasks in this order, over these kinds of locks."""
    return Expect("cycle", tuple(members), kinds, victims, **more)  # type: ignore[arg-type]


def pair(
    name: str, prefix: str, *kinds: str, kernel: bool = True, confidence: str = "proven"
) -> Fault:
    """The fault `name`, a cycle of PREFIX-a, which waits for the first kind, and PREFIX-b."""
    members = (f"{prefix}-a", f"{prefix}-b")
    locks = kinds if len(kinds) == 2 else kinds * 2
    found = (cycle(members, *locks, confidence=confidence or None),)
    started = {"kernel" if kernel else "guest": (name,)}
    return Fault(name, (f"{prefix}-?",), found, **started)


def quiet(name: str, *threads: str, kernel: bool = True, allowed: tuple[Expect, ...] = ()) -> Fault:
    """Something of which nothing may be claimed but what is allowed."""
    return Fault(name, threads, allowed=allowed, **{"kernel" if kernel else "guest": (name,)})
