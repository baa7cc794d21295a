"""Processes whose symbols, source lines and back traces faultkit itself reads from their code."""

from __future__ import annotations

from abc import abstractmethod

from faultkit.model import Frame, SourceLine, Task
from faultkit.target import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.code.process import Code

MOST_FRAMES = 64


class CodedProcess(Process):
    """A Process by its `code` and `registers`; each back trace is unwound once."""

    def __init__(self) -> None:
        self._code: Code | None = None
        self._unwound: dict[tuple[int, int, bool], tuple[Frame, ...]] = {}

    @property
    def code(self) -> Code:
        """Its symbols, frames and instructions; loaded when first asked for."""
        if self._code is None:
            self._code = self._load_code()
        return self._code

    def prepare(self) -> None:
        import faultkit.infer.taken  # noqa: F401

        self.code.prepare()

    @abstractmethod
    def _load_code(self) -> Code:
        """The code of what is mapped."""

    def symbol(self, address: int) -> tuple[str, int, int | None] | None:
        found = self.code.symbol(address)
        return (found.name, found.offset, found.size) if found is not None else None

    def line(self, address: int) -> SourceLine | None:
        lines = self.code.lines(address)
        return lines[-1] if lines else None

    def frames(self, task: Task, limit: int = MOST_FRAMES) -> tuple[Frame, ...]:
        return self._unwind(task, limit, lines=True)

    def bare_frames(self, task: Task) -> tuple[Frame, ...]:
        return self._unwind(task, MOST_FRAMES, lines=False)

    def _unwind(self, task: Task, limit: int, lines: bool) -> tuple[Frame, ...]:
        key = task.tid, limit, lines
        if key not in self._unwound:
            registers = self.registers(task)
            self._unwound[key] = self.code.frames(registers, limit, lines) if registers else ()
        return self._unwound[key]
