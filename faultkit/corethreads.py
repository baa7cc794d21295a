"""What the notes of a core say of its threads, and of the signal that it died of."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from faultkit.corefile import MOST_NOTES, PT_NOTE, segments
from faultkit.record import NamedTuple

# include/uapi/linux/elf.h
NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_SIGINFO = 0x53494749  # "SIGI"
MOST_THREADS = 1 << 16
# struct user_regs_struct, arch/x86/include/asm/user_64.h
REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base",
)  # fmt: skip
AT_RANDOM, AT_SYSINFO_EHDR, AT_EXECFN, AT_UID = 25, 33, 31, 11


class CoreThread(NamedTuple):
    """One thread: NT_PRSTATUS (struct elf_prstatus, include/linux/elfcore.h) and the notes behind
    it.  `signal` is pr_cursig; `seconds` the processor time that the thread has used."""

    tid: int
    signal: int
    pending: int
    blocked: int
    ppid: int
    pgrp: int
    sid: int
    seconds: float
    registers: dict[str, int]
    siginfo: bytes | None = None
    mxcsr: int | None = None


class CoreFacts(NamedTuple):
    """What a core tells beside memory.  `threads` are in the core's order: the kernel writes the
    one that died first, gcore the one that was selected.  `by_kernel`: the kernel wrote it, at
    the death of the process; gdb's gcore makes a picture of a process that lives on."""

    threads: tuple[CoreThread, ...]
    pid: int | None = None
    uid: int | None = None
    name: str | None = None
    command: str | None = None
    auxv: dict[int, int] = {}  # never changed
    by_kernel: bool = True


def core_facts(path: str) -> CoreFacts:
    """The facts of a core; without threads where the file can't be read or has none."""
    threads: list[CoreThread] = []
    pid = uid = name = command = None
    auxv: dict[int, int] = {}
    first = siginfos = 0
    for kind, data in _notes(path):
        first = first or kind
        if kind == NT_PRSTATUS and len(data) >= 112 + 8 * len(REGISTERS):
            if len(threads) < MOST_THREADS:
                threads.append(_thread(data))
        elif kind == NT_SIGINFO and threads:
            threads[-1] = threads[-1]._replace(siginfo=data)
            siginfos += 1
        elif kind == NT_FPREGSET and threads and len(data) >= 28:
            threads[-1] = threads[-1]._replace(mxcsr=struct.unpack_from("<I", data, 24)[0])
        elif kind == NT_PRPSINFO and len(data) >= 136:
            uid, _, pid = struct.unpack_from("<2Ii", data, 16)
            name, command = _text(data[40:56]), _text(data[56:136])
        elif kind == NT_AUXV:
            auxv = dict(struct.iter_unpack("<2Q", data[: len(data) & ~15]))
    # fs/binfmt_elf.c, fill_note_info: one siginfo, and the first thread's status comes first.
    by_kernel = first == NT_PRSTATUS and siginfos <= 1
    return CoreFacts(tuple(threads), pid, uid, name, command, auxv, by_kernel)


def _thread(data: bytes) -> CoreThread:
    (signal,) = struct.unpack_from("<h", data, 12)
    pending, blocked, tid, ppid, pgrp, sid = struct.unpack_from("<2Q4i", data, 16)
    seconds = sum(s + us / 1e6 for s, us in struct.iter_unpack("<2q", data[48:80]))
    registers = dict(zip(REGISTERS, struct.unpack_from(f"<{len(REGISTERS)}Q", data, 112)))
    return CoreThread(tid, signal, pending, blocked, ppid, pgrp, sid, seconds, registers)


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace").rstrip()


def _notes(path: str) -> Iterator[tuple[int, bytes]]:
    """The (type, content) of each note of a core."""
    try:
        with open(path, "rb") as file:
            for segment in segments(file):
                if segment.type != PT_NOTE:
                    continue
                file.seek(segment.offset)
                notes = file.read(min(segment.file_size, MOST_NOTES))
                at = 0
                while at + 12 <= len(notes):
                    name_size, size, kind = struct.unpack_from("<3I", notes, at)
                    content = at + 12 + (name_size + 3 & ~3)
                    yield kind, notes[content : content + size]
                    at = content + (size + 3 & ~3)
    except OSError:
        return
