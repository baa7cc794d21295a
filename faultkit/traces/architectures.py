"""Other architectures than x86_64, as the registers in their oopses and the names of their kernels
show them: their addresses and sizes mean nothing in an x86_64 file."""

from __future__ import annotations

import re

# The kernel's show_regs() of each: arch/arm64/kernel/process.c, arch/arm/kernel/process.c,
# arch/powerpc/kernel/process.c, arch/riscv/kernel/process.c, arch/s390/kernel/dumpstack.c,
# arch/loongarch/kernel/process.c, arch/mips/kernel/traps.c, arch/x86/kernel/process_32.c.
_LINES = (
    (r"pstate: [0-9a-f]{8} \(|(?:pc|lr) : [A-Za-z_]|x29: [0-9a-f]{16}\b", "arm64"),
    (r"(?:PC|LR) is at |pc : \[<[0-9a-f]{8}>\]", "arm"),
    (r"(?:NIP|LR)(?:: | \[)[0-9a-f]{8}", "powerpc"),
    (r"(?:epc| ra) : [A-Za-z_]|epc : [0-9a-f]{16} ra : ", "riscv"),
    (r"Krnl PSW : ", "s390"),
    (r" *(?:ERA|ra): [0-9a-f]{16}\b", "loongarch"),
    (r"epc   : [0-9a-f]{8}", "mips"),
    (r"EIP: |EAX: [0-9a-f]{8}\b", "32-bit x86"),
)
_LINE = re.compile("|".join(f"({pattern})" for pattern, _ in _LINES))
_COUNTER = re.compile(r" *(?:e?pc : |PC is at |NIP \[|ERA: |EIP: )")  # not who called it
_RELEASE = re.compile(
    r"[-.](?P<name>arm64|aarch64|armhf|armmp|arm|ppc64(?:le|el)?|powerpc\w*|s390x?|riscv64|loong\w*|"
    r"mips\w*|[456]k[ce]-malta|i[3-6]86|686)(?:[-.+_]\w+)?$"
)


def of_line(text: str) -> str | None:
    """The architecture that a line of an oops' registers is of, None if it tells none."""
    match = _LINE.match(text)
    return _LINES[match.lastindex - 1][1] if match is not None and match.lastindex else None


def is_counter(text: str) -> bool:
    """Whether it is the line that says where the processor was."""
    return _COUNTER.match(text) is not None


def of_release(release: str | None) -> str | None:
    """The architecture that a kernel's release names ("6.1.0-13-arm64"), None if it names none
    or x86_64."""
    match = _RELEASE.search(release or "")
    return match["name"] if match is not None else None
