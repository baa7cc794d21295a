"""sigaddset(&task->pending.signal, SIGKILL) where it is inlined: who kills threads without a
siginfo (complete_signal(), zap_process(), de_thread())."""

import re
from collections.abc import Iterator

from faultkit.code import FormatError
from faultkit.code.btf import Btf
from faultkit.senders.text import KernelText

_MARK = 1 << (9 - 1)


def marks_of_kill(text: KernelText) -> Iterator[int]:
    """Where `or` sets SIGKILL's bit in a task's own pending mask; nothing without BTF."""
    try:
        types = Btf(text.file.section_data(".BTF"))
    except FormatError:
        return
    number = types.type("task_struct")
    member = types.member(number, "pending.signal") if number is not None else None
    if member is None:
        return
    offset = (member.offset // 8).to_bytes(4, "little")
    # REX.W 81 /1 id: or qword [register + disp32], imm32; r12 as base takes a SIB byte
    pattern = re.compile(
        rb"[\x48\x49]\x81(?:[\x88-\x8b\x8d-\x8f]|\x8c\x24)"
        + re.escape(offset + _MARK.to_bytes(4, "little")),
        re.DOTALL,
    )
    for start, data in text.code():
        for match in pattern.finditer(data):
            yield start + match.start()
