"""What crash's `bt` prints, as data (crash: x86_64.c, x86_64_print_stack_entry() and
x86_64_exception_frame()).

     #3 [ffffd56cc0503ea8] __mutex_lock.constprop.0 at ffffffffb9654d1d
     #4 [ffffd56cc0503f10] mutex_abba_a at ffffffffc0550473 [faultlab]
        [exception RIP: native_safe_halt+11]
        RIP: ffffffffb96592eb  RSP: ffffffffba603e98  RFLAGS: 00000246
        RAX: 000000000001ad40  RBX: ...
    --- <NMI exception stack> ---

In brackets stands where on the stack the frame's own pc was found.  Registers belong to the line
"exception RIP" above them; without one they are those that the task has in user space.
"""

from __future__ import annotations

import re

from faultkit.record import NamedTuple

_FRAME = re.compile(r"\s*#\d+ \[([0-9a-f]+)\] (\S+) at ([0-9a-f]+)")
_EXCEPTION = re.compile(r"\s*\[exception RIP: ")
_REGISTER = re.compile(r"\b(RIP|RSP|RFLAGS|ORIG_RAX|[RE][A-D]X|R[SD]I|RBP|R\d+|CS|SS): ([0-9a-f]+)")


class Printed(NamedTuple):
    """A frame as printed: its pc, its stack pointer, and all registers at an exception's."""

    address: int
    sp: int
    registers: dict[str, int] | None = None


def parse(text: str) -> list[Printed]:
    """The kernel's frames in the back trace of one task, innermost first."""
    frames: list[Printed] = []
    exception: dict[str, int] | None = None
    for line in text.splitlines():
        frame = _FRAME.match(line)
        if frame:
            _finish(exception, frames)
            exception = None
            # The stack pointer of the frame is above the address that was returned to it.
            frames.append(Printed(int(frame[3], 16), int(frame[1], 16) + 8))
        elif _EXCEPTION.match(line):
            _finish(exception, frames)
            exception = {}
        elif exception is not None:
            exception.update(registers(line))
    _finish(exception, frames)
    return frames


def _finish(exception: dict[str, int] | None, frames: list[Printed]) -> None:
    if exception and "rip" in exception and "rsp" in exception:
        frames.append(Printed(exception["rip"], exception["rsp"], exception))


def registers(text: str) -> dict[str, int]:
    """The registers printed in `text`, by their small names."""
    return {name.lower(): int(value, 16) for name, value in _REGISTER.findall(text)}


def by_cpu(text: str) -> dict[int, dict[str, int]]:
    """The registers that `help -r` prints, by CPU."""
    parts = re.split(r"^CPU (\d+):", text, flags=re.MULTILINE)
    found = {int(cpu): registers(block) for cpu, block in zip(parts[1::2], parts[2::2])}
    return {cpu: values for cpu, values in found.items() if "rip" in values}
