"""What a session of crash can't show, as far as that can be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crash_ext.kernel import CrashKernel


def limits(kernel: CrashKernel) -> list[str]:
    """Each in one line, with its remedy; what would make "nothing found" a lie."""
    return list(_limits(kernel))


def _limits(kernel: CrashKernel) -> Iterator[str]:
    return iter(())
