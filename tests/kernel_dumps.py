"""The lab's dumps opened by drgn, for tests of the core in one process."""

import functools
from typing import Any

from drgn_kernel import DrgnKernel
from lab.dumps import Dump, dump

from faultkit.analyzers.deadlock import Options, analyze_kernel
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.system import System
from faultkit.model import Report
from faultkit.target import ReadError

HOST: dict[str, Any] = {"name": "drgn", "version": "0", "faultkit": "0"}


@functools.lru_cache(maxsize=3)  # each takes hundreds of megabytes, and half a second
def opened(name: str, kernel: str = "6.1") -> DrgnKernel:
    """The dump of one of the lab's boots."""
    return open_as(DrgnKernel, dump(name, kernel))


@functools.lru_cache(maxsize=3)  # each takes hundreds of megabytes, and half a second
def open_all(name: str, kernel: str = "6.1") -> DrgnKernel:
    """The same with the debug information of all modules that the lab has."""
    made = dump(name, kernel)
    modules = [made.module, *sorted(made.kernel.debug.glob("*.ko.debug"))]
    return DrgnKernel(str(made.vmlinux), str(made.vmcore), list(map(str, modules)))


def open_as(host: type[DrgnKernel], made: Dump) -> DrgnKernel:
    """The dump by a variant of the host."""
    modules = [path for path in made.kernel.debug.glob("fuse.ko*")]
    return host(str(made.vmlinux), str(made.vmcore), [str(made.module), *map(str, modules)])


def look(kernel: DrgnKernel) -> KernelSnapshot:
    """All that is seen at one look."""
    snapshot = KernelSnapshot(System(kernel))
    snapshot.settle()
    return snapshot


def report_of(kernel: DrgnKernel) -> Report:
    """What `deadlock` says."""
    return analyze_kernel(kernel, HOST, Options(stacks="none"))


class WithoutUserPages(DrgnKernel):
    """The same dump after `makedumpfile -d 31`."""

    def read_user(self, task: Any, address: int, size: int) -> bytes:
        raise ReadError(address, size)
